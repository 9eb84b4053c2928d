//! The list of brokers on a shared store. Each broker reports itself in the list, so that the others know it.

use sqlx::Row as _;
use tokio::time::Instant;

use super::classify::classify;
use super::lanes::Purpose;
use super::{DEADLINE, Store, StoreError};

/// A node counts as silent if it has not reported for this many seconds.
pub(super) const SILENT_AFTER_SECONDS: i64 = 10;
/// A node may have read the feed up to this many seconds after its last report. The value includes a margin, since the
/// database counts whole seconds.
const REPORT_LAG_SECONDS: i64 = 10;

/// The maximum of [`Node::refuse_after_seconds`], which is also the maximum in the configuration. A greater value in a
/// row counts as this one.
const LONGEST_REFUSE_AFTER: i64 = 129_600;
/// If the time of a broker's last report is further than this many seconds in the future, the broker counts as silent.
const MAX_AHEAD: i64 = 60;

/// How many seconds ago a node last reported. The difference is limited to the range of its type, since a row may
/// contain any number.
fn silence(now: i64, seen_at: i64) -> i64 {
    now.saturating_sub(seen_at)
}

fn is_silent(silence: i64) -> bool {
    !(-MAX_AHEAD..=SILENT_AFTER_SECONDS).contains(&silence)
}

/// The report of a broker about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The random id of the process, made at its start.
    pub node: String,
    pub host: String,
    /// The number of the last change that is in force on the broker.
    pub confirmed: i64,
    /// After how many seconds without reading the feed the broker refuses all callers.
    pub refuse_after_seconds: i64,
    /// The ids of the broker's master keys, separated by commas; the first one seals.
    pub master_keys: String,
    pub cluster_id: String,
    /// A digest of the names in the directory file of the broker; empty if it serves none.
    pub directory: String,
}

/// A broker that may be accepting sessions, and whether it still reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The broker as it last reported.
    pub node: Node,
    /// Whether the broker has not reported lately. It may have stopped, or it may have lost the database, in which case
    /// it still accepts sessions until [`Node::refuse_after_seconds`] have passed.
    pub is_silent: bool,
}

/// A broker on a shared store, as it last reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// The random id of the process, made at its start.
    pub node: String,
    pub host: String,
    /// The ids of the broker's master keys, the sealing one first; empty if its version does not
    /// report them.
    pub master_keys: Vec<String>,
    /// The id of the cluster of the broker's keyring; empty if its version does not report it.
    pub cluster_id: String,
    /// Whether the broker reported within the last ten seconds.
    pub is_connected: bool,
}

impl Broker {
    /// The name of the broker in messages.
    pub fn name(&self) -> String {
        format!("the broker on {} (node {})", self.host, self.node)
    }

    /// Whether the broker has reported that it holds the master key with this id.
    pub fn has_master_key(&self, id: &str) -> bool {
        self.master_keys.iter().any(|key| key == id)
    }
}

impl Store {
    /// Reports this node, with the last change that it has applied. If the list has the node already, its directory
    /// file is not changed: only [`super::Writer::serves_directory`] does that.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
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

    /// Removes this node from the list when it stops, so that no other broker waits for it.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
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

    /// Counts the nodes of a shared store that are not silent.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
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

    /// Lists the nodes of a shared store that may be accepting sessions at some time after `moment`. These are the
    /// nodes that report, and each silent node until its [`Node::refuse_after_seconds`] have passed. Simultaneous
    /// callers share one query.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
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

    /// Lists the brokers that may serve this store. The list is empty for SQLite, whose broker holds
    /// a lock instead.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
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

    /// The settings of a PostgreSQL server that are off, so that a crash of its machine can lose or damage acknowledged
    /// changes. Empty for SQLite, whose settings the broker sets itself.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
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

    /// The time of the database server of a shared store, in seconds since 1970. `None` for SQLite,
    /// which uses this machine's clock.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
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

    /// The time of the last change, in milliseconds since 1970. `None` if the feed is empty.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
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
