//! What must not be lost, in SQL: the directory's rows, revocations, spent codes, seen tokens, and
//! the feed of changes. SQLite embedded, or PostgreSQL for many nodes, by the same statements. Knows
//! rows, not what they mean: no policy is judged here.
//!
//! Each kind of work has connections of its own (`lanes.rs`), and each statement a deadline. A
//! connection that failed or was left in the middle of something is thrown away.

mod address;
mod documents;
mod lanes;
mod later_codes;
mod once;
mod sqlite;
mod watermark;
mod writer;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::time::Duration;

use sqlx::AnyConnection;
use sqlx::ConnectOptions;
use sqlx::any::AnyConnectOptions;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Row as _, SqlSafeStr};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;

use crate::clock::Timestamp;
use crate::directory::resource::Kind;
use crate::entropy::{self, Entropy, NoEntropy};
use crate::files::FileError;
use crate::metrics::Metrics;
use crate::revocations::{Key, Mark, Revocations, Selector};
use crate::secret::Secret;
use lanes::{Lanes, Purpose};
use once::Remembered;

pub use address::{UNVERIFIED_SENTENCE, postgres_url};
pub use documents::Documents;
pub use lanes::ABANDONED;
pub use once::{Attempt, DevicePast, KeyUse, Matched, STEP_SECONDS};
pub use sqlite::{SqliteLock, backup, restore};
pub use watermark::{Watermark, WatermarkError, accept};
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
    (4, "documents", include_str!("store/migrations/0004_documents.sql")),
];

/// Why the store did not do it. Nothing was changed unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer, or no connection.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// Made by a later version.
    #[error("the store has schema {found}, which is newer than this program's ({known}); run the newer program")]
    Newer {
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
    #[error("{0}: there is no store; `brevet init` makes one, `brevet restore` brings a backup back")]
    Missing(PathBuf),
    /// It is no store, or was damaged.
    #[error("{0}; restore a backup: `brevet restore FILE`")]
    Damaged(String),
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
}

/// One change of the feed.
#[derive(Debug)]
pub struct Change {
    /// Its number.
    pub sequence: i64,
    /// When, in milliseconds since 1970.
    pub changed_at: i64,
    /// Who: JSON.
    pub actor: String,
    /// `CreateRole`, `RevokeSessions`, …
    pub action: String,
    /// What kind of thing: one of the directory's, or `revocation`, `store`.
    pub kind: String,
    /// Which one.
    pub id: String,
    /// Before and after: JSON.
    pub detail: String,
    /// The thing as it is now; none if it is gone.
    pub body: Option<String>,
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

/// What came of asking for changes.
pub enum Step {
    /// All of them, in order.
    Changes(Vec<Change>),
    /// There are too many, or some are not kept any more: load everything.
    Reload,
}

impl Store {
    /// Connects, and sees to the schema.
    ///
    /// # Errors
    /// Each with the way out.
    pub async fn open(
        place: &Place,
        access: Access,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, StoreError> {
        let create = access == Access::Create;
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let (engine, options) = match place {
            Place::Sqlite(path) => (Engine::Sqlite, sqlite::options(path, create)?),
            Place::Postgres { url, password } => (Engine::Postgres, postgres(url, password.as_ref())?),
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
        };
        if access == Access::Use {
            store.check_schema().await?
        } else {
            store.migrate().await?
        }
        store.id = match store.found(Purpose::Background).await? {
            Some(head) => head.store_id,
            None if create => store.found_anew(now, entropy).await?,
            None => {
                return Err(StoreError::Damaged(
                    "the database has no store in it; `brevet init` makes one, if it is a new one".to_owned(),
                ));
            }
        };
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

    /// Whether other brokers may be on it.
    pub fn is_shared(&self) -> bool {
        self.engine == Engine::Postgres
    }

    /// What the store is now.
    ///
    /// # Errors
    /// Without an answer: nothing is known then.
    pub async fn head(&self) -> Result<Head, StoreError> {
        self.found(Purpose::Background).await?.ok_or_else(no_store)
    }

    /// As [`Store::head`], for whoever follows the feed.
    ///
    /// # Errors
    /// Without an answer: nothing is known then.
    pub async fn feed_head(&self) -> Result<Head, StoreError> {
        self.found(Purpose::Feed).await?.ok_or_else(no_store)
    }

    /// Everything of the directory at one moment, thing by thing: kind, id, version, body. The head
    /// that it belongs to.
    ///
    /// # Errors
    /// Without an answer, or the first error that `each` returns.
    pub async fn scan<E: From<StoreError> + Send + 'static>(
        &self,
        mut each: impl FnMut(Kind, &str, i64, &str) -> Result<(), E> + Send,
    ) -> Result<Head, E> {
        let mut lease = self.lease(Purpose::Background).await?;
        let connection = lease.raw()?;
        let begin = match self.engine {
            Engine::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Engine::Sqlite | Engine::Memory => "BEGIN",
        };
        let work = async {
            sqlx::raw_sql(begin).execute(&mut *connection).await.map_err(told)?;
            let head = read_head(&mut *connection).await.map_err(told)?;
            let head = head.ok_or_else(no_store)?;
            match self.engine {
                Engine::Postgres => {
                    let sql = "SELECT kind, id, version, body FROM resources";
                    let mut rows = sqlx::query(sql).fetch(&mut *connection);
                    while let Some(row) = rows.next().await {
                        let row = row.map_err(told)?;
                        let text = |at: usize| row.try_get::<&str, _>(at).map_err(told);
                        each(kind(text(0)?)?, text(1)?, row.try_get(2).map_err(told)?, text(3)?)?;
                    }
                }
                Engine::Sqlite | Engine::Memory => {
                    let mut from = 0;
                    let last = "SELECT COALESCE(MAX(rowid), 0) FROM resources";
                    let last: i64 =
                        sqlx::query(last).fetch_one(&mut *connection).await.and_then(|r| r.try_get(0)).map_err(told)?;
                    while from < last {
                        for (kind, id, version, body) in sqlite::portion(&mut *connection, from).await?.rows()? {
                            each(kind, id, version, body)?;
                        }
                        from += sqlite::PORTION;
                    }
                }
            }
            sqlx::raw_sql("COMMIT").execute(&mut *connection).await.map_err(told)?;
            Ok::<Head, E>(head)
        };
        let result = match tokio::time::timeout(SCAN_DEADLINE, work).await {
            Ok(result) => result,
            Err(_) => Err(late(SCAN_DEADLINE).into()),
        };
        if result.is_ok() {
            lease.finish();
        }
        result
    }

    /// The changes after `sequence`, each with the thing as it is now, all at one moment.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn changes_after(&self, sequence: i64) -> Result<Step, StoreError> {
        let changes = self.read_feed(Purpose::Feed, DEADLINE, sequence, MAX_STEP + 1).await?;
        Ok(step(sequence, changes))
    }

