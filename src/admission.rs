//! Who is served when there is not enough for everybody: the connections, the calls in flight and the
//! bytes that requests hold, counted for the whole process and for each source address.
//!
//! Five rules. A quarter of the calls and of the bytes is kept for connections on which a signature or
//! a token was verified that was seen nowhere else. Neither a source address nor a principal holds more
//! than a quarter of anything. Whoever exceeds either is refused at once and never waits. When there is
//! no room at all, whoever holds most gives way. Revocations have room of their own. Knows no protocol
//! and no socket.

mod awaited;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::{Notify, Semaphore};

use crate::base::digest::sha256;
use crate::budgets::{self, Source};
use awaited::Awaited;

/// What a call takes beside its headers and its body, in bytes: its task, its stream, and its share
/// of the buffer that it was read into.
pub const CALL_BYTES: usize = 16_384;
/// What an answer takes until it is sent, in bytes; of one that is not short its length is added.
pub const ANSWER_BYTES: usize = 4_096;
/// How long an answer may be without taking more, in bytes.
const SHORT_ANSWER: usize = 2_048;
/// A call's bytes are counted in steps, so that a short body costs no further counting.
const STEP: usize = 4_096;
/// So much of what waits in a connection's buffers is part of the connection's own memory.
const CONNECTION_BUFFER: usize = 16_384;
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
/// How many calls may have to give way to one.
const MAX_GIVE_WAY: usize = 16;
/// Of so many connections one may be in its TLS handshake, and how many at the most: each takes up to
/// 60 KB.
const HANDSHAKES: (usize, usize) = (8, 1_024);

/// How many bytes of header blocks of HTTP/2 are unpacked a second for all the connections of a source
/// that have proven nobody. As many may come at once. A byte can stand for a whole header (RFC 7541
/// section 6.1), so a second's worth takes some 25 ms of processor time.
const HEADER_BYTES_PER_SECOND: u64 = 262_144;
const NANOSECONDS: u64 = 1_000_000_000;

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

/// Who goes before whom when there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    Unproven,
    Proven,
    Revocation,
}

/// Something of which there is so much and no more.
#[derive(Debug)]
struct Account {
    most: usize,
    used: AtomicUsize,
}

impl Account {
    fn new(most: usize) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
        }
    }

    /// How much there is for somebody. A quarter is kept for the proven.
    fn open_to(&self, proven: bool) -> usize {
        if proven {
            self.most
        } else {
            self.most - self.most / 4
        }
    }

    fn give_back(&self, amount: usize) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }
}

fn take(used: &AtomicUsize, amount: usize, most: usize) -> bool {
    let before = used.fetch_add(amount, Ordering::Relaxed);
    let fits = before.saturating_add(amount) <= most;
    if !fits {
        used.fetch_sub(amount, Ordering::Relaxed);
    }
    fits
}

/// Whose accounts a call is charged to beside the process's.
#[derive(Clone, Copy)]
struct Holders<'a> {
    source: Option<&'a Holdings>,
    principal: Option<&'a Holdings>,
}

impl Holders<'_> {
    /// # Errors
    /// When one of them has its share.
    fn take(
        self,
        what: fn(&Holdings) -> &AtomicUsize,
        amount: usize,
        share: usize,
    ) -> Result<(), Shed> {
        if self
            .source
            .is_some_and(|source| !take(what(source), amount, share))
        {
            return Err(Shed::Source);
        }
        if self
            .principal
            .is_some_and(|principal| !take(what(principal), amount, share))
        {
            Self {
                principal: None,
                ..self
            }
            .give_back(what, amount);
            return Err(Shed::Principal);
        }
        Ok(())
    }

    /// Beyond every bound.
    fn add(self, what: fn(&Holdings) -> &AtomicUsize, amount: usize) {
        for holder in [self.source, self.principal].into_iter().flatten() {
            what(holder).fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn give_back(self, what: fn(&Holdings) -> &AtomicUsize, amount: usize) {
        for holder in [self.source, self.principal].into_iter().flatten() {
            what(holder).fetch_sub(amount, Ordering::Relaxed);
        }
    }
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

type Sources = Mutex<HashMap<Holder, Weak<Holdings>>>;

/// Who may hold no more than a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Source(Source),
    /// By a digest of what budgets know it by.
    Principal([u8; 16]),
}

/// Where a proof was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// By its number.
    Connection(u64),
    /// A client of trusted proxies.
    Source(Source),
}

/// What one source or principal holds. It is forgotten when it holds nothing.
struct Holdings {
    holder: Holder,
    table: Arc<Sources>,
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    calls: AtomicUsize,
    bytes: AtomicUsize,
    /// When all the header bytes that came would have come at the pace that is allowed, in nanoseconds
    /// since the start.
    headers_paid: AtomicU64,
}

