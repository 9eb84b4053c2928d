//! The agent's audit log: a line of JSON for each hand-out, with no secret in it. Beyond a rate, hand-outs of the
//! same session to the same workload are counted in one line. A failure to write is logged and shown in the
//! metrics, but credentials are still handed out: the broker has recorded who got the session.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::config::AuditTarget;
use super::metrics::Metrics;
use super::refusal::Refusal;
use super::session::RoleSession;
use crate::base::clock::{Clock, Timestamp};
use crate::files::{self, FileError};

/// How many hand-outs of one second have a line of their own.
const LINES_PER_SECOND: u32 = 100;
/// How many lines may wait until they are written. Those beyond are only counted.
const QUEUE: usize = 1_024;
/// The maximum number of different lines that are counted in a second. Beyond that, they do not name the workload.
const MAX_COUNTED: usize = 1_024;
/// How often the counts are written.
const COUNTED_EVERY: Duration = Duration::from_secs(1);

/// The workload to which something was handed out, and how it showed who it is.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, Hash)]
pub struct Recipient {
    /// `imds`, `container` or `unix`.
    pub listener: &'static str,
    /// The instance, pod, task or program, by the name that the configuration or its token gives it.
    pub workload: String,
    /// What the workload showed, such as `imds-token`.
    pub proof: &'static str,
}

#[derive(Debug, Serialize)]
struct Line {
    time: String,
    event: &'static str,
    #[serde(flatten)]
    recipient: Recipient,
    /// The address and port, or the user and group, of the first of the hand-outs that this line stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    /// `ok`, the AWS code of a refusal, or `Unavailable`.
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// How many hand-outs this line stands for.
    count: u64,
}

#[derive(Default)]
struct Rate {
    second: i64,
    lines: u32,
    /// The hand-outs that are counted together: for each recipient, by the access key, or by the outcome if
    /// nothing was handed out.
    counted: HashMap<Recipient, HashMap<String, Line>>,
}

/// The audit log. A thread of its own writes the lines.
pub struct Audit {
    clock: Arc<dyn Clock>,
    rate: Arc<Mutex<Rate>>,
    queue: SyncSender<Line>,
}

impl Audit {
    /// Opens the log.
    ///
    /// # Errors
    /// The file cannot be opened, or others may read or write it.
    pub fn open(
        target: &AuditTarget,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, FileError> {
        let out: Box<dyn Write + Send> = match target {
            AuditTarget::File(path) => Box::new(files::open_log(path)?),
            AuditTarget::Stdout => Box::new(io::stdout()),
            AuditTarget::Discard => Box::new(io::sink()),
        };
        Ok(Self::to(out, clock, metrics))
    }

    fn to(out: Box<dyn Write + Send>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let (queue, lines) = sync_channel(QUEUE);
        let rate = Arc::new(Mutex::new(Rate::default()));
        metrics.audit_up.set(1);
        let writer = Writer {
            out,
            lines,
            rate: rate.clone(),
            metrics,
        };
        std::thread::spawn(move || writer.run());
        Self { clock, rate, queue }
    }

    /// Records that a session was handed out, or was refused. `peer` describes the other end of the connection,
    /// for listeners where the recipient alone does not.
    pub fn handed_out(
        &self,
        recipient: &Recipient,
        peer: impl FnOnce() -> Option<String>,
        result: Result<&RoleSession, &Refusal>,
    ) {
        let now = self.clock.now();
        let outcome = match result {
            Ok(_) => "ok",
            Err(Refusal::Denied { code, .. }) => code,
            Err(Refusal::Unavailable { .. }) => "Unavailable",
        };
        // Nothing is allocated for what is only counted.
        let line = || line(now, recipient, peer(), outcome, result.ok());
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if rate.second != now.seconds() {
            rate.second = now.seconds();
            rate.lines = 0;
        }
        if rate.lines < LINES_PER_SECOND {
            rate.lines += 1;
            drop(rate);
            match self.queue.try_send(line()) {
                Ok(()) => {}
                Err(TrySendError::Full(line) | TrySendError::Disconnected(line)) => {
                    let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
                    rate.count(line);
                }
            }
            return;
        }
        let session = result.map_or(outcome, |s| &s.credentials.access_key_id);
        let of_recipient = rate.counted.get_mut(recipient);
        match of_recipient.and_then(|lines| lines.get_mut(session)) {
            Some(counted) => counted.count += 1,
            None => rate.count(line()),
        }
    }
}

impl Rate {
    fn count(&mut self, line: Line) {
        let session = line
            .access_key_id
            .clone()
            .unwrap_or_else(|| line.outcome.clone());
        let mut recipient = line.recipient.clone();
        if self.counted.values().map(HashMap::len).sum::<usize>() >= MAX_COUNTED {
            recipient.workload = "others".to_owned();
        }
        let lines = self.counted.entry(recipient.clone()).or_default();
        match lines.get_mut(&session) {
            Some(counted) => counted.count += line.count,
            None => _ = lines.insert(session, Line { recipient, ..line }),
        }
    }
}

fn line(
    now: Timestamp,
    recipient: &Recipient,
    peer: Option<String>,
    outcome: &str,
    session: Option<&RoleSession>,
) -> Line {
    Line {
        time: now.to_string(),
        event: "HandOut",
        recipient: recipient.clone(),
        peer,
        outcome: outcome.to_owned(),
        role_arn: session.map(|s| s.role_arn.clone()),
        session_arn: session.map(|s| s.arn.clone()),
        access_key_id: session.map(|s| s.credentials.access_key_id.clone()),
        expires_at: session.map(|s| s.expires_at.to_string()),
        count: 1,
    }
}

/// Writes lines until the log is dropped.
struct Writer {
    out: Box<dyn Write + Send>,
    lines: Receiver<Line>,
    rate: Arc<Mutex<Rate>>,
    metrics: Arc<Metrics>,
}

impl Writer {
    fn run(mut self) {
        let mut counted_at = Instant::now();
        loop {
            match self.lines.recv_timeout(COUNTED_EVERY) {
                Ok(line) => self.write([line]),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write_counted();
                    return;
                }
            }
            if counted_at.elapsed() >= COUNTED_EVERY {
                counted_at = Instant::now();
                self.write_counted();
            }
        }
    }

    fn write_counted(&mut self) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = std::mem::take(&mut rate.counted);
        drop(rate);
        self.write(counted.into_values().flat_map(HashMap::into_values));
    }

    fn write(&mut self, lines: impl IntoIterator<Item = Line>) {
        for line in lines {
            let mut text = match serde_json::to_vec(&line) {
                Ok(text) => text,
                Err(error) => {
                    tracing::error!(%error, "an audit line could not be made");
                    continue;
                }
            };
            text.push(b'\n');
            let written = self.out.write_all(&text).and_then(|()| self.out.flush());
            match written {
                Ok(()) => _ = self.metrics.audit_up.set(1),
                Err(error) => {
                    self.metrics.audit_up.set(0);
                    tracing::error!(%error, "an audit line could not be written");
                }
            };
        }
    }
}
