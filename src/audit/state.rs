//! The state that callers and the writing thread share: the queues with their bounds, and the rates
//! of lines that anybody can cause.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::SignError;
use super::lines::{Lines, PARTS};
use super::refusals::{Counted, Rate};
use super::space::Space;
use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::metrics::{Metrics, Shed};
use crate::session::batch::{Leaf, Proof};

/// The maximum number of bytes of refusals per second for callers who were not authenticated.
pub(super) const UNPROVEN_PER_SECOND: i64 = 64 << 10;
/// The maximum number of bytes of refusals per second for callers who were authenticated.
const PROVEN_PER_SECOND: i64 = 256 << 10;
/// The maximum number of bytes of lines per second for calls that count as reads, such as GetCallerIdentity. There is
/// a limit because anybody with a signed request can repeat it.
const IDENTITIES_PER_SECOND: i64 = 1 << 20;
/// The seconds for which each rate can save unused bytes while the log is quiet.
const BURST_SECONDS: i64 = 4;
/// The writer is woken early if more than this many bytes of lines that no call waits for are queued.
const FLUSH_AT: usize = 256 << 10;
pub(super) struct Shared {
    pub state: Mutex<State>,
    pub work: Condvar,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: Arc<Metrics>,
    pub region: String,
}

/// The answer to a call that waits for its line: a proof if the call had a leaf to sign.
pub(super) type Outcome = Result<Option<Proof>, SignError>;

/// A call that waits for its line.
pub(super) struct Waiter {
    /// The length of the line in bytes.
    pub length: usize,
    /// The leaf that must be signed before the line is written, if there is one.
    pub leaf: Option<Leaf>,
    /// The runtime on which the call waits.
    pub runtime: Handle,
    pub sender: oneshot::Sender<Outcome>,
}

/// The queues, and the state of the file and of the writer.
pub(super) struct State {
    pub queued: Lines,
    /// The lengths of the parts that are being written, which count towards the bounds.
    pub writing: [usize; PARTS],
    /// The calls that wait for `queued.awaited`, one for each of its lines.
    pub waiters: Vec<Waiter>,
    /// Calls that do not get a line of their own.
    pub counted: Counted,
    pub unproven: Rate,
    pub proven: Rate,
    pub identities: Rate,
    /// The free space as last read, minus the bytes that were written since; `None` if it is not known.
    pub space: Option<Space>,
    /// Whether the last attempt to write failed.
    pub failing: bool,
    /// Whether the writer is waiting for work.
    pub idle: bool,
    /// The number of waiting calls at which the writer is woken.
    pub enough: usize,
    pub reopen: bool,
    pub closing: bool,
}

impl State {
    /// A state with empty queues and full rates. `now` is the monotonic time.
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
            enough: 1,
            reopen: false,
            closing: false,
        }
    }

    /// The number of bytes in memory, for each part.
    pub fn lengths(&self) -> [usize; PARTS] {
        let mut lengths = self.queued.lengths();
        for (length, writing) in lengths.iter_mut().zip(self.writing) {
            *length += writing;
        }
        lengths
    }

    /// Whether single refusals are written at the moment.
    pub fn has_room_for_refusals(&self) -> bool {
        self.space
            .is_none_or(|space| space.has_room_for_refusals(self.lengths().iter().sum()))
    }

    /// Whether reads get lines of their own at the moment.
    pub fn has_room_for_reads(&self) -> bool {
        self.space
            .is_none_or(|space| space.has_room_for_reads(self.lengths().iter().sum()))
    }

    /// The rate that limits the lines of refusals. `is_proven` says whether the caller was authenticated, since there
    /// is a separate rate for callers who were not.
    pub fn rate(&mut self, is_proven: bool) -> &mut Rate {
        match is_proven {
            true => &mut self.proven,
            false => &mut self.unproven,
        }
    }

    /// Puts back the parts of a batch that were not written, except lines whose callers were told
    /// that nothing was granted.
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

    /// Wakes the writer if it is waiting for work.
    pub fn wake(&self, state: &mut State) {
        if std::mem::take(&mut state.idle) {
            self.work.notify_one();
        }
    }

    /// Wakes the writer if many lines are queued that no call waits for; otherwise the writer takes
    /// them soon by itself.
    pub fn flush(&self, state: &mut State) {
        let [_, unawaited @ ..] = state.queued.lengths();
        if unawaited.iter().sum::<usize>() > FLUSH_AT && !state.failing {
            self.wake(state);
        }
    }

    /// Records whether the log can be written, and logs each change. The caller must not hold the lock of the state,
    /// because writing to the broker's own log may be slow.
    pub fn tell(&self, is_up: bool, reason: &str) {
        let was_up = {
            let mut state = self.lock();
            self.metrics.audit_up.set(i64::from(is_up));
            !std::mem::replace(&mut state.failing, !is_up)
        };
        match (was_up, is_up) {
            (false, true) => tracing::info!(
                "the audit log can be written again; the broker issues credentials and makes changes again"
            ),
            (true, false) => {
                tracing::error!(
                    reason,
                    "the audit log cannot be written; until it can, the broker refuses calls that issue credentials or \
                     change something, except revocations"
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
