//! `brevet import`: makes the directory in the store equal to what a file declares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::store::{master_key, opened};
use super::{
    ConfigArgument, Failure, clock, directory_file, input, journal, operator, print, report,
};
use crate::base::clock::{Clock, SystemClock};
use crate::base::entropy::SystemEntropy;
use crate::base::legible::Form;
use crate::commands::{self, CommandContext, CommandError, Import, Planned};
use crate::config::Config;
use crate::directory::declaration::Declaration;
use crate::directory::{self, DirectoryError};
use crate::files::{self, Audience};
use crate::server;
use crate::store::Store;

const EXAMPLES: &str = "\
Examples:
  brevet import --config /var/lib/brevet/brevet.toml account.json
      Shows what would change, with a diff of each change.
  brevet import --config /var/lib/brevet/brevet.toml account.json --apply
      Makes the changes, while the broker runs.
  aws iam get-account-authorization-details | brevet import --config brevet.toml -
      Reads an export of AWS from standard input.";

/// The maximum number of changes, and of errors, that are shown; the others are only counted.
const SHOWN: usize = 200;

/// Make the directory in the store equal to what a file declares
///
/// Shows what would change (+ created, ~ changed, - deleted), with a diff of each change. With --apply,
/// either all changes are made or none. Without --apply, the command tries all changes in the store and undoes them,
/// and exits with 1 if the store or a rule refuses one of them, or the log of commands cannot be written. Errors are
/// printed first, then warnings, then the plan. The file has the format that
/// `aws iam get-account-authorization-details` and `brevet export` print.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct ImportArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// A file that `aws iam get-account-authorization-details` or `brevet export` printed; `-` for
    /// standard input
    file: PathBuf,
    /// Make the changes; without this flag, the command only shows them
    #[arg(long)]
    apply: bool,
    /// Delete everything in the file's accounts that the file does not declare
    #[arg(long)]
    prune: bool,
    /// Make the changes even if nobody can administer the directory with the IAM API afterwards
    #[arg(long)]
    allow_lockout: bool,
}

pub(super) fn run(arguments: &ImportArguments) -> Result<(), Failure> {
    let (file, prune) = (&arguments.file, arguments.prune);
    let name = if input::is_stdin(file) {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    };
    let config = Config::load(&arguments.config.config)?;
    check_directory(&config)?;
    let (_, master_key) = master_key(&config)?;
    let declaration = read(file, &name)?;
    let (runtime, store) = opened(&config, Some(&master_key))?;
    let entropy = SystemEntropy::new();
    let context = CommandContext {
        store: &store,
        master_key: &master_key,
        entropy: &entropy,
        now: clock::now(&config)?,
        issuer: config.issuer.as_deref(),
    };
    let import = runtime.block_on(commands::survey(context, declaration, prune));
    let mut import = import.map_err(|error| format!("{name}: {}", message(&error)))?;
    import.allows_lockout = arguments.allow_lockout;
    let tried = match (
        import.errors.is_empty() && !import.planned.is_empty(),
        arguments.apply,
    ) {
        (false, _) => Ok(None),
        (true, false) => rehearse(&config, &runtime, &import, context).map(|()| None),
        (true, true) => {
            let config_file = &arguments.config.config;
            apply(&config, config_file, &runtime, &import, context, &name).map(Some)
        }
    };
    let mut errors: Vec<String> = import.errors.iter().map(message).collect();
    errors.extend(tried.as_ref().err().map(ToString::to_string));
    for error in errors.iter().take(SHOWN) {
        print::note(format_args!("error: {}", print::visible_lines(error)));
    }
    super::warn(&import.warnings);
    // A file with nothing but errors has no plan to show.
    let has_plan = errors.is_empty() || !import.planned.is_empty();
    let shown = if has_plan { show(&import) } else { Ok(()) };
    if import.kept > 0 && !prune && has_plan {
        print::note(format_args!(
            "Entries that the file does not declare are kept; --prune deletes them in the accounts that the file \
             declares."
        ));
    }
    if !errors.is_empty() {
        return Err(match (import.errors.len(), arguments.apply) {
            (0, true) => format!("{name}: the import failed for the reason above").into(),
            (0, false) => {
                format!("{name}: the import would fail for the reason above; nothing was changed")
                    .into()
            }
            (of_the_file, _) => refused(&name, of_the_file),
        });
    }
    match shown {
        // The changes were asked for and are made, even if nobody read the plan to its end.
        Err(failure) if matches!(tried, Ok(Some(_))) && failure.is::<print::ReaderIsGone>() => {}
        shown => shown?,
    }
    match tried {
        Ok(Some(sequence)) => print::note(format_args!(
            "All changes were made, up to change {sequence}; every connected broker applies them within 2 s."
        )),
        _ if !import.planned.is_empty() => {
            print::note("Nothing was changed: add --apply to make these changes.")
        }
        _ => {}
    }
    runtime.block_on(store.close());
    Ok(())
}

/// Refuses a configuration whose directory is not in the store.
fn check_directory(config: &Config) -> Result<(), Failure> {
    match &config.directory {
        None => Ok(()),
        Some(path) => Err(format!(
            "[directory] file: the directory is managed in {}, so nothing can be imported into the store; edit that file",
            path.display()
        )
        .into()),
    }
}

