//! The store's connections, by what they are for: each kind of work has its own, so that nothing
//! urgent waits behind something that can wait. Knows no statement but those that set a connection
//! up.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use sqlx::{AnyConnection, ConnectOptions, Connection};
use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    BoxFuture, DEADLINE, Engine, SCAN_DEADLINE, Store, StoreError, address, late, sqlite, told,
};
use crate::metrics::{Metrics, Shed, StorePool};

/// How many connections answer look-ups of the request path.
const READERS: usize = 4;
/// How many callers wait for a connection of the request path.
const MAX_WAITING: usize = 64;
/// How many wait for any other connection: no caller brings so many about.
const MAX_WAITING_INSIDE: usize = 1_024;
/// How long a revocation waits for those before it.
const REVOCATION_WAIT: Duration = Duration::from_secs(5);
/// What PostgreSQL itself gives up: a transaction whose client does nothing (a broker that was stopped
/// must not keep the others from writing)…
const POSTGRES_IDLE: &str = "SET idle_in_transaction_session_timeout = '10s'";
/// … and waiting for a lock when its client has given up too.
const POSTGRES_LOCK: &str = "SET lock_timeout = '2s'";

tokio::task_local! {
    /// Set where nobody waits for the answer to a call any more. A call that still waits for a
    /// connection of the request path then leaves the queue.
    pub static ABANDONED: ();
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Following the change feed, and this node's report.
    Feed,
    /// Writing revocations, and asking which nodes have them.
    Revocation,
    /// Look-ups that a caller waits for.
    Read,
    /// Writes that a caller waits for.
    Write,
    /// Loading, sweeping, and what commands beside a broker do.
    Background,
}

impl Purpose {
    pub const ALL: [Self; 5] = [
        Self::Feed,
        Self::Revocation,
        Self::Read,
        Self::Write,
        Self::Background,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Revocation => "revocation",
            Self::Read => "read",
            Self::Write => "write",
            Self::Background => "background",
        }
    }

    /// Whether callers bring the work about, as many of them as they like.
    fn is_of_requests(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    fn connections(self) -> usize {
        if self == Self::Read { READERS } else { 1 }
    }

    fn max_waiting(self) -> usize {
        if self.is_of_requests() {
            MAX_WAITING
        } else {
            MAX_WAITING_INSIDE
        }
    }

    fn longest_wait(self) -> Duration {
        match self {
            Self::Feed | Self::Read | Self::Write => DEADLINE,
            Self::Revocation => REVOCATION_WAIT,
            Self::Background => SCAN_DEADLINE,
        }
    }
}

/// The connections for one purpose, and the queue in front of them.
pub(super) struct Lane {
    purpose: Purpose,
    connections: Arc<Connections>,
    waiting: AtomicUsize,
}

/// Connections that are made when they are first needed.
struct Connections {
    free: Semaphore,
    idle: Mutex<Vec<AnyConnection>>,
    /// Whether one came back in the middle of a transaction: only where the connection is the store.
    unclean: AtomicBool,
}

/// All lanes of a store.
pub(super) struct Lanes {
    all: [Lane; 5],
    /// SQLite has one writer at a time. Those of this process take turns here, first come first
    /// served, so that each of them waits for at most one of every other purpose.
    turn: tokio::sync::Mutex<()>,
}

