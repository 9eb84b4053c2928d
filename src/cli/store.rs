//! What an operator does with the store beside its broker: import, export, the feed, backup,
//! restore, and a new master key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{ConfigArgument, Failure, clock, demo, documents, input, print, report};
use crate::clock::Timestamp;
use crate::commands::{self, Desk, Planned};
use crate::config::Config;
use crate::directory::{self, DirectoryError};
use crate::entropy::SystemEntropy;
use crate::files::{self, Audience};
use crate::legible::Form;
use crate::master_key::MasterKey;
use crate::server;
use crate::store::{self, Access, Change, Head, Place, Store, StoreError, Watermark};

const IMPORT_EXAMPLES: &str = "\
Examples:
  brevet import --config /var/lib/brevet/brevet.toml account.json
      Shows what would change, with a diff of each.
  brevet import --config /var/lib/brevet/brevet.toml account.json --apply
      Does it, with the broker running.
  aws iam get-account-authorization-details | brevet import --config brevet.toml -
      From standard input.";

const EXPORT_EXAMPLES: &str = "\
Examples:
  brevet export --config /var/lib/brevet/brevet.toml > directory.json";

const CHANGES_EXAMPLES: &str = "\
Examples:
  brevet changes --config /var/lib/brevet/brevet.toml --after 0
  brevet changes --config /var/lib/brevet/brevet.toml --documents";

const BACKUP_EXAMPLES: &str = "\
Examples:
  brevet backup --config /var/lib/brevet/brevet.toml /backup/store.db";

const RESTORE_EXAMPLES: &str = "\
Examples:
  brevet restore --config /var/lib/brevet/brevet.toml /backup/store.db
  brevet restore --config /var/lib/brevet/brevet.toml --accept
      After `pg_restore` put a PostgreSQL store back.";

const REKEY_EXAMPLES: &str = "\
Examples:
  brevet rekey --config /var/lib/brevet/brevet.toml
      With one broker.
  brevet rekey --config /var/lib/brevet/brevet.toml --publish
      With several: then copy master.key to each of them, then `brevet rekey`.";

/// Bring the directory in the store to what a file declares
///
/// Shows what would change (+ created, ~ changed, - deleted), with a diff of each, and changes
/// nothing without --apply. With it, either all of it is done or nothing. The file has the shape that
/// `aws iam get-account-authorization-details` and `brevet export` print.
#[derive(Debug, Args)]
#[command(after_long_help = IMPORT_EXAMPLES)]
pub(super) struct ImportArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// What `aws iam get-account-authorization-details` or `brevet export` prints; `-` for standard
    /// input
    file: PathBuf,
    /// Do it
    #[arg(long)]
    apply: bool,
    /// Delete what is in the file's accounts and not in the file
    #[arg(long)]
    prune: bool,
}

/// Print the directory in the store
///
/// Prints it in the shape that `brevet import` reads: imported again, nothing changes. Secrets are
/// sealed under the master key.
#[derive(Debug, Args)]
#[command(after_long_help = EXPORT_EXAMPLES)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    config: ConfigArgument,
}

/// Print the change feed, one JSON object a line
///
/// Each change of the directory and each revocation has a number, an actor, a time, and what was
/// there before and after. Every broker follows this feed.
#[derive(Debug, Args)]
#[command(after_long_help = CHANGES_EXAMPLES)]
pub(super) struct ChangesArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Only those after this change
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    after: i64,
    /// With the whole of each thing before and after the change, as far as it is kept
    #[arg(long)]
    documents: bool,
}

/// Copy a SQLite store to a new file, with the broker running or not
///
/// The copy holds the store as of one change of the feed. Its secrets are sealed under the master
/// key, which is not in it: keep both, and apart. PostgreSQL has pg_dump.
#[derive(Debug, Args)]
#[command(after_long_help = BACKUP_EXAMPLES)]
pub(super) struct BackupArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The copy; it must not be there yet
    file: PathBuf,
}

