//! What must not be lost, in SQL: the directory's rows, revocations, spent codes, seen tokens, and
//! the feed of changes. SQLite embedded, or PostgreSQL for many nodes, by the same statements. Knows
//! rows, not what they mean: no policy is judged here.
//!
//! Each kind of work has connections of its own (`lanes.rs`), and each statement a deadline. A
//! connection that failed or was left in the middle of something is thrown away.

mod address;
mod changes;
mod directory_entries;
mod documents;
mod enter;
mod head;
mod integrity;
mod known;
mod lanes;
mod later_codes;
mod nodes;
mod once;
mod relocate;
mod reseal;
mod restore;
mod rows;
mod sqlite;
mod verify;
mod watermark;
mod writer;

use std::collections::HashSet;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::AnyConnection;
use sqlx::ConnectOptions;
use sqlx::any::AnyConnectOptions;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Row as _, SqlSafeStr};
use tokio::time::Instant;

use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::base::secret::Secret;
use crate::directory::resource::Kind;
use crate::files::FileError;
use crate::master_key::MasterKey;
use crate::metrics::Metrics;
use head::RawHead;
use integrity::{Contents, Keys};
use lanes::{Lanes, Lease, Purpose};
use once::Remembered;
use rows::ResourceRow;

pub use address::{UNVERIFIED_SENTENCE, postgres_url};
pub use changes::{Change, Step};
pub use directory_entries::{DIRECTORY_ENTRIES, DirectoryEntries};
pub use documents::Documents;
pub use enter::Entrance;
pub use lanes::ABANDONED;
pub use nodes::Broker;
pub use once::{Attempt, DevicePast, KeyUse, MAX_DRIFT, Matched, STEP_SECONDS};
pub use relocate::{Relocation, relocate};
pub use restore::{Placed, Prepared, look_at, prepare, revoked_keys};
pub use sqlite::{SqliteLock, backup};
pub use verify::Shown;
pub use watermark::{Watermark, WatermarkError};
pub use writer::{Entry, Stored, Writer};

/// The longest wait for an answer to one statement; of a call, for a connection and all that is asked
/// on it.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// The longest wait for a scan of everything.
const SCAN_DEADLINE: Duration = Duration::from_secs(300);
/// The longest wait for a backup.
const BACKUP_DEADLINE: Duration = Duration::from_secs(3_600);
/// So many changes are taken one by one; a node that is further behind loads everything anew.
pub const MAX_STEP: usize = 10_000;
/// How many portions of one table a sweep drops.
const MAX_PORTIONS: usize = 16;
/// How long a change stays in the feed unless the configuration says otherwise.
pub const KEEP_CHANGES: Duration = Duration::from_secs(30 * 24 * 3_600);
/// A node that was not heard of for so long, in seconds, is not waited for.
const SILENT_AFTER_SECONDS: i64 = 10;
/// How much later than its last report, in seconds, a node may last have confirmed the feed; with some
/// room, since the database counts whole seconds.
const REPORT_LAG_SECONDS: i64 = 10;

/// The schema, in the order in which it grew. A file here never changes once it was released.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "store", include_str!("store/migrations/0001_store.sql")),
    (2, "mfa", include_str!("store/migrations/0002_mfa.sql")),
    (3, "nodes", include_str!("store/migrations/0003_nodes.sql")),
    (
        4,
        "documents",
        include_str!("store/migrations/0004_documents.sql"),
    ),
    (
        5,
        "integrity",
        include_str!("store/migrations/0005_integrity.sql"),
    ),
    (
        6,
        "commands",
        include_str!("store/migrations/0006_commands.sql"),
    ),
    (
        7,
        "directory_entries",
        include_str!("store/migrations/0007_directory_entries.sql"),
    ),
];

