//! A copy of a running SQLite store.

use std::fs::File;
use std::path::Path;

use super::lanes::Purpose;
use super::sqlite::beside;
use super::{BACKUP_DEADLINE, Engine, Store, StoreError};
use crate::files::{self, FileError};

/// Writes a copy of a running store, as it is at one moment, to a file that is not there yet.
///
/// # Errors
/// When the file is there or cannot be written, and for a store that is not SQLite.
pub async fn backup(store: &Store, to: &Path) -> Result<(), StoreError> {
    if store.engine != Engine::Sqlite {
        return Err(StoreError::Address(
            "a PostgreSQL store is backed up by `pg_dump`".to_owned(),
        ));
    }
    if to.exists() {
        return Err(StoreError::NotWritable(format!(
            "{}: is there already; name a new file",
            to.display()
        )));
    }
    // A copy that is cut off does not look like a backup.
    let partial = beside(to, ".partial");
    let io = |source| {
        StoreError::from(FileError::Io {
            path: to.to_owned(),
            source,
        })
    };
    if partial.exists() {
        std::fs::remove_file(&partial).map_err(io)?;
    }
    files::create_private(&partial)?;
    let text = partial
        .to_str()
        .ok_or_else(|| StoreError::Address("the backup's path must be UTF-8".to_owned()))?;
    let text = text.to_owned();
    let copied = store
        .read(Purpose::Background, BACKUP_DEADLINE, move |c| {
            let text = text.clone();
            Box::pin(async move { sqlx::query("VACUUM INTO $1").bind(text).execute(c).await })
        })
        .await;
    let synced = File::open(&partial).and_then(|f| f.sync_all()).map_err(io);
    let placed = match (copied, synced) {
        (Ok(_), Ok(())) => std::fs::rename(&partial, to).map_err(io),
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    if placed.is_err() {
        let _ = std::fs::remove_file(&partial); // the error to report is the first one
    }
    placed?;
    Ok(files::sync_folder(to)?)
}
