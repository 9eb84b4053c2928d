//! The agent's audit log: a line of JSON for each hand-out, with no secret in it. If there are too many lines in a
//! second, hand-outs of the same session to the same workload are counted in one line. A failure to write is logged and
//! shown in the metrics, but credentials are still handed out: the broker has recorded who got the session.

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
use crate::base::clock::Timestamp;
use crate::files::{self, FileError};

/// How many hand-outs of one second have a line of their own.
const LINES_PER_SECOND: u32 = 100;
/// How many lines may wait until they are written. While the queue is full, further hand-outs are only counted.
const QUEUE: usize = 1_024;
/// The maximum number of different lines that are counted in a second. Further hand-outs are counted for the workload
/// `others`.
const MAX_COUNTED: usize = 1_024;
/// How often the lines that count several hand-outs are written.
const COUNTED_EVERY: Duration = Duration::from_secs(1);

/// The workload to which something was handed out, and the proof that the workload showed.
#[derive(Debug, Clone, Serialize, PartialEq, Eq, Hash)]
pub struct Recipient {
    /// The kind of listener: `imds`, `container` or `unix`.
    pub listener: &'static str,
    /// The instance, pod, task or program, by the name that the configuration or its token gives it.
    pub workload: String,
    /// The name of the proof that the workload showed, such as `imds-token`.
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
    /// The result of the hand-out: `ok`, the AWS code of a refusal, or `Unavailable`.
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

impl Line {
    /// The text by which the counted lines of one recipient are found: the access key, or the outcome if nothing was
    /// handed out.
    fn session(&self) -> &str {
        self.access_key_id.as_deref().unwrap_or(&self.outcome)
    }
}

#[derive(Default)]
struct Rate {
    second: i64,
    lines: u32,
    /// The lines that each count several hand-outs, until the writer takes them.
    counted: Vec<Line>,
    /// The index of each line in `counted`: by recipient, and then by [`Line::session`].
    places: HashMap<Recipient, HashMap<String, usize>>,
    /// The place of the line that was counted last. Most hand-outs belong to the same line, so it is tried first.
    last: usize,
}

/// The audit log. A separate thread writes the lines, so that requests do not wait for the disk.
pub struct Audit {
    rate: Arc<Mutex<Rate>>,
    queue: SyncSender<Line>,
}

impl Audit {
    /// Opens the log, and starts the thread that writes it.
    ///
    /// # Errors
    /// The file cannot be opened, or others may read or write it.
    pub fn open(target: &AuditTarget, metrics: Arc<Metrics>) -> Result<Self, FileError> {
        let out: Box<dyn Write + Send> = match target {
            AuditTarget::File(path) => Box::new(files::open_log(path)?),
            AuditTarget::Stdout => Box::new(io::stdout()),
            AuditTarget::Discard => Box::new(io::sink()),
        };
        Ok(Self::to(out, metrics))
    }

    fn to(out: Box<dyn Write + Send>, metrics: Arc<Metrics>) -> Self {
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
        Self { rate, queue }
    }

    /// Records that a session was handed out, or was refused, to a caller that asked at `now`. `peer` describes the
    /// other end of the connection, on listeners whose recipients do not identify it.
    pub fn handed_out(
        &self,
        now: Timestamp,
        recipient: &Recipient,
        peer: impl FnOnce() -> Option<String>,
        result: Result<&RoleSession, &Refusal>,
    ) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(Refusal::Denied { code, .. }) => code,
            Err(Refusal::Unavailable { .. }) => "Unavailable",
        };
        // Nothing is allocated for what is only counted.
        let line = || line(now, recipient, peer(), outcome, result.ok());
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if rate.second < now.seconds() {
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
        match rate.counted(recipient, session) {
            Some(counted) => counted.count += 1,
            None => rate.count(line()),
        }
    }
}

impl Rate {
    /// The line in which hand-outs of a session to a recipient are counted; `None` if there is no such line yet.
    fn counted(&mut self, recipient: &Recipient, session: &str) -> Option<&mut Line> {
        let is_it = |line: &Line| line.session() == session && line.recipient == *recipient;
        // To compare is faster than to hash.
        if !self.counted.get(self.last).is_some_and(is_it) {
            self.last = *self.places.get(recipient)?.get(session)?;
        }
        self.counted.get_mut(self.last)
    }

