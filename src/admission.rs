//! Decides who is served if there is not enough capacity for everybody. It counts connections,
//! calls in flight and the bytes that requests hold, for the whole process and for each source
//! address.
//!
//! There are five rules. A quarter of the calls and bytes is reserved for proven connections: those on which a
//! signature or token was verified that was seen on no other connection. No source address and no principal may use
//! more than a quarter of anything. A caller that exceeds either limit is refused at once and never waits; only a TLS
//! handshake beyond the share of its source takes the place of the oldest one of that source. If there is no capacity
//! at all, others give way: the oldest connection that is not proven, or a call of the source that uses most whose body
//! has not arrived. Revocations, and long requests of the IAM API, have separate capacity. This module contains no
//! protocols and opens no sockets.

mod awaited;
mod call;
mod connection;
mod holdings;
mod long;
mod pace;
mod room;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::{Notify, Semaphore};

use crate::budgets::{self, Source};
use awaited::Awaited;
pub use call::Call;
pub use connection::{Connection, Handshake};
use holdings::{Account, Holder, Holdings, Sources, take};

/// The memory in bytes that a call uses in addition to its headers and body: its task, its stream,
/// and its share of the buffer into which it was read.
pub const CALL_BYTES: usize = 16_384;
/// The memory in bytes that an answer uses until it is sent. The length of a long answer is added.
pub const ANSWER_BYTES: usize = 4_096;
/// How many long bodies a connection may send at once before a caller has been authenticated on it.
pub const UNPROVEN_BODIES: usize = 16;
/// How many clients of trusted proxies are remembered as authenticated, and for how long.
const PROVEN_SOURCES: (u64, Duration) = (65_536, Duration::from_secs(600));

/// How many proofs are remembered, and for how long: a signature can be valid from 15 minutes before its date until 15
/// minutes after it. Proofs on connections that are proven already are not kept.
const PROOFS: (u64, Duration) = (65_536, Duration::from_secs(1_800));
/// How many revocations are served in addition to all other calls.
const REVOCATIONS: usize = 64;
/// The limit on connections that are in their TLS handshake: one in 8 of all connections, but at least 16 and at most
/// 1,024, because each handshake takes up to 60 KB.
const HANDSHAKES: (usize, usize) = (8, 1_024);

/// Limits on capacity, either of the whole process or for one source.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub connections: usize,
    /// How many calls may be served, or wait for their bodies, at the same time.
    pub calls: usize,
    /// The number of bytes that requests and answers may hold.
    pub bytes: usize,
}

/// Why a call or connection was turned away. Each reason is a value of the label `reason` of the metric `shed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shed {
    /// Too many calls are in flight in the whole process.
    #[error(
        "the broker already handles as many calls at once as it may ([limits] calls, or 64 for revocations)"
    )]
    Calls,
    /// The requests of the whole process hold too much memory.
    #[error(
        "the requests in progress use all memory that this request may use ([limits] request_memory_mib, or the \
        32 MiB for long requests)"
    )]
    Memory,
    /// The source address has used up its share.
    #[error(
        "the source address has used up its share of connections, TLS handshakes, calls or memory"
    )]
    Source,
    /// The principal has used up its share.
    #[error("the principal has used up its share of calls or memory")]
    Principal,
}

impl Shed {
    pub fn reason(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Memory => "memory",
            Self::Source => "source",
            Self::Principal => "principal",
        }
    }
}

/// What capacity is used for. An eighth of the share of each source and principal is reserved for refusals, and a
/// sixteenth of all bytes for refusals and revocations, so that callers who are turned away can be told so. Half of
/// that sixteenth is reserved for revocations only, which also have slots of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Call,
    /// The answer to a call that is turned away for lack of capacity.
    Refusal,
    /// A call that ends sessions. It must succeed even while the process is overloaded.
    Revocation,
}

/// Counts the connections, calls and bytes in use, and decides who gets more. A process has one.
pub struct Admission {
    calls: Account,
    revocations: Account,
    bytes: Account,
    long: Account,
    handshakes: Account,
    share: Bounds,
    sources: Arc<Sources>,
    /// Connections without an authenticated caller, oldest first. Entries that have closed or been
    /// authenticated since are skipped.
    newcomers: Mutex<VecDeque<Weak<Connection>>>,
    proven: Mutex<VecDeque<Weak<Connection>>>,
    /// Connections in their TLS handshake, oldest first.
    shaking: Mutex<VecDeque<Weak<Connection>>>,
    max_newcomers: usize,
    /// The clients of trusted proxies on whose behalf a call was authenticated, with their principals.
    proven_sources: Cache<Source, Arc<Holdings>>,
    /// Where each proof was first seen.
    proofs: Cache<[u8; 16], Place>,
    /// Calls that wait for their bodies: one table for each [`room::Rank`].
    awaited: [Mutex<Awaited>; 3],
    connected: AtomicU64,
    started: Instant,
}