/// Why the store did not do it. Nothing was changed unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer, or no connection.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// Made by a later version.
    #[error(
        "the store has schema {found}, which is newer than this program's ({known}); run the newer program"
    )]
    Newer {
        /// What it has.
        found: i64,
        /// What is known here.
        known: i64,
    },
    /// Made by an earlier version, and not brought up to date yet.
    #[error(
        "the store has schema {found}, older than this program's ({known}); `brevet serve` brings it up to date"
    )]
    Older {
        /// What it has.
        found: i64,
        /// What is known here.
        known: i64,
    },
    /// The connection ended.
    #[error("the store does not answer: {0}")]
    Disconnected(String),
    /// Too many callers wait for it.
    #[error("too many callers wait for the store")]
    Busy,
    /// There is no database.
    #[error(
        "{0}: there is no store; `brevet init` makes one, `brevet restore` brings a backup back"
    )]
    Missing(PathBuf),
    /// It is no store, or was damaged.
    #[error("{0}; restore a backup: `brevet restore FILE`")]
    Damaged(String),
    /// A file to restore from is none.
    #[error(
        "{path}: is not a whole backup of a store: {why}; name another file. Nothing was replaced"
    )]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It was moved.
    #[error(
        "this store was moved to {0}, and what is here is what was left behind: name the other one in [store]. To come back, \
         restore this one: `brevet restore FILE`"
    )]
    Moved(String),
    /// It is a copy that is not complete.
    #[error(
        "this is a copy of a store that `brevet move` was making when it was cut off; run it again"
    )]
    Arriving,
    /// It cannot be moved there.
    #[error("the store cannot be moved: {0}")]
    Unmovable(String),
    /// Another process serves it.
    #[error("{0}: another broker serves this store; SQLite is for one broker, PostgreSQL for many")]
    InUse(PathBuf),
    /// No room, or no right to write.
    #[error("the store cannot be written: {0}")]
    NotWritable(String),
    /// Something else has that name.
    #[error("something has that name, that alias or that unique id already")]
    Taken,
    /// Its address, or the options in it.
    #[error("[store]: {0}")]
    Address(String),
    /// The server is not known to be the database.
    #[error(
        "the database at {server} is not verified: {reason}. Give the server a certificate for that name, and name its CA \
         in [store] ca_file if it is your own; or do without with a lesser sslmode in [store] url, for which [store] needs \
         unverified_off_loopback = \"{UNVERIFIED_SENTENCE}\""
    )]
    Unverified {
        /// `HOST:PORT`
        server: String,
        /// What is wrong with its certificate, or that it has none.
        reason: String,
    },
    /// A file beside it.
    #[error(transparent)]
    File(#[from] FileError),
    /// No chance, no store.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// A row that this program did not write.
    #[error("the store holds a row that is not understood: {0}")]
    Row(String),
    /// The database holds what no broker wrote, or does not hold what one wrote.
    #[error(
        "{0}: the database was changed by something other than a broker. Put it right, or, if it is meant as it is, \
         `brevet restore --accept` takes it, ends everything that was issued before, and goes on"
    )]
    Tampered(String),
    /// Its rows are written under a master key that is not here.
    #[error(
        "the store is sealed under the master key {0}, which the master key file does not hold; copy the file from a broker \
         that has it"
    )]
    Key(String),
    /// It is at an earlier change than it was.
    #[error(
        "the store is at change {found}, and this broker has seen change {seen}: it was put back to an earlier state"
    )]
    WentBack {
        /// As it is.
        found: i64,
        /// As it was.
        seen: i64,
    },
    /// A backup of an earlier version.
    #[error(
        "{0}: was written by an earlier version, whose rows carry no MACs, so that nobody can tell whether they were \
         changed; `brevet restore FILE --accept` takes them as they are"
    )]
    Unsealed(String),
    /// No key can be derived from the master key.
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] crate::master_key::MasterKeyError),
}

impl StoreError {
    /// Whether the database holds what no broker wrote.
    pub fn is_tampering(&self) -> bool {
        matches!(self, Self::Tampered(_) | Self::Row(_) | Self::Key(_))
    }
}

