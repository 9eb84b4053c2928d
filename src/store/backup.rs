//! Backs up a SQLite store while a broker serves it.

use std::fs::File;
use std::path::Path;

use super::lanes::Purpose;
use super::sqlite::beside;
use super::{BACKUP_DEADLINE, Engine, Store, StoreError};
use crate::files::{self, FileError};

/// Writes a consistent copy of a running SQLite store to a new file.
///
/// # Errors
/// [`StoreError::Address`] for a PostgreSQL store; [`StoreError::File`] if the file exists already,
/// cannot be written, or has a path that is not UTF-8; or an error of the database, such as
/// [`StoreError::Unavailable`] if it does not answer in time.
pub async fn backup(store: &Store, to: &Path) -> Result<(), StoreError> {
    if store.engine != Engine::Sqlite {
        return Err(StoreError::Address(
            "this command backs up SQLite stores only; use `pg_dump` for a PostgreSQL store"
                .to_owned(),
        ));
    }
    let unfit = |rule: &str| {
        StoreError::from(FileError::Unfit {
            path: to.to_owned(),
            rule: rule.to_owned(),
        })
    };
    if to.exists() {
        return Err(unfit("already exists; give the name of a new file"));
    }
    // The copy gets its name when it is complete, so that an interrupted one is not taken for a
    // backup.
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
        .ok_or_else(|| unfit("is not UTF-8; give another path for the backup"))?;
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
