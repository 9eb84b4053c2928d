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
/// How many damaged head files are kept. A further one replaces the newest of them.
const MAX_KEPT: u32 = 16;
/// What a file that is not a head breaks, and what to do about it.
const DAMAGED: &str = "must hold the number and the hash of the last line of an audit log, but does not: it was \
    damaged or edited; check the log with `brevet audit verify`, without --config";

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
    read(path, DAMAGED)
}

/// Reads the head like [`load`], for a caller that leaves a damaged file where it is.
///
/// # Errors
/// The same as those of [`load`]. The one about a damaged file says what to do before somebody removes it.
pub fn load_in_place(path: &Path) -> Result<Option<Link>, FileError> {
    read(path, &format!("{DAMAGED}, before you remove this file"))
}

fn read(path: &Path, rule: &str) -> Result<Option<Link>, FileError> {
    let bytes = match files::read(path, Audience::Owner, 4_096) {
        Err(FileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        bytes => bytes?,
    };
    let content = serde_json::from_slice::<Content>(bytes.expose()).ok();
    let link = content.and_then(|content| Link::parse(content.sequence, &content.hash));
    // A higher number would leave no room to count on from it.
    let link = link.filter(|link| link.sequence <= MAX_SEQUENCE);
    link.map(Some).ok_or(FileError::Unfit {
        path: path.to_owned(),
        rule: rule.to_owned(),
    })
}

/// Renames a damaged head file to `store.watermark.audit.unreadable`, where it stays as evidence, or to
/// `store.watermark.audit.unreadable-2` and so on, up to 16, if that name is taken. Returns the new path.
///
/// # Errors
/// [`FileError`] if users other than this one could have read or written the file, or if it cannot be renamed.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, FileError> {
    files::check(path, Audience::Owner)?;
    let kept = name_for_damaged(path);
    fs::rename(path, &kept).map_err(|source| FileError::Io {
        path: path.to_owned(),
        source,
    })?;
    files::sync_folder(path)?;
    Ok(kept)
}

/// The first name for a damaged head file that no file has; the last one if all are taken.
fn name_for_damaged(path: &Path) -> PathBuf {
    let name = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(".unreadable");
        if n > 1 {
            name.push(format!("-{n}"));
        }
        PathBuf::from(name)
    };
    let is_free = |name: &PathBuf| {
        fs::symlink_metadata(name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    (1..MAX_KEPT)
        .map(name)
        .find(is_free)
        .unwrap_or_else(|| name(MAX_KEPT))
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
        for (bad, name) in [
            (&b""[..], "store.watermark.audit.unreadable"),
            (&[0; 128][..], "store.watermark.audit.unreadable-2"),
            (&good[..60], "store.watermark.audit.unreadable-3"),
            (
                &[&good[..], b"x"].concat()[..],
                "store.watermark.audit.unreadable-4",
            ),
        ] {
            files::write_private(&path, bad).unwrap();
            let said = load(&path).unwrap_err().to_string();
            assert!(!said.contains("remove"), "{said}");
            let said = load_in_place(&path).unwrap_err().to_string();
            assert!(said.ends_with("before you remove this file"), "{said}");
            // It is kept as it is, with its mode, beside what was kept before.
            let kept = set_aside(&path).unwrap();
            assert_eq!(kept, dir.path().join(name));
            assert_eq!(std::fs::read(&kept).unwrap(), bad);
            files::check(&kept, Audience::Owner).unwrap();
            assert_eq!(load(&path).unwrap(), None);
        }
        // There are only so many of them, and the first ones stay.
        for n in 5..20_u8 {
            files::write_private(&path, &[n]).unwrap();
            set_aside(&path).unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 16);
        let last = dir.path().join("store.watermark.audit.unreadable-16");
        assert_eq!(std::fs::read(last).unwrap(), [19]);
        let first = dir.path().join("store.watermark.audit.unreadable");
        assert!(std::fs::read(first).unwrap().is_empty());
    }
}
