//! The audit log of commands on the broker's own machine: a file next to the broker's log, in the same format. A
//! command never appends to the broker's own log, whose lines must be written in order by one process.
//!
//! A command writes a record before it does anything, and another one when it has ended. The file is
//! opened for each record, so that log rotation may rename it at any time.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde_json::value::to_raw_value;

use super::chain::{self, Chained, Link};
use super::head::{self, HeadFile};
use super::record::{Record, SourceAddress, record};
use super::{AuditError, Target, line, uuid};
use crate::base::clock::Timestamp;
use crate::base::entropy::Entropy;
use crate::files::{self, Audience, FileError};

/// The maximum wait for another command that is writing its record.
const WAIT: Duration = Duration::from_secs(2);
/// The interval between attempts to lock the file.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The log of the commands of one broker.
#[derive(Debug, Clone)]
pub struct LocalLog {
    path: PathBuf,
}

/// A run of a command that changes the broker's data or copies secrets.
pub struct Deed {
    /// The name of the event, such as `RestoreStore` or `ExportDirectory`.
    pub name: &'static str,
    /// The Unix user who runs the command, as in `uid 0 (root), login uid 1000 (alice)`; `None` if the user is not
    /// known.
    pub user_name: Option<String>,
    /// The arguments of the command, without secrets.
    pub parameters: serde_json::Value,
    /// The id that all records of one run share.
    pub request_id: String,
}

/// How far a command has come when it writes a record.
pub enum Phase<'a> {
    /// The command is about to begin; nothing has been done.
    Begun,
    /// The command succeeded; holds its result.
    Done(&'a serde_json::Value),
    /// The command failed; holds the error.
    Failed(&'a str),
}

impl LocalLog {
    /// The log next to a broker's audit log, such as `audit.commands.jsonl` for `audit.jsonl`. If the
    /// broker's log is not a file, it is in `folder`.
    pub fn of(target: &Target, folder: &Path) -> Self {
        match target {
            Target::File { path, .. } if path.is_file() || !path.exists() => {
                let stem = path.file_stem().unwrap_or_default();
                let mut name = stem.to_owned();
                name.push(".commands");
                if let Some(extension) = path.extension() {
                    name.push(".");
                    name.push(extension);
                }
                Self {
                    path: path.with_file_name(name),
                }
            }
            _ => Self {
                path: folder.join("audit.commands.jsonl"),
            },
        }
    }

    /// The file that keeps the head of this log's hash chain.
    pub fn head(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".head");
        name.into()
    }

    #[cfg(any(test, feature = "internals"))]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that a record can be written, as far as is possible without writing one.
    ///
    /// # Errors
    /// [`FileError`] names the file and why it cannot be written.
    pub fn is_writable(&self) -> Result<(), FileError> {
        let io = |source: io::Error| FileError::Io {
            path: self.path.clone(),
            source,
        };
        let place = if self.path.exists() {
            &*self.path
        } else {
            files::folder(&self.path)
        };
        if self.path.exists() {
            files::check(&self.path, Audience::Owner)?;
        }
        rustix::fs::access(place, rustix::fs::Access::WRITE_OK).map_err(|error| io(error.into()))
    }

    /// Writes a record to stable storage.
    ///
    /// # Errors
    /// [`FileError`] names the file and why it cannot be written. Unless the command ends access, it must then not
    /// begin.
    pub fn write(
        &self,
        deed: &Deed,
        phase: Phase<'_>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<(), FileError> {
        let mut record = record(deed.name, now, &*deed.request_id, uuid(entropy));
        record.event_type = "BrevetCommand";
        record.event_source = "brevet";
        record.read_only = false;
        record.source_ip_address = SourceAddress::Host("localhost");
        record.user_agent = Some(concat!("brevet/", env!("CARGO_PKG_VERSION")).into());
        record.user_identity.r#type = "Operator".into();
        record.user_identity.user_name = deed.user_name.as_deref().map(Cow::from);
        record.request_parameters = to_raw_value(&deed.parameters).ok();
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let state = match phase {
            Phase::Begun => "begun",
            Phase::Done(result) => {
                record.response_elements = to_raw_value(result).ok();
                "done"
            }
            Phase::Failed(why) => {
                record.error_code = Some("CommandFailed");
                record.error_message = Some(super::clip(why));
                "failed"
            }
        };
        record.additional_event_data =
            to_raw_value(&serde_json::json!({"state": state, "host": host})).ok();
        self.append(&record)
    }

    fn append(&self, record: &Record<'_>) -> Result<(), FileError> {
        let io = |source| FileError::Io {
            path: self.path.clone(),
            source,
        };
        let line = line::whole(record).map_err(|AuditError| {
            io(io::Error::other("the record could not be written as JSON"))
        })?;
        let is_new = !self.path.exists();
        if !is_new {
            files::check(&self.path, Audience::Owner)?;
        }
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags)
            .open(&self.path);
        let mut file = file.map_err(io)?;
        lock(&file).map_err(io)?;
        let length = whole_lines(&file).map_err(io)?;
        let last = last_link(&file, length).map_err(io)?;
        let link = going_on(head::load_in_place(&self.head())?, last);
        let mut chained = Vec::with_capacity(line.len() + chain::ROOM);
        let link = chain::extend(link, &line, &mut chained);
        let written = file.write_all(&chained).and_then(|()| file.sync_data());
        if written.is_err() {
            // An incomplete line is not a record. The first error is the one to report.
            let _ = file.set_len(length);
        }
        written.map_err(io)?;
        let mut head = HeadFile::open(&self.head())?;
        head.write(link);
        head.sync(true);
        if is_new {
            files::sync_folder(&self.path)?;
        }
        Ok(())
    }
}

