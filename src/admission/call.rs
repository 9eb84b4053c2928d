//! A call, and what is counted for it until it is answered and sent.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;
use std::time::Instant;

use super::connection::Connection;
use super::holdings::{Holder, Holders, Holdings, take};
use super::room::{Rank, in_steps};
use super::{ANSWER_BYTES, CALL_BYTES, Place, Purpose, Shed, lock, remember};
use crate::base::digest::sha256;
use crate::budgets::{self, Source};

/// How long an answer may be without taking more, in bytes.
pub(super) const SHORT_ANSWER: usize = 2_048;
impl Connection {
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
}

/// A call that is counted until it is answered, and whose bytes are counted until nobody holds it
/// any more: an answer that is not sent yet does.
pub struct Call {
    pub(super) connection: Arc<Connection>,
    /// None: the connection's.
    pub(super) source: Option<Arc<Holdings>>,
    /// Whom the connection, or the proxy's client, had proven when the call came.
    pub(super) principal: Option<Arc<Holdings>>,
    /// The source's.
    pub(super) address: Source,
    pub(super) rank: Rank,
    pub(super) is_counted: AtomicBool,
    pub(super) in_flight: AtomicBool,
    pub(super) used: AtomicUsize,
    pub(super) charged: AtomicUsize,
    awaited: Mutex<Option<Waits>>,
    pub(super) shed: OnceLock<Shed>,
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
    pub(super) fn give_way(&self, shed: Shed) {
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
