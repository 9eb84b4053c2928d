//! `brevet export` and `brevet changes`, which read the store directly; and how commands open the store
//! beside a broker.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{ConfigArgument, Failure, clock, documents, journal, print, report};
use crate::base::entropy::SystemEntropy;
use crate::base::legible::Form;
use crate::commands;
use crate::config::Config;
use crate::master_key::MasterKey;
use crate::server;
use crate::store::{Access, Change, Place, Store};

const EXPORT_EXAMPLES: &str = "\
Examples:
  brevet export --config /var/lib/brevet/brevet.toml > directory.json";

const CHANGES_EXAMPLES: &str = "\
Examples:
  brevet changes --config /var/lib/brevet/brevet.toml --after 0
  brevet changes --config /var/lib/brevet/brevet.toml --documents";

/// Print the directory in the store
///
/// Prints the format that `brevet import` reads; importing it again changes nothing. Secrets are sealed
/// under the master key.
#[derive(Debug, Args)]
#[command(after_long_help = EXPORT_EXAMPLES)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    config: ConfigArgument,
}

/// Print the change feed, one JSON object per line
///
/// Each change of the directory and each revocation has a number, an actor, a time, and digests of what
/// was there before and after. Every broker follows this feed.
#[derive(Debug, Args)]
#[command(after_long_help = CHANGES_EXAMPLES)]
pub(super) struct ChangesArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Print only the changes after this one
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    after: i64,
    /// Also print the whole document before and after each change, as far as it is kept
    #[arg(long)]
    documents: bool,
}

/// Opens the store for a command that works beside the broker.
///
/// # Errors
/// The store cannot be opened, or is behind what this node has seen of it.
pub(super) fn opened(
    config: &Config,
    master_key: Option<&MasterKey>,
) -> Result<(tokio::runtime::Runtime, Store), Failure> {
    let runtime = super::runtime()?;
    let (now, entropy) = (clock::now(config)?, SystemEntropy::new());
    let store =
        runtime.block_on(server::entrance(config, master_key).open(Access::Use, now, &entropy));
    let files = match &config.store {
        Place::Sqlite(path) => vec![path.as_path()],
        Place::Postgres { .. } | Place::Memory => Vec::new(),
    };
    Ok((
        runtime,
        store.map_err(|error| report::with_free_space(error.into(), &files))?,
    ))
}

/// Does what [`opened`] does, with the master key of the configuration, if it names one.
///
/// # Errors
/// Those of [`opened`]; and a master key file that cannot be read.
pub(super) fn opened_to_read(config: &Config) -> Result<(tokio::runtime::Runtime, Store), Failure> {
    let master_key = config
        .master_key
        .as_deref()
        .map(MasterKey::load)
        .transpose()?;
    opened(config, master_key.as_ref())
}

/// The path of the configuration's master key file, and its keys.
///
/// # Errors
/// `[directory] master_key` is not set, or the file cannot be read.
pub(super) fn master_key(config: &Config) -> Result<(&Path, MasterKey), Failure> {
    let path = config
        .master_key
        .as_deref()
        .ok_or("[directory] master_key: is not set; it must name the master key file")?;
    Ok((path, MasterKey::load(path)?))
}

pub(super) fn export(arguments: &ExportArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let (runtime, store) = opened_to_read(&config)?;
    journal::note(&journal::of(&config), "ExportDirectory", json!({}), || {
        let declaration = runtime.block_on(commands::export(&store))?;
        print::legibly(Form::Json, |out| {
            serde_json::to_writer_pretty(&mut *out, &declaration)?;
            Ok(out.write_all(b"\n")?)
        })
    })
}

pub(super) fn changes(arguments: &ChangesArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let (runtime, store) = opened_to_read(&config)?;
    let mut feed = runtime.block_on(store.feed())?;
    print::legibly(Form::Json, |out| {
        loop {
            // Changes that are not printed are read too, so that a gap before the printed ones is
            // noticed.
            let mut changes = runtime.block_on(feed.next())?;
            if changes.is_empty() {
                return Ok(());
            }
            changes.retain(|change| change.sequence > arguments.after);
            let (Some(first), Some(last)) = (changes.first(), changes.last()) else {
                continue;
            };
            let mut kept = BTreeMap::new();
            if arguments.documents {
                let documents = store.documents_between(first.sequence - 1, last.sequence);
                kept.extend(runtime.block_on(documents)?);
            }
            for change in &changes {
                let mut line = line(change)?;
                if arguments.documents {
                    documents::add(
                        &mut line,
                        change.sequence,
                        kept.remove(&change.sequence).unwrap_or_default(),
                    )?;
                }
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")?;
            }
        }
    })
}

fn line(change: &Change) -> Result<serde_json::Value, Failure> {
    let at = crate::base::clock::Timestamp::from_seconds(change.changed_at.div_euclid(1_000));
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text);
    Ok(serde_json::json!({
        "SequenceNumber": change.sequence, "Time": at.to_string(), "Actor": parsed(&change.actor)?,
        "Action": change.action, "Kind": change.kind, "Id": change.id, "Detail": parsed(&change.detail)?,
    }))
}
