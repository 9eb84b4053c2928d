//! The thread that writes, and the file that it writes to. What comes first in a round must not fail
//! with what comes later: lines that credentials wait for, changes, reads, refusals.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::refusals::Counted;
use super::{AuditError, Lines, PARTS, Shared, Space, Target, line, uuid};

/// How long a line that nobody waits for may stay in memory.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// How often a log that could not be written is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// How often the free space of the file system is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Refusals that were counted are written so often.
const COUNTED_EVERY: Duration = Duration::from_secs(10);
/// The same while the rest of the disk belongs to credentials: 257 records of 600 bytes are then a
/// quarter of a kilobyte a second.
const COUNTED_EVERY_WHEN_SHORT: Duration = Duration::from_secs(600);
/// The longest time that a round waits for others to come, while calls come side by side. One that comes
/// alone does not wait, and neither does any where nothing is synced.
const GATHER: Duration = Duration::from_millis(1);
/// A buffer that has grown beyond this goes back to the allocator when it is empty.
const KEEP: usize = 1 << 20;

/// Writes until the log is closed.
pub(super) fn run(shared: &Shared, sink: Sink) {
    let counted_at = shared.clock.monotonic();
    let mut writer =
        Writer { shared, sink, batch: Lines::default(), counted_at, looked_at: None, gather: Duration::ZERO };
    while writer.round() {}
}

struct Writer<'a> {
    shared: &'a Shared,
    sink: Sink,
    /// What is written in this round; its emptied buffers are the next round's queue.
    batch: Lines,
    /// When counted refusals were last written, by the time that only passes.
    counted_at: Duration,
    looked_at: Option<Instant>,
    /// How long the next round waits for other calls to come.
    gather: Duration,
}

impl Writer<'_> {
    /// Waits for work and does it; whether there will be more.
    fn round(&mut self) -> bool {
        self.wait();
        let now = self.shared.clock.monotonic();
        let mut state = self.shared.lock();
        std::mem::swap(&mut state.queued, &mut self.batch);
        state.writing = self.batch.lengths();
        let waiters = std::mem::take(&mut state.waiters);
        let (reopen, closing, failing) = (std::mem::take(&mut state.reopen), state.closing, state.failing);
        let every = if state.has_room_for_reads() { COUNTED_EVERY } else { COUNTED_EVERY_WHEN_SHORT };
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
        let started = Instant::now();
        let (done, error) = match failing || !self.batch.is_empty() {
            true => self.sink.append(self.batch.parts(), failing),
            false => (PARTS, None),
        };
        // Callers that were served together come again together, and a round that begins with the first
        // of them makes the others wait for a second sync. It is held up no longer than a sync takes.
        self.gather = match self.sink.syncs() && waiters.len() > 1 {
            true => started.elapsed().min(GATHER),
            false => Duration::ZERO,
        };
        let space = self.look(error.is_some());
        self.conclude(done, error.as_ref(), space, singles, counted);
        // The lines that the waiters wait for are the first part.
        let outcome = if done > 0 { Ok(()) } else { Err(AuditError) };
        let failed = outcome.is_err() && !waiters.is_empty();
        for waiter in waiters {
            let _ = waiter.send(outcome); // its call may have hit the deadline
        }
        if closing {
            self.take_leave();
        } else if failed {
            std::thread::sleep(RETRY_EVERY);
        }
        !closing
    }

    fn wait(&self) {
        let mut state = self.shared.lock();
        if state.waiters.is_empty() && !state.closing && !state.reopen {
            let wait = if state.failing { RETRY_EVERY } else { FLUSH_EVERY };
            state.idle = true;
            state = self.shared.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
            state.idle = false;
        }
        let gather = !self.gather.is_zero() && !state.waiters.is_empty();
        drop(state);
        if gather {
            std::thread::sleep(self.gather);
        }
    }

    /// What was counted so far belongs in the file that is put aside.
    fn rotate(&mut self, counted: &mut Counted, failing: bool) {
        let lines = self.lines_of(counted);
        if !lines.is_empty() && self.sink.append([b"", b"", b"", &lines], failing).1.is_none() {
            *counted = Counted::default();
        }
        if let Err(error) = self.sink.reopen() {
            tracing::error!(%error, "the audit log cannot be opened again; the old file stays in use");
        }
        self.looked_at = None;
    }

    fn lines_of(&self, counted: &Counted) -> Vec<u8> {
        let records = counted.records(&self.shared.region, || uuid(&*self.shared.entropy));
        records.filter_map(|record| line::refusal(&record).ok()).flatten().collect()
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

    /// Notes what came of the round, and keeps what could not be written and nobody waits for.
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
                self.shared.metrics.audit_free_bytes.get_or_create(&[]).set(free);
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
        self.shared.tell(error.is_none(), &error.map(ToString::to_string).unwrap_or_default());
    }

    /// Says what is lost with the process.
    fn take_leave(&self) {
        let refusals = self.shared.lock().counted.total();
        if refusals > 0 {
            tracing::error!(refusals, "the audit log ends without refusals that were counted: it cannot be written");
        }
    }
}

/// What is written to.
pub(super) enum Sink {
    /// A file, a pipe or a device.
    File {
        file: File,
        path: PathBuf,
        sync: bool,
        length: u64,
    },
    Stdout,
    Discard,
}