/// Where the store is.
#[derive(Debug, Clone)]
pub enum Place {
    /// A file; one broker at a time.
    Sqlite(PathBuf),
    /// `postgres://USER@HOST/DATABASE`, no password in it.
    Postgres {
        /// The address.
        url: String,
        /// Its password.
        password: Option<Secret<String>>,
    },
    /// Nowhere. Development alone.
    Memory,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres { url, .. } => f.write_str(url),
            Self::Memory => f.write_str("in memory"),
        }
    }
}

/// What a store is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To make one where there is none.
    Create,
    /// To serve it: the schema is brought up to date.
    Serve,
    /// To read or change it beside its broker: the schema must be this program's.
    Use,
    /// A copy, to be put in a store's place: it may be one that was moved elsewhere.
    Recover,
    /// To move it, or to move another one there: as [`Access::Create`], in whatever state a move that was
    /// cut off has left it.
    Move,
}

/// The store's handle.
pub struct Store {
    engine: Engine,
    options: AnyConnectOptions,
    lanes: Lanes,
    metrics: Arc<Metrics>,
    /// The nodes as they were seen last, and when that was asked for.
    seen: tokio::sync::Mutex<Option<(Instant, Vec<Seen>)>>,
    mfa: Remembered,
    id: String,
    /// How long a change stays in the feed.
    keep_changes: Duration,
    /// What rows are written under, and checked with.
    keys: ArcSwap<Keys>,
    /// What was found in it that no broker wrote.
    suspicion: Mutex<Option<String>>,
    /// The last change that this process knows of, and the digest of the feed up to it; the digest is
    /// empty where a watermark of an earlier version names the change only.
    reached: Mutex<head::SeenSoFar>,
    /// The versions of all things as of a change, once everything was looked at.
    known: Mutex<Option<(known::Versions, i64)>>,
    is_unsealed: AtomicBool,
    is_new: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
    Memory,
}

type BoxFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// What a store is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Of this store alone.
    pub store_id: String,
    /// The last change.
    pub sequence: i64,
    /// Codes and assertions from before this second count as used.
    pub not_before: i64,
    /// The digest of the last change and of all before it, in hexadecimal digits.
    pub chain: String,
    /// The id of the master key under which the row is sealed.
    pub key: String,
}

/// A broker on the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Made up at its start.
    pub node: String,
    /// Its host's name.
    pub host: String,
    /// The last change that is in force there.
    pub confirmed: i64,
    /// After how many seconds without the feed it accepts nobody.
    pub refuse_after_seconds: i64,
    /// The ids of its master keys, separated by commas, the one that seals first.
    pub master_keys: String,
    /// The cluster of its keyring.
    pub cluster_id: String,
    /// A digest of the names of the entries of its directory file; empty: it has none.
    pub directory: String,
}

/// A broker that may accept sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which one, as it last reported.
    pub node: Node,
    /// Whether it has not been heard of lately. It may have ended, or be cut off and accept sessions
    /// until it refuses everybody.
    pub is_silent: bool,
}

