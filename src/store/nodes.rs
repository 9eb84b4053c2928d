//! The brokers on a shared store: what each says of itself, and what others must know of it.

use sqlx::Row as _;
use tokio::time::Instant;

use super::classify::classify;
use super::lanes::Purpose;
use super::{DEADLINE, Store, StoreError};

/// A node that was not heard of for so long, in seconds, is not waited for.
pub(super) const SILENT_AFTER_SECONDS: i64 = 10;
/// How much later than its last report, in seconds, a node may last have confirmed the feed; with some
/// room, since the database counts whole seconds.
const REPORT_LAG_SECONDS: i64 = 10;

/// The longest time after which any broker accepts nobody, in seconds: what the configuration allows. A row
/// that says more is not believed.
const LONGEST_REFUSE_AFTER: i64 = 129_600;
/// A broker that is to have reported so much later than now, in seconds, is not waited for.
const MAX_AHEAD: i64 = 60;

/// How long nothing was heard of a node, in seconds. What is in the row may be anything.
fn silence(now: i64, seen_at: i64) -> i64 {
    now.saturating_sub(seen_at)
}

fn is_silent(silence: i64) -> bool {
    !(-MAX_AHEAD..=SILENT_AFTER_SECONDS).contains(&silence)
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

/// A broker on a shared store, as it last reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Made up at its start.
    pub node: String,
    /// Its host's name.
    pub host: String,
    /// The ids of its master keys, the one that seals first; empty: its version does not say.
    pub master_keys: Vec<String>,
    /// The cluster of its keyring; empty: its version does not say.
    pub cluster_id: String,
    /// Whether it was heard of within the last ten seconds.
    pub is_connected: bool,
}

impl Broker {
    /// For people.
    pub fn name(&self) -> String {
        format!("the broker on {} (node {})", self.host, self.node)
    }

    /// Whether it has reported that it holds a master key.
    pub fn has_master_key(&self, id: &str) -> bool {
        self.master_keys.iter().any(|key| key == id)
    }
}

impl Store {
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
                let sql = "SELECT count(*) FROM nodes WHERE seen_at >= CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - $1";
                sqlx::query(sql).bind(SILENT_AFTER_SECONDS).fetch_one(c).await
            })
        });
        let count: i64 = row.await?.try_get(0).map_err(classify)?;
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
                    "SELECT node, host, confirmed, refuse_after, master_keys, cluster_id, directory, seen_at, \
                     CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) FROM nodes \
                     WHERE seen_at >= CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - $1 ORDER BY node",
                )
                .bind(LONGEST_REFUSE_AFTER + REPORT_LAG_SECONDS)
                .fetch_all(c)
                .await
            })
        });
        let node = |row: &sqlx::any::AnyRow| {
            let refuse_after: i64 = row.try_get(3)?;
            let refuse_after = refuse_after.clamp(0, LONGEST_REFUSE_AFTER);
            let silence = silence(row.try_get(8)?, row.try_get(7)?);
            if silence > refuse_after + REPORT_LAG_SECONDS {
                return Ok(None);
            }
            Ok(Some(Seen {
                node: Node {
                    node: row.try_get(0)?,
                    host: row.try_get(1)?,
                    confirmed: row.try_get(2)?,
                    refuse_after_seconds: refuse_after,
                    master_keys: row.try_get(4)?,
                    cluster_id: row.try_get(5)?,
                    directory: row.try_get(6)?,
                },
                is_silent: is_silent(silence),
            }))
        };
        let nodes: Vec<Seen> = rows
            .await?
            .iter()
            .filter_map(|row| node(row).transpose())
            .collect::<Result<_, sqlx::Error>>()
            .map_err(classify)?;
        *seen = Some((asked_at, nodes.clone()));
        Ok(nodes)
    }

    /// The brokers that may serve this store. None of a SQLite store: its broker holds a lock instead.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn brokers(&self) -> Result<Vec<Broker>, StoreError> {
        if !self.is_shared() {
            return Ok(Vec::new());
        }
        let rows = self.read(Purpose::Background, DEADLINE, |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT node, host, master_keys, cluster_id, refuse_after, seen_at, \
                     CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) FROM nodes \
                     WHERE seen_at >= CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - $1 ORDER BY host, node",
                )
                .bind(LONGEST_REFUSE_AFTER)
                .fetch_all(c)
                .await
            })
        });
        let broker = |row: &sqlx::any::AnyRow| {
            let keys: String = row.try_get(2)?;
            let refuse_after: i64 = row.try_get(4)?;
            let silence = silence(row.try_get(6)?, row.try_get(5)?);
            if silence > refuse_after.clamp(0, LONGEST_REFUSE_AFTER) {
                return Ok(None);
            }
            Ok(Some(Broker {
                node: row.try_get(0)?,
                host: row.try_get(1)?,
                master_keys: keys
                    .split(',')
                    .filter(|key| !key.is_empty())
                    .map(str::to_owned)
                    .collect(),
                cluster_id: row.try_get(3)?,
                is_connected: !is_silent(silence),
            }))
        };
        rows.await?
            .iter()
            .filter_map(|row| broker(row).transpose())
            .collect::<Result<_, sqlx::Error>>()
            .map_err(classify)
    }

    /// Settings of a PostgreSQL server that are off and without which a crash of its machine may lose, or
    /// tear, what was acknowledged. None of SQLite's, which a broker sets itself.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn unsafe_settings(&self) -> Result<Vec<String>, StoreError> {
        if !self.is_shared() {
            return Ok(Vec::new());
        }
        let rows = self.read(Purpose::Background, DEADLINE, |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT CAST(name AS TEXT) FROM pg_catalog.pg_settings \
                     WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name",
                )
                .fetch_all(c)
                .await
            })
        });
        let name = |row: &sqlx::any::AnyRow| row.try_get(0).map_err(classify);
        rows.await?.iter().map(name).collect()
    }

    /// What time it is where the database of a shared store runs, in seconds since 1970. None for SQLite,
    /// which has this machine's clock.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn database_time(&self) -> Result<Option<i64>, StoreError> {
        if !self.is_shared() {
            return Ok(None);
        }
        let row = self.read(Purpose::Background, DEADLINE, |c| {
            Box::pin(async move {
                sqlx::query("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)")
                    .fetch_one(c)
                    .await
            })
        });
        row.await?.try_get(0).map(Some).map_err(classify)
    }

    /// When the last change was made, in milliseconds since 1970; none: the feed holds no change.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn last_changed_at(&self) -> Result<Option<i64>, StoreError> {
        let row = self.read(Purpose::Background, DEADLINE, |c| {
            Box::pin(async move {
                sqlx::query("SELECT MAX(changed_at) FROM changes")
                    .fetch_one(c)
                    .await
            })
        });
        row.await?.try_get(0).map_err(classify)
    }
}
