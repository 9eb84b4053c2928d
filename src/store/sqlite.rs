//! The parts of the store that only SQLite needs: the file, its lock, and queries that return many rows joined to one.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{FlockOperation, flock};
use sqlx::any::{AnyConnectOptions, AnyRow};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::address::driver_options;
use super::classify::classify;
use super::integrity::Resource;
use super::salvage::LONGEST;
use super::{StoreError, clip};
use crate::files::{self, Audience, FileError};

/// The characters that are not escaped in a path within a URL.
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

/// Sets up a connection. With WAL, readers and the writer do not wait for each other; with FULL, a
/// commit returns when the change is on stable storage.
pub(super) async fn prepare(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(
        "PRAGMA busy_timeout = 1500; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON",
    )
    .execute(connection)
    .await
    .map(|_| ())
}

/// The number of rows that the database joins to one row for the client. Reading single rows would be slower.
const PORTION: i64 = 256;
/// The character between two rows in a portion.
///
/// Names contain neither this character nor [`COLUMN`], and JSON escapes both. A forged row that contains one of them
/// fails its check, or changes the number of rows.
const ROW: char = '\u{1e}';
/// The character between two columns in a portion.
const COLUMN: char = '\u{1f}';

/// The number of bytes above which a row is read alone, instead of being joined with others.
const LONG: usize = 128 << 10;

/// Several rows of the directory, joined to one text by the database.
pub(super) struct Portion {
    /// The row number (`rowid`) of the last row in this portion. The next portion begins after it.
    pub last: i64,
    /// The number of rows that the database reports.
    pub count: i64,
    text: String,
}

/// Reads the next rows after a row number, or the first ones, in the order of the file; `None` at the
/// end.
///
/// # Errors
/// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
/// [`StoreError::Tampered`] if a row cannot be read.
pub(super) async fn portion(
    connection: &mut AnyConnection,
    after: Option<i64>,
) -> Result<Option<Portion>, StoreError> {
    // A row may have the lowest possible number.
    let from = match after {
        None => i64::MIN,
        Some(i64::MAX) => return Ok(None),
        Some(after) => after + 1,
    };
    let rows = read(&mut *connection, from, i64::MAX, LONG).await?;
    let Some(long) = rows.long else {
        return rows.into_portion();
    };
    // The rows before a long one are read first, and then the long one alone.
    if rows.first == Some(long) {
        let row = read(connection, long, long, LONGEST).await?;
        return row.into_portion();
    }
    read(connection, from, long - 1, LONG).await?.into_portion()
}

/// The result of a query for a range of row numbers.
struct Rows {
    first: Option<i64>,
    last: Option<i64>,
    count: i64,
    /// The row number of the first row that is too long to be joined with others.
    long: Option<i64>,
    is_typed: bool,
    text: Option<String>,
}

impl Rows {
    fn into_portion(self) -> Result<Option<Portion>, StoreError> {
        // Once joined, a value of another type looks like a text, although a query for that text does
        // not find it.
        if !self.is_typed || self.long.is_some() {
            return Err(StoreError::Tampered(
                "a row of the directory has a value of the wrong type, or a value that is far too long"
                    .to_owned(),
            ));
        }
        Ok(self.last.map(|last| Portion {
            last,
            count: self.count,
            text: self.text.unwrap_or_default(),
        }))
    }
}

/// Reads at most [`PORTION`] rows. Rows with more than `longest` bytes are counted, but their text is not returned.
async fn read(
    connection: &mut AnyConnection,
    from: i64,
    to: i64,
    longest: usize,
) -> Result<Rows, StoreError> {
    // The limit is part of the statement: SQLite prepares a statement again for each new value that is
    // bound to a limit.
    let sql = AssertSqlSafe(format!(
        "SELECT MIN(place), MAX(place), COUNT(*), MIN(CASE WHEN size > $3 THEN place END), MIN(is_typed), \
         group_concat(CASE WHEN size <= $3 THEN concat_ws(char(31), kind, id, account, folded, \
         CASE WHEN unique_id IS NULL THEN '' ELSE '=' || unique_id END, version, mac, body) END, char(30)) \
         FROM (SELECT rowid AS place, *, octet_length(kind) + octet_length(id) + octet_length(account) \
         + octet_length(folded) + COALESCE(octet_length(unique_id), 0) + octet_length(mac) + octet_length(body) AS size, \
         typeof(kind) = 'text' AND typeof(id) = 'text' AND typeof(account) = 'text' AND typeof(folded) = 'text' \
         AND typeof(unique_id) IN ('text', 'null') AND typeof(version) = 'integer' AND typeof(mac) = 'text' \
         AND typeof(body) = 'text' AS is_typed \
         FROM resources WHERE rowid BETWEEN $1 AND $2 ORDER BY rowid LIMIT {PORTION})"
    ));
    let row = sqlx::query(sql)
        .bind(from)
        .bind(to)
        .bind(i64::try_from(longest).unwrap_or(i64::MAX))
        .fetch_one(connection)
        .await;
    let read = |row: &AnyRow| {
        Ok(Rows {
            first: row.try_get(0)?,
            last: row.try_get(1)?,
            count: row.try_get(2)?,
            long: row.try_get(3)?,
            is_typed: row.try_get::<Option<i64>, _>(4)? != Some(0),
            text: row.try_get(5)?,
        })
    };
    row.and_then(|row| read(&row)).map_err(classify)
}

impl Portion {
    /// Splits the portion into the columns and the MAC of each row.
    pub(super) fn rows(&self) -> impl Iterator<Item = Result<(Resource<'_>, &str), StoreError>> {
        let rows = self.text.split(ROW).filter(|row| !row.is_empty());
        rows.map(|row| {
            let mut columns = row.splitn(8, COLUMN);
            let mut next = || {
                columns.next().ok_or_else(|| {
                    StoreError::Tampered(format!(
                        "a row does not have all columns: `{}`",
                        clip(row)
                    ))
                })
            };
            let (kind, id, account, folded) = (next()?, next()?, next()?, next()?);
            let (unique_id, version, mac, body) =
                (next()?.strip_prefix('='), next()?, next()?, next()?);
            let version = version.parse().map_err(|_| {
                let name = format!("{} {}", clip(kind), clip(id));
                StoreError::Tampered(format!(
                    "{name} differs from what a broker wrote (the version is `{}`)",
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

/// Identifies the file of an open store by its path, device and inode.
#[derive(Debug, Clone)]
pub(super) struct OpenFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl OpenFile {
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        let meta = std::fs::metadata(path).map_err(|source| FileError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            device: meta.dev(),
            inode: meta.ino(),
        })
    }

    /// Whether the path still names the open file. If it does not, commands that open the path would work on another
    /// store than the broker.
    pub(super) fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path)
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == (self.device, self.inode))
    }
}

/// The lock of a SQLite store. The broker that serves the store holds it as long as its process runs.
#[derive(Debug)]
pub struct SqliteLock(
    #[allow(dead_code, reason = "the lock lives as long as the file is open")] File,
);

impl SqliteLock {
    /// Takes the lock of the store in the file `store`. The lock is held until the returned value is dropped.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process holds it, and [`StoreError::File`] if the lock file cannot be opened.
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

/// Returns a path in the same folder, whose file name is that of `path` followed by `suffix`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
