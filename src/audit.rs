//! The audit log: one JSON line per call in CloudTrail's event shape, on stable storage before a
//! credential leaves. Knows outcomes, not requests.
//!
//! One thread writes. There are three queues, each with a bound of its own, so that what anybody can
//! cause never stands in the way of what somebody was granted:
//!
//! - lines of calls that hand out credentials or change something: their answer waits for the write
//!   (and the sync) that covers the line, and one write covers all that wait;
//! - lines of other successful calls, which follow within a second;
//! - lines of refusals, of which only so many are written in a second; the others are counted
//!   ([`refusals`]) and written as one line for each kind.
//!
//! When the disk gets full, refusals are only counted first, then reads are refused; the rest belongs
//! to the first queue. `docs/audit.md` has all of it for operators.

mod chain;
pub mod head;
mod line;
mod local;
mod refusals;
mod room;
pub mod verify;
mod writer;

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

pub use chain::Link;
pub use line::{MAX_LINE, MAX_REFUSAL};
pub use local::{Deed, LocalLog, Phase};
pub use refusals::MAX_KINDS;
pub use room::{Room, room};

use crate::base::clock::{Clock, Timestamp};
use crate::base::digest;
use crate::base::entropy::{self, Entropy};
use crate::budgets;
use crate::metrics::{Metrics, Shed};
use refusals::{Counted, Kind, Rate};

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
/// How many bytes of refusals are written in a second, of calls that proved nothing and of others.
const UNPROVEN_PER_SECOND: i64 = 64 << 10;
const PROVEN_PER_SECOND: i64 = 256 << 10;
/// How many bytes of the lines of calls that only ask who they are, GetCallerIdentity, are written in a
/// second.
const IDENTITIES_PER_SECOND: i64 = 1 << 20;
/// For how many seconds' worth of such lines a quiet log has room at once.
const BURST_SECONDS: i64 = 4;
/// How many bytes of lines that nobody waits for wake the writer.
const FLUSH_AT: usize = 256 << 10;
/// Single refusals are written while more than a fifth of the file system is free, or more than this.
const FREE_FOR_REFUSALS: u64 = 1 << 30;
/// Reads have lines of their own while more than a tenth is free, or more than this.
const FREE_FOR_READS: u64 = 512 << 20;

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
    /// Nowhere. Development alone.
    Discard,
}

/// The record could not be made safe in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct AuditError;
/// One call, as CloudTrail's record contents describe it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The version of this shape.
    pub event_version: &'static str,
    /// Who called.
    pub user_identity: UserIdentity,
    /// When, to the second.
    pub event_time: String,
    /// `sts.amazonaws.com`
    pub event_source: &'static str,
    /// The action; as asked when it is none of ours.
    pub event_name: Cow<'static, str>,
    /// The region of the call's scope, or the broker's own.
    pub aws_region: String,
    /// From which address; of counted refusals it may be a /64.
    #[serde(rename = "sourceIPAddress")]
    pub source_ip_address: String,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// Of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<&'static str>,
    /// Of a refusal: what the caller was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// What was asked; never a secret.
    pub request_parameters: Option<Box<RawValue>>,
    /// What was answered; never a secret and no token.
    pub response_elements: Option<Box<RawValue>>,
    /// What the caller was not told: which statement decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_event_data: Option<Box<RawValue>>,
    /// Also in the answer; empty in a record of several calls.
    #[serde(rename = "requestID", skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Of this record alone.
    #[serde(rename = "eventID")]
    pub event_id: String,
    /// As in CloudTrail: an STS call changes no resource; a change of the feed does.
    pub read_only: bool,
    /// `AwsApiCall`; `BrevetChange` for a change of the feed; `BrevetAggregate` for refusals that were
    /// counted; `BrevetCommand` for a command on the broker's machine.
    pub event_type: &'static str,
    /// Always.
    pub management_event: bool,
    /// The account of what was asked about.
    pub recipient_account_id: Option<String>,
    /// `Management`
    pub event_category: &'static str,
}

/// Who called.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserIdentity {
    /// `IAMUser`, `AssumedRole`, `FederatedUser`, `WebIdentityUser`, `Operator`, or `Unknown` for a call that proved nothing.
    pub r#type: Cow<'static, str>,
    /// `AIDA…` or `AROA…:SESSION`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
    /// Of the principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// Of the principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// The key that signed; of an unknown caller the key that was claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Of a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// Of a web identity: the provider's ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_provider: Option<String>,
    /// Of temporary credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_context: Option<SessionContext>,
}

