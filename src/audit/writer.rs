//! The thread that writes, and the file that it writes to. What comes first in a round must not fail
//! with what comes later: lines that credentials wait for, changes, reads, refusals.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::chain::{self, Chained, Link};
use super::head::{self, HeadFile};
use super::refusals::Counted;
use super::{AuditError, Lines, MAX_LINE, PARTS, Shared, Space, Target, line, uuid};
use crate::files;

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

/// Opens what is written to, and finds the place in the chain to go on from.
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
        counted_at,
        looked_at: None,
        gather: Duration::ZERO,
    };
    writer.tell_head("the audit log goes on");
    while writer.round() {}
    writer.tell_head("the audit log ends");
}

/// The hash chain while it is written. The order of lines is made here, so the chain is too.
pub(super) struct Chain {
    link: Link,
    head: Option<HeadFile>,
    /// The lines of a round, each with its place.
    lines: Lines,
}

impl Chain {
    /// Goes on from the last line of the file, or from the head where the file ends before it. Says when
    /// the two disagree.
    fn begin(sink: &Sink, head: Option<&Path>) -> io::Result<Self> {
        let last = sink
            .last_line()?
            .as_deref()
            .and_then(Chained::parse)
            .map(|line| line.link);
        let known = match head.map(head::load) {
            None => None,
            Some(Ok(known)) => known,
            Some(Err(error)) => {
                tracing::error!(%error, "the head of the audit log cannot be read; lines that were cut off are not told");
                None
            }
        };
        let is_first = head.is_some_and(|path| !path.exists());
        let head = head
            .map(HeadFile::open)
            .transpose()
            .map_err(io::Error::other)?;
        let link = match (known, last) {
            (None, None) => Link::START,
            (None, Some(last)) => {
                if is_first {
                    tracing::warn!(
                        last = last.sequence,
                        "the audit log has a chain and its head is gone; lines that were cut off are not told"
                    );
                }
                last
            }
            (Some(head), None) => {
                if head.sequence > 0 && sink.is_file() {
                    tracing::warn!(
                        sequence = head.sequence,
                        "the audit log holds no line of its chain: it was rotated, or its lines were removed; \
                         `brevet audit verify` over it and the files before tells which"
                    );
                }
                head
            }
            (Some(head), Some(last)) if head == last => head,
            (Some(head), Some(last)) if last.sequence > head.sequence => {
                // Lines are written first, then the head.
                tracing::warn!(
                    head = head.sequence,
                    last = last.sequence,
                    "the audit log has lines after its head: the machine or the broker ended between the two, or somebody \
                     added them"
                );
                last
            }
            (Some(head), Some(last)) => {
                tracing::error!(
                    head = head.sequence,
                    head_hash = head.hash_text(),
                    last = last.sequence,
                    last_hash = last.hash_text(),
                    "the audit log does not end as its head says: lines were cut off or replaced; \
                     `brevet audit verify` names them"
                );
                head
            }
        };
        Ok(Self {
            link,
            head,
            lines: Lines::default(),
        })
    }

    /// Gives each line its place: the last place after each part.
    fn extend(&mut self, lines: &Lines) -> [Link; PARTS] {
        self.lines.clear(KEEP);
        let mut link = self.link;
        let mut places = [link; PARTS];
        let parts = lines
            .parts()
            .into_iter()
            .zip(self.lines.buffers())
            .zip(&mut places);
        for ((part, out), place) in parts {
            link = chain::extend(link, part, out);
            *place = link;
        }
        places
    }

