//! The file with the head of the chain: the link of the last line that was written. Without it, lines
//! that are cut off at the end of the log would leave no trace.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::chain::Link;
use crate::files::{self, Audience, FileError};

/// The length of the file. It is constant, so that the file can be overwritten in place.
const LENGTH: usize = 128;
/// The highest line number that the file may contain. No log reaches it.
const MAX_SEQUENCE: u64 = 1 << 53;
/// The interval between syncs of the file. A crash of the broker loses nothing, but a crash of the machine may lose the
/// writes since the last sync.
const SYNC_EVERY: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Content {
    sequence: u64,
    hash: String,
}

/// The path of the head file next to a watermark file: `store.watermark.audit` for `store.watermark`.
pub fn beside(watermark: &Path) -> PathBuf {
    let mut name = watermark.as_os_str().to_owned();
    name.push(".audit");
    name.into()
}

/// Reads the head; `None` if the file does not exist.
///
/// # Errors
/// [`FileError`] if the file cannot be read or is not a head.
pub fn load(path: &Path) -> Result<Option<Link>, FileError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = files::read(path, Audience::Owner, 4_096)?;
    let content = serde_json::from_slice::<Content>(bytes.expose()).ok();
    let link = content.and_then(|content| Link::parse(content.sequence, &content.hash));
    // A higher number would leave no room to count on from it.
    let link = link.filter(|link| link.sequence <= MAX_SEQUENCE);
    let rule = "must hold the number and the hash of the last line of an audit log, but does not: it was damaged or \
        edited. Check the log with `brevet audit verify`, without --config, before you remove this file".to_owned();
    link.map(Some).ok_or(FileError::Unfit {
        path: path.to_owned(),
        rule,
    })
}

/// Renames a head file that cannot be read to `store.watermark.audit.unreadable`, where it stays as evidence. It
/// replaces an earlier file of that name, so there is at most one. Returns the new path.
///
/// # Errors
/// [`FileError`] if users other than this one could have read or written the file, or if it cannot be renamed.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, FileError> {
    files::check(path, Audience::Owner)?;
    let mut kept = path.as_os_str().to_owned();
    kept.push(".unreadable");
    let kept = PathBuf::from(kept);
    fs::rename(path, &kept).map_err(|source| FileError::Io {
        path: path.to_owned(),
        source,
    })?;
    files::sync_folder(path)?;
    Ok(kept)
}

/// The head file of a running broker.
pub(super) struct HeadFile {
    file: File,
    path: PathBuf,
    synced_at: Instant,
    /// Whether the last write failed. A failure is logged only if the write before it succeeded.
    failing: bool,
}

impl HeadFile {
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        let file = files::create_private(path)?;
        files::check(path, Audience::Owner)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            synced_at: Instant::now(),
            failing: false,
        })
    }

    /// Writes the link of the last line. A failure is logged, and does not stop the log itself.
    pub(super) fn write(&mut self, link: Link) {
        let written = self.try_write(link);
        self.note(written);
    }

    /// Syncs the file if `now` is set or the last sync was more than a minute ago.
    pub(super) fn sync(&mut self, now: bool) {
        if now || self.synced_at.elapsed() >= SYNC_EVERY {
            self.synced_at = Instant::now();
            let synced = self.file.sync_data();
            self.note(synced);
        }
    }

    fn try_write(&self, link: Link) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(&Content {
            sequence: link.sequence,
            hash: link.hash_text(),
        })?;
        bytes.resize(LENGTH - 1, b' ');
        bytes.push(b'\n');
        self.file.write_all_at(&bytes, 0)
    }

    fn note(&mut self, done: io::Result<()>) {
        if let (false, Err(error)) = (self.failing, &done) {
            let path = self.path.display();
            tracing::error!(%path, %error, "the head file of an audit log cannot be written; the log itself is still \
                written, but if lines are cut off its end, nobody may notice");
        }
        self.failing = done.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn au_04_a_head_is_read_as_it_was_written_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = beside(&dir.path().join("store.watermark"));
        assert_eq!(load(&path).unwrap(), None);
        let mut head = HeadFile::open(&path).unwrap();
        for link in [
            Link {
                sequence: 12_345,
                hash: [7; 32],
            },
            Link {
                sequence: 3,
                hash: [255; 32],
            },
        ] {
            head.write(link);
            head.sync(true);
            assert_eq!(load(&path).unwrap(), Some(link));
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 128);
        }
        let good = std::fs::read(&path).unwrap();
        head.write(Link {
            sequence: u64::MAX - 1,
            hash: [7; 32],
        });
        assert!(load(&path).is_err(), "no log has so many lines");
        for bad in [
            &b""[..],
            &[0; 128],
            &good[..60],
            &[&good[..], b"x"].concat(),
        ] {
            files::write_private(&path, bad).unwrap();
            assert!(load(&path).is_err());
            // It is kept as it is, with its mode, in place of what was kept before.
            let kept = set_aside(&path).unwrap();
            assert_eq!(std::fs::read(&kept).unwrap(), bad);
            files::check(&kept, Audience::Owner).unwrap();
            assert_eq!(load(&path).unwrap(), None);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }
}