impl Lanes {
    pub fn new(engine: Engine) -> Self {
        let connections = |n| {
            Arc::new(Connections {
                free: Semaphore::new(n),
                idle: Mutex::default(),
                unclean: AtomicBool::new(false),
            })
        };
        // A store in memory is its connection: there is one.
        let only = connections(1);
        let all = Purpose::ALL.map(|purpose| Lane {
            purpose,
            connections: if engine == Engine::Memory {
                only.clone()
            } else {
                connections(purpose.connections())
            },
            waiting: AtomicUsize::new(0),
        });
        Self {
            all,
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn of(&self, purpose: Purpose) -> &Lane {
        let [feed, revocation, read, write, background] = &self.all;
        match purpose {
            Purpose::Feed => feed,
            Purpose::Revocation => revocation,
            Purpose::Read => read,
            Purpose::Write => write,
            Purpose::Background => background,
        }
    }

    /// Ends the connections that are idle, or become so within the deadline, in an orderly way.
    pub async fn close(&self) {
        for lane in &self.all {
            let permits = u32::try_from(lane.purpose.connections()).unwrap_or(1);
            // Whatever it says, everything that was acknowledged is stored.
            let _ = timeout(DEADLINE, lane.connections.free.acquire_many(permits)).await;
            for connection in lane.connections.take_all() {
                let _ = timeout(DEADLINE, connection.close()).await;
            }
        }
    }
}

impl Connections {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<AnyConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_all(&self) -> Vec<AnyConnection> {
        std::mem::take(&mut *self.idle())
    }
}

impl Lane {
    /// Waits for a connection to be free; until then at the most.
    async fn enter(
        &self,
        until: Instant,
        metrics: &Metrics,
    ) -> Result<SemaphorePermit<'_>, StoreError> {
        let free = &self.connections.free;
        if let Ok(permit) = free.try_acquire() {
            return Ok(permit);
        }
        let Some(_place) = Place::take(self, metrics) else {
            if self.purpose.is_of_requests() {
                metrics
                    .shed
                    .get_or_create(&Shed {
                        reason: "store_queue",
                    })
                    .inc();
            }
            return Err(StoreError::Busy);
        };
        let mut entering = std::pin::pin!(free.acquire());
        let entered = poll_fn(|cx| {
            if self.purpose.is_of_requests() && ABANDONED.try_with(|()| ()).is_ok() {
                return Poll::Ready(None);
            }
            entering.as_mut().poll(cx).map(Result::ok)
        });
        match timeout_at(until, entered).await {
            Ok(Some(permit)) => Ok(permit),
            Ok(None) => Err(StoreError::Unavailable(
                "nobody waits for the answer any more".to_owned(),
            )),
            Err(_) => Err(self.late(self.purpose.longest_wait(), metrics)),
        }
    }

    async fn within<T>(
        &self,
        until: Instant,
        work: impl Future<Output = T>,
        metrics: &Metrics,
    ) -> Result<T, StoreError> {
        timeout_at(until, work)
            .await
            .map_err(|_| self.late(DEADLINE, metrics))
    }

    fn late(&self, span: Duration, metrics: &Metrics) -> StoreError {
        if self.purpose.is_of_requests() {
            metrics
                .shed
                .get_or_create(&Shed {
                    reason: "store_deadline",
                })
                .inc();
        }
        late(span)
    }
}

/// A place in a lane's queue.
struct Place<'l> {
    lane: &'l Lane,
    metrics: &'l Metrics,
}

impl<'l> Place<'l> {
    /// None: there are too many before.
    fn take(lane: &'l Lane, metrics: &'l Metrics) -> Option<Self> {
        if lane.waiting.fetch_add(1, Ordering::Relaxed) >= lane.purpose.max_waiting() {
            lane.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        metrics
            .store_waiting
            .get_or_create(&StorePool {
                pool: lane.purpose.name(),
            })
            .inc();
        Some(Self { lane, metrics })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lane.waiting.fetch_sub(1, Ordering::Relaxed);
        self.metrics
            .store_waiting
            .get_or_create(&StorePool {
                pool: self.lane.purpose.name(),
            })
            .dec();
    }
}

/// A connection, for as long as it is needed. It goes back when all that was asked of it went well.
pub(super) struct Lease<'s> {
    store: &'s Store,
    lane: &'s Lane,
    /// None once something went wrong with it.
    connection: Option<AnyConnection>,
    /// By when everything must be done; none: each statement has a deadline of its own.
    until: Option<Instant>,
    /// Whether no statement is under way on the connection.
    at_rest: bool,
    /// Whether a transaction, or anything else of several statements, is not at its end.
    is_unfinished: bool,
    /// Whether the connection had been idle, and may have ended meanwhile.
    was_idle: bool,
    _turn: Option<MutexGuard<'s, ()>>,
    _permit: SemaphorePermit<'s>,
}

