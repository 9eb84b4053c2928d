//! The brokers on a shared store, as commands beside them must know them.

use sqlx::Row as _;

use super::lanes::Purpose;
use super::{DEADLINE, SILENT_AFTER_SECONDS, Store, StoreError, told};

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
                    "SELECT node, host, master_keys, cluster_id, \
                     CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - seen_at AS silent FROM nodes \
                     WHERE CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - seen_at <= refuse_after ORDER BY host, node",
                )
                .fetch_all(c)
                .await
            })
        });
        let broker = |row: &sqlx::any::AnyRow| {
            let keys: String = row.try_get(2)?;
            Ok(Broker {
                node: row.try_get(0)?,
                host: row.try_get(1)?,
                master_keys: keys
                    .split(',')
                    .filter(|key| !key.is_empty())
                    .map(str::to_owned)
                    .collect(),
                cluster_id: row.try_get(3)?,
                is_connected: row.try_get::<i64, _>(4)? <= SILENT_AFTER_SECONDS,
            })
        };
        rows.await?
            .iter()
            .map(broker)
            .collect::<Result<_, sqlx::Error>>()
            .map_err(told)
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
        row.await?.try_get(0).map(Some).map_err(told)
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
        row.await?.try_get(0).map_err(told)
    }
}