/// Where a session came from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionContext {
    /// The role, or the user who vouches; a user's own session has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_issuer: Option<SessionIssuer>,
    /// Since when.
    pub attributes: SessionAttributes,
    /// Who stands behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_identity: Option<String>,
}

/// The principal behind a session.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionIssuer {
    /// `Role`, `IAMUser`
    pub r#type: &'static str,
    /// `AROA…`, `AIDA…`
    pub principal_id: String,
    /// Of the role.
    pub arn: String,
    /// Of the role.
    pub account_id: String,
    /// Its name.
    pub user_name: String,
}

/// When a session began.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionAttributes {
    /// When it was issued.
    pub creation_date: String,
    /// `true` or `false`
    pub mfa_authenticated: &'static str,
}

/// A caller's text for places that are not a refusal's record, where it is not cut again: at most 512
/// characters.
pub fn clip(text: &str) -> String {
    match text.char_indices().nth(line::MAX_TEXT) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
        None => text.to_owned(),
    }
}

/// At most so many bytes of a text as a line has it, where a character beyond ASCII takes up to twelve.
pub fn clip_written(text: &str, bytes: usize) -> &str {
    let mut written = 0;
    let end = text.char_indices().find(|(_, c)| {
        written += if c.is_ascii() { 1 } else { 6 * c.len_utf16() };
        written > bytes
    });
    end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// What a record says of a document that a caller chose, such as a session policy: which one it was,
/// and not its text, which may be long.
#[derive(Debug, Serialize)]
pub struct Digest {
    /// In hexadecimal, of its bytes.
    sha256: String,
    /// In bytes.
    length: usize,
}

impl Digest {
    /// Of a document.
    pub fn of(document: &str) -> Self {
        Self {
            sha256: digest::hex(&digest::sha256(document.as_bytes())),
            length: document.len(),
        }
    }
}

/// What the log needs of the broker around it.
pub struct Surroundings {
    /// For the rate of refusals, and for when they were counted.
    pub clock: Arc<dyn Clock>,
    /// For the identifiers of records that the log makes itself.
    pub entropy: Arc<dyn Entropy>,
    /// Where it is told what became of the records.
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

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: Arc<Metrics>,
    region: String,
}

/// How many parts a round of writing has: [`Lines::parts`].
const PARTS: usize = 4;

/// Lines in memory.
#[derive(Default)]
struct Lines {
    /// Answers wait for these.
    awaited: Vec<u8>,
    /// Changes that took effect, whatever becomes of their records.
    changes: Vec<u8>,
    /// Successful calls that handed out nothing, and were answered.
    reads: Vec<u8>,
    /// Refusals one by one, and records of counted ones.
    refusals: Vec<u8>,
}

impl Lines {
    /// In the order in which they are written.
    fn parts(&self) -> [&[u8]; PARTS] {
        [&self.awaited, &self.changes, &self.reads, &self.refusals]
    }

    fn buffers(&mut self) -> [&mut Vec<u8>; PARTS] {
        [
            &mut self.awaited,
            &mut self.changes,
            &mut self.reads,
            &mut self.refusals,
        ]
    }

    fn lengths(&self) -> [usize; PARTS] {
        self.parts().map(<[u8]>::len)
    }

    fn is_empty(&self) -> bool {
        self.parts().iter().all(|part| part.is_empty())
    }

    /// Empties the buffers, and gives back those that hold more than `keep` bytes.
    fn clear(&mut self, keep: usize) {
        for buffer in self.buffers() {
            match buffer.capacity() > keep {
                true => *buffer = Vec::new(),
                false => buffer.clear(),
            }
        }
    }
}

/// The file system of the log: how large it is, and how much of it is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    free: u64,
    total: u64,
}

impl Space {
    /// None for a file system that does not say how large it is.
    fn new(free: u64, total: u64) -> Option<Self> {
        (total > 0).then_some(Self { free, total })
    }

