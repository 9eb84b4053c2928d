//! A connection, and the capacity that its buffers, its handshake and its long bodies use.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{Notify, Semaphore};

use super::holdings::{Holders, Holdings};
use super::room::in_steps;
use super::{Admission, Purpose};

/// The first bytes in a connection's buffers, which count as the connection's own memory. Only
/// bytes beyond these are charged.
pub(super) const CONNECTION_BUFFER: usize = 16_384;
/// A TLS handshake in progress, which counts until it is dropped.
pub struct Handshake(pub(super) Arc<Connection>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.is_shaking.store(false, Ordering::Relaxed);
        self.0.admission.handshakes.give_back(1);
        if let Some(source) = &self.0.source {
            source.handshakes.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A connection as the admission counts it, from its acceptance until it is dropped.
pub struct Connection {
    pub(super) admission: Arc<Admission>,
    pub(super) number: u64,
    /// The source of the connection; `None` for a trusted proxy.
    pub(super) source: Option<Arc<Holdings>>,
    pub(super) principal: OnceLock<Arc<Holdings>>,
    pub(super) proven: AtomicBool,
    pub(super) is_shaking: AtomicBool,
    pub(super) asked: AtomicBool,
    /// The time of the last call, in nanoseconds since the admission was created.
    pub(super) last_call: AtomicU64,
    /// Permits for long bodies. Closed once a caller has been authenticated.
    pub(super) bodies: Arc<Semaphore>,
    pub(super) leave: Notify,
    pub(super) open_bodies: AtomicUsize,
    /// The number of bytes received but not yet taken from the protocol's buffers. It includes
    /// bytes of abandoned bodies until no body is open, so it may be too high but never too low.
    pub(super) buffered: AtomicI64,
    /// How many of the bytes in `buffered` are charged.
    pub(super) charged: Mutex<usize>,
    pub(super) is_charged: AtomicBool,
}

impl Connection {
    /// Whether [`Call::prove`](super::Call::prove) has made the connection a proven one.
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Records that the connection belongs to somebody whom the operator knows. From now on it does not give way to
    /// newcomers. It counts for no principal.
    pub fn becomes_known(&self) {
        if !self.proven.swap(true, Ordering::Relaxed) {
            self.bodies.close();
        }
    }

    /// Completes when the connection should close to make room for another.
    pub async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }

    /// Asks the connection to close. Returns false if it was asked before.
    pub(super) fn ask_to_leave(&self) -> bool {
        self.leave.notify_one();
        !self.asked.swap(true, Ordering::Relaxed)
    }

    pub(super) fn holders(&self) -> impl Iterator<Item = &Arc<Holdings>> {
        self.source.iter().chain(self.principal.get())
    }

    /// The permits of which a long body needs one. Returns `None` if long bodies need none: on connections of a trusted
    /// proxy and on proven ones.
    pub fn bodies(&self) -> Option<&Arc<Semaphore>> {
        (self.source.is_some() && !self.is_proven()).then_some(&self.bodies)
    }

    /// Records that reading a body begins, so that its bytes count as buffered until they are
    /// taken.
    pub fn body_begins(&self) {
        self.open_bodies.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that a body was read or abandoned.
    pub fn body_ends(&self) {
        if self.open_bodies.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.buffered.store(0, Ordering::Relaxed);
            self.charge_buffers(0);
        }
    }

    /// Records that bytes of bodies were received.
    pub fn buffered(&self, bytes: usize) {
        self.buffered.fetch_add(signed(bytes), Ordering::Relaxed);
    }

    /// Records that bytes of bodies were taken from the buffers, and now belong to their calls.
    pub fn taken(&self, bytes: usize) {
        self.buffered.fetch_sub(signed(bytes), Ordering::Relaxed);
    }

    /// Charges the data in the buffers and `more` bytes, as far as they exceed [`CONNECTION_BUFFER`]. Returns false if
    /// there is no capacity, in which case nothing more should be read for now.
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

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