fn refused(name: &str, errors: usize) -> Failure {
    let more = match errors.saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; {more} more errors are not shown"),
    };
    let counted = match errors {
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    };
    format!("{name}: nothing was changed, because the file has {counted}, listed above{more}")
        .into()
}

/// Reads the declaration. A file with unsealed secrets must be readable by its owner only; standard input
/// needs no such check.
fn read(file: &Path, name: &str) -> Result<Declaration, Failure> {
    let unread = |error: DirectoryError| directory_file::unread(name, &error);
    if input::is_stdin(file) {
        return directory::parse(&input::read(file, directory::MAX_BYTES)?).map_err(unread);
    }
    let bytes = files::read(file, Audience::Everyone, directory::MAX_BYTES)?;
    let declaration = directory::parse(bytes.expose()).map_err(unread)?;
    if declaration.has_clear_secrets() {
        files::check(file, Audience::Owner)?;
    }
    Ok(declaration)
}

/// The text of an error, without the internal prefixes `ValidationError: ` and `directory: `. If no administrator would
/// be left, it also names the flag that allows that.
fn message(error: &CommandError) -> String {
    if matches!(error, CommandError::LastAdministrator) {
        return format!("{error}, or add --allow-lockout");
    }
    error
        .to_string()
        .trim_start_matches("ValidationError: ")
        .trim_start_matches("directory: ")
        .to_owned()
}

/// Makes all changes in a transaction and rolls it back, and checks that the log of commands can be written.
///
/// # Errors
/// The log of commands cannot be written, or the store would refuse a change.
fn rehearse(
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    import: &Import,
    context: CommandContext<'_>,
) -> Result<(), Failure> {
    journal::of(config).is_writable()?;
    runtime
        .block_on(import.rehearse(context, &operator()))
        .map_err(|error| message(&error).into())
}

fn apply(
    config: &Config,
    config_file: &Path,
    runtime: &tokio::runtime::Runtime,
    import: &Import,
    context: CommandContext<'_>,
    name: &str,
) -> Result<i64, Failure> {
    let parameters = json!({"file": name, "changes": import.planned.len()});
    journal::recorded(&journal::of(config), "ImportDirectory", parameters, || {
        let kept = keep(config, runtime, import, context.store)?;
        let applied = runtime.block_on(import.apply(context, &operator()));
        if let (Err(_), Some(kept)) = (&applied, &kept) {
            // Nothing was changed, so there is nothing to bring back.
            let _ = std::fs::remove_file(kept);
        }
        let sequence = applied.map_err(|error| message(&error))?;
        let left = runtime
            .block_on(server::entrance(config, Some(context.master_key)).leave(context.store));
        left.map_err(|error| {
            format!(
                "all changes were made, up to change {sequence}, but the watermark file could not be updated: {error}"
            )
        })?;
        if let Some(kept) = &kept {
            print::note(format_args!(
                "The entries that were changed or deleted are kept, as they were before, in {}.",
                kept.display()
            ));
            print::note(format_args!(
                "To restore them: brevet import --config {} {} --apply",
                print::word(&config_file.display().to_string()),
                print::word(&kept.display().to_string())
            ));
        }
        Ok((sequence, json!({"sequenceNumber": sequence, "kept": kept})))
    })
}

/// Writes the entries that an import changes or deletes to a file, from which they can be imported again. Returns the
/// file's path, or `None` if the import only creates entries.
fn keep(
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    import: &Import,
    store: &Store,
) -> Result<Option<PathBuf>, Failure> {
    let replaced = import.replaced();
    if replaced.is_empty() {
        return Ok(None);
    }
    let declaration =
        runtime.block_on(commands::export_of(store, |name| replaced.contains(name)))?;
    let beside = config.watermark.as_deref().unwrap_or(&config.keyring);
    let kept =
        files::name_for_replaced(&beside.with_file_name("directory.json"), SystemClock.now());
    let written = files::write_private(&kept, &serde_json::to_vec_pretty(&declaration)?);
    written.map_err(|error| report::with_free_space(error.into(), &[&kept]))?;
    Ok(Some(kept))
}

fn show(import: &Import) -> Result<(), Failure> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for planned in &import.planned {
        let what = match planned {
            Planned::Create(_) => "to create",
            Planned::Update { .. } => "to change",
            Planned::Delete { .. } => "to delete",
        };
        *counts.entry(what).or_default() += 1;
    }
    let shown = print::legibly(Form::Lines, |out| {
        for planned in import.planned.iter().take(SHOWN) {
            out.write_all(planned.describe().as_bytes())?;
        }
        if import.planned.len() > SHOWN {
            writeln!(out, "… and {} more", import.planned.len() - SHOWN)?;
        }
        Ok(())
    });
    let counted: Vec<String> = counts
        .iter()
        .map(|(what, n)| format!("{n} {what}"))
        .collect();
    let counted = if counted.is_empty() {
        "nothing to change".to_owned()
    } else {
        counted.join(", ")
    };
    print::note(format_args!(
        "{counted}; {} unchanged; {} in the store but not in the file",
        import.unchanged, import.kept
    ));
    shown
}