impl Drop for Holdings {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may stand in its place by now.
        if table
            .get(&self.holder)
            .is_some_and(|holdings| holdings.strong_count() == 0)
        {
            table.remove(&self.holder);
        }
    }
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

    /// Tries until there is room, while others give way.
    fn with_room(
        &self,
        rank: Rank,
        source: Source,
        bytes: usize,
        mut attempt: impl FnMut() -> Result<(), Shed>,
    ) -> Result<(), Shed> {
        let mut left = MAX_GIVE_WAY;
        loop {
            let shed = match attempt() {
                Err(shed @ (Shed::Calls | Shed::Memory)) if left > 0 => shed,
                done => return done,
            };
            left -= 1;
            let before = match (rank, shed) {
                (Rank::Revocation, Shed::Calls) => [Some(Rank::Revocation), None, None],
                (Rank::Revocation, _) => [
                    Some(Rank::Unproven),
                    Some(Rank::Proven),
                    Some(Rank::Revocation),
                ],
                (Rank::Proven, _) => [Some(Rank::Unproven), Some(Rank::Proven), None],
                (Rank::Unproven, _) => [Some(Rank::Unproven), None, None],
            };
            // The lock is not held when the call gives way.
            let first = before
                .into_iter()
                .flatten()
                .find_map(|rank| self.awaited(rank).first_to_go(shed, source, bytes));
            match first {
                Some(call) => call.give_way(shed),
                None => return Err(shed),
            }
        }
    }

    fn awaited(&self, rank: Rank) -> MutexGuard<'_, Awaited> {
        let [unproven, proven, revocations] = &self.awaited;
        lock(match rank {
            Rank::Unproven => unproven,
            Rank::Proven => proven,
            Rank::Revocation => revocations,
        })
    }

    fn take_call(&self, holders: Holders<'_>, bytes: usize, rank: Rank) -> Result<(), Shed> {
        let (account, most, purpose) = match rank {
            Rank::Revocation => (
                &self.revocations,
                self.revocations.most,
                Purpose::Revocation,
            ),
            rank => (
                &self.calls,
                self.calls.open_to(rank == Rank::Proven),
                Purpose::Call,
            ),
        };
        holders.take(|h| &h.calls, 1, self.share.calls)?;
        if !take(&account.used, 1, most) {
            holders.give_back(|h| &h.calls, 1);
            return Err(Shed::Calls);
        }
        let taken = self.take_bytes(holders, bytes, rank != Rank::Unproven, purpose);
        if taken.is_err() {
            holders.give_back(|h| &h.calls, 1);
            account.give_back(1);
        }
        taken
    }

    fn take_bytes(
        &self,
        holders: Holders<'_>,
        bytes: usize,
        proven: bool,
        purpose: Purpose,
    ) -> Result<(), Shed> {
        let (mut share, mut most) = (self.share.bytes, self.bytes.open_to(proven));
        match purpose {
            Purpose::Call => {
                share -= share / 8;
                most -= self.bytes.most / 16;
            }
            Purpose::Refusal => most = most.min(self.bytes.most - self.bytes.most / 32),
            Purpose::Revocation => {}
        }
        holders.take(|h| &h.bytes, bytes, share)?;
        if !take(&self.bytes.used, bytes, most) {
            holders.give_back(|h| &h.bytes, bytes);
            return Err(Shed::Memory);
        }
        Ok(())
    }

    fn give_back_bytes(&self, holders: Holders<'_>, bytes: usize) {
        holders.give_back(|h| &h.bytes, bytes);
        self.bytes.give_back(bytes);
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

/// A TLS handshake that is counted.
pub struct Handshake(Arc<Connection>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.is_shaking.store(false, Ordering::Relaxed);
        self.0.admission.handshakes.give_back(1);
        if let Some(source) = &self.0.source {
            source.handshakes.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A connection, and what is counted on it.
pub struct Connection {
    admission: Arc<Admission>,
    number: u64,
    /// None: a trusted proxy's.
    source: Option<Arc<Holdings>>,
    /// Whom it has proven.
    principal: OnceLock<Arc<Holdings>>,
    proven: AtomicBool,
    is_shaking: AtomicBool,
    /// Whether it was asked to leave.
    asked: AtomicBool,
    /// Nanoseconds since the start.
    last_call: AtomicU64,
    /// Closed once a call has proven somebody.
    bodies: Arc<Semaphore>,
    leave: Notify,
    open_bodies: AtomicUsize,
    /// Bytes that came and that nobody has taken from the protocol's buffers yet. Bytes of bodies that
    /// were given up are in it until no body is open, so it may be too much and never too little.
    buffered: AtomicI64,
    /// How much of that is charged, and whether anything is.
    charged: Mutex<usize>,
    is_charged: AtomicBool,
}

impl Connection {
    /// Whether a call on it has proven somebody.
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Ready when the connection should end to make room for another.
    pub async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }

    /// False: it was asked before.
    fn ask_to_leave(&self) -> bool {
        self.leave.notify_one();
        !self.asked.swap(true, Ordering::Relaxed)
    }

    fn holders(&self) -> impl Iterator<Item = &Arc<Holdings>> {
        self.source.iter().chain(self.principal.get())
    }

    /// Counts a call whose headers take so many bytes. `address` is the client's, of which a trusted
    /// proxy speaks. Revocations are counted for themselves, so that neither others of their source nor
    /// a full account keep them out.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn call(
        self: &Arc<Self>,
        address: IpAddr,
        header_bytes: usize,
        purpose: Purpose,
    ) -> Result<Arc<Call>, Shed> {
        let admission = &self.admission;
        self.last_call
            .store(admission.nanoseconds(Instant::now()), Ordering::Relaxed);
        let used = CALL_BYTES + header_bytes;
        let call = self.counted(address, purpose, used, in_steps(used));
        let bytes = call.charged.load(Ordering::Relaxed);
        admission.with_room(call.rank, call.address, bytes, || {
            let taken = admission.take_call(call.holders(), bytes, call.rank);
            call.in_flight.store(taken.is_ok(), Ordering::Relaxed);
            taken
        })?;
        call.is_counted.store(true, Ordering::Relaxed);
        Ok(Arc::new(call))
    }

    /// Counts an answer to a call that is turned away.
    ///
    /// # Errors
    /// When there is no room even for that. The connection should then end.
    pub fn refusal(self: &Arc<Self>, address: IpAddr) -> Result<Arc<Call>, Shed> {
        let call = self.counted(address, Purpose::Refusal, ANSWER_BYTES, ANSWER_BYTES);
        self.admission.take_bytes(
            call.holders(),
            ANSWER_BYTES,
            call.rank != Rank::Unproven,
            Purpose::Refusal,
        )?;
        call.is_counted.store(true, Ordering::Relaxed);
        Ok(Arc::new(call))
    }

    /// A call that is not counted yet.
    fn counted(
        self: &Arc<Self>,
        address: IpAddr,
        purpose: Purpose,
        used: usize,
        charged: usize,
    ) -> Call {
        let (source, principal, proven) = match &self.source {
            Some(_) => (None, self.principal.get().cloned(), self.is_proven()),
            None => {
                let address = budgets::source(address);
                let source = self.admission.holdings(Holder::Source(address));
                let principal = self.admission.proven_sources.get(&address);
                let proven = principal.is_some();
                (Some(source), principal, proven)
            }
        };
        let address = match source.as_ref().or(self.source.as_ref()).map(|s| s.holder) {
            Some(Holder::Source(address)) => address,
            _ => budgets::source(address),
        };
        let rank = match purpose {
            Purpose::Revocation => Rank::Revocation,
            _ if proven => Rank::Proven,
            _ => Rank::Unproven,
        };
        Call {
            connection: self.clone(),
            source,
            principal,
            address,
            rank,
            is_counted: AtomicBool::new(false),
            in_flight: AtomicBool::new(false),
            used: AtomicUsize::new(used),
            charged: AtomicUsize::new(charged),
            awaited: Mutex::default(),
            shed: OnceLock::new(),
        }
    }

    /// Whether header blocks of HTTP/2 may be unpacked now: the source's connections have not had more
    /// than their pace, or somebody was proven on this one.
    pub fn may_unpack(&self) -> bool {
        match &self.source {
            Some(source) if !self.is_proven() => self.may_unpack_at(source, Instant::now()),
            _ => true,
        }
    }

    fn may_unpack_at(&self, source: &Holdings, now: Instant) -> bool {
        source.headers_paid.load(Ordering::Relaxed)
            <= self.admission.nanoseconds(now).saturating_add(NANOSECONDS)
    }

    /// So many bytes of header blocks came.
    pub fn unpacked(&self, bytes: usize) {
        if let Some(source) = &self.source
            && !self.is_proven()
        {
            self.unpacked_at(source, bytes, Instant::now());
        }
    }

    fn unpacked_at(&self, source: &Holdings, bytes: usize, now: Instant) {
        let now = self.admission.nanoseconds(now);
        let takes = u64::try_from(bytes)
            .unwrap_or(u64::MAX)
            .saturating_mul(NANOSECONDS / HEADER_BYTES_PER_SECOND);
        let paid = |before: u64| Some(before.max(now).saturating_add(takes));
        // It always has a value to set.
        let _ = source
            .headers_paid
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
    }

    /// The right to send a long body, if it takes one: nobody has been proven yet.
    pub fn bodies(&self) -> Option<&Arc<Semaphore>> {
        (self.source.is_some() && !self.is_proven()).then_some(&self.bodies)
    }

    /// A body that is to be read begins.
    pub fn body_begins(&self) {
        self.open_bodies.fetch_add(1, Ordering::Relaxed);
    }

    /// A body was read, or given up.
    pub fn body_ends(&self) {
        if self.open_bodies.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.buffered.store(0, Ordering::Relaxed);
            self.charge_buffers(0);
        }
    }

    /// So many bytes of bodies came.
    pub fn buffered(&self, bytes: usize) {
        self.buffered.fetch_add(signed(bytes), Ordering::Relaxed);
    }

    /// So many of them were taken.
    pub fn taken(&self, bytes: usize) {
        self.buffered.fetch_sub(signed(bytes), Ordering::Relaxed);
    }

    /// Brings the charge to what waits in the buffers and `more`. False: there is no room, so nothing
    /// more should be read now.
    pub fn settle(&self, more: usize) -> bool {
        let waiting = usize::try_from(self.buffered.load(Ordering::Relaxed))
            .unwrap_or(0)
            .saturating_add(more);
        self.charge_buffers(in_steps(waiting.saturating_sub(CONNECTION_BUFFER)))
    }

    fn charge_buffers(&self, wanted: usize) -> bool {
        if wanted == 0 && !self.is_charged.load(Ordering::Relaxed) {
            return true;
        }
        let source = self.source.as_deref();
        let holders = Holders {
            source,
            principal: None,
        };
        let mut charged = self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted > *charged {
            let proven = self.is_proven() || source.is_none();
            if self
                .admission
                .take_bytes(holders, wanted - *charged, proven, Purpose::Call)
                .is_err()
            {
                return false;
            }
        } else {
            self.admission.give_back_bytes(holders, *charged - wanted);
        }
        *charged = wanted;
        self.is_charged.store(wanted > 0, Ordering::Relaxed);
        true
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.charge_buffers(0);
        for holder in self.holders() {
            holder.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A call that is counted until it is answered, and whose bytes are counted until nobody holds it
/// any more: an answer that is not sent yet does.
pub struct Call {
    connection: Arc<Connection>,
    /// None: the connection's.
    source: Option<Arc<Holdings>>,
    /// Whom the connection, or the proxy's client, had proven when the call came.
    principal: Option<Arc<Holdings>>,
    /// The source's.
    address: Source,
    rank: Rank,
    is_counted: AtomicBool,
    in_flight: AtomicBool,
    used: AtomicUsize,
    charged: AtomicUsize,
    awaited: Mutex<Option<Waits>>,
    shed: OnceLock<Shed>,
}

/// A call's place among those whose bodies are awaited.
struct Waits {
    number: u64,
    bytes: usize,
    waker: Waker,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Call({} bytes)", self.charged.load(Ordering::Relaxed))
    }
}

impl Call {
    /// The connection that it came over.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// A signature or a token of a principal was verified, of which `proof` is a digest: from now on the
    /// connection is preferred to those that have proven nobody. It is not if the same proof was seen on
    /// another connection, since somebody may only have come by it, nor if the principal's connections
    /// have its share.
    pub fn prove(&self, principal: &str, proof: [u8; 32]) {
        let admission = &self.connection.admission;
        let holdings = || {
            let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
                sha256(principal.as_bytes());
            admission.holdings(Holder::Principal(first))
        };
        match &self.source {
            None => {
                let connection = &self.connection;
                if connection.is_proven()
                    || !admission.is_first_seen(proof, Place::Connection(connection.number))
                {
                    return;
                }
                let principal = holdings();
                if !take(&principal.connections, 1, admission.share.connections) {
                    return;
                }
                if let Err(principal) = connection.principal.set(principal) {
                    // Another call has proven somebody meanwhile.
                    principal.connections.fetch_sub(1, Ordering::Relaxed);
                    return;
                }
                connection.proven.store(true, Ordering::Relaxed);
                connection.bodies.close();
                remember(
                    &admission.proven,
                    connection,
                    admission.max_newcomers,
                    |_| true,
                );
            }
            Some(_) if admission.proven_sources.contains_key(&self.address) => {}
            Some(_) => {
                if admission.is_first_seen(proof, Place::Source(self.address)) {
                    admission.proven_sources.insert(self.address, holdings());
                }
            }
        }
    }

    /// Counts bytes of the body, as they arrive.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn charge(&self, bytes: usize) -> Result<(), Shed> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let charged = self.charged.load(Ordering::Relaxed);
        if used <= charged {
            return Ok(());
        }
        let more = in_steps(used - charged);
        let admission = &self.connection.admission;
        let (proven, purpose) = match self.rank {
            Rank::Revocation => (true, Purpose::Revocation),
            Rank::Proven => (true, Purpose::Call),
            Rank::Unproven => (
                self.source.is_none() && self.connection.is_proven(),
                Purpose::Call,
            ),
        };
        let taken = admission.with_room(self.rank, self.address, more, || {
            admission.take_bytes(self.holders(), more, proven, purpose)
        });
        if let Err(shed) = taken {
            let _ = self.shed.set(shed); // the first reason counts
            return Err(shed);
        }
        self.charged.fetch_add(more, Ordering::Relaxed);
        if let Some(waits) = &mut *lock(&self.awaited) {
            waits.bytes += more;
            admission.awaited(self.rank).grow(self.address, more);
        }
        Ok(())
    }

    /// More of its body has to come before anything can be done: until then it gives way to others.
    /// `waker` is told.
    ///
    /// # Errors
    /// When it has given way.
    pub fn awaits_body(self: &Arc<Self>, waker: &Waker) -> Result<(), Shed> {
        let mut awaited = lock(&self.awaited);
        if let Some(shed) = self.shed() {
            return Err(shed);
        }
        match &mut *awaited {
            Some(waits) => waits.waker.clone_from(waker),
            None => {
                let bytes = self.charged.load(Ordering::Relaxed);
                let number =
                    self.connection
                        .admission
                        .awaited(self.rank)
                        .begin(self.address, self, bytes);
                *awaited = Some(Waits {
                    number,
                    bytes,
                    waker: waker.clone(),
                });
            }
        }
        Ok(())
    }

    /// Its body is there, or was given up.
    pub fn has_body(&self) {
        self.waits_no_longer();
    }

    fn waits_no_longer(&self) -> Option<Waker> {
        let waits = lock(&self.awaited).take()?;
        self.connection
            .admission
            .awaited(self.rank)
            .end(self.address, waits.number, waits.bytes);
        Some(waits.waker)
    }

    /// Gives back what it holds, but for what its answer takes, unless its body has come meanwhile.
    fn give_way(&self, shed: Shed) {
        let mut awaited = lock(&self.awaited);
        let Some(waits) = awaited.take() else { return };
        let _ = self.shed.set(shed); // the first reason counts
        drop(awaited);
        self.connection
            .admission
            .awaited(self.rank)
            .end(self.address, waits.number, waits.bytes);
        self.answered();
        waits.waker.wake();
    }

    /// Why its body was turned away, if it was for want of room.
    pub fn shed(&self) -> Option<Shed> {
        self.shed.get().copied()
    }

    /// It is no longer in flight: what is left of it is an answer.
    pub fn answered(&self) {
        self.lands();
        self.used
            .store(ANSWER_BYTES - SHORT_ANSWER, Ordering::Relaxed);
        let charged = self.charged.swap(ANSWER_BYTES, Ordering::Relaxed);
        self.connection
            .admission
            .give_back_bytes(self.holders(), charged.saturating_sub(ANSWER_BYTES));
    }

    fn lands(&self) {
        if self.in_flight.swap(false, Ordering::Relaxed) {
            let admission = &self.connection.admission;
            self.holders().give_back(|h| &h.calls, 1);
            match self.rank {
                Rank::Revocation => admission.revocations.give_back(1),
                Rank::Unproven | Rank::Proven => admission.calls.give_back(1),
            }
        }
    }

    /// Counts bytes of the answer. They are there already, so this goes beyond every bound; whoever
    /// comes next pays for it.
    pub fn charge_answer(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let charged = self.charged.load(Ordering::Relaxed);
        if used > charged {
            let more = in_steps(used - charged);
            self.holders().add(|h| &h.bytes, more);
            self.connection
                .admission
                .bytes
                .used
                .fetch_add(more, Ordering::Relaxed);
            self.charged.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// A revocation is nobody's.
    fn holders(&self) -> Holders<'_> {
        match self.rank {
            Rank::Revocation => Holders {
                source: None,
                principal: None,
            },
            Rank::Unproven | Rank::Proven => Holders {
                source: self.source.as_deref().or(self.connection.source.as_deref()),
                principal: self.principal.as_deref(),
            },
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !*self.is_counted.get_mut() {
            return;
        }
        self.waits_no_longer();
        self.lands();
        let charged = *self.charged.get_mut();
        self.connection
            .admission
            .give_back_bytes(self.holders(), charged);
    }
}

fn in_steps(bytes: usize) -> usize {
    bytes.div_ceil(STEP).saturating_mul(STEP)
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn admission(connections: usize, calls: usize, bytes: usize) -> Arc<Admission> {
        Admission::new(Bounds {
            connections,
            calls,
            bytes,
        })
    }

    fn ip(n: u8) -> IpAddr {
        [127, 0, 0, n].into()
    }

    /// As many calls on one connection as there is room for, and why there were no more.
    fn fill(connection: &Arc<Connection>, header_bytes: usize) -> (Vec<Arc<Call>>, Shed) {
        let mut calls = Vec::new();
        loop {
            match connection.call(ip(1), header_bytes, Purpose::Call) {
                Ok(call) => calls.push(call),
                Err(shed) => return (calls, shed),
            }
        }
    }

    fn is_empty(admission: &Admission) -> bool {
        (
            admission.calls_in_flight(),
            admission.request_memory_bytes(),
        ) == (0, 0)
            && admission.sources() == 0
            && admission
                .awaited
                .iter()
                .all(|awaited| lock(awaited).is_empty())
            && [&admission.revocations, &admission.handshakes]
                .iter()
                .all(|a| a.used.load(Ordering::Relaxed) == 0)
    }

    #[test]
    fn no_source_holds_more_than_a_quarter() {
        let admission = admission(40, 80, 64 * MIB);
        let connections: Vec<_> = (0..10)
            .map(|_| admission.connect(Some(ip(1))).unwrap())
            .collect();
        assert_eq!(admission.connect(Some(ip(1))).err(), Some(Shed::Source));
        let other = admission.connect(Some(ip(2))).unwrap();
        let (calls, shed) = fill(&connections[0], 0);
        assert_eq!((calls.len(), shed), (20, Shed::Source));
        // All connections of the address, and also after it has proven somebody.
        calls[0].prove("alice", [1; 32]);
        assert_eq!(
            connections[1].call(ip(1), 0, Purpose::Call).err(),
            Some(Shed::Source)
        );
        assert!(other.call(ip(2), 0, Purpose::Call).is_ok());
        drop(calls);
        let (calls, shed) = fill(&connections[0], 2 * MIB);
        assert_eq!((calls.len(), shed), (6, Shed::Source), "14 MiB of 64");
        let refusals: Vec<_> = (0..2_000)
            .map_while(|_| connections[0].refusal(ip(1)).ok())
            .collect();
        assert!(
            (512..2_000).contains(&refusals.len()),
            "{}: 2 MiB are kept for them",
            refusals.len()
        );
        assert!(calls[0].charge(MIB).is_err() && calls[0].shed() == Some(Shed::Source));
        assert!(other.call(ip(2), 2 * MIB, Purpose::Call).is_ok());
        drop((calls, refusals, connections, other));
        assert!(is_empty(&admission));
        // An IPv6 network of 64 bits is one source.
        let of = |text: &str| admission.connect(Some(text.parse().unwrap()));
        let connections: Vec<_> = (0..10)
            .map(|n| of(&format!("2001:db8:1:2::{n}")).unwrap())
            .collect();
        assert!(of("2001:db8:1:2:ffff::").is_err() && of("2001:db8:1:3::").is_ok());
        drop(connections);
        assert!(is_empty(&admission));
    }

    #[test]
    fn a_quarter_is_kept_for_those_who_have_proven_somebody() {
        let admission = admission(1_000, 80, 64 * MIB);
        let connections: Vec<_> = (1..=4)
            .map(|n| admission.connect(Some(ip(n))).unwrap())
            .collect();
        let good = admission.connect(Some(ip(9))).unwrap();
        let unproven: Vec<_> = connections[..3].iter().map(|c| fill(c, 0)).collect();
        assert!(unproven.iter().all(|(calls, _)| calls.len() == 20));
        assert_eq!(fill(&connections[3], 0).1, Shed::Calls);
        assert_eq!(
            good.call(ip(9), 0, Purpose::Call).err(),
            Some(Shed::Calls),
            "nobody knows yet that it is good"
        );
        let calls = {
            good.proven.store(true, Ordering::Relaxed);
            fill(&good, 0)
        };
        assert_eq!((calls.0.len(), calls.1), (20, Shed::Source));
        drop((unproven, calls));

        let unproven: Vec<_> = connections.iter().map(|c| fill(c, MIB)).collect();
        assert_eq!(unproven[3].1, Shed::Memory);
        assert_eq!(
            connections[3].refusal(ip(4)).err(),
            None,
            "what is left of three quarters"
        );
        assert!(good.call(ip(9), 8 * MIB, Purpose::Call).is_ok());
        drop((unproven, connections, good));
        assert!(is_empty(&admission));
    }

    #[test]
    fn behind_a_trusted_proxy_the_client_is_the_source() {
        let admission = admission(4, 80, 64 * MIB);
        // The proxy may have as many connections as there are.
        let proxy: Vec<_> = (0..40).map(|_| admission.connect(None).unwrap()).collect();
        let of = |n: u8| {
            let mut calls = Vec::new();
            while let Ok(call) = proxy[usize::from(n)].call(ip(n), 0, Purpose::Call) {
                calls.push(call);
            }
            calls
        };
        let (one, two, three) = (of(1), of(2), of(3));
        assert_eq!([one.len(), two.len(), three.len()], [20, 20, 20]);
        // A client that has proven somebody is known on every connection of the proxy, and it alone.
        assert!(proxy[0].call(ip(7), 0, Purpose::Call).is_err());
        drop(three);
        proxy[0]
            .call(ip(7), 0, Purpose::Call)
            .unwrap()
            .prove("alice", [2; 32]);
        let three = of(3);
        assert_eq!(three.len(), 20);
        assert!(
            proxy[5].call(ip(7), 0, Purpose::Call).is_ok()
                && proxy[5].call(ip(8), 0, Purpose::Call).is_err()
        );
        assert!(
            proxy[0].bodies().is_none(),
            "a proxy is trusted to be no slow reader"
        );
        drop((one, two, three, proxy));
        assert!(is_empty(&admission));
    }

    #[test]
    fn what_a_call_holds_follows_its_life() {
        let admission = admission(4, 80, 64 * MIB);
        let connection = admission.connect(Some(ip(1))).unwrap();
        let held = || {
            (
                admission.calls_in_flight(),
                admission.request_memory_bytes(),
            )
        };
        let call = connection.call(ip(1), 1_000, Purpose::Call).unwrap();
        assert_eq!(held(), (1, 20_480));
        call.charge(3_000).unwrap();
        assert_eq!(held(), (1, 20_480), "counted in steps");
        call.charge(100_000).unwrap();
        assert_eq!(held(), (1, 122_880));
        call.answered();
        assert_eq!(held(), (0, ANSWER_BYTES));
        call.charge_answer(SHORT_ANSWER);
        assert_eq!(held(), (0, ANSWER_BYTES));
        call.charge_answer(10_000);
        assert_eq!(held(), (0, 16_384));
        drop(call);
        assert_eq!(held(), (0, 0));
        let given_up = connection.call(ip(1), 0, Purpose::Call).unwrap();
        assert_eq!(held(), (1, CALL_BYTES));
        drop(given_up);
        assert_eq!(held(), (0, 0));
    }

    #[test]
    fn what_waits_in_buffers_is_charged_beyond_a_connections_own_share() {
        let admission = admission(4, 80, 64 * MIB);
        let connection = admission.connect(Some(ip(1))).unwrap();
        let held = || admission.request_memory_bytes();
        connection.body_begins();
        connection.body_begins();
        connection.buffered(CONNECTION_BUFFER);
        assert!(connection.settle(0) && held() == 0);
        connection.buffered(100_000);
        assert!(connection.settle(0) && held() == 102_400);
        connection.taken(90_000);
        assert!(connection.settle(0) && held() == 12_288);
        assert!(connection.settle(200_000) && held() == 212_992);
        // No more than the source's share: nothing is read until there is room again.
        connection.buffered(17 * MIB);
        assert!(!connection.settle(0));
        connection.taken(17 * MIB);
        assert!(connection.settle(0) && held() == 12_288);
        // Bodies that were given up leave nothing behind.
        connection.body_ends();
        assert_eq!(held(), 12_288);
        connection.body_ends();
        assert_eq!(held(), 0);
        connection.buffered(1_000_000);
        assert!(connection.settle(0) && held() > 0);
        drop(connection);
        assert_eq!(held(), 0);
    }

    #[test]
    fn header_blocks_of_a_source_are_unpacked_at_its_pace_until_somebody_is_proven() {
        let admission = admission(16, 80, 64 * MIB);
        let [one, two] = [(); 2].map(|()| admission.connect(Some(ip(1))).unwrap());
        let other = admission.connect(Some(ip(2))).unwrap();
        let proxy = admission.connect(None).unwrap();
        let at = |seconds| admission.started + Duration::from_secs_f64(seconds);
        let source = one.source.clone().unwrap();
        one.unpacked_at(&source, 200_000, at(1.0));
        assert!(
            two.may_unpack_at(&source, at(1.0)),
            "as much as comes in a second may come at once"
        );
        two.unpacked_at(&source, 162_144, at(1.0));
        assert!(!one.may_unpack_at(&source, at(1.0)) && !two.may_unpack_at(&source, at(1.3)));
        assert!(
            other.may_unpack_at(other.source.as_ref().unwrap(), at(1.0)),
            "nobody else waits"
        );
        assert!(one.may_unpack_at(&source, at(1.5)));
        // What was not used in a quiet hour is not saved up beyond a second's worth.
        one.unpacked_at(&source, 400_000, at(3_600.0));
        assert!(!one.may_unpack_at(&source, at(3_600.0)));
        // A trusted proxy is no source itself.
        proxy.unpacked(usize::MAX);
        assert!(proxy.may_unpack());
        one.unpacked(10 * MIB);
        assert!(!one.may_unpack() && !two.may_unpack());
        one.call(ip(1), 0, Purpose::Call)
            .unwrap()
            .prove("alice", [3; 32]);
        assert!(one.may_unpack() && !two.may_unpack());
    }

    #[tokio::test]
    async fn the_oldest_connection_that_has_proven_nobody_makes_room() {
        let admission = admission(8, 80, 64 * MIB);
        let connections: Vec<_> = (1..=4)
            .map(|n| admission.connect(Some(ip(n))).unwrap())
            .collect();
        connections[0]
            .call(ip(1), 0, Purpose::Call)
            .unwrap()
            .prove("alice", [4; 32]);
        assert!(admission.make_room());
        tokio::time::timeout(Duration::from_secs(5), connections[1].asked_to_leave())
            .await
            .unwrap();
        drop(connections);
        let late = admission.connect(Some(ip(1))).unwrap();
        assert!(
            admission.make_room(),
            "those that have gone are passed over"
        );
        late.asked_to_leave().await;
        assert!(!admission.make_room());
        // Those that came and went are not remembered for ever.
        for _ in 0..1_000 {
            admission.connect(Some(ip(1))).unwrap();
        }
        assert!(admission.newcomers.lock().unwrap().len() <= admission.max_newcomers);
    }

    #[tokio::test]
    async fn whoever_waits_to_send_a_body_goes_on_when_somebody_is_proven() {
        let admission = admission(8, 80, 64 * MIB);
        let connection = admission.connect(Some(ip(1))).unwrap();
        let bodies = connection.bodies().unwrap().clone();
        let permits: Vec<_> = (0..UNPROVEN_BODIES)
            .map(|_| bodies.clone().try_acquire_owned().unwrap())
            .collect();
        let waiting = tokio::spawn(bodies.clone().acquire_owned());
        connection
            .call(ip(1), 0, Purpose::Call)
            .unwrap()
            .prove("alice", [5; 32]);
        assert!(waiting.await.unwrap().is_err() && connection.bodies().is_none());
        drop(permits);
    }

    fn waker() -> &'static Waker {
        Waker::noop()
    }

    /// Calls of a connection whose bodies do not come, until one is turned away or gives way.
    fn wait(connection: &Arc<Connection>, most: usize) -> Vec<Arc<Call>> {
        let calls = (0..most).map_while(|_| connection.call(ip(1), 0, Purpose::Call).ok());
        calls
            .inspect(|call| call.awaits_body(waker()).unwrap())
            .collect()
    }

    fn waiting(calls: &[Arc<Call>]) -> usize {
        calls.iter().filter(|call| call.shed().is_none()).count()
    }

    #[test]
    fn calls_whose_bodies_are_awaited_give_way() {
        let admission = admission(1_000, 80, 64 * MIB);
        let of = |n| admission.connect(Some(ip(n))).unwrap();
        let attackers = [of(1), of(2), of(3)];
        let held: Vec<_> = attackers.iter().map(|c| wait(c, 100)).collect();
        assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [20, 20, 20]);
        assert_eq!(admission.calls_in_flight(), 60);
        // Whoever comes has room, at the expense of those who hold most: in the end each has as much.
        let good = of(9);
        let late = wait(&good, 100);
        assert_eq!(late.len(), 15);
        assert_eq!(
            held.iter().map(|calls| waiting(calls)).collect::<Vec<_>>(),
            [15, 15, 15]
        );
        assert_eq!(admission.calls_in_flight(), 60);
        assert_eq!(held[0][0].shed(), Some(Shed::Calls), "the oldest first");
        assert!(held[0][0].awaits_body(waker()).is_err());
        // A call whose body is there keeps its place.
        late[0].has_body();
        let more = [of(10), of(11), of(12)].map(|c| wait(&c, 100));
        assert!(more.iter().all(|calls| !calls.is_empty()) && late[0].shed().is_none());
        drop((held, late, more, attackers, good));
        assert!(is_empty(&admission));
    }

    #[test]
    fn bytes_of_bodies_that_are_awaited_give_way() {
        let admission = admission(1_000, 4_000, 64 * MIB);
        let of = |n| admission.connect(Some(ip(n))).unwrap();
        let attackers = [of(1), of(2), of(3)];
        let held: Vec<_> = attackers.iter().map(|c| wait(c, 4)).collect();
        held.iter()
            .flatten()
            .for_each(|call| call.charge(3 * MIB).unwrap());
        // The oldest call of whoever holds most, and no more than is needed.
        let good = of(9);
        let call = good.call(ip(9), 0, Purpose::Call).unwrap();
        call.charge(8 * MIB).unwrap();
        let gone: Vec<_> = held
            .iter()
            .map(|calls| calls.iter().filter(|c| c.shed().is_some()).count())
            .collect();
        assert_eq!(gone.iter().sum::<usize>(), 1);
        assert!(
            held.iter()
                .any(|calls| calls[0].shed() == Some(Shed::Memory))
        );
        // It cannot be made to hold more than the others by asking for more.
        assert_eq!(call.charge(8 * MIB), Err(Shed::Source));
        drop((held, call, attackers, good));
        assert!(is_empty(&admission));
    }

    #[test]
    fn revocations_have_room_of_their_own() {
        let admission = admission(1_000, 16, 16 * MIB);
        let of = |n| admission.connect(Some(ip(n))).unwrap();
        let connections: Vec<_> = (1..=4).map(of).collect();
        for (n, connection) in connections.iter().enumerate() {
            connection
                .call(ip(1), 0, Purpose::Call)
                .unwrap()
                .prove(&n.to_string(), [n as u8; 32]);
        }
        // Everything is taken by calls in progress, also of the one who revokes.
        let calls: Vec<_> = connections.iter().map(|c| fill(c, 3 * MIB).0).collect();
        let small: Vec<_> = connections.iter().map(|c| fill(c, 0).0).collect();
        let refusals: Vec<_> = connections
            .iter()
            .flat_map(|c| (0..9_000).map_while(|_| c.refusal(ip(1)).ok()))
            .collect();
        assert_eq!(
            connections[0].call(ip(1), 0, Purpose::Call).err(),
            Some(Shed::Source)
        );
        let revocation = connections[0]
            .call(ip(1), 1_000, Purpose::Revocation)
            .unwrap();
        revocation.charge(1_000).unwrap();
        // Those who only wait do not keep others out.
        let idle: Vec<_> = (0..REVOCATIONS * 2)
            .map_while(|_| connections[1].call(ip(1), 0, Purpose::Revocation).ok())
            .inspect(|call| call.awaits_body(waker()).unwrap())
            .collect();
        assert!(idle.len() >= 8, "{}", idle.len());
        let late = connections[2]
            .call(ip(1), 1_000, Purpose::Revocation)
            .unwrap();
        assert!(revocation.shed().is_none());
        drop((calls, small, refusals, revocation, idle, late, connections));
        assert!(is_empty(&admission));
    }

    #[test]
    fn a_proof_that_was_seen_elsewhere_proves_no_connection() {
        let admission = admission(100, 80, 64 * MIB);
        let prove = |n, principal: &str, proof| {
            let connection = admission.connect(Some(ip(n))).unwrap();
            connection
                .call(ip(n), 0, Purpose::Call)
                .unwrap()
                .prove(principal, [proof; 32]);
            connection
        };
        let one = prove(1, "alice", 1);
        let copy = prove(2, "alice", 1);
        assert!(one.is_proven() && !copy.is_proven());
        // A proof of its own proves it after all.
        copy.call(ip(2), 0, Purpose::Call)
            .unwrap()
            .prove("alice", [2; 32]);
        assert!(copy.is_proven());
        // Behind a proxy the same holds of its clients.
        let proxy = admission.connect(None).unwrap();
        for (client, proof, proven) in [(7, 3, true), (8, 3, false), (8, 1, false), (8, 4, true)] {
            proxy
                .call(ip(client), 0, Purpose::Call)
                .unwrap()
                .prove("bob", [proof; 32]);
            assert_eq!(
                admission
                    .proven_sources
                    .contains_key(&budgets::source(ip(client))),
                proven,
                "{client} {proof}"
            );
        }
    }

    #[test]
    fn a_principal_holds_a_quarter_as_a_source_does() {
        let admission = admission(40, 80, 64 * MIB);
        let all: Vec<_> = (0..12)
            .map(|n| {
                let connection = admission.connect(Some(ip(n))).unwrap();
                connection
                    .call(ip(n), 0, Purpose::Call)
                    .unwrap()
                    .prove("alice", [n; 32]);
                connection
            })
            .collect();
        assert_eq!(all.iter().filter(|c| c.is_proven()).count(), 10);
        let (first, shed) = fill(&all[0], 0);
        assert_eq!((first.len(), shed), (20, Shed::Source));
        assert_eq!(
            all[1].call(ip(1), 0, Purpose::Call).err(),
            Some(Shed::Principal)
        );
        assert!(
            all[11].call(ip(11), 0, Purpose::Call).is_ok(),
            "nobody knows whose it is"
        );
        drop((first, all));
        assert!(is_empty(&admission) && admission.sources.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn there_is_always_somebody_who_makes_room() {
        let admission = admission(8, 80, 64 * MIB);
        let connect = |source, principal: &str, proof| {
            let connection = admission.connect(Some(ip(source))).unwrap();
            connection
                .call(ip(source), 0, Purpose::Call)
                .unwrap()
                .prove(principal, [proof; 32]);
            connection
        };
        let bob = connect(1, "bob", 1);
        let alice = [connect(2, "alice", 2), connect(3, "alice", 3)];
        // The longest idle one of whoever holds most, and then the other.
        alice[0].call(ip(2), 0, Purpose::Call).unwrap();
        let left = async |c: &Connection| {
            tokio::time::timeout(Duration::ZERO, c.asked_to_leave())
                .await
                .is_ok()
        };
        assert!(admission.make_room());
        assert!(left(&alice[1]).await && !left(&alice[0]).await && !left(&bob).await);
        assert!(admission.make_room() && admission.make_room());
        assert!(left(&alice[0]).await && left(&bob).await);
        assert!(!admission.make_room(), "all were asked");
    }

    #[tokio::test]
    async fn handshakes_are_bounded_for_each_source_and_in_all() {
        let admission = admission(1_024, 80, 64 * MIB);
        let most = admission.handshakes.most;
        let of = |n: u8| admission.connect(Some(ip(n))).unwrap();
        let begin = |n: u8| {
            let connection = of(n);
            let handshake = admission.handshake(&connection);
            handshake.map(|handshake| (connection, handshake))
        };
        let mut held: Vec<_> = (0..4)
            .map(|n| (0..most).map_while(|_| begin(n).ok()).collect::<Vec<_>>())
            .collect();
        assert!(held.iter().all(|of| of.len() == most / 4));
        assert_eq!(begin(1).err(), Some(Shed::Source));
        held[3].truncate(2);
        // One more has room, and then somebody goes: the oldest of whoever has most.
        let rest: Vec<_> = (0..most / 4 - 2)
            .map(|n| begin(10 + n as u8).unwrap())
            .collect();
        let late = begin(200).unwrap();
        let left = async |c: &Connection| {
            tokio::time::timeout(Duration::ZERO, c.asked_to_leave())
                .await
                .is_ok()
        };
        assert!(left(&held[0][0].0).await);
        assert!(!left(&held[3][0].0).await && !left(&late.0).await);
        drop((held, rest, late));
        assert!(is_empty(&admission));
    }
}