/// Put a backup in the store's place; everything that was issued before ends
///
/// What was revoked or used after the backup was made is not known any more, so every session from
/// before the restore ends, and no code from before it is taken. A store or a backup with rows that no
/// broker wrote is refused, and each of these rows named; --accept takes it as it is.
#[derive(Debug, Args)]
#[command(after_long_help = RESTORE_EXAMPLES)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The backup
    #[arg(required_unless_present = "accept")]
    file: Option<PathBuf>,
    /// Go on with the store, or with the backup, as it is: it was put back or changed by other means, and
    /// that is meant
    #[arg(long)]
    accept: bool,
}

/// Seal the secrets in the store under a new master key
///
/// Works with the broker running. With several brokers the new key must be on all of them first:
/// `brevet rekey --publish`, copy master.key to each, then `brevet rekey`.
#[derive(Debug, Args)]
#[command(after_long_help = REKEY_EXAMPLES)]
pub(super) struct RekeyArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Only put the new key in the file, for copying it to the other brokers first
    #[arg(long)]
    publish: bool,
}

/// How many differences are shown one by one.
const SHOWN: usize = 200;

/// Opens the store for a command beside the broker, if it is what this node has seen.
fn opened(config: &Config, master_key: Option<&MasterKey>) -> Result<(tokio::runtime::Runtime, Store), Failure> {
    let runtime = super::runtime()?;
    let (now, entropy) = (clock::now(config)?, SystemEntropy::new());
    let store = runtime.block_on(server::entrance(config, master_key).open(Access::Use, now, &entropy));
    let files = match &config.store {
        Place::Sqlite(path) => vec![path.as_path()],
        Place::Postgres { .. } | Place::Memory => Vec::new(),
    };
    Ok((runtime, store.map_err(|error| report::with_free_space(error.into(), &files))?))
}

/// As [`opened`], for a command that needs no master key for itself.
fn opened_to_read(config: &Config) -> Result<(tokio::runtime::Runtime, Store), Failure> {
    let master_key = config.master_key.as_deref().map(MasterKey::load).transpose()?;
    opened(config, master_key.as_ref())
}

/// Does something with the store beside the broker, if the store is what this node has seen; and writes down
/// what this node has seen then.
pub(super) async fn beside<T, E: Into<Failure>>(
    config: &Config,
    now: Timestamp,
    work: impl AsyncFnOnce(&Store) -> Result<T, E>,
) -> Result<T, Failure> {
    let master_key = config.master_key.as_deref().map(MasterKey::load).transpose()?;
    let entrance = server::entrance(config, master_key.as_ref());
    let store = entrance.open(Access::Use, now, &SystemEntropy::new()).await?;
    let done = work(&store).await.map_err(Into::into)?;
    entrance.leave(&store).await?;
    store.close().await;
    Ok(done)
}

fn master_key(config: &Config) -> Result<(&Path, MasterKey), Failure> {
    let path = config.master_key.as_deref().ok_or("[directory] master_key: is not set")?;
    Ok((path, MasterKey::load(path)?))
}

