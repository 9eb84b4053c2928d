//! A call, and the capacity that it uses until it is answered and the answer is sent.

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

/// The maximum length in bytes of a short answer. [`ANSWER_BYTES`] covers the memory of such an
/// answer.
pub(super) const SHORT_ANSWER: usize = 2_048;
impl Connection {
    /// Counts a call whose headers have `header_bytes`. `address` is the address of the client; a
    /// trusted proxy reports it for its clients. Revocations are counted separately, so that other
    /// calls of their source or a full process cannot keep them out.
    ///
    /// # Errors
    /// [`Shed`] with the resource that is used up.
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

    /// Counts the answer to a call that is turned away.
    ///
    /// # Errors
    /// [`Shed`] if there is no capacity even for the answer. The connection should then be closed.
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

    /// Creates a call that is not counted yet.
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
            long: AtomicBool::new(false),
            long_charged: AtomicUsize::new(0),
            awaited: Mutex::default(),
            shed: OnceLock::new(),
        }
    }
}

/// A call that counts until it is answered, and whose bytes count until it is dropped. An answer
/// that is still being sent keeps it alive.
pub struct Call {
    pub(super) connection: Arc<Connection>,
    /// The source of the client of a trusted proxy; `None` if the source is the connection's.
    pub(super) source: Option<Arc<Holdings>>,
    /// The authenticated principal of the connection, or of the proxy's client, at the time the
    /// call arrived.
    pub(super) principal: Option<Arc<Holdings>>,
    pub(super) address: Source,
    pub(super) rank: Rank,
    pub(super) is_counted: AtomicBool,
    pub(super) in_flight: AtomicBool,
    pub(super) used: AtomicUsize,
    pub(super) charged: AtomicUsize,
    /// Whether the body is counted by the budget of long requests.
    pub(super) long: AtomicBool,
    pub(super) long_charged: AtomicUsize,
    awaited: Mutex<Option<Waits>>,
    pub(super) shed: OnceLock<Shed>,
}

/// A call's entry in the table of calls that wait for their bodies.
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
    /// The connection over which the call arrived.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Records that the call proved to come from `principal`, by a signature or token of which `proof` is a digest.
    /// From now on the connection, or the client if a trusted proxy sent the call, is preferred to unauthenticated
    /// ones. Nothing changes if the same proof was seen on another connection, because it may have been stolen, or if
    /// the principal already has its share of connections.
    pub fn prove(&self, principal: &str, proof: [u8; 16]) {
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
                    // Another call has authenticated a principal in the meantime.
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

    /// Counts bytes of the body as they arrive.
    ///
    /// # Errors
    /// [`Shed`] if there is no capacity for them.
    pub fn charge(&self, bytes: usize) -> Result<(), Shed> {
        if self.long.load(Ordering::Relaxed) {
            return self.charge_long_body(bytes);
        }
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
            let _ = self.shed.set(shed); // the first reason is kept
            return Err(shed);
        }
        self.charged.fetch_add(more, Ordering::Relaxed);
        if let Some(waits) = &mut *lock(&self.awaited) {
            waits.bytes += more;
            admission.awaited(self.rank).grow(self.address, more);
        }
        Ok(())
    }

    /// Records that more of the body must arrive before the call can continue; until then it gives
    /// way to others. `waker` is woken if the call has given way.
    ///
    /// # Errors
    /// [`Shed`] if the call has given way, or if a part of its body was turned away.
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

    /// Records that the body has arrived or was abandoned.
    pub fn has_body(&self) {
        self.stop_waiting();
    }

    fn stop_waiting(&self) -> Option<Waker> {
        let waits = lock(&self.awaited).take()?;
        self.connection
            .admission
            .awaited(self.rank)
            .end(self.address, waits.number, waits.bytes);
        Some(waits.waker)
    }

    /// Ends a call that still waits for its body: gives its capacity back, except for its answer,
    /// and wakes its task. Does nothing if the body has arrived in the meantime.
    pub(super) fn give_way(&self, shed: Shed) {
        let mut awaited = lock(&self.awaited);
        let Some(waits) = awaited.take() else { return };
        let _ = self.shed.set(shed); // the first reason is kept
        drop(awaited);
        self.connection
            .admission
            .awaited(self.rank)
            .end(self.address, waits.number, waits.bytes);
        self.answered();
        waits.waker.wake();
    }

    /// Why the body was turned away, if it was turned away for lack of capacity.
    pub fn shed(&self) -> Option<Shed> {
        self.shed.get().copied()
    }

    /// Records that the call is no longer in flight, so that only its answer counts.
    pub fn answered(&self) {
        self.leave_flight();
        self.give_back_long();
        self.used
            .store(ANSWER_BYTES - SHORT_ANSWER, Ordering::Relaxed);
        let charged = self.charged.swap(ANSWER_BYTES, Ordering::Relaxed);
        self.connection
            .admission
            .give_back_bytes(self.holders(), charged.saturating_sub(ANSWER_BYTES));
    }

    fn leave_flight(&self) {
        if self.in_flight.swap(false, Ordering::Relaxed) {
            let admission = &self.connection.admission;
            self.holders().give_back(|h| &h.calls, 1);
            match self.rank {
                Rank::Revocation => admission.revocations.give_back(1),
                Rank::Unproven | Rank::Proven => admission.calls.give_back(1),
            }
        }
    }

    /// Counts bytes of the answer. The bytes are already in memory, so no limit applies to them;
    /// later calls find less capacity instead.
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

    /// The holders that this call is charged to: none if it is a revocation.
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
        self.stop_waiting();
        self.leave_flight();
        self.give_back_long();
        let charged = *self.charged.get_mut();
        self.connection
            .admission
            .give_back_bytes(self.holders(), charged);
    }
}
