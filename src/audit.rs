//! The audit log: one JSON line per call in CloudTrail's event shape, on stable storage before a
//! credential leaves. Knows outcomes, not requests.
//!
//! One thread writes. Calls that hand something out wait for the sync that covers their line, and
//! one sync covers all that wait; the lines of other calls go out within [`FLUSH_EVERY`]. When the
//! log cannot be written nobody gets an answer that needs it: the queue is bounded and every wait
//! has a deadline.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::clock::Timestamp;
use crate::metrics::Metrics;

/// The longest wait for a line to be on stable storage.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// How long a line that nobody waits for may stay in memory.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// How long the writer gathers lines before it writes, while calls come side by side: one write and
/// one sync then serve many. A call that comes alone does not wait for it.
const GATHER: Duration = Duration::from_millis(1);
/// After so many calls in a row that came alone, one is held up to see whether others come with it.
const LOOK_EVERY: u32 = 16;
/// How many bytes of such lines go out at once without that wait.
const FLUSH_AT: usize = 256 << 10;
/// The most bytes in memory; beyond that calls are refused.
const MAX_QUEUED: usize = 16 << 20;
/// How often a log that could not be written is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// The longest foreign text in a record, in characters.
const MAX_TEXT: usize = 512;

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
    pub event_name: String,
    /// The region of the call's scope, or the broker's own.
    pub aws_region: String,
    /// From which address.
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
    /// Also in the answer.
    #[serde(rename = "requestID")]
    pub request_id: String,
    /// Of this record alone.
    #[serde(rename = "eventID")]
    pub event_id: String,
    /// As in CloudTrail: an STS call changes no resource; a change of the feed does.
    pub read_only: bool,
    /// `AwsApiCall`; `BrevetChange` for a change of the feed.
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

