//! The audit log: one JSON line per call in CloudTrail's event shape, on stable storage before a
//! credential leaves. Knows outcomes, not requests.
//!
//! One thread writes. There are three queues, each with a bound of its own, so that what anybody can
//! cause never delays what somebody was granted:
//!
//! - lines of calls that hand out credentials or change something: their answer waits for the write
//!   (and the sync) that covers the line, and one write covers all that wait;
//! - lines of other successful calls, which follow within a second;
//! - lines of refusals, of which only so many are written in a second; the others are counted
//!   ([`refusals`]) and written as one line for each kind.
//!
//! When the disk gets full, refusals are only counted first, then reads are refused; the rest belongs
//! to the first queue. `docs/reference/audit.md` has all of it for operators.

mod chain;
pub mod head;
mod line;
mod lines;
mod local;
mod record;
mod refusals;
mod room;
mod space;
mod state;
mod text;
pub mod verify;
mod writer;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use chain::Link;
pub use line::MAX_LINE;
#[cfg(any(test, feature = "internals"))]
pub use line::MAX_REFUSAL;
pub use local::{Deed, LocalLog, Phase};
pub use record::{Record, SessionAttributes, SessionContext, SessionIssuer, UserIdentity, record};
#[cfg(any(test, feature = "internals"))]
pub use refusals::MAX_KINDS;
pub use room::{Room, room};
pub use text::{Digest, clip, clip_written};

use crate::base::clock::{Clock, Timestamp};
use crate::base::entropy::{self, Entropy};
use crate::budgets;
use crate::metrics::Metrics;
use refusals::Kind;
use state::{Shared, State};

/// The longest wait for a line to be on stable storage.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// The most bytes of lines that answers wait for, and of changes that nobody waits for.
const MAX_AWAITED: usize = 16 << 20;
/// How much of that changes may take: a large import must not keep credentials from being issued.
const MAX_CHANGES: usize = MAX_AWAITED / 2;
/// The most bytes of reads in memory.
const MAX_READS: usize = 8 << 20;
/// The most bytes of single refusals in memory.
const MAX_REFUSALS: usize = 2 << 20;
/// What a call is counted by, if it gets no line of its own.
#[derive(Debug, Clone, Copy)]
pub struct Counting {
    /// One of a fixed set of names.
    pub action: &'static str,
    /// Where it came from.
    pub source: IpAddr,
    /// When.
    pub now: Timestamp,
}

/// Where the records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Appended to a file, mode 0600, and synced.
    File {
        /// The file.
        path: PathBuf,
        /// Whether a line must be on stable storage before its credential leaves.
        sync: bool,
    },
    /// Written to standard output; how stable that is, is its reader's business.
    Stdout,
    /// Nowhere. For development only.
    Discard,
}

/// The record could not be made safe in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct AuditError;
/// What the log needs of the broker around it.
pub struct Surroundings {
    /// For the rate of refusals, and for when they were counted.
    pub clock: Arc<dyn Clock>,
    /// For the identifiers of records that the log makes itself.
    pub entropy: Arc<dyn Entropy>,
    /// Where it counts what became of the records.
    pub metrics: Arc<Metrics>,
    /// The broker's own.
    pub region: String,
    /// Where the head of the hash chain is kept; none: nowhere.
    pub head: Option<PathBuf>,
}

