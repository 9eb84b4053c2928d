//! Writes private files atomically, and keeps the old content of a replaced file under another name.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::trusted::{nofollow, open};
use super::{FileError, io};
use crate::base::clock::Timestamp;

/// Writes a file of mode 0600 atomically: a reader sees the old content or the new, never a part.
///
/// # Errors
/// [`FileError::Io`] if the file cannot be written. The old file is then unchanged, unless only the sync of the folder
/// failed: the new content is then in place, and the error says so.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary); // it may not exist; the error to report is the first one
        io(path)(source)
    })?;
    File::open(folder(path))
        .and_then(|folder| folder.sync_all())
        .map_err(|error| io(path)(in_place(&error)))
}

/// The error about a new file whose folder could not be synced.
pub(super) fn in_place(error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(
        error.kind(),
        format!(
            "the new content is in place, but the folder could not be synced, so a power failure may bring the old \
             content back: {error}"
        ),
    )
}

/// The name for keeping a file that is replaced at `now`: `FILE.replaced-20260102T030405Z`, with a number at
/// the end if that name is taken.
pub fn name_for_replaced(path: &Path, now: Timestamp) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".replaced-{}", now.to_amz()));
    let first = PathBuf::from(&name);
    let numbered = (2u32..).map(|n| {
        let mut name = name.clone();
        name.push(format!("-{n}"));
        PathBuf::from(name)
    });
    std::iter::once(first)
        .chain(numbered)
        .find(|name| fs::symlink_metadata(name).is_err())
        .unwrap_or_default()
}

/// Keeps the content of a file under another name too, on stable storage. The file itself stays, and can then be
/// replaced by a rename.
///
/// # Errors
/// [`FileError::Io`] if the file can be neither linked nor copied, for example because `kept` exists, or if the folder
/// cannot be synced; [`FileError::Unfit`] if the file must be copied and is a symbolic link.
pub fn keep(path: &Path, kept: &Path) -> Result<(), FileError> {
    if fs::hard_link(path, kept).is_err() {
        // Not every file system has hard links.
        let mut target = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(kept)
            .map_err(io(kept))?;
        let copied = open(path)
            .and_then(|mut source| std::io::copy(&mut source, &mut target).map_err(io(kept)));
        let synced = copied.and_then(|_| target.sync_all().map_err(io(kept)));
        if let Err(error) = synced {
            let _ = fs::remove_file(kept); // the error to report is the first one
            return Err(error);
        }
    }
    sync_folder(kept)
}

/// Puts the entries of a file's folder on stable storage, so that a power failure cannot undo the creation, renaming or
/// removal of a file there.
///
/// # Errors
/// [`FileError::Io`] if the folder cannot be opened or synced.
pub fn sync_folder(of: &Path) -> Result<(), FileError> {
    let folder = folder(of);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io(folder))
}

/// The folder of a file; `.` for a name without a folder.
pub fn folder(of: &Path) -> &Path {
    of.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Opens a file for reading and writing, and makes an empty one of mode 0600 if it does not exist. A symbolic
/// link is refused.
///
/// # Errors
/// [`FileError::Io`] if the file cannot be opened or made.
pub fn create_private(path: &Path) -> Result<File, FileError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nofollow())
        .open(path)
        .map_err(io(path))
}

/// Makes a folder of mode 0700, and its parents. A folder that exists is left as it is.
///
/// # Errors
/// [`FileError::Io`] if the folder cannot be made.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io(path))
}