pub(super) fn import(arguments: &ImportArguments) -> Result<(), Failure> {
    let (file, prune) = (&arguments.file, arguments.prune);
    let name = if input::is_stdin(file) { "standard input".to_owned() } else { file.display().to_string() };
    let unread = |error: DirectoryError| demo::unread(&name, &error);
    let config = Config::load(&arguments.config.config)?;
    if let Some(path) = &config.directory {
        return Err(format!("[directory] file: roles are in {}, and read-only here", path.display()).into());
    }
    let (_, master_key) = master_key(&config)?;
    // Nobody else writes or reads what comes by standard input.
    let declaration = if input::is_stdin(file) {
        directory::parse(&input::read(file, directory::MAX_BYTES)?).map_err(unread)?
    } else {
        let bytes = files::read(file, Audience::Everyone, directory::MAX_BYTES)?;
        let declaration = directory::parse(bytes.expose()).map_err(unread)?;
        if declaration.brevet.has_clear_secrets() {
            files::check(file, Audience::Owner)?;
        }
        declaration
    };
    let (runtime, store) = opened(&config, Some(&master_key))?;
    let entropy = SystemEntropy::new();
    let desk = Desk {
        store: &store,
        master_key: &master_key,
        entropy: &entropy,
        now: clock::now(&config)?,
        issuer: config.issuer.as_deref(),
    };
    let import = runtime.block_on(commands::plan(desk, declaration, prune));
    let import = import.map_err(|error| {
        let text = error.to_string();
        format!("{name}: {}", text.trim_start_matches("ValidationError: ").trim_start_matches("directory: "))
    })?;
    super::warn(&import.warnings);
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
    match shown {
        // Whoever stopped reading the plan asked for it to be done all the same.
        Err(failure) if arguments.apply && failure.is::<print::ReaderIsGone>() => {}
        shown => shown?,
    }
    let counted: Vec<String> = counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
    let counted = if counted.is_empty() { "nothing to change".to_owned() } else { counted.join(", ") };
    print::note(format_args!(
        "{counted}; {} as declared; {} in the store and not in the file",
        import.unchanged, import.kept
    ));
    if import.kept > 0 && !prune {
        print::note(format_args!(
            "What is not in the file stays; with --prune it goes, as far as it is in the file's accounts."
        ));
    }
    if import.planned.is_empty() {
        return Ok(());
    }
    if !arguments.apply {
        print::note("Nothing was changed: --apply does it.");
        return Ok(());
    }
    let sequence = runtime.block_on(import.apply(desk, &super::operator()))?;
    runtime.block_on(server::entrance(&config, Some(&master_key)).leave(&store))?;
    runtime.block_on(store.close());
    print::note(format_args!("Done, up to change {sequence}; every connected broker takes it within 2 s."));
    Ok(())
}

pub(super) fn export(arguments: &ExportArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let (runtime, store) = opened_to_read(&config)?;
    let declaration = runtime.block_on(commands::export(&store))?;
    print::legibly(Form::Json, |out| {
        serde_json::to_writer_pretty(&mut *out, &declaration)?;
        Ok(out.write_all(b"\n")?)
    })
}

pub(super) fn changes(arguments: &ChangesArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let (runtime, store) = opened_to_read(&config)?;
    let mut after = arguments.after;
    print::legibly(Form::Json, |out| {
        loop {
            let changes = runtime.block_on(store.feed_after(after, 1_000))?;
            let Some(last) = changes.last() else { return Ok(()) };
            let mut kept = BTreeMap::new();
            if arguments.documents {
                kept.extend(runtime.block_on(store.documents_between(after, last.sequence))?);
            }
            after = last.sequence;
            for change in &changes {
                let mut line = line(change)?;
                documents::add(&mut line, change.sequence, kept.remove(&change.sequence).unwrap_or_default())?;
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")?;
            }
        }
    })
}

fn line(change: &Change) -> Result<serde_json::Value, Failure> {
    let at = crate::clock::Timestamp::from_seconds(change.changed_at.div_euclid(1_000));
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text);
    Ok(serde_json::json!({
        "SequenceNumber": change.sequence, "Time": at.to_string(), "Actor": parsed(&change.actor)?,
        "Action": change.action, "Kind": change.kind, "Id": change.id, "Detail": parsed(&change.detail)?,
    }))
}

pub(super) fn backup(arguments: &BackupArguments) -> Result<(), Failure> {
    let file = &arguments.file;
    let config = Config::load(&arguments.config.config)?;
    let (runtime, store) = opened_to_read(&config)?;
    let head = runtime.block_on(async {
        store::backup(&store, file).await?;
        store.head().await
    })?;
    print::note(format_args!("{} holds the store as it was at change {} or later.", file.display(), head.sequence));
    print::note(format_args!("Its secrets are sealed under the master key: keep that too, and elsewhere."));
    Ok(())
}