/// The log's handle; all calls share one writer.
pub struct Audit {
    shared: Arc<Shared>,
    discard: bool,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be opened for appending within the deadline.
    pub fn open(target: &Target, surroundings: Surroundings) -> io::Result<Self> {
        let Surroundings {
            clock,
            entropy,
            metrics,
            region,
            head,
        } = surroundings;
        let state = Mutex::new(State::new(clock.monotonic()));
        let shared = Arc::new(Shared {
            state,
            work: Condvar::new(),
            clock,
            entropy,
            metrics,
            region,
        });
        let writer = start(&shared, target, head)?;
        Ok(Self {
            shared,
            discard: *target == Target::Discard,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Whether the last attempt to write went well.
    pub fn is_up(&self) -> bool {
        !self.shared.lock().failing
    }

    /// Records a call that hands something out or changes something, on stable storage.
    ///
    /// # Errors
    /// When that cannot be done within the deadline. The caller must then release nothing.
    pub async fn commit(&self, record: &Record) -> Result<(), AuditError> {
        if self.discard {
            return Ok(());
        }
        let written = self.write(record).await;
        if written.is_err() {
            self.shared.shed();
        }
        written
    }

    async fn write(&self, record: &Record) -> Result<(), AuditError> {
        let line = line::whole(record)?;
        let done = {
            let mut state = self.shared.lock();
            let [awaited, changes, ..] = state.lengths();
            if awaited + changes + line.len() > MAX_AWAITED {
                return Err(AuditError);
            }
            state.queued.awaited.extend_from_slice(&line);
            let (sender, done) = oneshot::channel();
            state.waiters.push(sender);
            self.shared.wake(&mut state);
            done
        };
        match tokio::time::timeout(DEADLINE, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(AuditError),
            Err(_) => {
                // The writer hangs in the system: readiness must say so before it comes back.
                self.shared.tell(false, "it hangs");
                Err(AuditError)
            }
        }
    }

    /// Records a change that has taken effect and that nobody waits for. It is kept until it can be
    /// written.
    ///
    /// # Errors
    /// When too many of them wait already.
    pub fn note(&self, record: &Record) -> Result<(), AuditError> {
        if self.discard {
            return Ok(());
        }
        let line = line::whole(record)?;
        let mut state = self.shared.lock();
        let [_, changes, ..] = state.lengths();
        if changes + line.len() > MAX_CHANGES {
            return Err(AuditError);
        }
        state.queued.changes.extend_from_slice(&line);
        self.shared.flush(&mut state);
        Ok(())
    }

    /// Records a successful call that hands out nothing: by a line of its own, or, on a disk that is nearly
    /// full, by counting it, so that nobody who fills the log stops others. One that only asks who it is
    /// (`is_identity`) is counted beyond the rate too: whoever has a signed request can send it again and
    /// again.
    ///
    /// # Errors
    /// When too many of them wait already: no record, no answer.
    pub fn read(
        &self,
        record: &Record,
        is_identity: bool,
        call: Counting,
    ) -> Result<(), AuditError> {
        if self.discard {
            return Ok(());
        }
        let passed = self.shared.clock.monotonic();
        let has_room = {
            let mut state = self.shared.lock();
            (!is_identity || state.identities.has_room(passed)) && state.has_room_for_reads()
        };
        if !has_room {
            self.count(record, call);
            return Ok(());
        }
        let line = line::whole(record)?;
        let mut state = self.shared.lock();
        let [_, _, reads, _] = state.lengths();
        if reads + line.len() > MAX_READS {
            drop(state);
            self.shared.shed();
            return Err(AuditError);
        }
        if is_identity {
            state.identities.spend(line.len() + chain::ROOM);
        }
        state.queued.reads.extend_from_slice(&line);
        self.shared.flush(&mut state);
        Ok(())
    }

    /// Records a refusal: by a line of its own, or, beyond the rate, on a disk that is nearly full, or
    /// when too many lines wait, by counting it.
    pub fn refuse(&self, record: &Record, call: Counting) {
        if self.discard {
            return;
        }
        let passed = self.shared.clock.monotonic();
        let has_room = {
            let mut state = self.shared.lock();
            state.rate(record).has_room(passed) && state.has_room_for_refusals()
        };
        // Most of a flood ends here, before anything is made of its text.
        let Some(line) = has_room.then(|| line::refusal(record).ok()).flatten() else {
            return self.count(record, call);
        };
        let mut state = self.shared.lock();
        let [.., refusals] = state.lengths();
        if refusals + line.len() > MAX_REFUSALS {
            drop(state);
            return self.count(record, call);
        }
        state.rate(record).spend(line.len() + chain::ROOM);
        state.queued.refusals.extend_from_slice(&line);
        self.shared.flush(&mut state);
    }

    /// Counts a call that gets no line.
    pub fn count(
        &self,
        record: &Record,
        Counting {
            action,
            source,
            now,
        }: Counting,
    ) {
        if self.discard {
            return;
        }
        let error_code = record.error_code.unwrap_or_default();
        let kind = Kind {
            event_source: record.event_source,
            action,
            error_code,
            source: budgets::source(source),
        };
        self.shared.lock().counted.count(kind, now);
        self.shared.metrics.audit_aggregated.inc();
    }

    /// Opens the file anew before the next line, for log rotation.
    pub fn reopen(&self) {
        let mut state = self.shared.lock();
        state.reopen = true;
        self.shared.wake(&mut state);
    }

    /// Writes what is queued and counted, and ends the writer.
    pub fn close(&self) {
        {
            let mut state = self.shared.lock();
            state.closing = true;
            self.shared.wake(&mut state);
        }
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(writer) = writer else { return };
        // A writer that hangs in the system is left behind: everything it holds was refused.
        let started = Instant::now();
        while !writer.is_finished() && started.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(2));
        }
        if writer.is_finished() {
            let _ = writer.join(); // a panic there has been reported by the runtime
        }
    }
}

/// Starts the thread that writes, and waits until it has opened the file.
fn start(
    shared: &Arc<Shared>,
    target: &Target,
    head: Option<PathBuf>,
) -> io::Result<JoinHandle<()>> {
    let (opened, wait) = std::sync::mpsc::sync_channel(1);
    let (shared, target) = (shared.clone(), target.clone());
    // Opening a FIFO waits for a reader; the thread waits, the start does not.
    let writer = std::thread::Builder::new()
        .name("audit".into())
        .spawn(move || {
            match writer::open(&target, head.as_deref()) {
                Ok((sink, chain)) => {
                    // The first call must not meet a disk that nobody looked at.
                    shared.lock().space = sink.space().ok().flatten();
                    let _ = opened.send(Ok(())); // a start that gave up is over
                    writer::run(&shared, sink, chain);
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            }
        })?;
    match wait.recv_timeout(DEADLINE) {
        Ok(result) => result?,
        Err(_) => {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nobody reads it (it could not be opened within 2 s)",
            ));
        }
    }
    Ok(writer)
}

fn uuid(entropy: &dyn Entropy) -> String {
    let bytes = entropy::bytes::<16>(entropy).unwrap_or_default();
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests;
