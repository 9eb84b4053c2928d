//! Who is served when there is not enough for everybody: the connections, the calls in flight and the
//! bytes that requests hold, counted for the whole process and for each source address.
//!
//! Three rules: a quarter of the calls and of the bytes is kept for connections on which a signature
//! or a token was verified; no source address holds more than a quarter of anything; and whoever
//! exceeds either is refused at once and never waits. Knows no protocol and no socket.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::{Notify, Semaphore};

use crate::budgets::{self, Source};

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
}

impl Shed {
    /// The metric's label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Memory => "memory",
            Self::Source => "source",
        }
    }
}

/// What bytes are for. An eighth of a source's share, and a sixteenth of all, is kept for refusals, so
/// that those who are turned away for want of room are told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Call,
    Refusal,
}

/// Something of which there is so much and no more.
#[derive(Debug)]
struct Account {
    most: usize,
    used: AtomicUsize,
}

impl Account {
    fn new(most: usize) -> Self {
        Self { most, used: AtomicUsize::new(0) }
    }

    /// How much there is for somebody. A quarter is kept for the proven.
    fn open_to(&self, proven: bool) -> usize {
        if proven { self.most } else { self.most - self.most / 4 }
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

/// The accounts of one process.
pub struct Admission {
    calls: Account,
    bytes: Account,
    /// What one source may hold.
    share: Bounds,
    sources: Arc<Sources>,
    /// Connections that have proven nobody, the oldest first; those that have gone or proven somebody
    /// since are passed over.
    newcomers: Mutex<VecDeque<Weak<Connection>>>,
    max_newcomers: usize,
    proven_sources: Cache<Source, ()>,
    started: Instant,
}

type Sources = Mutex<HashMap<Source, Weak<Holdings>>>;

/// What one source holds. It is forgotten when it holds nothing.
struct Holdings {
    address: Source,
    table: Arc<Sources>,
    connections: AtomicUsize,
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
        if table.get(&self.address).is_some_and(|source| source.strong_count() == 0) {
            table.remove(&self.address);
        }
    }
}

impl Admission {
    /// With nothing taken.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        let quarter = |most: usize| (most / 4).max(1);
        Arc::new(Self {
            calls: Account::new(bounds.calls),
            bytes: Account::new(bounds.bytes),
            share: Bounds {
                connections: quarter(bounds.connections),
                calls: quarter(bounds.calls),
                bytes: quarter(bounds.bytes),
            },
            sources: Arc::default(),
            newcomers: Mutex::default(),
            max_newcomers: bounds.connections.saturating_mul(2).saturating_add(64),
            proven_sources: Cache::builder().max_capacity(PROVEN_SOURCES.0).time_to_live(PROVEN_SOURCES.1).build(),
            started: Instant::now(),
        })
    }

