//! What must not be lost, in SQL: the directory's rows, revocations, spent codes, seen tokens, and
//! the feed of changes. SQLite embedded, or PostgreSQL for many nodes, by the same statements. Knows
//! rows, not what they mean: no policy is judged here.
//!
//! Each kind of work has connections of its own (`lanes.rs`), and each statement a deadline. A
//! connection that failed or was left in the middle of something is thrown away.

mod address;
mod backup;
mod changes;
mod classify;
mod directory_entries;
mod documents;
mod enter;
mod error;
mod goes_on;
mod head;
mod integrity;
mod key_use;
mod known;
mod lanes;
mod later_codes;
mod mfa_attempts;
mod moment;
mod nodes;
mod once;
mod open;
mod portions;
mod relocate;
mod renew;
mod reseal;
mod restore;
mod rows;
mod scan;
mod schema;
mod sqlite;
mod sweep;
mod verify;
mod watermark;
mod writer;

use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::AnyConnection;
use sqlx::any::AnyConnectOptions;
use tokio::time::Instant;

use crate::directory::resource::Kind;
use crate::metrics::Metrics;
use head::RawHead;
use integrity::Keys;
use lanes::{Lanes, Lease, Purpose};
use mfa_attempts::Remembered;

pub use address::postgres_url;
pub use backup::backup;
pub use changes::{Change, Step};
pub use directory_entries::{DIRECTORY_ENTRIES, DirectoryEntries};
pub use documents::Documents;
pub use enter::Entrance;
pub use error::{StoreError, UNVERIFIED_SENTENCE};
pub use head::Head;
pub use key_use::KeyUse;
pub use lanes::ABANDONED;
pub use mfa_attempts::{Attempt, Lockout, MAX_DRIFT, Matched, STEP_SECONDS};
pub use nodes::{Broker, Node, Seen};
pub use open::{Access, Place};
pub use relocate::relocate;
pub use restore::{Prepared, look_at, prepare, revoked_keys};
pub use rows::Stored;
pub use sqlite::SqliteLock;
pub use verify::Shown;
pub use watermark::{Watermark, WatermarkError};
pub use writer::{Entry, Writer};

/// The longest wait for an answer to one statement; of a call, for a connection and all that is asked
/// on it.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// The longest wait for a scan of everything.
const SCAN_DEADLINE: Duration = Duration::from_secs(300);
/// The longest wait for a backup.
const BACKUP_DEADLINE: Duration = Duration::from_secs(3_600);
/// So many changes are taken one by one; a node that is further behind loads everything anew.
pub const MAX_STEP: usize = 10_000;
/// How long a change stays in the feed unless the configuration says otherwise.
pub const KEEP_CHANGES: Duration = Duration::from_secs(30 * 24 * 3_600);
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

impl Store {
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

fn kind(text: &str) -> Result<Kind, StoreError> {
    Kind::parse(text).ok_or_else(|| StoreError::Row(format!("kind `{}`", clip(text))))
}

fn clip(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}
