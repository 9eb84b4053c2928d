//! A connection, and what is counted on it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{Notify, Semaphore};

use super::holdings::{Holders, Holdings};
use super::room::in_steps;
use super::{Admission, Purpose};

/// So much of what waits in a connection's buffers is part of the connection's own memory.
pub(super) const CONNECTION_BUFFER: usize = 16_384;
/// A TLS handshake that is counted.
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

/// A connection, and what is counted on it.
pub struct Connection {
    pub(super) admission: Arc<Admission>,
    pub(super) number: u64,
    /// None: a trusted proxy's.
    pub(super) source: Option<Arc<Holdings>>,
    /// Whom it has proven.
    pub(super) principal: OnceLock<Arc<Holdings>>,
    pub(super) proven: AtomicBool,
    pub(super) is_shaking: AtomicBool,
    /// Whether it was asked to leave.
    pub(super) asked: AtomicBool,
    /// Nanoseconds since the start.
    pub(super) last_call: AtomicU64,
    /// Closed once a call has proven somebody.
    pub(super) bodies: Arc<Semaphore>,
    pub(super) leave: Notify,
    pub(super) open_bodies: AtomicUsize,
    /// Bytes that came and that nobody has taken from the protocol's buffers yet. Bytes of bodies that
    /// were given up are in it until no body is open, so it may be too much and never too little.
    pub(super) buffered: AtomicI64,
    /// How much of that is charged, and whether anything is.
    pub(super) charged: Mutex<usize>,
    pub(super) is_charged: AtomicBool,
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
    pub(super) fn ask_to_leave(&self) -> bool {
        self.leave.notify_one();
        !self.asked.swap(true, Ordering::Relaxed)
    }

    pub(super) fn holders(&self) -> impl Iterator<Item = &Arc<Holdings>> {
        self.source.iter().chain(self.principal.get())
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

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
