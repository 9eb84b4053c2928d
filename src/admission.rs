//! Who is served when there is not enough for everybody: the connections, the calls in flight and the
//! bytes that requests hold, counted for the whole process and for each source address.
//!
//! Five rules. A quarter of the calls and of the bytes is kept for connections on which a signature or
//! a token was verified that was seen nowhere else. Neither a source address nor a principal holds more
//! than a quarter of anything. Whoever exceeds either is refused at once and never waits. When there is
//! no room at all, whoever holds most gives way. Revocations have room of their own. Knows no protocol
//! and no socket.

mod awaited;
mod call;
mod connection;
mod holdings;
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

/// What a call takes beside its headers and its body, in bytes: its task, its stream, and its share
/// of the buffer that it was read into.
pub const CALL_BYTES: usize = 16_384;
/// What an answer takes until it is sent, in bytes; of one that is not short its length is added.
pub const ANSWER_BYTES: usize = 4_096;
/// How many bodies that are not short a connection may send at once until a call on it has proven
/// somebody.
pub const UNPROVEN_BODIES: usize = 16;
/// Clients of trusted proxies that have proven somebody are remembered for so long, and so many.
const PROVEN_SOURCES: (u64, Duration) = (65_536, Duration::from_secs(600));

/// Proofs are remembered for as long as a signature can be valid, and so many: 15 minutes before its
/// date and 15 minutes after it. Only those are kept that made a connection a proven one.
const PROOFS: (u64, Duration) = (65_536, Duration::from_secs(1_800));
/// How many revocations are served beside all other calls.
const REVOCATIONS: usize = 64;
/// Of so many connections one may be in its TLS handshake, and how many at the most: each takes up to
/// 60 KB.
const HANDSHAKES: (usize, usize) = (8, 1_024);

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open connections.
    pub connections: usize,
    /// Calls in flight.
    pub calls: usize,
    /// Bytes that requests and answers hold.
    pub bytes: usize,
}

/// Why somebody was turned away. Each is a label of the metric `shed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shed {
    /// Too many calls are in flight.
    #[error("too many calls are in flight")]
    Calls,
    /// Requests hold too many bytes.
    #[error("requests hold too much memory")]
    Memory,
    /// The source address has its share.
    #[error("the source address has its share")]
    Source,
    /// The principal has its share.
    #[error("the principal has its share")]
    Principal,
}

impl Shed {
    /// The metric's label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Memory => "memory",
            Self::Source => "source",
            Self::Principal => "principal",
        }
    }
}

/// What a call is for. An eighth of a source's share, and a sixteenth of all bytes, is kept for refusals
/// and revocations, so that those who are turned away for want of room are told so. Half of that
/// sixteenth is kept for revocations alone, which also have slots of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Anything else.
    Call,
    /// To be told that there is no room.
    Refusal,
    /// To end sessions.
    Revocation,
}

/// The accounts of one process.
pub struct Admission {
    calls: Account,
    revocations: Account,
    bytes: Account,
    handshakes: Account,
    /// What one source may hold.
    share: Bounds,
    sources: Arc<Sources>,
    /// Connections that have proven nobody, the oldest first; those that have gone or proven somebody
    /// since are passed over.
    newcomers: Mutex<VecDeque<Weak<Connection>>>,
    /// Connections that have proven somebody.
    proven: Mutex<VecDeque<Weak<Connection>>>,
    /// Connections in their TLS handshake, the oldest first.
    shaking: Mutex<VecDeque<Weak<Connection>>>,
    max_newcomers: usize,
    /// Clients of trusted proxies that have proven somebody, and whom.
    proven_sources: Cache<Source, Arc<Holdings>>,
    /// What has proven somebody, and where.
    proofs: Cache<[u8; 16], Place>,
    /// By [`Rank`].
    awaited: [Mutex<Awaited>; 3],
    connected: AtomicU64,
    started: Instant,
}

/// Where a proof was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// By its number.
    Connection(u64),
    /// A client of trusted proxies.
    Source(Source),
}

impl Admission {
    /// With nothing taken.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        let quarter = |most: usize| (most / 4).max(1);
        Arc::new(Self {
            calls: Account::new(bounds.calls),
            revocations: Account::new(REVOCATIONS),
            bytes: Account::new(bounds.bytes),
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

    /// Counts a connection of an address. None: of a trusted proxy, whose calls are counted for
    /// their own clients, and which is no source itself.
    ///
    /// # Errors
    /// When the source has as many as it may.
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

    /// Asks a connection to leave: the oldest that has proven nobody; if there is none, of whoever holds
    /// most connections the one that has made no call for the longest time. False: there is none.
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

    /// Counts a connection's TLS handshake until what this returns is dropped. When there are as many as
    /// there may be, the oldest one of whoever holds most ends.
    ///
    /// # Errors
    /// When the connection's source has its share.
    pub fn handshake(&self, connection: &Arc<Connection>) -> Result<Handshake, Shed> {
        let share = (self.handshakes.most / 4).max(1);
        if let Some(source) = &connection.source
            && !take(&source.handshakes, 1, share)
        {
            return Err(Shed::Source);
        }
        let handshake = Handshake(connection.clone());
        let count = self.handshakes.used.fetch_add(1, Ordering::Relaxed) + 1;
        remember(&self.shaking, connection, 2 * self.handshakes.most, |c| {
            c.is_shaking.load(Ordering::Relaxed)
        });
        connection.is_shaking.store(true, Ordering::Relaxed);
        if count > self.handshakes.most {
            self.end_a_handshake(connection);
        }
        Ok(handshake)
    }

    fn end_a_handshake(&self, newcomer: &Arc<Connection>) {
        let all: Vec<_> = lock(&self.shaking)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        let others = all.iter().filter(|connection| {
            connection.is_shaking.load(Ordering::Relaxed)
                && !connection.asked.load(Ordering::Relaxed)
                && !Arc::ptr_eq(connection, newcomer)
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

    /// How many calls are in flight.
    pub fn calls_in_flight(&self) -> usize {
        self.calls.used.load(Ordering::Relaxed)
    }

    /// How many bytes requests and answers hold.
    pub fn request_memory_bytes(&self) -> usize {
        self.bytes.used.load(Ordering::Relaxed)
    }

    #[cfg(any(test, feature = "internals"))]
    /// How many source addresses hold a connection, or anything else.
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
    fn is_first_seen(&self, proof: [u8; 32], place: Place) -> bool {
        let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = proof;
        self.proofs.get_with(first, || place) == place
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a connection behind the others of a list, which forgets those that are gone or no longer belong
/// in it when it is long.
fn remember(
    list: &Mutex<VecDeque<Weak<Connection>>>,
    connection: &Arc<Connection>,
    most: usize,
    belongs: impl Fn(&Connection) -> bool,
) {
    let mut list = lock(list);
    if list.len() >= most {
        // Not dropped under the lock: the last holder of a connection gives back what it holds.
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
