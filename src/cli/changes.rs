//! `brevet changes`: prints the change feed, or waits for a change.

mod wait;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, documents, print, store};
use crate::base::legible::Form;
use crate::config::Config;
use crate::store::Change;

const EXAMPLES: &str = "\
Examples:
  brevet changes --config /var/lib/brevet/brevet.toml --after 0
  brevet changes --config /var/lib/brevet/brevet.toml --documents";

/// Print the change feed, one JSON object per line
///
/// Each change of the directory and each revocation has a number, an actor and a time. A change of an entry also has
/// the fields that differ, and the digests of the entry before and after it. Every broker follows this feed.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct ChangesArguments {
    #[command(subcommand)]
    command: Option<ChangesCommand>,
    /// The broker's configuration file
    #[arg(long, env = "BREVET_CONFIG", value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Print only the changes after this one
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    after: i64,
    /// Also print the whole document before and after each change, if it is still kept
    #[arg(long)]
    documents: bool,
}

#[derive(Debug, Subcommand)]
enum ChangesCommand {
    Wait(wait::WaitArguments),
}

pub(super) fn run(arguments: &ChangesArguments) -> Result<(), Failure> {
    if let Some(ChangesCommand::Wait(arguments)) = &arguments.command {
        return wait::run(arguments);
    }
    let file = arguments.config.as_deref().ok_or("--config: is missing")?;
    let config = Config::load(file)?;
    let (runtime, opened) = store::opened_to_read(&config)?;
    let mut feed = runtime.block_on(opened.feed())?;
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
                let documents = opened.documents_between(first.sequence - 1, last.sequence);
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
