//! The writing thread. Each round writes the most important lines first, so that less important ones cannot make them
//! fail: lines that credentials wait for, then changes, reads and refusals.

mod answers;
mod chaining;
mod signing;
mod sink;

use std::io;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::chaining::Chain;
use self::sink::Sink;
use super::lines::{Lines, PARTS};
use super::refusals::Counted;
use super::space::Space;
use super::state::{Shared, State};
use super::{Target, line, uuid};

/// The maximum time that a line stays in memory if nobody waits for it and the log can be written.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// The interval between attempts to write after a failure.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// The interval between reads of the free space.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The interval between records of counted calls.
const COUNTED_EVERY: Duration = Duration::from_secs(10);
/// The interval between records of counted calls while the disk is nearly full. 257 records of 600 bytes then take 257
/// bytes per second.
const COUNTED_EVERY_WHEN_SHORT: Duration = Duration::from_secs(600);
/// The maximum time that a round waits for further calls while calls arrive in parallel; a shorter sync shortens it. A
/// single call does not wait, and no call waits if the log is not synced.
const GATHER: Duration = Duration::from_millis(1);
/// About how long a processor takes to decide a call.
const DECISION: Duration = Duration::from_micros(50);
/// A buffer whose capacity exceeds this many bytes is freed when it is empty.
const KEEP: usize = 1 << 20;

/// Opens the file, and finds the link with which the chain continues.
pub(super) fn open(target: &Target, head: Option<&Path>) -> io::Result<(Sink, Chain)> {
    let sink = Sink::open(target)?;
    let chain = Chain::begin(&sink, head)?;
    Ok((sink, chain))
}

/// Writes until the log is closed.
pub(super) fn run(shared: &Shared, sink: Sink, chain: Chain) {
    let counted_at = shared.clock.monotonic();
    let mut writer = Writer {
        shared,
        sink,
        chain,
        batch: Lines::default(),
        spare: Vec::new(),
        counted_at,
        looked_at: None,
        answered: [0; 2],
        took: Duration::ZERO,
    };
    writer.tell_head(
        "the broker starts; the audit log continues after the line with this number and hash",
    );
    while writer.round() {}
    writer.tell_head("the broker stops; the last line of the audit log has this number and hash");
}

struct Writer<'a> {
    shared: &'a Shared,
    sink: Sink,
    chain: Chain,
    /// The lines of this round. Its emptied buffers are the queue of the next one.
    batch: Lines,
    /// A buffer for the lines that are signed.
    spare: Vec<u8>,
    /// When counted calls were last written, by the monotonic time.
    counted_at: Duration,
    looked_at: Option<Instant>,
    /// How many calls the last round answered, and the one before it.
    answered: [usize; 2],
    /// How long the last round took to write.
    took: Duration,
}

