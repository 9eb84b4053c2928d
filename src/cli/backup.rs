//! `brevet backup`: copies a SQLite store to a file.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::store::opened_to_read;
use super::{ConfigArgument, Failure, journal, print, report};
use crate::config::Config;
use crate::master_key::MasterKey;
use crate::store::{self, Head};

const BACKUP_EXAMPLES: &str = "\
Examples:
  brevet backup --config /var/lib/brevet/brevet.toml /backup/store.db";

/// Copy a SQLite store to a new file, even while the broker runs
///
/// The copy contains the store in the state after one change. Its secrets are sealed under the master key, which the
/// copy does not contain: back up both, in different places. For PostgreSQL use pg_dump.
#[derive(Debug, Args)]
#[command(after_long_help = BACKUP_EXAMPLES)]
pub(super) struct BackupArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The file to write; it must not exist yet
    file: PathBuf,
}

pub(super) fn backup(arguments: &BackupArguments) -> Result<(), Failure> {
    let file = &arguments.file;
    let config = Config::load(&arguments.config.config)?;
    let (runtime, store) = opened_to_read(&config)?;
    let head = journal::recorded(
        &journal::of(&config),
        "BackupStore",
        json!({"file": file}),
        || {
            let copied = runtime.block_on(async {
                store::backup(&store, file).await?;
                store.head().await
            });
            let head: Head =
                copied.map_err(|error| report::with_free_space(error.into(), &[file]))?;
            let came_of_it = json!({"storeId": head.store_id, "sequenceNumber": head.sequence});
            Ok((head, came_of_it))
        },
    )?;
    print::note(format_args!(
        "{} contains a copy of the store. When the copy was complete, the last change of the store was number {}.",
        file.display(),
        head.sequence
    ));
    print::note(
        "The secrets in the backup are sealed under the master key: back up the key file too, in another \
        place.",
    );
    if let Some(Ok(key)) = config.master_key.as_deref().map(MasterKey::load) {
        print::note(format_args!(
            "The current master key is {}; to restore this backup you need a key file that contains this key.",
            key.id()
        ));
    }
    Ok(())
}