impl Store {
    /// Connects, and sees to the schema. Whether the store is the one that this node has seen is the
    /// business of [`Entrance`].
    ///
    /// # Errors
    /// Each with the way out.
    pub async fn open(
        place: &Place,
        access: Access,
        master_key: Option<&MasterKey>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, StoreError> {
        let create = matches!(access, Access::Create | Access::Move);
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let (engine, options) = match place {
            Place::Sqlite(path) => (Engine::Sqlite, sqlite::options(path, create)?),
            Place::Postgres { url, password } => {
                (Engine::Postgres, postgres(url, password.as_ref())?)
            }
            Place::Memory => (Engine::Memory, address("sqlite::memory:")?),
        };
        let mut store = Self {
            engine,
            options,
            lanes: Lanes::new(engine),
            metrics: Arc::default(),
            seen: tokio::sync::Mutex::default(),
            mfa: Remembered::default(),
            id: String::new(),
            keep_changes: KEEP_CHANGES,
            keys: ArcSwap::from_pointee(Keys::derive(master_key, "")?),
            suspicion: Mutex::default(),
            reached: Mutex::default(),
            known: Mutex::default(),
            is_unsealed: AtomicBool::new(false),
            is_new: false,
        };
        if access == Access::Use {
            store.check_schema().await?
        } else {
            store.migrate().await?
        }
        if access == Access::Recover {
            store.stay().await?;
        }
        let found = store
            .read(Purpose::Background, DEADLINE, |c| Box::pin(head::read(c)))
            .await?;
        let raw = match found {
            Some(raw) => raw,
            None => match store.moved_to().await? {
                // Only its rows are read, as they are.
                Some(_) if access == Access::Move => return Ok(store),
                Some(to) if to == relocate::ARRIVING => return Err(StoreError::Arriving),
                Some(to) => return Err(StoreError::Moved(to)),
                None if create => {
                    let (raw, is_new) = store.found_anew(master_key, now, entropy).await?;
                    store.is_new = is_new;
                    raw
                }
                None => {
                    return Err(StoreError::Damaged(
                        "the database has no store in it; `brevet init` makes one, if it is a new one".to_owned(),
                    ));
                }
            },
        };
        store
            .keys
            .store(Keys::derive(master_key, &raw.store_id)?.into());
        if raw.is_unsealed() && access == Access::Use {
            return Err(StoreError::Address(
                "the rows of the store carry no MACs yet; `brevet serve` makes them".to_owned(),
            ));
        }
        store
            .is_unsealed
            .store(raw.is_unsealed(), std::sync::atomic::Ordering::Release);
        store.id = raw.store_id;
        Ok(store)
    }

    /// Counts what waits and what is turned away in these metrics from now on.
    #[must_use]
    pub fn counting_in(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Keeps changes in the feed for so long from now on.
    #[must_use]
    pub fn keeping_changes_for(mut self, span: Duration) -> Self {
        self.keep_changes = span;
        self
    }

    /// Made up once; a store that was restored keeps it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it was made when it was opened.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether other brokers may be on it.
    pub fn is_shared(&self) -> bool {
        self.engine == Engine::Postgres
    }

    /// What the store is now.
    ///
    /// # Errors
    /// Without an answer, and when its own row is not as a broker wrote it: nothing is known then.
    pub async fn head(&self) -> Result<Head, StoreError> {
        self.head_by(Purpose::Background).await
    }

    /// As [`Store::head`], for whoever follows the feed.
    ///
    /// # Errors
    /// As [`Store::head`].
    pub async fn feed_head(&self) -> Result<Head, StoreError> {
        self.head_by(Purpose::Feed).await
    }

    async fn head_by(&self, purpose: Purpose) -> Result<Head, StoreError> {
        let seen = self.seen_so_far();
        let raw = self.raw_head(purpose).await?;
        self.contents(&raw)?;
        self.must_not_go_back(&raw, seen)?;
        Ok(raw.head())
    }

    /// The rows of things of one kind that are there, in no order.
    ///
    /// # Errors
    /// Without an answer, or when there are too many to ask for at once.
    pub async fn get_all(
        &self,
        kind: Kind,
        ids: Vec<String>,
    ) -> Result<Vec<(String, Stored)>, StoreError> {
        let asked: HashSet<String> = ids.iter().cloned().collect();
        let ids = serde_json::to_string(&ids).map_err(|e| StoreError::Row(e.to_string()))?;
        let sql = match self.engine {
            Engine::Postgres => {
                "SELECT kind, id, account, folded, unique_id, version, body, mac FROM resources WHERE kind = $1 \
                 AND id IN (SELECT value FROM json_array_elements_text(CAST($2 AS JSON)) AS ids(value))"
            }
            Engine::Sqlite | Engine::Memory => {
                "SELECT kind, id, account, folded, unique_id, version, body, mac FROM resources WHERE kind = $1 \
                 AND id IN (SELECT value FROM json_each($2))"
            }
        };
        let rows = self.read(Purpose::Read, DEADLINE, move |c| {
            let ids = ids.clone();
            Box::pin(async move {
                sqlx::query(sql)
                    .bind(kind.as_str())
                    .bind(ids)
                    .fetch_all(c)
                    .await
            })
        });
        let stored = |row: &sqlx::any::AnyRow| {
            let row = ResourceRow::of(row).map_err(told)?;
            self.check_resource(row.columns(), &row.mac)?;
            if row.kind != kind.as_str() || !asked.contains(&row.id) {
                let (kind, id) = (&row.kind, clip(&row.id));
                let what = format!("the database shows {kind} {id}, which was not asked for");
                return Err(self.tampered(what));
            }
            Ok((
                row.id,
                Stored {
                    version: row.version,
                    body: row.body,
                },
            ))
        };
        rows.await?.iter().map(stored).collect()
    }

    /// Begins a change of a call: nobody else writes until it is committed or dropped. All of it must
    /// be done within [`DEADLINE`], the wait for those before it included; only the commit may take as
    /// long again.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when too many wait already, and without an answer.
    pub async fn write(&self) -> Result<Writer<'_>, StoreError> {
        self.begin(Purpose::Write).await
    }

    /// Begins a change that ends sessions: it waits behind no call.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn write_revocation(&self) -> Result<Writer<'_>, StoreError> {
        self.begin(Purpose::Revocation).await
    }