pub(super) fn restore(arguments: &RestoreArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let (now, entropy) = (clock::now(&config)?, SystemEntropy::new());
    let master_key = config.master_key.as_deref().map(MasterKey::load).transpose()?;
    let watermark = config.watermark.as_deref();
    // One that cannot be read says nothing; everything ends either way.
    let known = watermark.and_then(|path| Watermark::load(path).ok().flatten());
    let seen = known.as_ref().map_or(0, |w| w.sequence);
    let runtime = super::runtime()?;
    let head = match (&arguments.file, &config.store) {
        (Some(file), Place::Sqlite(path)) => {
            let restoring = store::restore(file, path, master_key.as_ref(), arguments.accept, seen, now, &entropy);
            runtime.block_on(restoring)?
        }
        (Some(_), _) => {
            return Err("a PostgreSQL store is put back by `pg_restore`; then: brevet restore --accept".into());
        }
        (None, place) => {
            let _lock = match place {
                Place::Sqlite(path) => Some(store::SqliteLock::take(path)?),
                Place::Postgres { .. } | Place::Memory => None,
            };
            runtime.block_on(accept(&config, master_key.as_ref(), seen, now, &entropy))?
        }
    };
    if let Some(path) = watermark {
        Watermark::of(&head).save(path)?;
    }
    print::note(format_args!(
        "The store goes on at change {}. Every session that was issued before now has ended,",
        head.sequence
    ));
    print::note("and codes and assertions from before now are not taken.");
    Ok(())
}

/// Takes the store as it is, and says in what it is not as brokers left it.
async fn accept(
    config: &Config,
    master_key: Option<&MasterKey>,
    seen: i64,
    now: Timestamp,
    entropy: &SystemEntropy,
) -> Result<Head, Failure> {
    let store = Store::open(&config.store, Access::Serve, master_key, now, entropy).await?;
    if store.is_unsealed() {
        print::note("The rows carry no MACs yet; they are taken as they are.");
    } else {
        match store.findings(now).await {
            Ok(findings) if findings.is_empty() => print::note("Every row is as a broker wrote it."),
            Ok(findings) => {
                print::note("Taken as it is, though no broker wrote it like this:");
                findings.iter().for_each(|what| print::note(format_args!("  {}", print::visible(what))));
            }
            // Then nobody can tell, and all of it is taken.
            Err(StoreError::Key(id)) => print::note(format_args!(
                "The rows were written under the master key {id}, which the master key file does not hold; they are taken as they are."
            )),
            Err(error) => return Err(error.into()),
        }
    }
    let head = store.accept(seen, now).await?;
    store.close().await;
    Ok(head)
}

pub(super) fn rekey(arguments: &RekeyArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    if config.directory.is_some() {
        return Err("[directory] file: secrets in a file are sealed by `brevet seal`; rekey is for the store".into());
    }
    let (path, mut key) = master_key(&config)?;
    let entropy = SystemEntropy::new();
    // Two keys of which none is published: an earlier run got so far, and this one goes on.
    if key.count() == 1 {
        key = key.with_fresh(path, &entropy)?;
        key.save(path)?;
        print::note(format_args!("{} holds a new key, which seals nothing yet.", path.display()));
    }
    if arguments.publish {
        print::note("Copy it to every broker; each reads it by itself within a second. Then: brevet rekey");
        return Ok(());
    }
    let (runtime, store) = opened(&config, Some(&key))?;
    key = key.promoted();
    key.save(path)?;
    store.use_master_key(&key)?;
    let issuer = config.issuer.as_deref();
    let desk = Desk { store: &store, master_key: &key, entropy: &entropy, now: clock::now(&config)?, issuer };
    // A broker beside us reads the new file before it meets a secret sealed under it.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let resealed = runtime.block_on(commands::reseal(desk, &super::operator()))?;
    // The rows are written anew under it as well.
    runtime.block_on(store.renew())?;
    runtime.block_on(server::entrance(&config, Some(&key)).leave(&store))?;
    let id = key.id().to_owned();
    key.alone().save(path)?;
    print::note(format_args!(
        "{resealed} secrets are sealed under the key {id}; the old key is gone from {}.",
        path.display()
    ));
    print::note("Copy the file to the other brokers. Backups from before need the old key.");
    Ok(())
}
