//! The highest time that this node has seen, kept in a file next to the watermark, so that
//! everything that expired before a restart stays expired, whatever the wall clock says afterwards.
//! This module does not read a clock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::files::{self, Audience, FileError};

/// The maximum number of attempts to lock the file. With the pauses between them, they take two
/// seconds.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The content of the file, a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ClockMark {
    /// The highest time seen, in milliseconds since 1970.
    pub milliseconds: i64,
    /// How often an operator has confirmed the clock while the mark was ahead of it.
    pub accepted: u64,
    /// The number of the change that ended everything issued before the last of these
    /// confirmations.
    pub sequence: i64,
}

impl ClockMark {
    pub fn time(self) -> Timestamp {
        Timestamp::from_millis(self.milliseconds)
    }
}

/// Why the mark could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ClockMarkError {
    /// The content of the file is not valid.
    #[error(
        "{0}: the content of this file is damaged, so the latest time that the broker has seen is unknown; `brevet \
        clock accept` ends every session and writes a new file"
    )]
    Content(PathBuf),
    #[error(transparent)]
    File(#[from] FileError),
}

/// The file with the mark. It is locked while it is written, so that brokers and commands on this
/// node take turns.
#[derive(Debug, Clone)]
pub struct ClockMarkFile {
    path: PathBuf,
}

impl ClockMarkFile {
    /// The file for the watermark file at this path: `store.watermark.clock` for `store.watermark`.
    pub fn beside(watermark: &Path) -> Self {
        let mut name = watermark.as_os_str().to_owned();
        name.push(".clock");
        Self { path: name.into() }
    }

    #[cfg(any(test, feature = "internals"))]
    /// The path of the file, for tests.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the mark; `None` if the file does not exist, because no broker has written it yet.
    ///
    /// # Errors
    /// [`ClockMarkError`] if the file exists but cannot be read or is not valid.
    pub fn load(&self) -> Result<Option<ClockMark>, ClockMarkError> {
        if !self.path.exists() {
            return Ok(None);
        }
        let bytes = files::read(&self.path, Audience::Everyone, 4_096)?;
        let mark = serde_json::from_slice(bytes.expose())
            .map_err(|_| ClockMarkError::Content(self.path.clone()))?;
        Ok(Some(mark))
    }

    /// Raises the mark to `time` if that is higher, and returns what the file then holds.
    /// `accepted` is the number of confirmations known to the caller: if an operator has confirmed
    /// the clock since, nothing is written.
    ///
    /// # Errors
    /// [`ClockMarkError`] if the file cannot be locked, read or written.
    pub fn raise(&self, time: Timestamp, accepted: u64) -> Result<ClockMark, ClockMarkError> {
        self.exclusively(|| {
            let known = self.load()?.unwrap_or(ClockMark {
                milliseconds: i64::MIN,
                accepted,
                sequence: 0,
            });
            if known.accepted > accepted || known.milliseconds >= time.millis() {
                return Ok(known);
            }
            self.save(ClockMark {
                milliseconds: time.millis(),
                ..known
            })
        })
    }

    /// Sets the mark to `time` because an operator has confirmed the clock. `sequence` is the
    /// change that ended everything issued before.
    ///
    /// # Errors
    /// [`ClockMarkError::File`] if the file cannot be locked or written. Its previous content does not matter.
    pub fn accept(&self, time: Timestamp, sequence: i64) -> Result<ClockMark, ClockMarkError> {
        self.exclusively(|| {
            // An unreadable file is replaced. A running broker knows the number of confirmations
            // and accepts any higher one.
            let known = self
                .load()
                .ok()
                .flatten()
                .map_or(time.millis().unsigned_abs(), |known| known.accepted);
            self.save(ClockMark {
                milliseconds: time.millis(),
                accepted: known.saturating_add(1),
                sequence,
            })
        })
    }

    fn save(&self, mark: ClockMark) -> Result<ClockMark, ClockMarkError> {
        let text =
            serde_json::to_vec(&mark).map_err(|_| ClockMarkError::Content(self.path.clone()))?;
        files::write_private(&self.path, &text)?;
        Ok(mark)
    }

    fn exclusively<T>(
        &self,
        work: impl FnOnce() -> Result<T, ClockMarkError>,
    ) -> Result<T, ClockMarkError> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        let lock = files::create_private(&path)?;
        // The lock is held only for a moment by whoever writes the mark, so the wait is bounded.
        for _ in 1..LOCK_TRIES {
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return work();
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| FileError::Io {
            path,
            source: error.into(),
        })?;
        work()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn op_05_the_mark_only_rises_unless_it_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let file = ClockMarkFile::beside(&dir.path().join("store.watermark"));
        let at = Timestamp::from_seconds;
        assert_eq!(file.load().unwrap(), None);
        assert_eq!(file.raise(at(100), 0).unwrap().time(), at(100));
        assert_eq!(file.raise(at(90), 0).unwrap().time(), at(100));
        assert_eq!(file.load().unwrap().unwrap().time(), at(100));
        let mode = std::fs::metadata(file.path()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let accepted = file.accept(at(50), 7).unwrap();
        assert_eq!(
            (accepted.time(), accepted.accepted, accepted.sequence),
            (at(50), 1, 7)
        );
        // A broker that has not noticed the confirmation yet does not undo it.
        assert_eq!(file.raise(at(200), 0).unwrap(), accepted);
        assert_eq!(file.load().unwrap(), Some(accepted));
        assert_eq!(
            file.raise(at(200), 1).unwrap(),
            ClockMark {
                milliseconds: 200_000,
                ..accepted
            }
        );
    }

    #[test]
    fn a_mark_that_is_none_is_refused_and_can_be_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = ClockMarkFile::beside(&dir.path().join("store.watermark"));
        files::write_private(file.path(), b"{").unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(
            error.contains("brevet clock accept") && error.contains("store.watermark.clock"),
            "{error}"
        );
        assert!(file.raise(Timestamp::from_seconds(1), 0).is_err());
        let accepted = file.accept(Timestamp::from_seconds(5), 7).unwrap();
        assert!(
            accepted.accepted > 1_000,
            "more than a running broker has counted"
        );
        assert_eq!(file.load().unwrap(), Some(accepted));
    }
}