/// Foreign text for a record: at most 512 characters.
pub fn clip(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// The log's handle; clones share one writer.
pub struct Audit {
    shared: Arc<Shared>,
    discard: bool,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    /// Lines whose calls wait.
    awaited: Vec<u8>,
    waiters: Vec<oneshot::Sender<Result<(), AuditError>>>,
    /// Lines whose calls were answered.
    deferred: Vec<u8>,
    /// The last attempt failed.
    failing: bool,
    /// The writer is waiting for work.
    idle: bool,
    reopen: bool,
    closing: bool,
}

impl Audit {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be opened for appending within the deadline.
    pub fn open(target: &Target, metrics: Arc<Metrics>) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), metrics });
        let (opened, wait) = std::sync::mpsc::sync_channel(1);
        let writer = {
            let (shared, target) = (shared.clone(), target.clone());
            // Opened on its own thread: a FIFO without a reader blocks, and must not block the start.
            std::thread::Builder::new().name("audit".into()).spawn(move || match Sink::open(&target) {
                Ok(sink) => {
                    let _ = opened.send(Ok(())); // the opener may have given up
                    write_until_closed(&shared, sink);
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
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
        Ok(Self { shared, discard: *target == Target::Discard, writer: Mutex::new(Some(writer)) })
    }

    /// Whether the last attempt to write went well.
    pub fn is_up(&self) -> bool {
        !self.shared.lock().failing
    }

    /// Puts a record in the queue of those that nobody waits for.
    ///
    /// # Errors
    /// When the queue is full: no record, no answer.
    pub fn defer(&self, record: &Record) -> Result<(), AuditError> {
        if self.discard {
            return Ok(());
        }
        let mut state = self.shared.lock();
        if state.deferred.len() + state.awaited.len() > MAX_QUEUED {
            return Err(AuditError);
        }
        line(&mut state.deferred, record)?;
        if state.deferred.len() > FLUSH_AT && state.idle {
            state.idle = false;
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Puts a record on stable storage.
    ///
    /// # Errors
    /// When that cannot be done within the deadline. The caller must then release nothing.
    pub async fn commit(&self, record: &Record) -> Result<(), AuditError> {
        if self.discard {
            return Ok(());
        }
        let done = {
            let mut state = self.shared.lock();
            if state.deferred.len() + state.awaited.len() > MAX_QUEUED {
                return Err(AuditError);
            }
            line(&mut state.awaited, record)?;
            let (sender, done) = oneshot::channel();
            state.waiters.push(sender);
            if state.idle {
                state.idle = false;
                self.shared.work.notify_one();
            }
            done
        };
        match tokio::time::timeout(DEADLINE, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(AuditError),
            Err(_) => {
                // The writer hangs in the system: readiness must say so before it comes back.
                self.shared.fail("it hangs");
                Err(AuditError)
            }
        }
    }

    /// Opens the file anew before the next line: for log rotation.
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
    }

    /// Writes what is queued and ends the writer.
    pub fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A writer that hangs in the system is left behind: everything it holds was refused.
        if let Some(writer) = writer
            && self.is_up()
        {
            let _ = writer.join(); // a panic there has been reported by the runtime
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, reason: &str) {
        let mut state = self.lock();
        if !state.failing {
            state.failing = true;
            self.metrics.audit_up.set(0);
            tracing::error!(reason, "the audit log cannot be written; nothing is issued until it can");
        }
    }
}

fn write_until_closed(shared: &Shared, mut sink: Sink) {
    let (mut awaited, mut deferred) = (Vec::new(), Vec::new());
    let (mut gather, mut alone) = (false, 0u32);
    loop {
        {
            let mut state = shared.lock();
            if state.waiters.is_empty() && !state.closing {
                let wait = if state.failing { RETRY_EVERY } else { FLUSH_EVERY };
                state.idle = true;
                state = shared.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                state.idle = false;
            }
        }
        if gather {
            std::thread::sleep(GATHER);
        }
        let (waiters, reopen, closing) = {
            let mut state = shared.lock();
            // The emptied buffers of the last round become the queue of this one.
            std::mem::swap(&mut state.awaited, &mut awaited);
            std::mem::swap(&mut state.deferred, &mut deferred);
            (std::mem::take(&mut state.waiters), std::mem::take(&mut state.reopen), state.closing)
        };
        // A fast disk never lets calls pile up by itself: now and then one round looks whether they would.
        alone = if waiters.len() > 1 { 0 } else { alone.wrapping_add(1) };
        gather = alone % LOOK_EVERY == 0;
        if reopen && let Err(error) = sink.reopen() {
            tracing::error!(%error, "the audit log cannot be opened anew; the old file goes on");
        }
        let failing = shared.lock().failing;
        let result = if deferred.is_empty() && awaited.is_empty() && !failing {
            Ok(())
        } else {
            sink.append(&deferred, &awaited, failing)
        };
        let outcome = match &result {
            Ok(()) => Ok(()),
            Err(_) => Err(AuditError),
        };
        let mut state = shared.lock();
        match result {
            // A waiter may have called a write that took too long a failure: it is over now.
            Ok(()) if state.failing => {
                state.failing = false;
                shared.metrics.audit_up.set(1);
                tracing::info!("the audit log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                // Lines of refused calls go with them; lines of answered calls are kept for later.
                deferred.extend_from_slice(&state.deferred);
                std::mem::swap(&mut state.deferred, &mut deferred);
                drop(state);
                shared.fail(&error.to_string());
                state = shared.lock();
            }
        }
        drop(state);
        awaited.clear();
        deferred.clear();
        for waiter in waiters {
            let _ = waiter.send(outcome); // its call may have hit the deadline
        }
        if closing {
            return;
        }
        if outcome.is_err() {
            std::thread::sleep(RETRY_EVERY);
        }
    }
}

/// Appends one line of ASCII JSON.
fn line(buffer: &mut Vec<u8>, record: &Record) -> Result<(), AuditError> {
    let start = buffer.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *buffer, Ascii);
    if record.serialize(&mut serializer).is_err() {
        buffer.truncate(start);
        return Err(AuditError);
    }
    buffer.push(b'\n');
    Ok(())
}

/// Escapes everything beyond ASCII, so that no reader takes U+2028 for the end of a line.
struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        write_ascii(writer, fragment)
    }

    fn write_raw_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // Raw JSON of our own making: outside of strings it has nothing beyond ASCII.
        write_ascii(writer, fragment)
    }
}

