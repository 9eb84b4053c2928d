//! The data that must not be lost, in SQL: the directory, revocations, sign-ins, spent MFA codes, the ids of tokens
//! that were used, and the change feed. The same statements run on SQLite, for one broker, and on PostgreSQL, for
//! several. This module stores rows; it evaluates no policy.
//!
//! Each kind of work has connections of its own (`lanes.rs`), and each statement has a deadline. A connection that
//! failed, or that was dropped in the middle of a transaction, is closed and not used again. A store in memory has a
//! single connection, which is kept.

mod address;
mod administrator;
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
mod listing;
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
mod salvage;
mod scan;
mod schema;
mod shape;
mod sign_in_grants;
mod sign_ins;
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
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::directory::resource::ResourceKind;
use crate::metrics::Metrics;
use head::RawHead;
use integrity::Keys;
use lanes::{Lanes, Lease, Purpose};
use mfa_attempts::Remembered;

pub use address::postgres_url;
pub use administrator::KnownAdministrator;
pub use backup::backup;
pub use changes::{Change, Step};
pub use directory_entries::{DIRECTORY_ENTRIES, DirectoryEntries};
pub use documents::Documents;
pub use enter::Entrance;
pub use error::{StoreError, UNVERIFIED_SENTENCE};
pub use head::Head;
pub use key_use::{KeyUse, LastUse};
pub use lanes::{ABANDONED, unless_abandoned};
pub use listing::Listed;
pub use mfa_attempts::{Attempt, Lockout, MAX_DRIFT, Matched, STEP_SECONDS};
pub use nodes::{Broker, Node, Seen};
pub use once::ACCEPT_CLOCK;
pub use open::{Access, Place};
pub use relocate::relocate;
pub use restore::{Prepared, look_at, prepare, revoked_keys};
pub use rows::Stored;
pub use sign_in_grants::{GrantKind, GrantRow};
pub use sign_ins::{NewSignInRow, SIGN_INS_AT_ONCE, SignInRow, SignInsOf};
pub use sqlite::SqliteLock;
pub use verify::Shown;
pub use watermark::{Watermark, WatermarkError};
pub use writer::{Entry, Writer};

/// The longest time that one statement may take. For a call this includes the wait for a connection
/// and all statements of the call.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// The deadline of a transaction that reads all rows.
const SCAN_DEADLINE: Duration = Duration::from_secs(300);
/// The deadline of a backup, and of copying all rows in a move.
const BACKUP_DEADLINE: Duration = Duration::from_secs(3_600);
/// The maximum number of changes that a node applies one by one. A node that is further behind loads all rows anew.
pub const MAX_STEP: usize = 10_000;
/// How long a change stays in the feed by default.
pub const KEEP_CHANGES: Duration = Duration::from_secs(30 * 24 * 3_600);
/// A store that is open. All brokers and commands read and write rows through it.
pub struct Store {
    engine: Engine,
    /// The file of a SQLite store, by which the broker notices that another file has taken its path.
    file: Option<sqlite::OpenFile>,
    options: AnyConnectOptions,
    lanes: Lanes,
    metrics: Arc<Metrics>,
    /// The list of nodes when it was last read, and the time of that read.
    seen: tokio::sync::Mutex<Option<(Instant, Vec<Seen>)>>,
    mfa: Remembered,
    id: String,
    /// How long a change stays in the feed: see [`KEEP_CHANGES`].
    keep_changes: Duration,
    /// The keys with which the MACs of rows are made and checked.
    keys: ArcSwap<Keys>,
    /// The first sign that something other than a broker wrote to the database; `None` if there is none.
    suspicion: Mutex<Option<String>>,
    /// The last change that this process has seen, with the digest of the feed up to it. The digest is empty if the
    /// process started with a watermark file of an earlier version, which recorded only the number of the change.
    reached: Mutex<head::SeenSoFar>,
    /// The version of each entry, and the change up to which the versions are current; `None` until
    /// all rows have been read once.
    known: Mutex<Option<(known::Versions, i64)>>,
    /// A known administrator, and the time of the last search that found none.
    administrators: Mutex<administrator::Memory>,
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
    /// Sets the metrics in which the store counts the work that waits for a connection or is refused.
    #[must_use]
    pub fn counting_in(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Sets the runtime of the connections for the feed and for revocations. Other connections belong to the
    /// runtime on which the store was opened.
    #[must_use]
    pub fn urgent_on(mut self, runtime: &Handle) -> Self {
        self.lanes.urgent_on(runtime);
        self
    }

    /// Sets how long a change stays in the feed.
    #[must_use]
    pub fn keeping_changes_for(mut self, span: Duration) -> Self {
        self.keep_changes = span;
        self
    }

    /// The random id of the store. A restored backup has the id of the store that it was made from.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether this call of [`Store::open`] created the store.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether several brokers can use the store. This is the case for PostgreSQL.
    pub fn is_shared(&self) -> bool {
        self.engine == Engine::Postgres
    }

    /// Begins a transaction for a call. No other transaction can write until this one is committed or dropped.
    ///
    /// The wait for earlier writers and all statements together must end within [`DEADLINE`]; the commit has another
    /// [`DEADLINE`].
    ///
    /// # Errors
    /// [`StoreError::Busy`] if too many callers are waiting already, [`StoreError::Tampered`] if the store's own row
    /// differs from what a broker wrote, and an error of the database, such as [`StoreError::Unavailable`] if it does
    /// not answer in time.
    pub async fn write(&self) -> Result<Writer<'_>, StoreError> {
        self.begin(Purpose::Write).await
    }

    /// Begins a transaction that revokes sessions. It does not wait in the queue of other calls.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if the store's own row differs from what a broker wrote.
    pub async fn write_revocation(&self) -> Result<Writer<'_>, StoreError> {
        self.begin(Purpose::Revocation).await
    }

    /// Begins a transaction of many statements. Each statement has [`DEADLINE`] for itself.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if the store's own row differs from what a broker wrote.
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

    /// Begins a transaction and locks the store's own row, so that no other transaction can write.
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

    /// Closes the connections, after waiting for those in use.
    pub async fn close(&self) {
        self.lanes.close().await;
    }
}

fn kind(text: &str) -> Result<ResourceKind, StoreError> {
    ResourceKind::parse(text).ok_or_else(|| StoreError::Row(format!("kind `{}`", clip(text))))
}

fn clip(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}