    /// The last line is at this place now.
    fn go_to(&mut self, link: Link) {
        if link != self.link {
            self.link = link;
            if let Some(head) = &mut self.head {
                head.write(link);
            }
        }
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    sink: Sink,
    chain: Chain,
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

    /// Writes lines with their places in the chain. How many parts are safe, and why the next one is not.
    fn write(
        &mut self,
        lines: &Lines,
        failing: bool,
        sync_head: bool,
    ) -> (usize, Option<io::Error>) {
        // Before anything is hashed: there may be much of it, and no room.
        if failing && let Err(error) = self.sink.recover() {
            return (0, Some(error));
        }
        let start = self.chain.link;
        let places = self.chain.extend(lines);
        let (done, error) = self.sink.append(self.chain.lines.parts(), failing);
        // Before the sync, which takes long: a broker that is killed meanwhile leaves lines and head alike.
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

    /// The head, for whoever keeps the broker's own log elsewhere.
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

    fn wait(&self) {
        let mut state = self.shared.lock();
        if state.waiters.is_empty() && !state.closing && !state.reopen {
            let wait = if state.failing {
                RETRY_EVERY
            } else {
                FLUSH_EVERY
            };
            state.idle = true;
            state = self
                .shared
                .work
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
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
        let lines = Lines {
            refusals: self.lines_of(counted),
            ..Lines::default()
        };
        if !lines.is_empty() && self.write(&lines, failing, true).1.is_none() {
            *counted = Counted::default();
        }
        if let Err(error) = self.sink.reopen() {
            tracing::error!(%error, "the audit log cannot be opened again; the old file stays in use");
        }
        self.looked_at = None;
        self.tell_head("the audit log was opened anew");
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

    /// Says what is lost with the process.
    fn take_leave(&self) {
        let refusals = self.shared.lock().counted.total();
        if refusals > 0 {
            tracing::error!(
                refusals,
                "the audit log ends without refusals that were counted: it cannot be written"
            );
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
        /// How long a regular file was before what was appended and not synced yet.
        unsynced_from: Option<u64>,
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
                Ok(Self::File {
                    file,
                    path: path.clone(),
                    sync: *sync,
                    length,
                    unsynced_from: None,
                })
            }
        }
    }

    /// The last line of a regular file, without its line feed.
    fn last_line(&self) -> io::Result<Option<Vec<u8>>> {
        let Self::File { file, length, .. } = self else {
            return Ok(None);
        };
        if *length == 0 || !self.is_file() {
            return Ok(None);
        }
        let most = u64::try_from(MAX_LINE + 1).unwrap_or(u64::MAX);
        let from = length.saturating_sub(most);
        let mut bytes = vec![0; usize::try_from(*length - from).unwrap_or_default()];
        file.read_exact_at(&mut bytes, from)?;
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        Ok(text
            .rsplit(|byte| *byte == b'\n')
            .next()
            .map(<[u8]>::to_vec))
    }

    /// Whether it is a regular file.
    fn is_file(&self) -> bool {
        matches!(self, Self::File { file, .. } if file.metadata().is_ok_and(|meta| meta.is_file()))
    }

    /// After a failure: whatever it left behind goes, and there is room again.
    fn recover(&mut self) -> io::Result<()> {
        if let Self::File { file, length, .. } = self {
            let meta = file.metadata()?;
            if meta.is_file() {
                // It may be longer than it should be, or somebody may have cut it meanwhile.
                *length = meta.len().min(*length);
                probe(file, *length)?;
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File {
            file, path, length, ..
        } = self
        {
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

    /// Appends parts in their order, with one write. How many of them are there, and why the next one is
    /// not. Of a regular file, a part is written as a whole or not at all. [`Sink::sync`] makes them safe.
    fn append(&mut self, parts: [&[u8]; PARTS], after_failure: bool) -> (usize, Option<io::Error>) {
        match self {
            Self::Discard => (PARTS, None),
            Self::Stdout => one_by_one(&mut io::stdout().lock(), parts),
            Self::File {
                file,
                length,
                unsynced_from,
                ..
            } => match file.metadata() {
                Ok(meta) if meta.is_file() => {
                    // Somebody may have cut the file: a length that is only remembered would fill it
                    // with zeros.
                    *length = meta.len();
                    *unsynced_from = Some(*length);
                    append_to_file(file, length, parts)
                }
                Ok(_) if after_failure && parts.iter().all(|part| part.is_empty()) => (
                    0,
                    Some(io::Error::other("nothing was written since it failed")),
                ),
                Ok(_) => one_by_one(file, parts),
                Err(error) => (0, Some(error)),
            },
        }
    }

    /// Puts what was appended on stable storage, where that is asked for. If it fails, what the disk has of it is
    /// not known, and it goes.
    fn sync(&mut self) -> io::Result<()> {
        let Self::File {
            file,
            sync: true,
            length,
            unsynced_from,
            ..
        } = self
        else {
            return Ok(());
        };
        let Some(start) = unsynced_from.take() else {
            return Ok(());
        };
        file.sync_data().inspect_err(|_| {
            *length = start;
            let _ = file.set_len(start); // tried again before anything follows: `probe`
        })
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
) -> (usize, Option<io::Error>) {
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
    *length = end;
    (done, failure)
}

/// Whatever a failed attempt left behind goes before anything follows it. "Written again" is said when
/// there is room again, not when there is nothing to write.
fn probe(file: &mut File, length: u64) -> io::Result<()> {
    file.set_len(length)?;
    let room = file
        .write_all(&[b' '; 4_096])
        .and_then(|()| file.sync_data());
    file.set_len(length)?;
    room
}

fn open_append(path: &Path) -> io::Result<File> {
    let file = files::open_log(path).map_err(io::Error::other)?;
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
        let Some(part) = block.get_mut(..length) else {
            break;
        };
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
