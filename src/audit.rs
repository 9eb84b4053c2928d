//! The audit log: a JSON line in CloudTrail's event shape for each call, except that refused calls and reads may be
//! counted instead. The line of a call that issues credentials is written before the response is sent, and synced to
//! the disk unless the configuration says otherwise.
//!
//! One thread writes. It has four queues with bounds of their own, so that calls that anybody can make, such as refused
//! ones, do not delay credentials:
//!
//! - lines of calls that issue credentials or change something: their response waits for the write
//!   (and the sync) that covers the line, and one write covers all lines that wait;
//! - lines of changes that have taken effect already, which are kept until they can be written;
//! - lines of other successful calls, which are written within a second;
//! - lines of refusals, of which a limited number is written each second; the others are counted
//!   ([`refusals`]) and written as one line per kind.
//!
//! The thread also signs the session tokens of the calls whose lines it is about to write, with one
//! signature for all of them, and writes what it signed.
//!
//! When the disk is nearly full, refusals are only counted. When it is fuller still, calls that read are only counted,
//! too, so that the remaining space is left for the first two queues. `docs/reference/audit.md` describes this for
//! operators.

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

use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use chain::Link;
pub use line::MAX_LINE;
#[cfg(any(test, feature = "internals"))]
pub use line::MAX_REFUSAL;
pub use local::{Deed, LocalLog, Phase};
pub use record::{
    Record, SessionAttributes, SessionContext, SessionIssuer, SourceAddress, UserIdentity, record,
};
#[cfg(any(test, feature = "internals"))]
pub use refusals::MAX_KINDS;
pub use room::{Room, room};
pub use text::{Digest, clip, clip_written};

use crate::base::clock::{Clock, Timestamp};
use crate::base::entropy::{self, Entropy};
use crate::budgets;
use crate::metrics::Metrics;
use crate::session::batch::{Batch, Leaf, NoKey, Proof};
use refusals::Kind;
use state::{Outcome, Shared, State, Waiter};

/// The maximum time that a line may take to reach stable storage.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// The maximum size in bytes of the queued lines that responses wait for, together with the queued
/// lines of changes, which nothing waits for.
const MAX_AWAITED: usize = 16 << 20;
/// The part of [`MAX_AWAITED`] that changes may take, so that a large import does not keep
/// credentials from being issued.
const MAX_CHANGES: usize = MAX_AWAITED / 2;
/// The maximum size in bytes of the lines of read calls in memory.
const MAX_READS: usize = 8 << 20;
/// The maximum size in bytes of the lines of single refusals in memory.
const MAX_REFUSALS: usize = 2 << 20;
/// The properties by which a call is counted if it does not get a line of its own.
#[derive(Debug, Clone, Copy)]
pub struct Counting {
    /// The service, as [`Record::event_source`] names it.
    pub event_source: &'static str,
    /// The action: one of a fixed set of names.
    pub action: &'static str,
    pub source: IpAddr,
    pub now: Timestamp,
}

/// Where the log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file of mode 0600, to which lines are appended.
    File {
        path: PathBuf,
        /// Whether a line must be on stable storage before the response is sent.
        sync: bool,
    },
    /// Standard output. The program that reads it is responsible for storing the lines.
    Stdout,
    /// Nowhere: lines are dropped. For development only.
    Discard,
}

/// The record was not written: the log fails or is too slow, or too many lines are waiting. The call must be refused,
/// unless it has taken effect already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record could not be written to the audit log")]
pub struct AuditError;

/// A token was not signed. The call must be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Key(#[from] NoKey),
}

/// The parts of the broker that the log needs.
pub struct Surroundings {
    /// The clock for the rate of refusals and for the times in records of counted ones.
    pub clock: Arc<dyn Clock>,
    /// The source of the identifiers of records that the log makes itself.
    pub entropy: Arc<dyn Entropy>,
    /// The metrics in which written and lost records are counted.
    pub metrics: Arc<Metrics>,
    /// The region in records that the log makes itself.
    pub region: String,
    /// The file that keeps the head of the hash chain; `None` if no file does.
    pub head: Option<PathBuf>,
}

/// The handle of the log. All calls share one writing thread.
pub struct Audit {
    shared: Arc<Shared>,
    discard: bool,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// [`io::Error`] if the thread cannot be started, or has not opened the file and found the end of its chain within
    /// [`DEADLINE`].
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

    /// Whether the last attempt to write succeeded.
    pub fn is_up(&self) -> bool {
        !self.shared.lock().failing
    }

    /// Records a call that issues credentials or changes something, and waits until the record is written, and synced
    /// to the disk if the log is synced.
    ///
    /// # Errors
    /// [`AuditError`] if it is not within [`DEADLINE`], or if too many lines are waiting already. The caller must then
    /// release nothing.
    pub async fn commit(&self, record: &Record<'_>) -> Result<(), AuditError> {
        if self.discard {
            return Ok(());
        }
        match self.write(record, None).await {
            Ok(_) => Ok(()),
            Err(_) => {
                self.shared.shed();
                Err(AuditError)
            }
        }
    }

    /// Records a call that issues a session, and signs the session's token together with those of the calls whose
    /// records are written at the same time. Returns the proof once the record is written, and synced to the disk if
    /// the log is synced.
    ///
    /// # Errors
    /// [`SignError::Audit`] as for [`Audit::commit`]; [`SignError::Key`] if the key was revoked
    /// meanwhile, and the call has no record yet. The caller must then release nothing.
    pub async fn sign(&self, record: &Record<'_>, leaf: Leaf) -> Result<Proof, SignError> {
        if self.discard {
            let (_, batch) = Batch::sign([&leaf]);
            let proof = batch?.proofs().next().ok_or(AuditError)?;
            self.shared.metrics.token_signatures.inc();
            return Ok(proof);
        }
        let written = self.write(record, Some(leaf)).await;
        if matches!(written, Err(SignError::Audit(_))) {
            self.shared.shed();
        }
        // A call with a leaf gets a proof.
        written?.ok_or(AuditError.into())
    }

