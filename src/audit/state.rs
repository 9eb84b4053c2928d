//! What callers and the writing thread share: the queues with their bounds, and the rates of lines that
//! anybody can cause.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::AuditError;
use super::lines::{Lines, PARTS};
use super::record::Record;
use super::refusals::{Counted, Rate};
use super::space::Space;
use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::metrics::{Metrics, Shed};

/// How many bytes of refusals are written in a second, of calls that proved nothing and of others.
pub(super) const UNPROVEN_PER_SECOND: i64 = 64 << 10;
const PROVEN_PER_SECOND: i64 = 256 << 10;
/// How many bytes of the lines of calls that only ask who they are, GetCallerIdentity, are written in a
/// second.
const IDENTITIES_PER_SECOND: i64 = 1 << 20;
/// For how many seconds' worth of such lines a quiet log has room at once.
const BURST_SECONDS: i64 = 4;
/// How many bytes of lines that nobody waits for wake the writer.
const FLUSH_AT: usize = 256 << 10;
/// What callers and the writer share.
pub(super) struct Shared {
    pub state: Mutex<State>,
    pub work: Condvar,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: Arc<Metrics>,
    pub region: String,
}

/// What is in memory, and what is known of the file.
pub(super) struct State {
    pub queued: Lines,
    /// The lengths of what is being written just now: it counts towards the bounds.
    pub writing: [usize; PARTS],
    pub waiters: Vec<oneshot::Sender<Result<(), AuditError>>>,
    /// Refusals that get no line of their own.
    pub counted: Counted,
    pub unproven: Rate,
    pub proven: Rate,
    pub identities: Rate,
    /// As it was last seen, less what was written since; none: nothing is known of it.
    pub space: Option<Space>,
    /// The last attempt failed.
    pub failing: bool,
    /// The writer is waiting for work.
    pub idle: bool,
    pub reopen: bool,
    pub closing: bool,
}

impl State {
    /// Nothing is queued, and every rate has its whole burst, at `now` by the time that only passes.
    pub fn new(now: Duration) -> Self {
        let rate = |per_second| Rate::new(per_second, per_second * BURST_SECONDS, now);
        Self {
            queued: Lines::default(),
            writing: [0; PARTS],
            waiters: Vec::new(),
            counted: Counted::default(),
            unproven: rate(UNPROVEN_PER_SECOND),
            proven: rate(PROVEN_PER_SECOND),
            identities: rate(IDENTITIES_PER_SECOND),
            space: None,
            failing: false,
            idle: false,
            reopen: false,
            closing: false,
        }
    }

    /// Bytes in memory, by part.
    pub fn lengths(&self) -> [usize; PARTS] {
        let mut lengths = self.queued.lengths();
        for (length, writing) in lengths.iter_mut().zip(self.writing) {
            *length += writing;
        }
        lengths
    }

    /// Whether single refusals are written just now.
    pub fn has_room_for_refusals(&self) -> bool {
        self.space
            .is_none_or(|space| space.has_room_for_refusals(self.lengths().iter().sum()))
    }

    /// Whether reads have lines of their own just now.
    pub fn has_room_for_reads(&self) -> bool {
        self.space
            .is_none_or(|space| space.has_room_for_reads(self.lengths().iter().sum()))
    }

    /// The rate that a refusal's line counts for.
    pub fn rate(&mut self, record: &Record) -> &mut Rate {
        match record.user_identity.r#type.as_ref() {
            "Unknown" => &mut self.unproven,
            _ => &mut self.proven,
        }
    }

    /// Keeps the parts of a batch from the first one that was not written, but for those whose callers
    /// were answered that nothing was granted.
    pub fn put_back(&mut self, batch: &mut Lines, done: usize) {
        let later = self
            .queued
            .buffers()
            .into_iter()
            .zip(batch.buffers())
            .enumerate();
        for (_, (queued, failed)) in later.filter(|(part, _)| *part >= done.max(1)) {
            failed.append(queued);
            std::mem::swap(queued, failed);
        }
    }
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer, if it waits for work.
    pub fn wake(&self, state: &mut State) {
        if std::mem::take(&mut state.idle) {
            self.work.notify_one();
        }
    }

    /// Lines that nobody waits for go out soon by themselves; many of them at once.
    pub fn flush(&self, state: &mut State) {
        let [_, unawaited @ ..] = state.queued.lengths();
        if unawaited.iter().sum::<usize>() > FLUSH_AT && !state.failing {
            self.wake(state);
        }
    }

    /// Notes whether the log is written, and logs it when that is news: not with the lock in hand, since
    /// whoever reads the broker's own log may be slow.
    pub fn tell(&self, is_up: bool, reason: &str) {
        let was_up = {
            let mut state = self.lock();
            self.metrics.audit_up.set(i64::from(is_up));
            !std::mem::replace(&mut state.failing, !is_up)
        };
        match (was_up, is_up) {
            (false, true) => tracing::info!("the audit log is written again"),
            (true, false) => {
                tracing::error!(
                    reason,
                    "the audit log cannot be written; nothing is issued until it can"
                );
            }
            _ => {}
        }
    }

    /// Counts a call that was refused because its record could not be kept.
    pub fn shed(&self) {
        self.metrics
            .shed
            .get_or_create(&Shed { reason: "audit" })
            .inc();
    }
}