impl Sink {
    pub(super) fn open(target: &Target) -> io::Result<Self> {
        match target {
            Target::Stdout => Ok(Self::Stdout),
            Target::Discard => Ok(Self::Discard),
            Target::File { path, sync } => {
                let file = open_append(path)?;
                let length = repair(&file, path)?;
                Ok(Self::File { file, path: path.clone(), sync: *sync, length })
            }
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { file, path, length, .. } = self {
            let fresh = open_append(path)?;
            *length = repair(&fresh, path)?;
            *file = fresh;
        }
        Ok(())
    }

    /// Whether a line is on stable storage when it was written.
    fn syncs(&self) -> bool {
        matches!(self, Self::File { sync: true, .. })
    }

    /// The file system that a regular file is on; none where its size is not known.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn space(&self) -> io::Result<Option<Space>> {
        match self {
            Self::File { file, .. } if file.metadata()?.is_file() => {
                let stat = rustix::fs::fstatvfs(file)?;
                let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
                Ok(Space::new(bytes(stat.f_bavail), bytes(stat.f_blocks)))
            }
            _ => Ok(None),
        }
    }

    /// Appends parts in their order, with one write and one sync. How many of them are safe, and why
    /// the next one is not. Of a regular file, a part is written as a whole or not at all.
    fn append(&mut self, parts: [&[u8]; PARTS], after_failure: bool) -> (usize, Option<io::Error>) {
        match self {
            Self::Discard => (PARTS, None),
            Self::Stdout => one_by_one(&mut io::stdout().lock(), parts),
            Self::File { file, sync, length, .. } => match file.metadata() {
                Ok(meta) if meta.is_file() => {
                    // Somebody may have cut the file: a length that is only remembered would fill it
                    // with zeros. After a failure the file may be longer than it should be.
                    *length = if after_failure { meta.len().min(*length) } else { meta.len() };
                    append_to_file(file, length, parts, *sync, after_failure)
                }
                Ok(_) if after_failure && parts.iter().all(|part| part.is_empty()) => {
                    (0, Some(io::Error::other("nothing was written since it failed")))
                }
                Ok(_) => one_by_one(file, parts),
                Err(error) => (0, Some(error)),
            },
        }
    }
}

fn one_by_one(out: &mut impl Write, parts: [&[u8]; PARTS]) -> (usize, Option<io::Error>) {
    for (done, part) in parts.into_iter().enumerate() {
        if let Err(error) = out.write_all(part).and_then(|()| out.flush()) {
            return (done, Some(error));
        }
    }
    (PARTS, None)
}

fn append_to_file(
    file: &mut File,
    length: &mut u64,
    parts: [&[u8]; PARTS],
    sync: bool,
    after_failure: bool,
) -> (usize, Option<io::Error>) {
    if after_failure && let Err(error) = probe(file, *length) {
        return (0, Some(error));
    }
    let size = |part: &[u8]| u64::try_from(part.len()).unwrap_or_default();
    let all: usize = parts.iter().map(|part| part.len()).sum();
    let (mut end, mut done, mut failure) = (*length, PARTS, None);
    match file.write_vectored(&parts.map(IoSlice::new)) {
        Ok(written) if written == all => end += parts.into_iter().map(size).sum::<u64>(),
        _ => {
            // Not all of it has room: then as many parts as have, beginning with the first.
            if let Err(error) = file.set_len(end) {
                return (0, Some(error));
            }
            for (index, part) in parts.into_iter().enumerate() {
                if let Err(error) = file.write_all(part) {
                    (done, failure) = (index, Some(error));
                    break;
                }
                end += size(part);
            }
        }
    }
    if failure.is_some()
        && let Err(error) = file.set_len(end)
    {
        return (0, Some(error));
    }
    if sync && let Err(error) = file.sync_data() {
        // What the disk has of it is not known.
        let _ = file.set_len(*length); // tried again before anything follows: `probe`
        return (0, Some(error));
    }
    *length = end;
    (done, failure)
}

/// Whatever a failed attempt left behind goes before anything follows it. "Written again" is said when
/// there is room again, not when there is nothing to write.
fn probe(file: &mut File, length: u64) -> io::Result<()> {
    file.set_len(length)?;
    let room = file.write_all(&[b' '; 4_096]).and_then(|()| file.sync_data());
    file.set_len(length)?;
    room
}

fn open_append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).read(path.is_file()).create(true).mode(0o600).open(path)?;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty())
        && file.metadata()?.is_file()
    {
        File::open(parent)?.sync_all()?;
    }
    Ok(file)
}

/// A crash may leave a torn last line: it is cut off, since its call was never answered.
fn repair(file: &File, path: &Path) -> io::Result<u64> {
    let meta = file.metadata()?;
    if !meta.is_file() || meta.size() == 0 {
        return Ok(0);
    }
    let mut end = meta.size();
    let mut block = [0; 4096];
    while end > 0 {
        let from = end.saturating_sub(4096);
        let length = usize::try_from(end - from).unwrap_or_default();
        let Some(part) = block.get_mut(..length) else { break };
        file.read_exact_at(part, from)?;
        if let Some(at) = part.iter().rposition(|b| *b == b'\n') {
            end = from + u64::try_from(at).unwrap_or_default() + 1;
            break;
        }
        end = from;
    }
    if end < meta.size() {
        tracing::warn!(path = %path.display(), bytes = meta.size() - end, "the audit log ended in a torn line, which was cut off");
        file.set_len(end)?;
        file.sync_all()?;
    }
    Ok(end)
}