    fn count(&mut self, mut line: Line) {
        if self.counted.len() >= MAX_COUNTED {
            line.recipient.workload = "others".to_owned();
        }
        let session = line.session().to_owned();
        let counted = self.counted(&line.recipient, &session);
        if let Some(counted) = counted {
            counted.count += line.count;
            return;
        }
        self.last = self.counted.len();
        let places = self.places.entry(line.recipient.clone()).or_default();
        places.insert(session, self.last);
        self.counted.push(line);
    }

    fn take_counted(&mut self) -> Vec<Line> {
        self.places.clear();
        std::mem::take(&mut self.counted)
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
        let counted = rate.take_counted();
        drop(rate);
        self.write(counted);
    }

    fn write(&mut self, lines: impl IntoIterator<Item = Line>) {
        for line in lines {
            let mut text = match serde_json::to_vec(&line) {
                Ok(text) => text,
                Err(error) => {
                    tracing::error!(%error, "an audit record could not be written as JSON, and is lost; the agent \
                        still hands out credentials");
                    continue;
                }
            };
            text.push(b'\n');
            let written = self.out.write_all(&text).and_then(|()| self.out.flush());
            match written {
                Ok(()) => _ = self.metrics.audit_up.set(1),
                Err(error) => {
                    self.metrics.audit_up.set(0);
                    tracing::error!(%error, "a line could not be written to the audit log of this agent; the agent \
                        still hands out credentials");
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use serde_json::Value;

    use super::*;
    use crate::agent::session::tests::answered;

    /// Sends each line that is written to it.
    struct Out(Sender<Value>);

    impl Write for Out {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.send(serde_json::from_slice(line).unwrap()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_hand_out_is_in_a_line_of_its_workload_and_session() {
        let at = Timestamp::from_seconds;
        let role = "arn:aws:iam::111122223333:role/App";
        let sessions = ["ASIA1", "ASIA2"]
            .map(|key| RoleSession::new(role, answered(key, at(0), at(3_600))).unwrap());
        let refusal = Refusal::Unavailable {
            reason: "the broker has not answered yet".to_owned(),
        };
        let results = [Ok(&sessions[0]), Ok(&sessions[1]), Err(&refusal)];
        let recipients = ["one", "two"].map(|workload| Recipient {
            listener: "container",
            workload: workload.to_owned(),
            proof: "container-token",
        });
        let (out, lines) = channel();
        let audit = Audit::to(Box::new(Out(out)), Arc::new(Metrics::new()));
        // Runs of the same, and changes at each: the line that was counted last, and others.
        for round in 0..3_000 {
            let recipient = &recipients[round / 7 % 2];
            let result = results[if round < 1_000 {
                round % 3
            } else {
                round / 100 % 3
            }];
            audit.handed_out(at(1), recipient, || Some("127.0.0.1:1".to_owned()), result);
        }
        drop(audit);
        let lines: Vec<Value> = lines.iter().collect();
        let own = lines.iter().filter(|line| line["count"] == 1).count();
        assert!(own >= usize::try_from(LINES_PER_SECOND).unwrap());
        assert!(lines.len() < 200, "{} lines", lines.len());
        for (place, recipient) in recipients.iter().enumerate() {
            for (kind, outcome) in [("ASIA1", "ok"), ("ASIA2", "ok"), ("", "Unavailable")]
                .iter()
                .enumerate()
            {
                let of_kind = lines.iter().filter(|line| {
                    line["workload"] == recipient.workload
                        && line["outcome"] == outcome.1
                        && line["access_key_id"].as_str().unwrap_or_default() == outcome.0
                });
                let counted: u64 = of_kind.map(|line| line["count"].as_u64().unwrap()).sum();
                let expected = (0..3_000).filter(|round| {
                    let result = if *round < 1_000 {
                        round % 3
                    } else {
                        round / 100 % 3
                    };
                    round / 7 % 2 == place && result == kind
                });
                let expected = u64::try_from(expected.count()).unwrap();
                assert_eq!(counted, expected, "{recipient:?} {outcome:?}");
            }
        }
    }
}