    /// Something was written since the last look.
    fn take(&mut self, bytes: usize) {
        self.free = self
            .free
            .saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Whether more than a share of the whole, or more than `most`, is free beside `queued` bytes.
    fn leaves(&self, queued: usize, share: u64, most: u64) -> bool {
        let mut rest = *self;
        rest.take(queued);
        rest.free > (self.total / share).min(most)
    }
}

struct State {
    queued: Lines,
    /// The lengths of what is being written just now: it counts towards the bounds.
    writing: [usize; PARTS],
    waiters: Vec<oneshot::Sender<Result<(), AuditError>>>,
    /// Refusals that get no line of their own.
    counted: Counted,
    unproven: Rate,
    proven: Rate,
    identities: Rate,
    /// As it was last seen, less what was written since; none: nothing is known of it.
    space: Option<Space>,
    /// The last attempt failed.
    failing: bool,
    /// The writer is waiting for work.
    idle: bool,
    reopen: bool,
    closing: bool,
}

impl State {
    /// Bytes in memory, by part.
    fn lengths(&self) -> [usize; PARTS] {
        let mut lengths = self.queued.lengths();
        for (length, writing) in lengths.iter_mut().zip(self.writing) {
            *length += writing;
        }
        lengths
    }

    fn leaves(&self, share: u64, most: u64) -> bool {
        self.space
            .is_none_or(|space| space.leaves(self.lengths().iter().sum(), share, most))
    }

    fn has_room_for_refusals(&self) -> bool {
        self.leaves(5, FREE_FOR_REFUSALS)
    }

    fn has_room_for_reads(&self) -> bool {
        self.leaves(10, FREE_FOR_READS)
    }

    /// The rate that a refusal's line counts for.
    fn rate(&mut self, record: &Record) -> &mut Rate {
        match record.user_identity.r#type.as_ref() {
            "Unknown" => &mut self.unproven,
            _ => &mut self.proven,
        }
    }

    /// Keeps the parts of a batch from the first one that was not written, but for those whose callers
    /// were told that nothing was granted.
    fn put_back(&mut self, batch: &mut Lines, done: usize) {
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
        let now = clock.monotonic();
        let rate = |per_second| Rate::new(per_second, per_second * BURST_SECONDS, now);
        let state = Mutex::new(State {
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
        });
        let shared = Arc::new(Shared {
            state,
            work: Condvar::new(),
            clock,
            entropy,
            metrics,
            region,
        });
        let (opened, wait) = std::sync::mpsc::sync_channel(1);
        let writer = {
            let (shared, target) = (shared.clone(), target.clone());
            // Opening a FIFO waits for a reader; the thread waits, the start does not.
            std::thread::Builder::new()
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
                })?
        };
        match wait.recv_timeout(DEADLINE) {
            Ok(result) => result?,
            Err(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "nobody reads it (it could not be opened within 2 s)",
                ));
            }
        }
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, state: &mut State) {
        if std::mem::take(&mut state.idle) {
            self.work.notify_one();
        }
    }

    /// Lines that nobody waits for go out soon by themselves; many of them at once.
    fn flush(&self, state: &mut State) {
        let [_, unawaited @ ..] = state.queued.lengths();
        if unawaited.iter().sum::<usize>() > FLUSH_AT && !state.failing {
            self.wake(state);
        }
    }

    /// Notes whether the log is written, and logs it when that is news: not with the lock in hand, since
    /// whoever reads the broker's own log may be slow.
    fn tell(&self, is_up: bool, reason: &str) {
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

    fn shed(&self) {
        self.metrics
            .shed
            .get_or_create(&Shed { reason: "audit" })
            .inc();
    }
}

fn uuid(entropy: &dyn Entropy) -> String {
    let bytes = entropy::bytes::<16>(entropy).unwrap_or_default();
    uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// An empty record to fill in.
pub fn record(
    event_name: impl Into<Cow<'static, str>>,
    now: Timestamp,
    request_id: String,
    event_id: String,
) -> Record {
    Record {
        event_version: "1.11",
        user_identity: UserIdentity {
            r#type: "Unknown".into(),
            ..UserIdentity::default()
        },
        event_time: now.to_string(),
        event_source: "sts.amazonaws.com",
        event_name: event_name.into(),
        aws_region: String::new(),
        source_ip_address: String::new(),
        user_agent: None,
        error_code: None,
        error_message: None,
        request_parameters: None,
        response_elements: None,
        additional_event_data: None,
        request_id,
        event_id,
        read_only: true,
        event_type: "AwsApiCall",
        management_event: true,
        recipient_account_id: None,
        event_category: "Management",
    }
}
#[cfg(test)]
mod tests;