impl Store {
    /// A connection for a purpose, at the latest after the purpose's longest wait.
    pub(super) async fn lease(&self, purpose: Purpose) -> Result<Lease<'_>, StoreError> {
        let lane = self.lanes.of(purpose);
        let wait = purpose.longest_wait();
        let until = Instant::now() + wait;
        let permit = lane.enter(until, &self.metrics).await?;
        let until = purpose.is_of_requests().then_some(until);
        let mut lease = Lease {
            store: self,
            lane,
            connection: None,
            until,
            at_rest: true,
            is_unfinished: false,
            was_idle: false,
            _turn: None,
            _permit: permit,
        };
        let idle = lane.connections.idle().pop();
        lease.was_idle = idle.is_some();
        lease.connection = Some(match idle {
            Some(connection) => connection,
            None => {
                lane.within(lease.until(DEADLINE), self.connect(purpose), &self.metrics)
                    .await??
            }
        });
        if lane.connections.unclean.swap(false, Ordering::Relaxed) {
            // Without a transaction to end this is an error that says nothing.
            let _ = lease
                .ask(DEADLINE, |c| {
                    Box::pin(async move { sqlx::raw_sql("ROLLBACK").execute(c).await })
                })
                .await;
        }
        Ok(lease)
    }

    /// As [`Store::lease`], for a change: on SQLite it then is this process's turn to write.
    pub(super) async fn lease_to_write(&self, purpose: Purpose) -> Result<Lease<'_>, StoreError> {
        let mut lease = self.lease(purpose).await?;
        if self.engine == Engine::Sqlite {
            let until = lease.until(purpose.longest_wait());
            lease._turn = Some(
                lease
                    .lane
                    .within(until, self.lanes.turn.lock(), &self.metrics)
                    .await?,
            );
        }
        Ok(lease)
    }

    async fn connect(&self, purpose: Purpose) -> Result<AnyConnection, StoreError> {
        let connected = self.options.connect().await;
        let connection = connected.map_err(|error| {
            address::not_verified(&error, &self.options).unwrap_or_else(|| told(error))
        })?;
        self.set_up(connection, purpose).await.map_err(told)
    }

    async fn set_up(
        &self,
        mut connection: AnyConnection,
        purpose: Purpose,
    ) -> Result<AnyConnection, sqlx::Error> {
        match self.engine {
            Engine::Sqlite => sqlite::prepare(&mut connection).await?,
            Engine::Postgres => {
                sqlx::raw_sql(POSTGRES_IDLE)
                    .execute(&mut connection)
                    .await?;
                if purpose != Purpose::Background {
                    sqlx::raw_sql(POSTGRES_LOCK)
                        .execute(&mut connection)
                        .await?;
                }
                if purpose == Purpose::Feed {
                    // What is lost in a crash, this node's report, is said again at once.
                    sqlx::raw_sql("SET synchronous_commit = off")
                        .execute(&mut connection)
                        .await?;
                }
            }
            Engine::Memory => {}
        }
        Ok(connection)
    }
}

impl<'s> Lease<'s> {
    /// Asks for something on the connection. What the database itself refuses leaves the connection
    /// as it was; after anything else that goes wrong it is thrown away.
    pub async fn ask<T>(
        &mut self,
        statement: Duration,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let until = self.until(statement);
        let connection = self.connection.as_mut();
        let connection = connection
            .ok_or_else(|| StoreError::Unavailable("the connection was lost".to_owned()))?;
        self.at_rest = false;
        match timeout_at(until, work(connection)).await {
            Ok(Ok(value)) => {
                self.at_rest = true;
                Ok(value)
            }
            Ok(Err(error)) => {
                let is_database = matches!(error, sqlx::Error::Database(_));
                let error = told(error);
                let is_lost = matches!(error, StoreError::Disconnected(_));
                self.at_rest = is_database && !is_lost;
                self.end_unless_at_rest();
                if is_lost && self.store.engine != Engine::Memory {
                    // The others have ended with it, most likely.
                    drop(self.lane.connections.take_all());
                }
                Err(error)
            }
            Err(_) => {
                self.end_unless_at_rest();
                Err(self.lane.late(statement, &self.store.metrics))
            }
        }
    }

    /// Begins a transaction, or anything else of several statements: if the lease ends before
    /// [`Lease::finish`], the connection is thrown away.
    pub fn begin(&mut self) {
        self.is_unfinished = true;
    }

    /// The work that was begun is at its end.
    pub fn finish(&mut self) {
        self.is_unfinished = false;
    }

    /// The connection itself, for work that `ask` cannot do: it is begun with this.
    pub fn raw(&mut self) -> Result<&mut AnyConnection, StoreError> {
        self.begin();
        self.connection
            .as_mut()
            .ok_or_else(|| StoreError::Unavailable("the connection was lost".to_owned()))
    }

    /// Whether an error says no more than that the connection had ended while it was idle: nothing
    /// was done, if this was the first that was asked of it.
    pub fn had_ended(&self, error: &StoreError) -> bool {
        self.was_idle && matches!(error, StoreError::Disconnected(_))
    }

    /// Gives each statement from here on a deadline of its own.
    pub fn take_time(&mut self) {
        self.until = None;
    }

    fn until(&self, span: Duration) -> Instant {
        self.until.unwrap_or_else(|| Instant::now() + span)
    }

