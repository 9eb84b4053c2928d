//! What only SQLite needs: its file, its lock, and reading many rows as one.

use std::fs::File;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{FlockOperation, flock};
use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyConnectOptions;

use super::address::driver_options;
use super::classify::classify;
use super::integrity::Resource;
use super::{StoreError, clip};
use crate::files::{self, Audience, FileError};

/// What stays as it is in a path within a URL.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

pub(super) fn options(path: &Path, create: bool) -> Result<AnyConnectOptions, StoreError> {
    if create && !path.exists() {
        files::create_private(path)?;
    }
    if !path.exists() {
        return Err(StoreError::Missing(path.to_owned()));
    }
    files::check(path, Audience::Owner)?;
    let text = path
        .to_str()
        .ok_or_else(|| StoreError::Address("file: must be UTF-8".to_owned()))?;
    driver_options(&format!(
        "sqlite:{}?mode=rw",
        utf8_percent_encode(text, PATH)
    ))
}

/// WAL: readers and the one writer do not wait for each other. FULL: what was committed is on
/// stable storage.
pub(super) async fn prepare(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(
        "PRAGMA busy_timeout = 1500; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON",
    )
    .execute(connection)
    .await
    .map(|_| ())
}

/// So many rows are read as one: a row by itself costs more on its way than all that is in it.
const PORTION: i64 = 256;
/// What stands between rows and between columns in a portion. Neither is in a name, and JSON has
/// them as escapes alone; a row that has one of them fails its check.
const ROW: char = '\u{1e}';
const COLUMN: char = '\u{1f}';

/// Rows of the directory as one text.
pub(super) struct Portion(String);

/// The next rows behind a row number, or the first ones, in the order in which they lie in the file, and the last one's
/// number. None: there are no more.
pub(super) async fn portion(
    connection: &mut AnyConnection,
    after: Option<i64>,
) -> Result<Option<(i64, Portion)>, StoreError> {
    // A row may have the lowest number that there is.
    let row = sqlx::query(
        "SELECT MAX(place), group_concat(kind || char(31) || id || char(31) || account || char(31) || folded \
         || char(31) || CASE WHEN unique_id IS NULL THEN '' ELSE '=' || unique_id END || char(31) || version \
         || char(31) || mac || char(31) || body, char(30)), \
         MIN(typeof(kind) = 'text' AND typeof(id) = 'text' AND typeof(account) = 'text' AND typeof(folded) = 'text' \
         AND typeof(unique_id) IN ('text', 'null') AND typeof(version) = 'integer' AND typeof(mac) = 'text' \
         AND typeof(body) = 'text') \
         FROM (SELECT rowid AS place, * FROM resources WHERE rowid >= $1 ORDER BY rowid LIMIT $2)",
    )
    .bind(after.map_or(i64::MIN, |after| after.saturating_add(1)))
    .bind(PORTION)
    .fetch_one(&mut *connection)
    .await
    .map_err(classify)?;
    let last: Option<i64> = row.try_get(0).map_err(classify)?;
    let text: Option<String> = row.try_get(1).map_err(classify)?;
    // In one text a value of another type looks like a text, and a search for the text does not find it.
    if row.try_get::<Option<i64>, _>(2).map_err(classify)? == Some(0) {
        return Err(StoreError::Tampered(other_type(connection).await?));
    }
    Ok(last.map(|last| (last, Portion(text.unwrap_or_default()))))
}

/// Names a row that holds a value of another type than a broker writes.
async fn other_type(connection: &mut AnyConnection) -> Result<String, StoreError> {
    let row = sqlx::query(
        "SELECT CAST(kind AS TEXT), CAST(id AS TEXT) FROM resources WHERE typeof(kind) <> 'text' \
         OR typeof(id) <> 'text' OR typeof(account) <> 'text' OR typeof(folded) <> 'text' \
         OR typeof(unique_id) NOT IN ('text', 'null') OR typeof(version) <> 'integer' OR typeof(mac) <> 'text' \
         OR typeof(body) <> 'text' LIMIT 1",
    )
    .fetch_one(connection)
    .await
    .map_err(classify)?;
    let text = |at: usize| row.try_get::<&str, _>(at).map(clip).map_err(classify);
    Ok(format!(
        "{} {} is not as a broker wrote it (a column is of another type)",
        text(0)?,
        text(1)?
    ))
}

impl Portion {
    /// The columns and the MAC of each row.
    pub(super) fn rows(&self) -> impl Iterator<Item = Result<(Resource<'_>, &str), StoreError>> {
        let rows = self.0.split(ROW).filter(|row| !row.is_empty());
        rows.map(|row| {
            let mut columns = row.splitn(8, COLUMN);
            let mut next = || {
                columns
                    .next()
                    .ok_or_else(|| StoreError::Tampered(format!("a row is `{}`", clip(row))))
            };
            let (kind, id, account, folded) = (next()?, next()?, next()?, next()?);
            let (unique_id, version, mac, body) =
                (next()?.strip_prefix('='), next()?, next()?, next()?);
            let version = version.parse().map_err(|_| {
                let name = format!("{} {}", clip(kind), clip(id));
                StoreError::Tampered(format!(
                    "{name} is not as a broker wrote it (its version is `{}`)",
                    clip(version)
                ))
            })?;
            Ok((
                Resource {
                    kind,
                    id,
                    account,
                    folded,
                    unique_id,
                    version,
                    body,
                },
                mac,
            ))
        })
    }
}

/// Held by the one broker that serves a SQLite store, as long as its process lives.
#[derive(Debug)]
pub struct SqliteLock(
    #[allow(dead_code, reason = "the lock lives as long as the file is open")] File,
);

impl SqliteLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// When another process has it.
    pub fn take(store: &Path) -> Result<Self, StoreError> {
        let path = beside(store, ".lock");
        let file = files::create_private(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse(store.to_owned())),
            Err(error) => Err(FileError::Io {
                path,
                source: error.into(),
            }
            .into()),
        }
    }
}

/// A file beside another one: its name with a suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