/// The place at which a proof was seen: a connection by its number, or a client of a trusted proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Connection(u64),
    /// A client of a trusted proxy, by its source address.
    Source(Source),
}

impl Admission {
    /// Creates an admission with nothing in use.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        let quarter = |most: usize| (most / 4).max(1);
        Arc::new(Self {
            calls: Account::new(bounds.calls),
            revocations: Account::new(REVOCATIONS),
            bytes: Account::new(bounds.bytes),
            long: Account::new(long::LONG_BYTES),
            handshakes: Account::new((bounds.connections / HANDSHAKES.0).clamp(16, HANDSHAKES.1)),
            share: Bounds {
                connections: quarter(bounds.connections),
                calls: quarter(bounds.calls),
                bytes: quarter(bounds.bytes),
            },
            sources: Arc::default(),
            newcomers: Mutex::default(),
            proven: Mutex::default(),
            shaking: Mutex::default(),
            max_newcomers: bounds.connections.saturating_mul(2).saturating_add(64),
            proven_sources: Cache::builder()
                .max_capacity(PROVEN_SOURCES.0)
                .time_to_live(PROVEN_SOURCES.1)
                .build(),
            proofs: Cache::builder()
                .max_capacity(PROOFS.0)
                .time_to_live(PROOFS.1)
                .build(),
            awaited: Default::default(),
            connected: AtomicU64::new(0),
            started: Instant::now(),
        })
    }

    /// Counts a connection from an address. `None` denotes a trusted proxy, which does not count as a source; each of
    /// its calls counts for the client that the call names.
    ///
    /// # Errors
    /// [`Shed::Source`] if the source already has its share of connections.
    pub fn connect(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Arc<Connection>, Shed> {
        let source = address.map(|address| self.holdings(Holder::Source(budgets::source(address))));
        if let Some(source) = &source
            && !take(&source.connections, 1, self.share.connections)
        {
            return Err(Shed::Source);
        }
        let connection = Arc::new(Connection {
            admission: self.clone(),
            number: self.connected.fetch_add(1, Ordering::Relaxed),
            source,
            principal: OnceLock::new(),
            proven: AtomicBool::new(false),
            is_shaking: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            last_call: AtomicU64::new(0),
            bodies: Arc::new(Semaphore::new(UNPROVEN_BODIES)),
            leave: Notify::new(),
            open_bodies: AtomicUsize::new(0),
            buffered: AtomicI64::new(0),
            is_charged: AtomicBool::new(false),
            charged: Mutex::new(0),
        });
        if connection.source.is_some() {
            remember(&self.newcomers, &connection, self.max_newcomers, |c| {
                !c.is_proven()
            });
        }
        Ok(connection)
    }

    /// Asks a connection to close: the oldest one without an authenticated caller, or else, among the connections of
    /// the holder with the most, the one that has been idle longest. Connections of trusted proxies are not asked.
    /// Returns false if all others have been asked already.
    pub fn make_room(&self) -> bool {
        let mut newcomers = lock(&self.newcomers);
        while let Some(oldest) = newcomers.pop_front() {
            if let Some(connection) = oldest.upgrade().filter(|c| !c.is_proven()) {
                connection.ask_to_leave();
                return true;
            }
        }
        drop(newcomers);
        let proven: Vec<_> = lock(&self.proven)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let staying = proven
            .iter()
            .filter(|connection| !connection.asked.load(Ordering::Relaxed));
        let held = |connection: &&Arc<Connection>| {
            let idle_since = std::cmp::Reverse(connection.last_call.load(Ordering::Relaxed));
            (
                connection
                    .holders()
                    .map(|h| h.connections.load(Ordering::Relaxed))
                    .max()
                    .unwrap_or(0),
                idle_since,
            )
        };
        let first = staying.max_by_key(held);
        first.is_some_and(|connection| connection.ask_to_leave())
    }

    /// Counts a connection's TLS handshake until the returned value is dropped. If its source then has more than its
    /// share, the oldest handshake of that source is ended; otherwise, if there are too many in all, the oldest
    /// handshake of the source with the most. So whoever holds silent handshakes keeps nobody out.
    ///
    /// # Errors
    /// [`Shed::Source`] if the connection's source already has twice its share, because those that were ended are not
    /// gone yet.
    pub fn handshake(&self, connection: &Arc<Connection>) -> Result<Handshake, Shed> {
        let share = (self.handshakes.most / 4).max(1);
        if let Some(source) = &connection.source
            && !take(&source.handshakes, 1, 2 * share)
        {
            return Err(Shed::Source);
        }
        let crowded = connection
            .source
            .as_ref()
            .filter(|source| source.handshakes.load(Ordering::Relaxed) > share);
        let handshake = Handshake(connection.clone());
        let count = self.handshakes.used.fetch_add(1, Ordering::Relaxed) + 1;
        remember(&self.shaking, connection, 2 * self.handshakes.most, |c| {
            c.is_shaking.load(Ordering::Relaxed)
        });
        connection.is_shaking.store(true, Ordering::Relaxed);
        if crowded.is_some() || count > self.handshakes.most {
            self.end_a_handshake(connection, crowded);
        }
        Ok(handshake)
    }

    /// Ends the oldest handshake of the source `of`, or without one of the source with the most, in favour of a
    /// newcomer.
    fn end_a_handshake(&self, newcomer: &Arc<Connection>, of: Option<&Arc<Holdings>>) {
        let all: Vec<_> = lock(&self.shaking)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let others = all.iter().filter(|connection| {
            connection.is_shaking.load(Ordering::Relaxed)
                && !connection.asked.load(Ordering::Relaxed)
                && !Arc::ptr_eq(connection, newcomer)
                && of.is_none_or(|of| {
                    let source = connection.source.as_ref();
                    source.is_some_and(|source| Arc::ptr_eq(source, of))
                })
        });
        let held = |connection: &&Arc<Connection>| {
            let source = connection
                .source
                .as_ref()
                .map_or(0, |source| source.handshakes.load(Ordering::Relaxed));
            (source, std::cmp::Reverse(connection.number))
        };
        if let Some(first) = others.max_by_key(held) {
            first.ask_to_leave();
        }
    }

    /// How many calls are being served, or wait for their bodies.
    pub fn calls_in_flight(&self) -> usize {
        self.calls.used.load(Ordering::Relaxed)
    }

    /// The number of bytes that requests and answers hold.
    pub fn request_memory_bytes(&self) -> usize {
        self.bytes.used.load(Ordering::Relaxed)
    }

    /// The number of bytes that long requests hold of their own budget.
    pub fn long_request_bytes(&self) -> usize {
        self.long.used.load(Ordering::Relaxed)
    }

    #[cfg(any(test, feature = "internals"))]
    /// The number of source addresses that use any capacity.
    pub fn sources(&self) -> usize {
        lock(&self.sources)
            .keys()
            .filter(|holder| matches!(holder, Holder::Source(_)))
            .count()
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    fn holdings(&self, holder: Holder) -> Arc<Holdings> {
        let mut table = lock(&self.sources);
        if let Some(known) = table.get(&holder).and_then(Weak::upgrade) {
            return known;
        }
        let holdings = Arc::new(Holdings {
            holder,
            table: self.sources.clone(),
            connections: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            headers_paid: AtomicU64::new(0),
        });
        table.insert(holder, Arc::downgrade(&holdings));
        holdings
    }

    /// Whether a proof is seen for the first time, or again at the same place.
    fn is_first_seen(&self, proof: [u8; 16], place: Place) -> bool {
        self.proofs.get_with(proof, || place) == place
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Appends a connection to a list. If the list is long, entries that are gone or no longer belong
/// in it are removed first.
fn remember(
    list: &Mutex<VecDeque<Weak<Connection>>>,
    connection: &Arc<Connection>,
    most: usize,
    belongs: impl Fn(&Connection) -> bool,
) {
    let mut list = lock(list);
    if list.len() >= most {
        // Connections must not be dropped while the lock is held, because the last owner of a
        // connection returns its capacity.
        list.retain(|c| c.strong_count() > 0);
        let all: Vec<_> = list.iter().filter_map(Weak::upgrade).collect();
        *list = all
            .iter()
            .filter(|c| belongs(c))
            .map(Arc::downgrade)
            .collect();
    }
    list.push_back(Arc::downgrade(connection));
}

#[cfg(test)]
mod tests;