    /// Begins a change of many parts. Each statement has [`DEADLINE`].
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn write_much(&self) -> Result<Writer<'_>, StoreError> {
        self.begin(Purpose::Background).await
    }

    /// Says that this node is here and how far it has followed the feed. Of a node that is known already,
    /// which directory file it serves is said by [`Writer::serves_directory`].
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn report(&self, node: &Node) -> Result<(), StoreError> {
        let node = node.clone();
        self.write_one(Purpose::Feed, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO nodes \
                     (node, host, confirmed, refuse_after, master_keys, cluster_id, directory, seen_at) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, CAST(EXTRACT(EPOCH FROM now()) AS BIGINT)) \
                     ON CONFLICT (node) DO UPDATE SET confirmed = excluded.confirmed, \
                     refuse_after = excluded.refuse_after, master_keys = excluded.master_keys, \
                     cluster_id = excluded.cluster_id, seen_at = excluded.seen_at",
                )
                .bind(node.node)
                .bind(node.host)
                .bind(node.confirmed)
                .bind(node.refuse_after_seconds)
                .bind(node.master_keys)
                .bind(node.cluster_id)
                .bind(node.directory)
                .execute(c)
                .await
            })
        })
        .await
        .map(|_| ())
    }

    /// Says that this node goes: nobody waits for it from now on.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn leave(&self, node: &Node) -> Result<(), StoreError> {
        let node = node.node.clone();
        self.write_one(Purpose::Feed, move |c| {
            Box::pin(async move {
                sqlx::query("DELETE FROM nodes WHERE node = $1")
                    .bind(node)
                    .execute(c)
                    .await
            })
        })
        .await
        .map(|_| ())
    }

    /// How many nodes of a shared store were heard of lately.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn count_nodes(&self) -> Result<usize, StoreError> {
        let row = self.read(Purpose::Feed, DEADLINE, |c| {
            Box::pin(async move {
                let sql = "SELECT count(*) FROM nodes WHERE CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - seen_at <= $1";
                sqlx::query(sql).bind(SILENT_AFTER_SECONDS).fetch_one(c).await
            })
        });
        let count: i64 = row.await?.try_get(0).map_err(told)?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    /// The nodes of a shared store that may accept sessions, as they were at some moment after
    /// `moment`: those that report, and those that do not and have not refused everybody for as long as
    /// each of them says that it takes. Callers that ask at the same time share an answer.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn nodes_after(&self, moment: Instant) -> Result<Vec<Seen>, StoreError> {
        let mut seen = self.seen.lock().await;
        if let Some((asked_at, nodes)) = &*seen
            && *asked_at >= moment
        {
            return Ok(nodes.clone());
        }
        let asked_at = Instant::now();
        let rows = self.read(Purpose::Revocation, DEADLINE, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT node, host, confirmed, refuse_after, master_keys, cluster_id, directory, \
                     CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - seen_at AS silent FROM nodes \
                     WHERE CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - seen_at <= refuse_after + $1 ORDER BY node",
                )
                .bind(REPORT_LAG_SECONDS)
                .fetch_all(c)
                .await
            })
        });
        let node = |row: &sqlx::any::AnyRow| {
            Ok(Seen {
                node: Node {
                    node: row.try_get(0)?,
                    host: row.try_get(1)?,
                    confirmed: row.try_get(2)?,
                    refuse_after_seconds: row.try_get(3)?,
                    master_keys: row.try_get(4)?,
                    cluster_id: row.try_get(5)?,
                    directory: row.try_get(6)?,
                },
                is_silent: row.try_get::<i64, _>(7)? > SILENT_AFTER_SECONDS,
            })
        };
        let nodes: Vec<Seen> = rows
            .await?
            .iter()
            .map(node)
            .collect::<Result<_, sqlx::Error>>()
            .map_err(told)?;
        *seen = Some((asked_at, nodes.clone()));
        Ok(nodes)
    }

    /// Drops what has run out: revocations whose sessions have all ended, ids of expired tokens,
    /// changes that were kept for long enough by `history` (no later than `now`), nodes that accept nobody any more. In portions: nobody who writes waits
    /// long, and what is left goes the next time.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn sweep(&self, now: Timestamp, history: Timestamp) -> Result<(), StoreError> {
        self.mfa.sweep(now);
        let kept_since = history.min(now).minus(self.keep_changes).millis();
        let seconds = now.seconds();
        self.sweep_sealed(seconds, kept_since).await?;
        for (sql, bound) in [
            (
                "DELETE FROM seen WHERE (issuer, id) IN (SELECT issuer, id FROM seen WHERE expires_at <= $1 LIMIT 1000)",
                seconds,
            ),
            (
                "DELETE FROM mfa_failures WHERE user_id IN \
                 (SELECT user_id FROM mfa_failures WHERE forgiven_at <= $1 LIMIT 1000)",
                seconds,
            ),
            (
                "DELETE FROM change_documents WHERE sequence IN (SELECT sequence FROM change_documents \
                 WHERE sequence < (SELECT MIN(sequence) FROM changes) AND sequence > $1 ORDER BY sequence LIMIT 1000)",
                0,
            ),
        ] {
            for _ in 0..MAX_PORTIONS {
                let done = self.write_one(Purpose::Background, move |c| {
                    Box::pin(async move { sqlx::query(sql).bind(bound).execute(c).await })
                });
                if done.await?.rows_affected() < 1_000 {
                    break;
                }
            }
        }
        if self.is_shared() {
            self.write_one(Purpose::Background, |c| {
                Box::pin(async move {
                    sqlx::query(
                        "DELETE FROM nodes \
                         WHERE CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - seen_at > refuse_after + 3600",
                    )
                    .execute(c)
                    .await
                })
            })
            .await?;
        }
        Ok(())
    }

    /// Drops what the store's own row counts, as a change does: revocations that had run out by a second,
    /// and changes from before an instant in milliseconds since 1970.
    async fn sweep_sealed(&self, seconds: i64, millis: i64) -> Result<(), StoreError> {
        for _ in 0..MAX_PORTIONS {
            let due = self.read(Purpose::Background, DEADLINE, move |c| {
                Box::pin(async move {
                    sqlx::query(
                        "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM revocations WHERE expires_at <= $1 LIMIT 1) r), \
                         (SELECT COUNT(*) FROM (SELECT sequence FROM changes ORDER BY sequence LIMIT 1) c \
                         WHERE sequence < (SELECT sequence FROM store WHERE id = 1) \
                         AND (SELECT changed_at FROM changes ORDER BY sequence LIMIT 1) < $2)",
                    )
                    .bind(seconds)
                    .bind(millis)
                    .fetch_one(c)
                    .await
                })
            });
            let due = due.await?;
            let (revocations, changes): (i64, i64) =
                (due.try_get(0).map_err(told)?, due.try_get(1).map_err(told)?);
            if revocations == 0 && changes == 0 {
                return Ok(());
            }
            let mut writer = self.write_much().await?;
            if revocations > 0 {
                writer.sweep_revocations(seconds, 1_000).await?;
            }
            if changes > 0 {
                writer.sweep_changes(millis, 1_000).await?;
            }
            writer.commit().await?;
        }
        Ok(())
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
            Migration::new(
                *version,
                (*name).into(),
                MigrationType::Simple,
                sql.into_sql_str(),
                false,
            )
        };
        let migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
        let mut lease = self.lease_to_write(Purpose::Background).await?;
        let known = MIGRATIONS.last().map_or(0, |(version, _, _)| *version);
        let run = tokio::time::timeout(
            SCAN_DEADLINE,
            migrator.run_direct(None, lease.raw()?, false),
        );
        let result = match run.await {
            Ok(result) => result,
            Err(_) => return Err(late(SCAN_DEADLINE)),
        };
        match result {
            Ok(()) => {
                lease.finish();
                Ok(())
            }
            Err(MigrateError::VersionMissing(found)) => Err(StoreError::Newer { found, known }),
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                Err(told(error))
            }
            Err(other) => Err(StoreError::Damaged(format!("the store's schema: {other}"))),
        }
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        let row = self.read(Purpose::Background, DEADLINE, |c| {
            Box::pin(async move {
                sqlx::query("SELECT MAX(version) FROM _sqlx_migrations")
                    .fetch_one(c)
                    .await
            })
        });
        let found: i64 = match row.await {
            Ok(row) => row
                .try_get::<Option<i64>, _>(0)
                .map_err(told)?
                .unwrap_or_default(),
            Err(StoreError::Unavailable(why)) if why.contains("_sqlx_migrations") => 0,
            Err(error) => return Err(error),
        };
        let known = MIGRATIONS.last().map_or(0, |(version, _, _)| *version);
        match found.cmp(&known) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(StoreError::Newer { found, known }),
            std::cmp::Ordering::Less => Err(StoreError::Older { found, known }),
        }
    }

    /// The store's own row, as it stands in the database.
    async fn raw_head(&self, purpose: Purpose) -> Result<RawHead, StoreError> {
        self.read(purpose, DEADLINE, |c| Box::pin(head::read(c)))
            .await?
            .ok_or_else(no_store)
    }

    /// A store that knows nothing of the past: sessions of another store end with it, and codes from
    /// before it are not taken. Whether this call made it: another node may have been first.
    async fn found_anew(
        &self,
        master_key: Option<&MasterKey>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(RawHead, bool), StoreError> {
        let store_id = crate::base::digest::hex(&entropy::bytes::<8>(entropy)?);
        // One in memory ends with its process, and never had a past.
        let not_before = if self.engine == Engine::Memory {
            0
        } else {
            now.seconds()
        };
        let chain = integrity::beginning(&store_id);
        let mut raw = RawHead {
            store_id,
            sequence: 0,
            not_before,
            chain,
            seal: String::new(),
        };
        let keys = Keys::derive(master_key, &raw.store_id)?;
        let sealed = keys.first()?.seal(&raw.place(), &Contents::empty(1));
        raw.seal = sealed
            .map_err(|_| StoreError::Row("the store's own row cannot be sealed".to_owned()))?;
        let row = raw.clone();
        let done = self.write_one(Purpose::Background, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO store (id, store_id, sequence, not_before, chain, seal) \
                     VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                )
                .bind(row.store_id)
                .bind(row.sequence)
                .bind(row.not_before)
                .bind(row.chain)
                .bind(row.seal)
                .execute(c)
                .await
            })
        });
        done.await?;
        let there = self.raw_head(Purpose::Background).await?;
        let is_new = there.store_id == raw.store_id;
        Ok((there, is_new))
    }

    async fn read<T>(
        &self,
        purpose: Purpose,
        deadline: Duration,
        work: impl for<'c> Fn(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let mut lease = self.lease(purpose).await?;
        match lease.ask(deadline, &work).await {
            Err(error) if lease.had_ended(&error) => {
                drop(lease);
                self.lease(purpose).await?.ask(deadline, work).await
            }
            other => other,
        }
    }

    async fn begin(&self, purpose: Purpose) -> Result<Writer<'_>, StoreError> {
        let (lease, raw) = self.lock(purpose).await?;
        Writer::new(self, lease, raw)
    }

    /// Begins a transaction that holds the store's own row.
    async fn lock(&self, purpose: Purpose) -> Result<(Lease<'_>, RawHead), StoreError> {
        let mut lease = self.lease_to_write(purpose).await?;
        match Writer::lock(&mut lease).await {
            Ok(raw) => Ok((lease, raw)),
            Err(error) if lease.had_ended(&error) => {
                drop(lease);
                let mut lease = self.lease_to_write(purpose).await?;
                let raw = Writer::lock(&mut lease).await?;
                Ok((lease, raw))
            }
            Err(error) => Err(error),
        }
    }

    async fn write_one<T>(
        &self,
        purpose: Purpose,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.lease_to_write(purpose)
            .await?
            .ask(DEADLINE, work)
            .await
    }

    /// Ends the connections in an orderly way.
    pub async fn close(&self) {
        self.lanes.close().await;
    }
}