    /// As [`Store::changes_after`], where there may be many of them: it takes its time, and holds up
    /// nothing that is urgent.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn many_changes_after(&self, sequence: i64) -> Result<Step, StoreError> {
        let changes = self.read_feed(Purpose::Background, SCAN_DEADLINE, sequence, MAX_STEP + 1).await?;
        Ok(step(sequence, changes))
    }

    /// What the feed holds after `sequence`, at most `limit` of it.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn feed_after(&self, sequence: i64, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.read_feed(Purpose::Background, SCAN_DEADLINE, sequence, limit).await
    }

    /// The details of the changes after `sequence` that end sessions, with their numbers: at most
    /// `limit` of them, in order.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn revoking_after(&self, sequence: i64, limit: usize) -> Result<Vec<(i64, String)>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(Purpose::Feed, DEADLINE, move |c| {
            Box::pin(async move {
                // JSON escapes the quotation marks of every text, so that only a field has this form.
                sqlx::query(
                    "SELECT sequence, detail FROM changes WHERE sequence > $1 AND detail LIKE '%\"Revoked\":%' \
                     ORDER BY sequence LIMIT $2",
                )
                .bind(sequence)
                .bind(limit)
                .fetch_all(c)
                .await
            })
        });
        let read = |row: &sqlx::any::AnyRow| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.await?.iter().map(read).collect::<Result<_, sqlx::Error>>().map_err(told)
    }

    async fn read_feed(
        &self,
        purpose: Purpose,
        deadline: Duration,
        sequence: i64,
        limit: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(purpose, deadline, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT c.sequence, c.changed_at, c.actor, c.action, c.kind, c.id, c.detail, r.body \
                     FROM changes c LEFT JOIN resources r ON r.kind = c.kind AND r.id = c.id \
                     WHERE c.sequence > $1 ORDER BY c.sequence LIMIT $2",
                )
                .bind(sequence)
                .bind(limit)
                .fetch_all(c)
                .await
            })
        });
        let change = |row: &sqlx::any::AnyRow| {
            Ok(Change {
                sequence: row.try_get(0)?,
                changed_at: row.try_get(1)?,
                actor: row.try_get(2)?,
                action: row.try_get(3)?,
                kind: row.try_get(4)?,
                id: row.try_get(5)?,
                detail: row.try_get(6)?,
                body: row.try_get(7)?,
            })
        };
        rows.await?.iter().map(change).collect::<Result<_, sqlx::Error>>().map_err(told)
    }

    /// The rows of things of one kind that are there, in no order.
    ///
    /// # Errors
    /// Without an answer, or when there are too many to ask for at once.
    pub async fn get_all(&self, kind: Kind, ids: Vec<String>) -> Result<Vec<(String, Stored)>, StoreError> {
        let ids = serde_json::to_string(&ids).map_err(|e| StoreError::Row(e.to_string()))?;
        let sql = match self.engine {
            Engine::Postgres => {
                "SELECT id, version, body FROM resources WHERE kind = $1 \
                 AND id IN (SELECT value FROM json_array_elements_text(CAST($2 AS JSON)) AS ids(value))"
            }
            Engine::Sqlite | Engine::Memory => {
                "SELECT id, version, body FROM resources WHERE kind = $1 AND id IN (SELECT value FROM json_each($2))"
            }
        };
        let rows = self.read(Purpose::Read, DEADLINE, move |c| {
            let ids = ids.clone();
            Box::pin(async move { sqlx::query(sql).bind(kind.as_str()).bind(ids).fetch_all(c).await })
        });
        let row =
            |row: &sqlx::any::AnyRow| Ok((row.try_get(0)?, Stored { version: row.try_get(1)?, body: row.try_get(2)? }));
        rows.await?.iter().map(row).collect::<Result<_, sqlx::Error>>().map_err(told)
    }

    /// Puts every revocation in force that has not run out.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn load_revocations(&self, into: &Revocations, now: Timestamp) -> Result<(), StoreError> {
        let now = now.seconds();
        let rows = self.read(Purpose::Background, SCAN_DEADLINE, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT selector, account, value, before_sequence, before_seconds, expires_at \
                     FROM revocations WHERE expires_at > $1",
                )
                .bind(now)
                .fetch_all(c)
                .await
            })
        });
        for row in rows.await? {
            let text = |at: usize| row.try_get::<&str, _>(at).map_err(told);
            let selector = Selector::parse(text(0)?);
            let selector = selector.ok_or_else(|| StoreError::Row("a revocation's selector".to_owned()))?;
            if selector == Selector::SigningKey {
                into.revoke_signing_key(text(2)?);
                continue;
            }
            let mark = Mark {
                before_sequence: row.try_get(3).map_err(told)?,
                before_seconds: row.try_get(4).map_err(told)?,
                expires_at: row.try_get(5).map_err(told)?,
            };
            into.mark(&Key::new(selector, text(1)?, text(2)?), mark);
        }
        Ok(())
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

    /// Says that this node is here and how far it has followed the feed.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn report(&self, node: &Node) -> Result<(), StoreError> {
        let node = node.clone();
        self.write_one(Purpose::Feed, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO nodes (node, host, confirmed, refuse_after, seen_at) \
                     VALUES ($1, $2, $3, $4, CAST(EXTRACT(EPOCH FROM now()) AS BIGINT)) \
                     ON CONFLICT (node) DO UPDATE SET confirmed = excluded.confirmed, \
                     refuse_after = excluded.refuse_after, seen_at = excluded.seen_at",
                )
                .bind(node.node)
                .bind(node.host)
                .bind(node.confirmed)
                .bind(node.refuse_after_seconds)
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
            Box::pin(async move { sqlx::query("DELETE FROM nodes WHERE node = $1").bind(node).execute(c).await })
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
                    "SELECT node, host, confirmed, refuse_after, \
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
                },
                is_silent: row.try_get::<i64, _>(4)? > SILENT_AFTER_SECONDS,
            })
        };
        let nodes: Vec<Seen> = rows.await?.iter().map(node).collect::<Result<_, sqlx::Error>>().map_err(told)?;
        *seen = Some((asked_at, nodes.clone()));
        Ok(nodes)
    }

    /// Drops what has run out: revocations whose sessions have all ended, ids of expired tokens,
    /// changes that were kept for long enough, nodes that accept nobody any more. In portions: nobody who writes waits
    /// long, and what is left goes the next time.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        self.mfa.sweep(now);
        let (seconds, kept_since) = (now.seconds(), now.minus(self.keep_changes).millis());
        for (sql, bound) in [
            (
                "DELETE FROM revocations WHERE (selector, account, value) IN \
                 (SELECT selector, account, value FROM revocations WHERE expires_at <= $1 LIMIT 1000)",
                seconds,
            ),
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
                "DELETE FROM changes WHERE sequence IN (SELECT sequence FROM changes WHERE changed_at < $1 \
                 AND sequence < (SELECT head FROM store WHERE id = 1) ORDER BY sequence LIMIT 1000)",
                kept_since,
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

    async fn migrate(&self) -> Result<(), StoreError> {
        let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
            Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
        };
        let migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
        let mut lease = self.lease_to_write(Purpose::Background).await?;
        let known = MIGRATIONS.last().map_or(0, |(version, _, _)| *version);
        let run = tokio::time::timeout(SCAN_DEADLINE, migrator.run_direct(None, lease.raw()?, false));
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
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(told(error)),
            Err(other) => Err(StoreError::Damaged(format!("the store's schema: {other}"))),
        }
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        let row = self.read(Purpose::Background, DEADLINE, |c| {
            Box::pin(async move { sqlx::query("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(c).await })
        });
        let found: i64 = match row.await {
            Ok(row) => row.try_get::<Option<i64>, _>(0).map_err(told)?.unwrap_or_default(),
            Err(StoreError::Unavailable(why)) if why.contains("_sqlx_migrations") => 0,
            Err(error) => return Err(error),
        };
        let known = MIGRATIONS.last().map_or(0, |(version, _, _)| *version);
        match found.cmp(&known) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(StoreError::Newer { found, known }),
            std::cmp::Ordering::Less => Err(StoreError::Address(format!(
                "the store has schema {found}, older than this program's ({known}); `brevet serve` brings it up to date"
            ))),
        }
    }

    async fn found(&self, purpose: Purpose) -> Result<Option<Head>, StoreError> {
        self.read(purpose, DEADLINE, |c| Box::pin(read_head(c))).await
    }

    /// A store that knows nothing of the past: sessions of another store end with it, and codes from
    /// before it are not taken.
    async fn found_anew(&self, now: Timestamp, entropy: &dyn Entropy) -> Result<String, StoreError> {
        let id = crate::sigv4::hex(&entropy::bytes::<8>(entropy)?);
        // One in memory ends with its process, and never had a past.
        let seconds = if self.engine == Engine::Memory { 0 } else { now.seconds() };
        let store_id = id.clone();
        self.write_one(Purpose::Background, move |c| {
            Box::pin(async move {
                sqlx::query("INSERT INTO store VALUES (1, $1, 0, $2) ON CONFLICT DO NOTHING")
                    .bind(store_id)
                    .bind(seconds)
                    .execute(c)
                    .await
            })
        })
        .await?;
        // Another node may have been first.
        Ok(self.head().await?.store_id)
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
        let mut lease = self.lease_to_write(purpose).await?;
        match Writer::lock(&mut lease).await {
            Ok(head) => Ok(Writer::new(lease, head)),
            Err(error) if lease.had_ended(&error) => {
                drop(lease);
                let mut lease = self.lease_to_write(purpose).await?;
                let head = Writer::lock(&mut lease).await?;
                Ok(Writer::new(lease, head))
            }
            Err(error) => Err(error),
        }
    }

    async fn write_one<T>(
        &self,
        purpose: Purpose,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.lease_to_write(purpose).await?.ask(DEADLINE, work).await
    }

    /// Ends the connections in an orderly way.
    pub async fn close(&self) {
        self.lanes.close().await;
    }
}

