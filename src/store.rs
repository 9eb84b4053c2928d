//! What must not be lost, in SQL: the directory's rows, revocations, spent codes, seen tokens, and
//! the feed of changes. SQLite embedded, or PostgreSQL for many nodes, by the same statements. Knows
//! rows, not what they mean: no policy is judged here.
//!
//! Two connections, one that reads and one that writes, each behind a lock, each call with a
//! deadline. A connection that failed or was left in the middle of something is thrown away.

mod once;
mod sqlite;
mod watermark;
mod writer;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::time::Duration;

use sqlx::AnyConnection;
use sqlx::any::AnyConnectOptions;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{ConnectOptions, Connection, Row as _, SqlSafeStr};
use tokio::sync::Mutex;
use tokio_stream::StreamExt as _;

use crate::clock::Timestamp;
use crate::directory::resource::{Kind, Name};
use crate::entropy::{self, Entropy, NoEntropy};
use crate::files::FileError;
use crate::revocations::{Key, Mark, Revocations, Selector};
use crate::secret::Secret;

pub use once::{Attempt, KeyUse, Matched, STEP_SECONDS};
pub use sqlite::{SqliteLock, backup, restore};
pub use watermark::{Watermark, WatermarkError, accept};
pub use writer::{Entry, Stored, Writer};

/// The longest wait for an answer to one statement.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// The longest wait for a scan of everything.
const SCAN_DEADLINE: Duration = Duration::from_secs(300);
/// The longest wait for a backup.
const BACKUP_DEADLINE: Duration = Duration::from_secs(3_600);
/// So many changes are taken one by one; a node that is further behind loads everything anew.
pub const MAX_STEP: usize = 10_000;
/// How long a change stays in the feed, in milliseconds.
const KEEP_CHANGES: i64 = 30 * 24 * 3_600 * 1_000;
/// A node that was not heard of for so long is gone.
const NODE_GONE: Duration = Duration::from_secs(10);

/// The schema, in the order in which it grew. A file here never changes once it was released.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "store", include_str!("store/migrations/0001_store.sql")),
    (2, "mfa", include_str!("store/migrations/0002_mfa.sql")),
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
    reads: Arc<Lane>,
    writes: Arc<Lane>,
    id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
    Memory,
}

type BoxFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// One connection, when there is one.
type Lane = Mutex<Option<AnyConnection>>;

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
        let reads = Arc::new(Lane::default());
        let writes = if engine == Engine::Memory { reads.clone() } else { Arc::default() };
        let mut store = Self { engine, options, reads, writes, id: String::new() };
        if access == Access::Use {
            store.check_schema().await?
        } else {
            store.migrate().await?
        }
        store.id = match store.found().await? {
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
        self.found().await?.ok_or_else(|| StoreError::Row("the row that says what the store is, is gone".to_owned()))
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
        let mut slot = self.reads.lock().await;
        let mut connection = self.connected(&mut slot).await?;
        let begin = match self.engine {
            Engine::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Engine::Sqlite | Engine::Memory => "BEGIN",
        };
        let work = async {
            sqlx::raw_sql(begin).execute(&mut connection).await.map_err(told)?;
            let head = read_head(&mut connection).await.map_err(told)?;
            let head = head.ok_or_else(|| StoreError::Row("the row that says what the store is, is gone".into()))?;
            match self.engine {
                Engine::Postgres => {
                    let sql = "SELECT kind, id, version, body FROM resources";
                    let mut rows = sqlx::query(sql).fetch(&mut connection);
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
                        sqlx::query(last).fetch_one(&mut connection).await.and_then(|r| r.try_get(0)).map_err(told)?;
                    while from < last {
                        for (kind, id, version, body) in sqlite::portion(&mut connection, from).await?.rows()? {
                            each(kind, id, version, body)?;
                        }
                        from += sqlite::PORTION;
                    }
                }
            }
            sqlx::raw_sql("COMMIT").execute(&mut connection).await.map_err(told)?;
            Ok::<Head, E>(head)
        };
        let result = match tokio::time::timeout(SCAN_DEADLINE, work).await {
            Ok(result) => result,
            Err(_) => Err(late(SCAN_DEADLINE).into()),
        };
        match &result {
            Ok(_) => *slot = Some(connection),
            Err(_) if self.engine == Engine::Memory => {
                // It is the store; a transaction that only read may end either way.
                let _ = sqlx::raw_sql("ROLLBACK").execute(&mut connection).await;
                *slot = Some(connection);
            }
            Err(_) => {}
        }
        result
    }

    /// The changes after `sequence`, each with the thing as it is now, all at one moment.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn changes_after(&self, sequence: i64) -> Result<Step, StoreError> {
        let changes = self.feed_after(sequence, MAX_STEP + 1).await?;
        // Without a gap, and from where we are.
        let whole = changes.iter().zip(sequence + 1..).all(|(change, due)| change.sequence == due);
        Ok(if whole && !changes.is_empty() && changes.len() <= MAX_STEP {
            Step::Changes(changes)
        } else {
            Step::Reload
        })
    }

    /// What the feed holds after `sequence`, at most `limit` of it.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn feed_after(&self, sequence: i64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(move |c| {
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

    /// The id of the thing of that folded name.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn find(&self, kind: Kind, folded: &str) -> Result<Option<String>, StoreError> {
        let folded = folded.to_owned();
        self.read(move |c| Box::pin(writer::found(c, kind, folded))).await
    }

    /// A thing's row.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn get(&self, name: &Name) -> Result<Option<Stored>, StoreError> {
        let name = name.clone();
        self.read(move |c| Box::pin(writer::stored(c, name))).await
    }

    /// Puts every revocation in force that has not run out.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn load_revocations(&self, into: &Revocations, now: Timestamp) -> Result<(), StoreError> {
        let now = now.seconds();
        let rows = self.read_for(SCAN_DEADLINE, move |c| {
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
            let mark = Mark {
                before_sequence: row.try_get(3).map_err(told)?,
                before_seconds: row.try_get(4).map_err(told)?,
                expires_at: row.try_get(5).map_err(told)?,
            };
            into.mark(&Key::new(selector, text(1)?, text(2)?), mark);
        }
        Ok(())
    }

    /// Begins a change: nobody else writes until it is committed or dropped.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn write(&self) -> Result<Writer<'_>, StoreError> {
        Writer::begin(self).await
    }

    /// Says that this node is here and how far it has followed the feed.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn report(&self, node: &Node) -> Result<(), StoreError> {
        let node = node.clone();
        self.read(move |c| {
            Box::pin(async move {
                // What is lost in a crash is said again at once.
                sqlx::raw_sql("SET synchronous_commit = off").execute(&mut *c).await?;
                sqlx::query(
                    "INSERT INTO nodes (node, host, confirmed, seen_at) \
                     VALUES ($1, $2, $3, CAST(EXTRACT(EPOCH FROM now()) AS BIGINT)) \
                     ON CONFLICT (node) DO UPDATE SET confirmed = excluded.confirmed, seen_at = excluded.seen_at",
                )
                .bind(node.node)
                .bind(node.host)
                .bind(node.confirmed)
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
    /// Without an answer.
    pub async fn leave(&self, node: &Node) -> Result<(), StoreError> {
        let node = node.node.clone();
        self.read(move |c| {
            Box::pin(async move { sqlx::query("DELETE FROM nodes WHERE node = $1").bind(node).execute(c).await })
        })
        .await
        .map(|_| ())
    }

    /// The nodes that were heard of lately, on a shared store.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let gone = i64::try_from(NODE_GONE.as_secs()).unwrap_or(10);
        let rows = self.read(move |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT node, host, confirmed FROM nodes \
                     WHERE seen_at >= CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - $1 ORDER BY node",
                )
                .bind(gone)
                .fetch_all(c)
                .await
            })
        });
        let node = |row: &sqlx::any::AnyRow| {
            Ok(Node { node: row.try_get(0)?, host: row.try_get(1)?, confirmed: row.try_get(2)? })
        };
        rows.await?.iter().map(node).collect::<Result<_, sqlx::Error>>().map_err(told)
    }

    /// Drops what has run out: revocations whose sessions have all ended, ids of expired tokens,
    /// changes of a month ago, nodes that are gone.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        let shared = self.is_shared();
        let (seconds, millis) = (now.seconds(), now.millis());
        self.write_one(move |c| {
            Box::pin(async move {
                // In portions: nobody who writes waits long, and what is left goes the next time.
                for sql in [
                    "DELETE FROM revocations WHERE (selector, account, value) IN \
                     (SELECT selector, account, value FROM revocations WHERE expires_at <= $1 LIMIT 5000)",
                    "DELETE FROM seen WHERE (issuer, id) IN (SELECT issuer, id FROM seen WHERE expires_at <= $1 LIMIT 5000)",
                    "DELETE FROM mfa_failures WHERE user_id IN \
                     (SELECT user_id FROM mfa_failures WHERE forgiven_at <= $1 LIMIT 5000)",
                ] {
                    sqlx::query(sql).bind(seconds).execute(&mut *c).await?;
                }
                sqlx::query(
                    "DELETE FROM changes WHERE sequence IN (SELECT sequence FROM changes WHERE changed_at < $1 \
                     AND sequence < (SELECT head FROM store WHERE id = 1) ORDER BY sequence LIMIT 5000)",
                )
                .bind(millis - KEEP_CHANGES)
                .execute(&mut *c)
                .await?;
                if shared {
                    sqlx::query("DELETE FROM nodes WHERE seen_at < CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - 3600")
                        .execute(&mut *c)
                        .await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
            Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
        };
        let migrator = Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect());
        let mut slot = self.writes.lock().await;
        let mut connection = self.connected(&mut slot).await?;
        let known = MIGRATIONS.last().map_or(0, |(version, _, _)| *version);
        let run = tokio::time::timeout(SCAN_DEADLINE, migrator.run_direct(None, &mut connection, false));
        let result = match run.await {
            Ok(result) => result,
            Err(_) => return Err(late(SCAN_DEADLINE)),
        };
        match result {
            Ok(()) => {
                *slot = Some(connection);
                Ok(())
            }
            Err(MigrateError::VersionMissing(found)) => Err(StoreError::Newer { found, known }),
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(told(error)),
            Err(other) => Err(StoreError::Damaged(format!("the store's schema: {other}"))),
        }
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        let row = self.read(|c| {
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

    async fn found(&self) -> Result<Option<Head>, StoreError> {
        self.read(|c| Box::pin(read_head(c))).await
    }

    /// A store that knows nothing of the past: sessions of another store end with it, and codes from
    /// before it are not taken.
    async fn found_anew(&self, now: Timestamp, entropy: &dyn Entropy) -> Result<String, StoreError> {
        let id = crate::sigv4::hex(&entropy::bytes::<8>(entropy)?);
        // One in memory ends with its process, and never had a past.
        let seconds = if self.engine == Engine::Memory { 0 } else { now.seconds() };
        let store_id = id.clone();
        self.write_one(move |c| {
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
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.read_for(DEADLINE, work).await
    }

    async fn read_for<T>(
        &self,
        deadline: Duration,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.run(&self.reads, deadline, work).await
    }

    async fn write_one<T>(
        &self,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.run(&self.writes, DEADLINE, work).await
    }

    async fn run<T>(
        &self,
        lane: &Lane,
        deadline: Duration,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let mut slot = lane.lock().await;
        let mut connection = self.connected(&mut slot).await?;
        match tokio::time::timeout(deadline, work(&mut connection)).await {
            Ok(Ok(value)) => {
                *slot = Some(connection);
                Ok(value)
            }
            Ok(Err(error)) => {
                // What the database itself refused leaves the connection as it was.
                if matches!(error, sqlx::Error::Database(_)) {
                    *slot = Some(connection);
                }
                Err(told(error))
            }
            Err(_) => Err(late(deadline)),
        }
    }

    /// The lane's connection, or a new one. It goes back when what it was taken for went well.
    async fn connected(&self, slot: &mut Option<AnyConnection>) -> Result<AnyConnection, StoreError> {
        if let Some(connection) = slot.take() {
            return Ok(connection);
        }
        let connect = async {
            let mut connection = self.options.connect().await?;
            if self.engine == Engine::Sqlite {
                sqlite::prepare(&mut connection).await?;
            }
            Ok(connection)
        };
        match tokio::time::timeout(DEADLINE, connect).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(told(error)),
            Err(_) => Err(late(DEADLINE)),
        }
    }

    /// Ends both connections in an orderly way.
    pub async fn close(&self) {
        for lane in [&self.writes, &self.reads] {
            let connection = lane.lock().await.take();
            if let Some(connection) = connection {
                // Whatever it says, everything that was acknowledged is stored.
                let _ = tokio::time::timeout(DEADLINE, connection.close()).await;
            }
        }
    }
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
                _ => StoreError::Unavailable(format!("{} ({code})", inner.message())),
            }
        }
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
