//! Writes the file of the log: appends complete parts, syncs them, and recovers from failures and crashes. It handles
//! bytes, not records.

use std::fs::{File, Metadata};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::audit::lines::PARTS;
use crate::audit::space::Space;
use crate::audit::{MAX_LINE, Target};
use crate::files;

/// Where the log is written: a file, standard output, or nowhere.
pub(in crate::parts::audit) enum Sink {
    /// A regular file, a pipe or a device.
    File {
        file: File,
        path: PathBuf,
        sync: bool,
        length: u64,
        /// The length of a regular file before the bytes that are not synced yet.
        unsynced_from: Option<u64>,
    },
    Stdout,
    Discard,
}

impl Sink {
    pub fn open(target: &Target) -> io::Result<Self> {
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

    /// Reads the last line of a regular file, without its line feed. `None` if the file is empty, or the log is not a
    /// regular file.
    pub fn last_line(&self) -> io::Result<Option<Vec<u8>>> {
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

    /// Whether the log is a regular file, and not a pipe, a device or standard output.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File { file, .. } if file.metadata().is_ok_and(|meta| meta.is_file()))
    }

    /// Prepares the file for another attempt after a failed write: opens a new file if this one was deleted, removes
    /// what the failed write left behind, and checks that there is space again.
    pub fn recover(&mut self) -> io::Result<()> {
        let meta = self.metadata()?;
        if let (Self::File { file, length, .. }, Some(meta)) = (self, meta)
            && meta.is_file()
        {
            // The file may be longer than it should be, or somebody may have truncated it
            // meanwhile.
            *length = meta.len().min(*length);
            probe(file, *length)?;
        }
        Ok(())
    }

    /// Reads the metadata of the file; `None` if the log is not a file. Opens a new file if the present one has been
    /// deleted, since the content of a deleted file is lost when the process ends.
    fn metadata(&mut self) -> io::Result<Option<Metadata>> {
        let Self::File { file, path, .. } = self else {
            return Ok(None);
        };
        let meta = file.metadata()?;
        if !is_deleted(&meta) {
            return Ok(Some(meta));
        }
        tracing::error!(
            path = %path.display(),
            "somebody deleted the audit log while the broker was writing to it, so its lines are lost; the broker \
             continues in a new file"
        );
        self.reopen()?;
        match self {
            Self::File { file, .. } => file.metadata().map(Some),
            Self::Stdout | Self::Discard => Ok(None),
        }
    }

    pub fn reopen(&mut self) -> io::Result<()> {
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

    /// Whether [`Sink::sync`] puts written lines on stable storage.
    pub fn syncs(&self) -> bool {
        matches!(self, Self::File { sync: true, .. })
    }

    /// Reads the free space of the file system of a regular file; `None` if it is not known.
    ///
    /// # Errors
    /// [`io::Error`] if the file system cannot be examined.
    pub fn space(&self) -> io::Result<Option<Space>> {
        match self {
            Self::File { file, .. } if file.metadata()?.is_file() => {
                let stat = rustix::fs::fstatvfs(file)?;
                let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
                Ok(Space::new(bytes(stat.f_bavail), bytes(stat.f_blocks)))
            }
            _ => Ok(None),
        }
    }

    /// Appends parts in order, with one write. Returns how many were written, and the error of the
    /// next one. In a regular file, a part is written completely or not at all. [`Sink::sync`] puts
    /// them on stable storage.
    pub fn append(
        &mut self,
        parts: [&[u8]; PARTS],
        after_failure: bool,
    ) -> (usize, Option<io::Error>) {
        let meta = match self.metadata() {
            Ok(meta) => meta,
            Err(error) => return (0, Some(error)),
        };
        match self {
            Self::Discard => (PARTS, None),
            Self::Stdout => one_by_one(&mut io::stdout().lock(), parts),
            Self::File {
                file,
                length,
                unsynced_from,
                ..
            } => match meta {
                Some(meta) if meta.is_file() => {
                    // Somebody may have truncated the file: a remembered length would fill the gap
                    // with zeros.
                    *length = meta.len();
                    *unsynced_from = Some(*length);
                    append_to_file(file, length, parts)
                }
                _ if after_failure && parts.iter().all(|part| part.is_empty()) => (
                    0,
                    Some(io::Error::other(
                        "the last write to the audit log failed, and no write has succeeded since",
                    )),
                ),
                _ => one_by_one(file, parts),
            },
        }
    }

    /// Puts what was appended on stable storage, if the configuration asks for that. If this fails, nobody knows which
    /// of the bytes are on the disk, so they are removed from the file.
    pub fn sync(&mut self) -> io::Result<()> {
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

/// Whether a regular file has been deleted.
fn is_deleted(meta: &Metadata) -> bool {
    meta.is_file() && meta.nlink() == 0
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
            // There is no space for everything: as many parts are written as fit, beginning with the
            // first.
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

/// Removes what a failed write left behind, then writes and removes 4,096 bytes. Without the test, an empty queue would
/// count as a success, and the broker would report that the log is written again while the disk is still full.
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

/// Cuts off an incomplete last line that a crash left behind. If the call of the line waited for it, the call was
/// never answered. Returns the length of the rest.
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
        tracing::warn!(path = %path.display(), bytes = meta.size() - end, "the audit log ended in an incomplete \
            line, as a crash leaves one; the broker removed the line");
        file.set_len(end)?;
        file.sync_all()?;
    }
    Ok(end)
}
