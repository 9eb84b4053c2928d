//! The store's connections. Each purpose has connections of its own, except in a store in memory, so that urgent work
//! never waits for other work. The only SQL statements here set up a connection.

mod lease;
mod purpose;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use sqlx::{AnyConnection, Connection};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use super::classify::late;
use super::{DEADLINE, Engine, StoreError};
use crate::metrics::{Metrics, Shed, StorePool};

pub(super) use lease::Lease;
pub(super) use purpose::Purpose;

tokio::task_local! {
    /// A mark that is set in the task of a call whose client has gone away. The call then leaves the queues in which it
    /// waits: see [`unless_abandoned`].
    pub static ABANDONED: ();
}

/// Waits in a queue. Returns `None` when it is polled after the client of the call has gone away.
pub async fn unless_abandoned<T>(queue: impl Future<Output = T>) -> Option<T> {
    let mut queue = std::pin::pin!(queue);
    poll_fn(|cx| {
        if ABANDONED.try_with(|()| ()).is_ok() {
            return Poll::Ready(None);
        }
        queue.as_mut().poll(cx).map(Some)
    })
    .await
}

/// The connections for one purpose, and the queue for them.
pub(super) struct Lane {
    purpose: Purpose,
    /// The runtime on which its connections are opened.
    runtime: Handle,
    connections: Arc<Connections>,
    waiting: AtomicUsize,
}

/// Connections, which are opened when they are first needed.
struct Connections {
    free: Semaphore,
    idle: Mutex<Vec<AnyConnection>>,
    /// Whether a connection was returned in the middle of a transaction, which the next user must roll back. This is
    /// set only for a store in memory, whose connection cannot be replaced.
    unclean: AtomicBool,
}

pub(super) struct Lanes {
    all: [Lane; 5],
    /// SQLite allows one writer at a time. The writers of this process take turns in the order of their arrival. Since
    /// each purpose has one connection for writing, a writer waits for at most one writer of each other purpose.
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
        // A store in memory exists only in its connection, so that there can be only one.
        let only = connections(1);
        let all = Purpose::ALL.map(|purpose| Lane {
            purpose,
            runtime: Handle::current(),
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

    /// Sets the runtime on which the connections for the feed and for revocations are opened.
    pub fn urgent_on(&mut self, runtime: &Handle) {
        for lane in &mut self.all {
            if matches!(lane.purpose, Purpose::Feed | Purpose::Revocation) {
                lane.runtime = runtime.clone();
            }
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

    /// Closes the idle connections, and those that become idle within [`DEADLINE`].
    pub async fn close(&self) {
        for lane in &self.all {
            let permits = u32::try_from(lane.purpose.connections()).unwrap_or(1);
            // An error is ignored: every acknowledged change is already stored.
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
    /// Waits for a free connection, at most until the given time.
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
        let entered = async {
            match self.purpose.is_of_requests() {
                true => unless_abandoned(free.acquire()).await,
                false => Some(free.acquire().await),
            }
        };
        match timeout_at(until, entered).await {
            Ok(Some(Ok(permit))) => Ok(permit),
            Ok(None | Some(Err(_))) => Err(StoreError::Unavailable(
                "the query was given up, since the client no longer waits for the response"
                    .to_owned(),
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

/// A place in the queue for the connections of one purpose, which is freed on drop.
struct Place<'l> {
    lane: &'l Lane,
    metrics: &'l Metrics,
}

impl<'l> Place<'l> {
    /// Takes a place; `None` if the queue is full.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::purpose::MAX_WAITING;
    use super::*;
    use crate::store::{Lockout, Store};

    const LOCKOUT: Lockout = Lockout {
        failures: 5,
        forgiven_after_seconds: 900,
    };
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
                store
                    .attempt(&format!("AIDA{n}"), None, LOCKOUT, NOW)
                    .await
                    .unwrap();
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
                tokio::spawn(
                    async move { store.attempt(&format!("AIDA{n}"), None, LOCKOUT, NOW).await },
                )
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
            store.attempt("AIDA", None, LOCKOUT, NOW).await,
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
        let abandoned = ABANDONED.scope((), store.attempt("AIDA", None, LOCKOUT, NOW));
        assert!(
            matches!(abandoned.await, Err(StoreError::Busy)),
            "there is no place for it either"
        );
        calls.pop().unwrap().abort();
        tokio::task::yield_now().await;
        let abandoned = ABANDONED.scope((), store.attempt("AIDA", None, LOCKOUT, NOW));
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
        store.attempt("AIDA", None, LOCKOUT, NOW).await.unwrap();
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
            store.attempt("AIDA", None, LOCKOUT, NOW).await.unwrap();
        }
        assert!(!store.is_locked("AIDA", NOW));
        store.attempt("AIDA", None, LOCKOUT, NOW).await.unwrap();
        assert!(store.is_locked("AIDA", NOW), "all five were kept");
    }
}