fn write_ascii<W: ?Sized + Write>(writer: &mut W, fragment: &str) -> io::Result<()> {
    let plain = |c: char| c.is_ascii() && c != '\u{7f}';
    if fragment.chars().all(plain) {
        return writer.write_all(fragment.as_bytes());
    }
    for c in fragment.chars() {
        if plain(c) {
            write!(writer, "{c}")?;
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
    }
    Ok(())
}

enum Sink {
    File { file: File, path: PathBuf, sync: bool, length: u64 },
    Stdout,
    Discard,
}

impl Sink {
    fn open(target: &Target) -> io::Result<Self> {
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

    /// Writes whole lines or none: after a failure the file ends where it ended before.
    fn append(&mut self, first: &[u8], second: &[u8], after_failure: bool) -> io::Result<()> {
        match self {
            Self::Discard => Ok(()),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(first)?;
                out.write_all(second)?;
                out.flush()
            }
            Self::File { file, sync, length, .. } => {
                let regular = file.metadata()?.is_file();
                if regular && after_failure {
                    // Whatever the failed attempt left behind goes before anything follows it.
                    file.set_len(*length)?;
                    // "Written again" is said when there is room again, not when there is nothing to write.
                    let room = file.write_all(&[b' '; 4096]).and_then(|()| file.sync_data());
                    file.set_len(*length)?;
                    room?;
                } else if after_failure && first.is_empty() && second.is_empty() {
                    return Err(io::Error::other("only a write will tell"));
                }
                let written = file.write_all(first).and_then(|()| file.write_all(second));
                let synced = written.and_then(|()| if regular && *sync { file.sync_data() } else { Ok(()) });
                match synced {
                    Ok(()) => *length += u64::try_from(first.len() + second.len()).unwrap_or_default(),
                    Err(_) if regular => file.set_len(*length)?,
                    Err(_) => {}
                }
                synced
            }
        }
    }
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
    use std::os::unix::fs::FileExt;
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

/// An empty record to fill in.
pub fn record(event_name: &str, now: Timestamp, request_id: String, event_id: String) -> Record {
    Record {
        event_version: "1.11",
        user_identity: UserIdentity { r#type: "Unknown".into(), ..UserIdentity::default() },
        event_time: now.to_string(),
        event_source: "sts.amazonaws.com",
        event_name: clip(event_name),
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
mod tests {
    use super::*;

    fn sample(name: &str) -> Record {
        record(name, Timestamp::from_seconds(0), "r".into(), "e".into())
    }

    fn audit(path: &Path) -> Audit {
        Audit::open(&Target::File { path: path.to_owned(), sync: true }, Arc::new(Metrics::new())).unwrap()
    }

    #[tokio::test]
    async fn au_05_hostile_text_stays_on_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = audit(&path);
        let hostile = "a\r\nb\u{1b}[31m\u{2028}\u{2029}\u{85}\"}\u{1f600}\u{7f}";
        let mut record = sample(hostile);
        record.user_agent = Some(clip(&"x".repeat(65_536)));
        audit.commit(&record).await.unwrap();
        audit.close();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.is_ascii() && text.ends_with('\n'));
        assert_eq!(text.matches('\n').count(), 1);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["eventName"], hostile);
        assert_eq!(json["userAgent"].as_str().unwrap().len(), MAX_TEXT);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn au_01_a_full_disk_releases_nothing() {
        let full =
            Audit::open(&Target::File { path: "/dev/full".into(), sync: true }, Arc::new(Metrics::new())).unwrap();
        assert_eq!(full.commit(&sample("a")).await, Err(AuditError));
        assert!(!full.is_up());
    }

    #[tokio::test]
    async fn a_torn_tail_is_cut_off_and_rotation_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        std::fs::write(&path, "{\"whole\":1}\n{\"torn\":").unwrap();
        let audit = audit(&path);
        audit.commit(&sample("first")).await.unwrap();
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        audit.reopen();
        audit.commit(&sample("second")).await.unwrap();
        audit.defer(&sample("third")).unwrap();
        audit.close();
        let old = std::fs::read_to_string(dir.path().join("old")).unwrap();
        assert!(old.starts_with("{\"whole\":1}\n{\"eventVersion\"") && old.lines().count() == 2, "{old}");
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    }
}