/// Without a gap, and from where we are; else everything must be loaded.
fn step(sequence: i64, changes: Vec<Change>) -> Step {
    let whole = changes.iter().zip(sequence + 1..).all(|(change, due)| change.sequence == due);
    if whole && !changes.is_empty() && changes.len() <= MAX_STEP { Step::Changes(changes) } else { Step::Reload }
}

fn no_store() -> StoreError {
    StoreError::Row("the row that says what the store is, is gone".to_owned())
}

async fn read_head(connection: &mut AnyConnection) -> Result<Option<Head>, sqlx::Error> {
    let row =
        sqlx::query("SELECT store_id, head, not_before FROM store WHERE id = 1").fetch_optional(connection).await?;
    row.map(|row| Ok(Head { store_id: row.try_get(0)?, sequence: row.try_get(1)?, not_before: row.try_get(2)? }))
        .transpose()
}

fn address(url: &str) -> Result<AnyConnectOptions, StoreError> {
    let options: AnyConnectOptions = url.parse().map_err(|e: sqlx::Error| StoreError::Address(e.to_string()))?;
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
                "11" | "26" | "267" | "523" | "779" => {
                    StoreError::Damaged(format!("the database is damaged or none: {}", inner.message()))
                }
                "13" | "8" | "264" | "520" | "776" | "1032" | "1288" | "1544" | "778" | "10" | "53100" | "25006"
                | "42501" | "14" => StoreError::NotWritable(inner.message().to_owned()),
                // It was ended by whoever looks after the database, or for doing nothing.
                "57P01" | "57P02" | "25P03" => StoreError::Disconnected(inner.message().to_owned()),
                _ => StoreError::Unavailable(format!("{} ({code})", inner.message())),
            }
        }
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => StoreError::Disconnected(error.to_string()),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
            StoreError::Row(error.to_string())
        }
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