/// The link of the last line; `None` if the line has none.
fn last_link(file: &File, length: u64) -> io::Result<Option<Link>> {
    let tail = length.min(u64::try_from(line::MAX_LINE + 1).unwrap_or(u64::MAX));
    let mut bytes = vec![0; usize::try_from(tail).unwrap_or_default()];
    file.read_exact_at(&mut bytes, length - tail)?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let last = text.rsplit(|byte| *byte == b'\n').next();
    Ok(last.and_then(Chained::parse).map(|line| line.link))
}

/// The link after which the chain continues. That is the link of the last line, or the head if the file ends before the
/// line that the head names, as after a rotation. `brevet audit verify` reports lines that are missing.
fn going_on(head: Option<Link>, last: Option<Link>) -> Link {
    match (head, last) {
        (Some(head), Some(last)) if last.sequence <= head.sequence => head,
        (_, Some(last)) => last,
        (head, None) => head.unwrap_or(Link::START),
    }
}

/// Locks the file for this process until it is closed.
fn lock(file: &File) -> io::Result<()> {
    let started = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < WAIT => {
                std::thread::sleep(LOOK_EVERY)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another brevet command has held the lock on this file for more than 2 s; try again",
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Cuts off an incomplete last line, which is left if the machine crashed while a command wrote it. Returns the length
/// of the rest.
fn whole_lines(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let tail = length.min(u64::try_from(line::MAX_LINE).unwrap_or(u64::MAX));
    let mut bytes = vec![0; usize::try_from(tail).unwrap_or_default()];
    file.read_exact_at(&mut bytes, length - tail)?;
    let end = bytes
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    let whole = length - tail + u64::try_from(end).unwrap_or_default();
    if whole < length {
        file.set_len(whole)?;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SystemEntropy;

    fn deed() -> Deed {
        Deed {
            name: "BackupStore",
            user_name: Some("uid 0 (root)".to_owned()),
            parameters: serde_json::json!({"file": "/backup/store.db"}),
            request_id: "r".to_owned(),
        }
    }

    #[test]
    fn a_command_is_on_record_before_and_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::File {
            path: dir.path().join("audit.jsonl"),
            sync: true,
        };
        let log = LocalLog::of(&target, Path::new("/elsewhere"));
        assert_eq!(log.path(), dir.path().join("audit.commands.jsonl"));
        let (now, entropy) = (Timestamp::from_seconds(1_000), SystemEntropy::new());
        log.write(&deed(), Phase::Begun, now, &entropy).unwrap();
        // What a crash left of another record goes.
        OpenOptions::new()
            .append(true)
            .open(log.path())
            .unwrap()
            .write_all(b"{\"torn")
            .unwrap();
        log.write(&deed(), Phase::Failed("no space"), now, &entropy)
            .unwrap();
        log.write(
            &deed(),
            Phase::Done(&serde_json::json!({"change": 5})),
            now,
            &entropy,
        )
        .unwrap();
        let text = std::fs::read_to_string(log.path()).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        let states: Vec<&str> = lines
            .iter()
            .map(|l| l["additionalEventData"]["state"].as_str().unwrap())
            .collect();
        assert_eq!(states, ["begun", "failed", "done"]);
        assert!(
            lines
                .iter()
                .all(|l| l["userIdentity"]["userName"] == "uid 0 (root)" && l["requestID"] == "r")
        );
        assert_eq!(lines[1]["errorMessage"], "no space");
        // Each line has its place in a chain, which goes on in another file after a rotation.
        let verified = |text: &str, head: Link| {
            let mut verifier = crate::audit::verify::Verifier::new(Some(head));
            verifier.read(text.as_bytes()).unwrap();
            verifier.finish().is_whole()
        };
        let head = head::load(&log.head()).unwrap().unwrap();
        assert_eq!(head.sequence, 3);
        assert!(verified(&text, head));
        let without_second: Vec<&str> = text
            .lines()
            .enumerate()
            .filter(|(n, _)| *n != 1)
            .map(|(_, l)| l)
            .collect();
        assert!(!verified(&(without_second.join("\n") + "\n"), head));
        std::fs::rename(log.path(), dir.path().join("rotated")).unwrap();
        log.write(&deed(), Phase::Begun, now, &entropy).unwrap();
        let head = head::load(&log.head()).unwrap().unwrap();
        assert_eq!(head.sequence, 4);
        let rest = std::fs::read_to_string(log.path()).unwrap();
        assert!(verified(&(text + &rest), head));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(log.path()).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_log_that_others_could_have_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let log = LocalLog::of(&Target::Stdout, dir.path());
        std::fs::write(log.path(), b"").unwrap();
        std::fs::set_permissions(
            log.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o666),
        )
        .unwrap();
        let write = || {
            log.write(
                &deed(),
                Phase::Begun,
                Timestamp::from_seconds(1),
                &SystemEntropy::new(),
            )
        };
        assert!(write().unwrap_err().to_string().contains("chmod 600"));
        std::fs::remove_file(log.path()).unwrap();
        std::os::unix::fs::symlink("/dev/null", log.path()).unwrap();
        assert!(write().is_err());
    }
}