fn no_store() -> StoreError {
    StoreError::Row("the row that says what the store is, is gone".to_owned())
}

fn address(url: &str) -> Result<AnyConnectOptions, StoreError> {
    let options: AnyConnectOptions = url
        .parse()
        .map_err(|e: sqlx::Error| StoreError::Address(e.to_string()))?;
    Ok(options.disable_statement_logging())
}

fn postgres(url: &str, password: Option<&Secret<String>>) -> Result<AnyConnectOptions, StoreError> {
    let mut options = address(url)?;
    if let Some(password) = password {
        let set = options.database_url.set_password(Some(password.expose()));
        set.map_err(|()| StoreError::Address("url: must name a host to log in at".to_owned()))?;
    }
    Ok(options)
}

/// What a database's error means for whoever has to do something about it.
fn told(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(inner) => {
            let code = inner.code().unwrap_or_default().into_owned();
            // SQLite's extended result codes, and PostgreSQL's SQLSTATEs.
            match code.as_str() {
                "2067" | "1555" | "23505" => StoreError::Taken,
                "11" | "26" | "267" | "523" | "779" => StoreError::Damaged(format!(
                    "the database is damaged or none: {}",
                    inner.message()
                )),
                "13" | "8" | "264" | "520" | "776" | "1032" | "1288" | "1544" | "778" | "10"
                | "53100" | "25006" | "42501" | "14" => {
                    StoreError::NotWritable(inner.message().to_owned())
                }
                // It was ended by whoever looks after the database, or for doing nothing.
                "57P01" | "57P02" | "25P03" => StoreError::Disconnected(inner.message().to_owned()),
                _ => StoreError::Unavailable(format!("{} ({code})", inner.message())),
            }
        }
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => {
            StoreError::Disconnected(error.to_string())
        }
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::Decode(_) => StoreError::Row(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn late(deadline: Duration) -> StoreError {
    StoreError::Unavailable(format!("no answer within {} s", deadline.as_secs()))
}

fn kind(text: &str) -> Result<Kind, StoreError> {
    Kind::parse(text).ok_or_else(|| StoreError::Row(format!("kind `{}`", clip(text))))
}

fn clip(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}