    fn end_unless_at_rest(&mut self) {
        if !self.at_rest && self.store.engine != Engine::Memory {
            self.connection = None;
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.at_rest &= !self.is_unfinished;
        self.end_unless_at_rest();
        if let Some(connection) = self.connection.take() {
            let connections = &self.lane.connections;
            connections
                .unclean
                .fetch_or(!self.at_rest, Ordering::Relaxed);
            connections.idle().push(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::entropy::SystemEntropy;
    use crate::store::{Access, Place};

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    async fn open(place: &Place) -> Store {
        Store::open(place, Access::Create, None, NOW, &SystemEntropy::new())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn on_sqlite_a_revocation_waits_for_at_most_one_write_of_a_call() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(open(&Place::Sqlite(dir.path().join("store.db"))).await);
        // Its connection is there.
        store
            .write_revocation()
            .await
            .unwrap()
            .commit()
            .await
            .unwrap();
        let first = store.write().await.unwrap();
        let done = Arc::new(AtomicU32::new(0));
        let mut calls = Vec::new();
        for n in 0..20 {
            let (store, done) = (store.clone(), done.clone());
            calls.push(tokio::spawn(async move {
                store.attempt(&format!("AIDA{n}"), None, NOW).await.unwrap();
                done.fetch_add(1, Ordering::SeqCst);
            }));
        }
        while store
            .lanes
            .of(Purpose::Write)
            .waiting
            .load(Ordering::SeqCst)
            < 20
        {
            tokio::task::yield_now().await;
        }
        let revocation = tokio::spawn({
            let (store, done) = (store.clone(), done.clone());
            async move {
                store
                    .write_revocation()
                    .await
                    .unwrap()
                    .commit()
                    .await
                    .unwrap();
                done.load(Ordering::SeqCst)
            }
        });
        tokio::task::yield_now().await;
        first.commit().await.unwrap();
        let before = revocation.await.unwrap();
        assert!(before <= 1, "{before} went first");
        for call in calls {
            call.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_queue_has_an_end_and_each_lane_its_own() {
        let store = Arc::new(
            open(&Place::Sqlite(
                tempfile::tempdir().unwrap().keep().join("store.db"),
            ))
            .await,
        );
        let held = store.write().await.unwrap();
        let mut calls: Vec<_> = (0..MAX_WAITING)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move { store.attempt(&format!("AIDA{n}"), None, NOW).await })
            })
            .collect();
        while store
            .lanes
            .of(Purpose::Write)
            .waiting
            .load(Ordering::SeqCst)
            < MAX_WAITING
        {
            tokio::task::yield_now().await;
        }
        assert!(matches!(
            store.attempt("AIDA", None, NOW).await,
            Err(StoreError::Busy)
        ));
        assert_eq!(
            store
                .metrics
                .shed
                .get_or_create(&Shed {
                    reason: "store_queue"
                })
                .get(),
            1
        );
        assert_eq!(
            store.device_past("arn:x").await.unwrap().drift,
            0,
            "look-ups have another one"
        );
        // Whoever is abandoned leaves; whoever is not stays.
        let abandoned = ABANDONED.scope((), store.attempt("AIDA", None, NOW));
        assert!(
            matches!(abandoned.await, Err(StoreError::Busy)),
            "there is no place for it either"
        );
        calls.pop().unwrap().abort();
        tokio::task::yield_now().await;
        let abandoned = ABANDONED.scope((), store.attempt("AIDA", None, NOW));
        assert!(matches!(abandoned.await, Err(StoreError::Unavailable(_))));
        held.abandon().await;
        for call in calls {
            call.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn in_memory_nothing_is_lost_with_what_was_given_up() {
        let store = open(&Place::Memory).await;
        store.write().await.unwrap().commit().await.unwrap();
        store.attempt("AIDA", None, NOW).await.unwrap();
        // Dropped in the middle of a transaction, and of a statement.
        drop(store.write().await.unwrap());
        let mut lease = store.lease(Purpose::Read).await.unwrap();
        lease.begin();
        let given_up = lease.ask(Duration::ZERO, |c| {
            Box::pin(async move {
                sqlx::raw_sql("BEGIN").execute(&mut *c).await?;
                sqlx::raw_sql("DELETE FROM mfa_failures").execute(c).await
            })
        });
        let _ = timeout(Duration::from_micros(1), given_up).await;
        drop(lease);
        for _ in 0..3 {
            store.attempt("AIDA", None, NOW).await.unwrap();
        }
        assert!(!store.is_locked("AIDA", NOW));
        store.attempt("AIDA", None, NOW).await.unwrap();
        assert!(store.is_locked("AIDA", NOW), "all five were kept");
    }
}