    /// Counts a connection of an address. None: of a trusted proxy, whose calls are counted for
    /// their own clients, and which is no source itself.
    ///
    /// # Errors
    /// When the source has as many as it may.
    pub fn connect(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Arc<Connection>, Shed> {
        let source = address.map(|address| self.source(address));
        if let Some(source) = &source
            && !take(&source.connections, 1, self.share.connections)
        {
            return Err(Shed::Source);
        }
        let connection = Arc::new(Connection {
            admission: self.clone(),
            source,
            proven: AtomicBool::new(false),
            bodies: Arc::new(Semaphore::new(UNPROVEN_BODIES)),
            leave: Notify::new(),
            open_bodies: AtomicUsize::new(0),
            buffered: AtomicI64::new(0),
            is_charged: AtomicBool::new(false),
            charged: Mutex::new(0),
        });
        if connection.source.is_some() {
            let mut newcomers = self.newcomers.lock().unwrap_or_else(PoisonError::into_inner);
            if newcomers.len() >= self.max_newcomers {
                newcomers.retain(|c| c.upgrade().is_some_and(|c| !c.is_proven()));
            }
            newcomers.push_back(Arc::downgrade(&connection));
        }
        Ok(connection)
    }

    /// Asks the oldest connection that has proven nobody to leave. False: there is none.
    pub fn make_room(&self) -> bool {
        let mut newcomers = self.newcomers.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = newcomers.pop_front() {
            if let Some(connection) = oldest.upgrade().filter(|c| !c.is_proven()) {
                connection.leave.notify_one();
                return true;
            }
        }
        false
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
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    fn source(&self, address: IpAddr) -> Arc<Holdings> {
        let address = budgets::source(address);
        let mut table = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.get(&address).and_then(Weak::upgrade) {
            return known;
        }
        let source = Arc::new(Holdings {
            address,
            table: self.sources.clone(),
            connections: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            headers_paid: AtomicU64::new(0),
        });
        table.insert(address, Arc::downgrade(&source));
        source
    }

    fn take_bytes(&self, source: Option<&Holdings>, bytes: usize, proven: bool, purpose: Purpose) -> Result<(), Shed> {
        let (mut share, mut most) = (self.share.bytes, self.bytes.open_to(proven));
        if purpose == Purpose::Call {
            share -= share / 8;
            most -= self.bytes.most / 16;
        }
        if let Some(source) = source
            && !take(&source.bytes, bytes, share)
        {
            return Err(Shed::Source);
        }
        if !take(&self.bytes.used, bytes, most) {
            if let Some(source) = source {
                source.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            return Err(Shed::Memory);
        }
        Ok(())
    }

    fn give_back_bytes(&self, source: Option<&Holdings>, bytes: usize) {
        if let Some(source) = source {
            source.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.bytes.give_back(bytes);
    }
}

/// A connection, and what is counted on it.
pub struct Connection {
    admission: Arc<Admission>,
    /// None: a trusted proxy's.
    source: Option<Arc<Holdings>>,
    proven: AtomicBool,
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

    /// Counts a call whose headers take so many bytes. `address` is the client's, of which a trusted
    /// proxy speaks.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn call(self: &Arc<Self>, address: IpAddr, header_bytes: usize) -> Result<Arc<Call>, Shed> {
        let (source, proven) = self.standing(address);
        let admission = &self.admission;
        let account = source.as_ref().or(self.source.as_ref());
        if let Some(source) = account
            && !take(&source.calls, 1, admission.share.calls)
        {
            return Err(Shed::Source);
        }
        let give_back = || _ = account.map(|source| source.calls.fetch_sub(1, Ordering::Relaxed));
        if !take(&admission.calls.used, 1, admission.calls.open_to(proven)) {
            give_back();
            return Err(Shed::Calls);
        }
        let bytes = in_steps(CALL_BYTES + header_bytes);
        if let Err(shed) = admission.take_bytes(account.map(|s| &**s), bytes, proven, Purpose::Call) {
            give_back();
            admission.calls.give_back(1);
            return Err(shed);
        }
        Ok(self.counted(source, true, CALL_BYTES + header_bytes, bytes))
    }

    /// Counts an answer to a call that is turned away.
    ///
    /// # Errors
    /// When there is no room even for that. The connection should then end.
    pub fn refusal(self: &Arc<Self>, address: IpAddr) -> Result<Arc<Call>, Shed> {
        let (source, proven) = self.standing(address);
        let account = source.as_ref().or(self.source.as_ref());
        self.admission.take_bytes(account.map(|s| &**s), ANSWER_BYTES, proven, Purpose::Refusal)?;
        Ok(self.counted(source, false, ANSWER_BYTES, ANSWER_BYTES))
    }

    /// The source of a call, if it is not the connection's, and whether it has proven somebody.
    fn standing(&self, address: IpAddr) -> (Option<Arc<Holdings>>, bool) {
        match &self.source {
            Some(_) => (None, self.is_proven()),
            None => {
                let source = self.admission.source(address);
                let proven = self.admission.proven_sources.contains_key(&source.address);
                (Some(source), proven)
            }
        }
    }

    fn counted(
        self: &Arc<Self>,
        source: Option<Arc<Holdings>>,
        in_flight: bool,
        used: usize,
        charged: usize,
    ) -> Arc<Call> {
        Arc::new(Call {
            connection: self.clone(),
            source,
            in_flight: AtomicBool::new(in_flight),
            used: AtomicUsize::new(used),
            charged: AtomicUsize::new(charged),
            shed: OnceLock::new(),
        })
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
        source.headers_paid.load(Ordering::Relaxed) <= self.admission.nanoseconds(now).saturating_add(NANOSECONDS)
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
        let takes = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(NANOSECONDS / HEADER_BYTES_PER_SECOND);
        let paid = |before: u64| Some(before.max(now).saturating_add(takes));
        // It always has a value to set.
        let _ = source.headers_paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
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
        let waiting = usize::try_from(self.buffered.load(Ordering::Relaxed)).unwrap_or(0).saturating_add(more);
        self.charge_buffers(in_steps(waiting.saturating_sub(CONNECTION_BUFFER)))
    }

    fn charge_buffers(&self, wanted: usize) -> bool {
        if wanted == 0 && !self.is_charged.load(Ordering::Relaxed) {
            return true;
        }
        let source = self.source.as_deref();
        let mut charged = self.charged.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted > *charged {
            let proven = self.is_proven() || source.is_none();
            if self.admission.take_bytes(source, wanted - *charged, proven, Purpose::Call).is_err() {
                return false;
            }
        } else {
            self.admission.give_back_bytes(source, *charged - wanted);
        }
        *charged = wanted;
        self.is_charged.store(wanted > 0, Ordering::Relaxed);
        true
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.charge_buffers(0);
        if let Some(source) = &self.source {
            source.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A call that is counted until it is answered, and whose bytes are counted until nobody holds it
/// any more: an answer that is not sent yet does.
pub struct Call {
    connection: Arc<Connection>,
    /// None: the connection's.
    source: Option<Arc<Holdings>>,
    in_flight: AtomicBool,
    used: AtomicUsize,
    charged: AtomicUsize,
    shed: OnceLock<Shed>,
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

    /// A signature or a token was verified: from now on the connection is preferred to those that
    /// have proven nobody.
    pub fn prove(&self) {
        match &self.source {
            None => {
                let connection = &self.connection;
                if !connection.is_proven() && !connection.proven.swap(true, Ordering::Relaxed) {
                    connection.bodies.close();
                }
            }
            Some(source) => self.connection.admission.proven_sources.insert(source.address, ()),
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
        let proven = match &self.source {
            None => self.connection.is_proven(),
            Some(source) => self.connection.admission.proven_sources.contains_key(&source.address),
        };
        if let Err(shed) = self.connection.admission.take_bytes(self.account(), more, proven, Purpose::Call) {
            let _ = self.shed.set(shed); // the first reason counts
            return Err(shed);
        }
        self.charged.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Why its body was turned away, if it was for want of room.
    pub fn shed(&self) -> Option<Shed> {
        self.shed.get().copied()
    }

    /// It is no longer in flight: what is left of it is an answer.
    pub fn answered(&self) {
        if self.in_flight.swap(false, Ordering::Relaxed) {
            if let Some(source) = self.account() {
                source.calls.fetch_sub(1, Ordering::Relaxed);
            }
            self.connection.admission.calls.give_back(1);
        }
        self.used.store(ANSWER_BYTES - SHORT_ANSWER, Ordering::Relaxed);
        let charged = self.charged.swap(ANSWER_BYTES, Ordering::Relaxed);
        self.connection.admission.give_back_bytes(self.account(), charged.saturating_sub(ANSWER_BYTES));
    }

    /// Counts bytes of the answer. They are there already, so this goes beyond every bound; whoever
    /// comes next pays for it.
    pub fn charge_answer(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let charged = self.charged.load(Ordering::Relaxed);
        if used > charged {
            let more = in_steps(used - charged);
            if let Some(source) = self.account() {
                source.bytes.fetch_add(more, Ordering::Relaxed);
            }
            self.connection.admission.bytes.used.fetch_add(more, Ordering::Relaxed);
            self.charged.fetch_add(more, Ordering::Relaxed);
        }
    }

    fn account(&self) -> Option<&Holdings> {
        self.source.as_deref().or(self.connection.source.as_deref())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if *self.in_flight.get_mut() {
            if let Some(source) = self.account() {
                source.calls.fetch_sub(1, Ordering::Relaxed);
            }
            self.connection.admission.calls.give_back(1);
        }
        let charged = *self.charged.get_mut();
        self.connection.admission.give_back_bytes(self.account(), charged);
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
        Admission::new(Bounds { connections, calls, bytes })
    }

    fn ip(n: u8) -> IpAddr {
        [127, 0, 0, n].into()
    }

    /// As many calls on one connection as there is room for, and why there were no more.
    fn fill(connection: &Arc<Connection>, header_bytes: usize) -> (Vec<Arc<Call>>, Shed) {
        let mut calls = Vec::new();
        loop {
            match connection.call(ip(1), header_bytes) {
                Ok(call) => calls.push(call),
                Err(shed) => return (calls, shed),
            }
        }
    }

    fn is_empty(admission: &Admission) -> bool {
        (admission.calls_in_flight(), admission.request_memory_bytes()) == (0, 0)
            && admission.sources.lock().unwrap().is_empty()
    }

    #[test]
    fn no_source_holds_more_than_a_quarter() {
        let admission = admission(40, 80, 64 * MIB);
        let connections: Vec<_> = (0..10).map(|_| admission.connect(Some(ip(1))).unwrap()).collect();
        assert_eq!(admission.connect(Some(ip(1))).err(), Some(Shed::Source));
        let other = admission.connect(Some(ip(2))).unwrap();
        let (calls, shed) = fill(&connections[0], 0);
        assert_eq!((calls.len(), shed), (20, Shed::Source));
        // All connections of the address, and also after it has proven somebody.
        calls[0].prove();
        assert_eq!(connections[1].call(ip(1), 0).err(), Some(Shed::Source));
        assert!(other.call(ip(2), 0).is_ok());
        drop(calls);
        let (calls, shed) = fill(&connections[0], 2 * MIB);
        assert_eq!((calls.len(), shed), (6, Shed::Source), "14 MiB of 64");
        let refusals: Vec<_> = (0..2_000).map_while(|_| connections[0].refusal(ip(1)).ok()).collect();
        assert!((512..2_000).contains(&refusals.len()), "{}: 2 MiB are kept for them", refusals.len());
        assert!(calls[0].charge(MIB).is_err() && calls[0].shed() == Some(Shed::Source));
        assert!(other.call(ip(2), 2 * MIB).is_ok());
        drop((calls, refusals, connections, other));
        assert!(is_empty(&admission));
        // An IPv6 network of 64 bits is one source.
        let of = |text: &str| admission.connect(Some(text.parse().unwrap()));
        let connections: Vec<_> = (0..10).map(|n| of(&format!("2001:db8:1:2::{n}")).unwrap()).collect();
        assert!(of("2001:db8:1:2:ffff::").is_err() && of("2001:db8:1:3::").is_ok());
        drop(connections);
        assert!(is_empty(&admission));
    }

    #[test]
    fn a_quarter_is_kept_for_those_who_have_proven_somebody() {
        let admission = admission(1_000, 80, 64 * MIB);
        let connections: Vec<_> = (1..=4).map(|n| admission.connect(Some(ip(n))).unwrap()).collect();
        let good = admission.connect(Some(ip(9))).unwrap();
        let unproven: Vec<_> = connections[..3].iter().map(|c| fill(c, 0)).collect();
        assert!(unproven.iter().all(|(calls, _)| calls.len() == 20));
        assert_eq!(fill(&connections[3], 0).1, Shed::Calls);
        assert_eq!(good.call(ip(9), 0).err(), Some(Shed::Calls), "nobody knows yet that it is good");
        let calls = {
            good.proven.store(true, Ordering::Relaxed);
            fill(&good, 0)
        };
        assert_eq!((calls.0.len(), calls.1), (20, Shed::Source));
        drop((unproven, calls));

        let unproven: Vec<_> = connections.iter().map(|c| fill(c, MIB)).collect();
        assert_eq!(unproven[3].1, Shed::Memory);
        assert_eq!(connections[3].refusal(ip(4)).err(), None, "what is left of three quarters");
        assert!(good.call(ip(9), 8 * MIB).is_ok());
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
            while let Ok(call) = proxy[usize::from(n)].call(ip(n), 0) {
                calls.push(call);
            }
            calls
        };
        let (one, two, three) = (of(1), of(2), of(3));
        assert_eq!([one.len(), two.len(), three.len()], [20, 20, 20]);
        // A client that has proven somebody is known on every connection of the proxy, and it alone.
        assert!(proxy[0].call(ip(7), 0).is_err());
        drop(three);
        proxy[0].call(ip(7), 0).unwrap().prove();
        let three = of(3);
        assert_eq!(three.len(), 20);
        assert!(proxy[5].call(ip(7), 0).is_ok() && proxy[5].call(ip(8), 0).is_err());
        assert!(proxy[0].bodies().is_none(), "a proxy is trusted to be no slow reader");
        drop((one, two, three, proxy));
        assert!(is_empty(&admission));
    }

    #[test]
    fn what_a_call_holds_follows_its_life() {
        let admission = admission(4, 80, 64 * MIB);
        let connection = admission.connect(Some(ip(1))).unwrap();
        let held = || (admission.calls_in_flight(), admission.request_memory_bytes());
        let call = connection.call(ip(1), 1_000).unwrap();
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
        let given_up = connection.call(ip(1), 0).unwrap();
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
        assert!(two.may_unpack_at(&source, at(1.0)), "as much as comes in a second may come at once");
        two.unpacked_at(&source, 162_144, at(1.0));
        assert!(!one.may_unpack_at(&source, at(1.0)) && !two.may_unpack_at(&source, at(1.3)));
        assert!(other.may_unpack_at(other.source.as_ref().unwrap(), at(1.0)), "nobody else waits");
        assert!(one.may_unpack_at(&source, at(1.5)));
        // What was not used in a quiet hour is not saved up beyond a second's worth.
        one.unpacked_at(&source, 400_000, at(3_600.0));
        assert!(!one.may_unpack_at(&source, at(3_600.0)));
        // A trusted proxy is no source itself.
        proxy.unpacked(usize::MAX);
        assert!(proxy.may_unpack());
        one.unpacked(10 * MIB);
        assert!(!one.may_unpack() && !two.may_unpack());
        one.call(ip(1), 0).unwrap().prove();
        assert!(one.may_unpack() && !two.may_unpack());
    }

    #[tokio::test]
    async fn the_oldest_connection_that_has_proven_nobody_makes_room() {
        let admission = admission(8, 80, 64 * MIB);
        let connections: Vec<_> = (1..=4).map(|n| admission.connect(Some(ip(n))).unwrap()).collect();
        connections[0].call(ip(1), 0).unwrap().prove();
        assert!(admission.make_room());
        tokio::time::timeout(Duration::from_secs(5), connections[1].asked_to_leave()).await.unwrap();
        drop(connections);
        let late = admission.connect(Some(ip(1))).unwrap();
        assert!(admission.make_room(), "those that have gone are passed over");
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
        let permits: Vec<_> = (0..UNPROVEN_BODIES).map(|_| bodies.clone().try_acquire_owned().unwrap()).collect();
        let waiting = tokio::spawn(bodies.clone().acquire_owned());
        connection.call(ip(1), 0).unwrap().prove();
        assert!(waiting.await.unwrap().is_err() && connection.bodies().is_none());
        drop(permits);
    }
}