impl Writer<'_> {
    /// Waits for work and does it. Returns false once the log is closed.
    fn round(&mut self) -> bool {
        self.wait();
        let now = self.shared.clock.monotonic();
        let mut state = self.shared.lock();
        std::mem::swap(&mut state.queued, &mut self.batch);
        state.writing = self.batch.lengths();
        let waiters = std::mem::take(&mut state.waiters);
        let (reopen, closing, failing) = (
            std::mem::take(&mut state.reopen),
            state.closing,
            state.failing,
        );
        let every = if state.has_room_for_reads() {
            COUNTED_EVERY
        } else {
            COUNTED_EVERY_WHEN_SHORT
        };
        let mut counted = Counted::default();
        if closing || reopen || now.saturating_sub(self.counted_at) >= every {
            self.counted_at = now;
            counted = std::mem::take(&mut state.counted);
        }
        drop(state);

        if reopen {
            self.rotate(&mut counted, failing);
        }
        let singles = self.batch.refusals.len();
        self.put(&counted);
        // The record of a signature is part of the round, so that it is made before the write.
        let answers = signing::sign(
            self.shared,
            waiters,
            &mut self.batch.awaited,
            &mut self.spare,
        );
        let started = Instant::now();
        let (done, error) = match failing || !self.batch.is_empty() {
            true => {
                let batch = std::mem::take(&mut self.batch);
                let written = self.write(&batch, failing, false);
                self.batch = batch;
                written
            }
            false => (PARTS, None),
        };
        let [last, _] = self.answered;
        (self.answered, self.took) = ([answers.len(), last], started.elapsed());
        let space = self.look(error.is_some());
        self.conclude(done, error.as_ref(), space, singles, counted);
        // The waiters wait for the lines of the first part.
        let is_written = done > 0;
        let failed = !is_written && !answers.is_empty();
        answers::give(answers, is_written);
        if closing {
            self.take_leave();
        } else if failed {
            std::thread::sleep(RETRY_EVERY);
        }
        !closing
    }

    /// Adds the links and writes the lines. Returns how many parts are written, and synced if the log is synced, and
    /// the error of the next part.
    fn write(
        &mut self,
        lines: &Lines,
        failing: bool,
        sync_head: bool,
    ) -> (usize, Option<io::Error>) {
        // The free space is checked before anything is hashed, which may be much.
        if failing && let Err(error) = self.sink.recover() {
            return (0, Some(error));
        }
        let start = self.chain.link;
        let places = self.chain.extend(lines);
        let (done, error) = self.sink.append(self.chain.lines.parts(), failing);
        // The head is written before the sync, which takes long, so that a broker that is killed
        // meanwhile leaves both.
        self.chain.go_to(
            done.checked_sub(1)
                .and_then(|part| places.get(part))
                .copied()
                .unwrap_or(start),
        );
        if done > 0
            && let Err(error) = self.sink.sync()
        {
            self.chain.go_to(start);
            return (0, Some(error));
        }
        if let Some(head) = &mut self.chain.head {
            head.sync(sync_head);
        }
        self.show_sequence();
        (done, error)
    }

    fn show_sequence(&self) {
        self.shared
            .metrics
            .audit_sequence
            .set(i64::try_from(self.chain.link.sequence).unwrap_or(i64::MAX));
    }

    /// Writes and syncs the head file. Reports the head in the broker's own log, too, for an operator who keeps that
    /// log elsewhere.
    fn tell_head(&mut self, event: &str) {
        let link = self.chain.link;
        if let Some(head) = &mut self.chain.head {
            head.write(link);
            head.sync(true);
        }
        self.show_sequence();
        if link.sequence > 0 {
            tracing::info!(sequence = link.sequence, hash = link.hash_text(), "{event}");
        }
    }

    /// The number of waiting calls at which the next round begins at once.
    ///
    /// Calls that were answered together tend to arrive together again. So the round expects the calls of the last
    /// round and, if others arrived during its sync, those of the round before it as well. If all of them can be
    /// decided within the time of a sync, the round waits for all. Otherwise it waits for half of them: one half is
    /// decided while the other is written, so that neither the processor nor the disk waits.
    fn enough(&self, waiting: usize) -> usize {
        let [last, before] = self.answered;
        let in_parallel = if waiting == 0 { last } else { last + before };
        let decisions = DECISION.saturating_mul(u32::try_from(in_parallel).unwrap_or(u32::MAX));
        match decisions > self.took {
            true => in_parallel.div_ceil(2),
            false => in_parallel,
        }
    }

    /// Waits for the calls of the next round. If calls do not arrive in parallel, waits for any work.
    fn wait(&self) {
        let mut state = self.shared.lock();
        let enough = self.enough(state.waiters.len());
        if enough > 1 && self.sink.syncs() {
            state = self.wait_for(state, enough, self.took.min(GATHER));
        }
        if state.waiters.is_empty() && !state.closing && !state.reopen {
            let wait = if state.failing {
                RETRY_EVERY
            } else {
                FLUSH_EVERY
            };
            drop(self.wait_for(state, 1, wait));
        }
    }

    /// Waits until `calls` calls are waiting, something else must be done, or `time` has passed.
    fn wait_for<'s>(
        &self,
        mut state: MutexGuard<'s, State>,
        calls: usize,
        time: Duration,
    ) -> MutexGuard<'s, State> {
        state.enough = calls;
        state.idle = true;
        let is_idle = |state: &mut State| {
            state.idle && state.waiters.len() < calls && !state.closing && !state.reopen
        };
        let waited = self.shared.work.wait_timeout_while(state, time, is_idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.idle = false;
        state
    }

    /// Reopens the file. The calls that were counted so far are recorded in the old file.
    fn rotate(&mut self, counted: &mut Counted, failing: bool) {
        let lines = Lines {
            refusals: self.lines_of(counted),
            ..Lines::default()
        };
        if !lines.is_empty() && self.write(&lines, failing, true).1.is_none() {
            *counted = Counted::default();
        }
        let event = match self.sink.reopen() {
            Ok(()) => {
                "the audit log was opened again; it continues after the line with this number and hash"
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    "the audit log cannot be opened again, and the broker goes on writing to the old file; remove the \
                     cause, and send SIGHUP to the broker again"
                );
                "the audit log was not opened again; the old file continues after the line with this number and hash"
            }
        };
        self.looked_at = None;
        self.tell_head(event);
    }

    fn lines_of(&self, counted: &Counted) -> Vec<u8> {
        let records = counted.records(&self.shared.region, || uuid(&*self.shared.entropy));
        records
            .filter_map(|record| line::refusal(&record).ok())
            .flatten()
            .collect()
    }

    fn put(&mut self, counted: &Counted) {
        let lines = self.lines_of(counted);
        self.batch.refusals.extend_from_slice(&lines);
    }

    fn look(&mut self, failed: bool) -> Option<Space> {
        if !failed && self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return None;
        }
        self.looked_at = Some(Instant::now());
        self.sink.space().ok().flatten()
    }

    /// Updates the shared state after a write. Keeps the lines that could not be written, unless a call waited for
    /// them.
    fn conclude(
        &mut self,
        done: usize,
        error: Option<&io::Error>,
        space: Option<Space>,
        singles: usize,
        counted: Counted,
    ) {
        let written: usize = self.batch.lengths().iter().take(done).sum();
        let mut state = self.shared.lock();
        match (space, &mut state.space) {
            (Some(fresh), known) => {
                let free = i64::try_from(fresh.free).unwrap_or(i64::MAX);
                self.shared
                    .metrics
                    .audit_free_bytes
                    .get_or_create(&[])
                    .set(free);
                *known = Some(fresh);
            }
            (None, Some(known)) => known.take(written),
            (None, None) => {}
        }
        if error.is_some() {
            self.batch.refusals.truncate(singles);
            state.counted.merge(counted);
            state.put_back(&mut self.batch, done);
        }
        state.writing = [0; PARTS];
        drop(state);
        self.batch.clear(KEEP);
        self.shared.tell(
            error.is_none(),
            &error.map(ToString::to_string).unwrap_or_default(),
        );
    }

    /// Reports, in the broker's own log, which counts are lost when the process ends.
    fn take_leave(&self) {
        let refusals = self.shared.lock().counted.total();
        if refusals > 0 {
            tracing::error!(
                refusals,
                "the broker stops, and its counts of calls that have no line of their own are lost, because the \
                 audit log cannot be written"
            );
        }
    }
}