    async fn write(&self, record: &Record<'_>, leaf: Option<Leaf>) -> Outcome {
        let line = line::whole(record)?;
        let runtime = Handle::try_current().map_err(|_| AuditError)?;
        let done = {
            let mut state = self.shared.lock();
            let [awaited, changes, ..] = state.lengths();
            if awaited + changes + line.len() > MAX_AWAITED {
                return Err(AuditError.into());
            }
            state.queued.awaited.extend_from_slice(&line);
            let (sender, done) = oneshot::channel();
            state.waiters.push(Waiter {
                length: line.len(),
                leaf,
                runtime,
                sender,
            });
            if state.waiters.len() >= state.enough {
                self.shared.wake(&mut state);
            }
            done
        };
        match tokio::time::timeout(DEADLINE, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(AuditError.into()),
            Err(_) => {
                // The writer is blocked in a system call, so the node must become unready before that
                // returns.
                self.shared
                    .tell(false, "a write to the audit log took longer than 2 s");
                Err(AuditError.into())
            }
        }
    }

    /// Records a change that has taken effect, without waiting. The record is kept until it can be
    /// written.
    ///
    /// # Errors
    /// [`AuditError`] if too many such records are waiting already.
    pub fn note(&self, record: &Record<'_>) -> Result<(), AuditError> {
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

    /// Records a successful call that issues nothing, by a line of its own. If the disk is nearly full, the call is
    /// counted instead, so that a caller who fills the log does not stop others. A call that counts as a read
    /// (`is_identity`), such as GetCallerIdentity, is also counted if such calls exceed their rate, since a signed
    /// request can be repeated any number of times. `record` is called only if the call gets a line.
    ///
    /// # Errors
    /// [`AuditError`] if too many lines are waiting already. The call must then be refused.
    pub fn read<'r>(
        &self,
        record: impl FnOnce() -> Record<'r>,
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
            self.count("", call);
            return Ok(());
        }
        let line = line::whole(&record())?;
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

    /// Records a refusal by a line of its own. The refusal is counted instead if refusals exceed their rate, the disk
    /// is nearly full, or too many lines are waiting. `is_proven` says whether the caller was authenticated; callers
    /// who were not have a separate rate. `record` is called only if the refusal gets a line.
    pub fn refuse<'r>(
        &self,
        record: impl FnOnce() -> Record<'r>,
        is_proven: bool,
        error_code: &'static str,
        call: Counting,
    ) {
        if self.discard {
            return;
        }
        let passed = self.shared.clock.monotonic();
        let has_room = {
            let mut state = self.shared.lock();
            state.rate(is_proven).has_room(passed) && state.has_room_for_refusals()
        };
        // Most refusals of a flood are counted here, before their text is formatted.
        let line = has_room.then(|| line::refusal(&record()).ok());
        let Some(line) = line.flatten() else {
            return self.count(error_code, call);
        };
        let mut state = self.shared.lock();
        let [.., refusals] = state.lengths();
        if refusals + line.len() > MAX_REFUSALS {
            drop(state);
            return self.count(error_code, call);
        }
        state.rate(is_proven).spend(line.len() + chain::ROOM);
        state.queued.refusals.extend_from_slice(&line);
        self.shared.flush(&mut state);
    }

    /// Counts a call that does not get a line, with the code of its error, if it has one.
    pub fn count(
        &self,
        error_code: &'static str,
        Counting {
            event_source,
            action,
            source,
            now,
        }: Counting,
    ) {
        if self.discard {
            return;
        }
        let kind = Kind {
            event_source,
            action,
            error_code,
            source: budgets::source(source),
        };
        self.shared.lock().counted.count(kind, now);
        self.shared.metrics.audit_aggregated.inc();
    }

    /// Makes the writer reopen the file before the next line, for log rotation.
    pub fn reopen(&self) {
        let mut state = self.shared.lock();
        state.reopen = true;
        self.shared.wake(&mut state);
    }

    /// Writes everything that is queued and counted if the log can be written, and ends the thread. A thread that does
    /// not end within [`DEADLINE`] is left behind.
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
        // A thread that is blocked in a system call is left behind: all calls whose lines it holds
        // were refused.
        let started = Instant::now();
        while !writer.is_finished() && started.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(2));
        }
        if writer.is_finished() {
            let _ = writer.join(); // a panic there has been reported by the runtime
        }
    }
}

/// Starts the thread, and waits until it has opened the file.
fn start(
    shared: &Arc<Shared>,
    target: &Target,
    head: Option<PathBuf>,
) -> io::Result<JoinHandle<()>> {
    let (opened, wait) = std::sync::mpsc::sync_channel(1);
    let (shared, target) = (shared.clone(), target.clone());
    // Opening a FIFO blocks until somebody reads it; only the thread is blocked then.
    let writer = std::thread::Builder::new()
        .name("audit".into())
        .spawn(move || {
            match writer::open(&target, head.as_deref()) {
                Ok((sink, chain)) => {
                    // The free space is read before the first call.
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
                "the log could not be opened for writing within 2 s: if the path is a named pipe, no program reads \
                 from the pipe",
            ));
        }
    }
    Ok(writer)
}

fn uuid(entropy: &dyn Entropy) -> String {
    let bytes = entropy::name::<16>(entropy).unwrap_or_default();
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests;
