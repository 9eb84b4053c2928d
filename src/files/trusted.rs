//! Reads files that no user but this one and root could have written, and opens such files for appending.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::{Audience, FileError, io};
use crate::base::secret::Secret;

/// Reads a file of at most `max_bytes`. It must be a regular file and not a symbolic link, be owned by this user
/// or by root, be writable only by its owner, be readable only by `audience`, and be in a folder that others
/// cannot write (a sticky one such as `/tmp` is allowed).
///
/// # Errors
/// [`FileError::Unfit`] with the rule that is broken, or [`FileError::Io`] if the file cannot be read.
pub fn read(path: &Path, audience: Audience, max_bytes: u64) -> Result<Secret<Vec<u8>>, FileError> {
    let unfit = |rule: String| FileError::Unfit {
        path: path.to_owned(),
        rule,
    };
    let file = open(path)?;
    let meta = fit(&file, path, audience)?;
    if meta.len() > max_bytes {
        return Err(unfit(format!(
            "must have at most {max_bytes} bytes, but has {}",
            meta.len()
        )));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default());
    file.take(max_bytes)
        .read_to_end(&mut bytes)
        .map_err(io(path))?;
    Ok(Secret::new(bytes))
}

/// Checks the rules of [`read`], except the length, for a file that other code opens.
///
/// # Errors
/// The same as for [`read`].
pub fn check(path: &Path, audience: Audience) -> Result<(), FileError> {
    let file = open(path)?;
    fit(&file, path, audience).map(|_| ())
}

/// Checks that nobody but this user and root could put another file in the place of this one.
///
/// # Errors
/// [`FileError::Unfit`] if others can write a folder on the way, or own it; [`FileError::Io`] if a folder on the way
/// does not exist or cannot be examined.
pub fn check_folder(of: &Path) -> Result<(), FileError> {
    check_folders(of, rustix::process::geteuid().as_raw())
}

/// Opens a file, which must not be a symbolic link.
pub(super) fn open(path: &Path) -> Result<File, FileError> {
    // The file is opened first and checked by its handle, so that it cannot be exchanged in between.
    OpenOptions::new()
        .read(true)
        .custom_flags(nofollow())
        .open(path)
        .map_err(|source| match source.raw_os_error() {
            Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => FileError::Unfit {
                path: path.to_owned(),
                rule: "must not be a symbolic link; name the file itself".to_owned(),
            },
            _ => FileError::Io {
                path: path.to_owned(),
                source,
            },
        })
}

fn fit(file: &File, path: &Path, audience: Audience) -> Result<fs::Metadata, FileError> {
    let unfit = |rule: String| FileError::Unfit {
        path: path.to_owned(),
        rule,
    };
    if !file.metadata().map_err(io(path))?.is_file() {
        return Err(unfit("must be a regular file".to_owned()));
    }
    owned(file, path, Some(audience))
}

/// Checks that the file is owned by this user or root, that its mode allows no more than `audience` (`None` allows any
/// mode), and that others cannot replace it.
fn owned(file: &File, path: &Path, audience: Option<Audience>) -> Result<fs::Metadata, FileError> {
    let unfit = |rule: String| FileError::Unfit {
        path: path.to_owned(),
        rule,
    };
    let meta = file.metadata().map_err(io(path))?;
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(unfit(belongs_to_another(meta.uid(), me)));
    }
    let forbidden = match audience {
        Some(Audience::Owner) => 0o077,
        Some(Audience::Everyone) => 0o022,
        None => 0,
    };
    if meta.mode() & forbidden != 0 {
        let fix = if audience == Some(Audience::Owner) {
            "chmod 600"
        } else {
            "chmod go-w"
        };
        return Err(unfit(format!(
            "has mode {:04o}, which gives other accounts access; run `{fix} {}`",
            meta.mode() & 0o7777,
            path.display()
        )));
    }
    check_folders(path, me)?;
    Ok(meta)
}

/// The rule that a file breaks if it has a wrong owner. Most often the cause is that root ran a command which the
/// broker's user should have run.
pub(super) fn belongs_to_another(owner: u32, me: u32) -> String {
    let allowed = match me {
        0 => "root".to_owned(),
        _ => format!("uid {me} or root"),
    };
    format!(
        "is owned by uid {owner}; must be owned by {allowed}. If uid {owner} is the broker's account, run the \
         command as that account: `runuser -u ACCOUNT -- brevet ...`"
    )
}

/// Checks the folders on the way to a file. Whoever can write one of them, or owns a link on the way, could
/// replace the file.
fn check_folders(path: &Path, me: u32) -> Result<(), FileError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // The path as it was given, which may contain links, and the path that it resolves to.
    let (written, real) = (
        std::path::absolute(parent).map_err(io(parent))?,
        fs::canonicalize(parent).map_err(io(parent))?,
    );
    let folders = real.ancestors().chain(
        written
            .ancestors()
            .filter(|folder| !real.starts_with(folder)),
    );
    for folder in folders {
        let meta = fs::symlink_metadata(folder).map_err(io(folder))?;
        let sticky = meta.mode() & 0o1000 != 0;
        // In the folders above the file's own, root may allow a group to write, as in /var/log.
        let is_roots = meta.uid() == 0 && folder != real && folder != written;
        let others = if is_roots { 0o002 } else { 0o022 };
        let is_writable = !meta.is_symlink() && meta.mode() & others != 0 && !sticky;
        let rule = if is_writable {
            format!(
                "is in or below a folder that other accounts can write; run `chmod go-w {}`",
                folder.display()
            )
        } else if meta.uid() != me && meta.uid() != 0 {
            let owner = meta.uid();
            format!(
                "is in or below {}, which uid {owner} owns; that folder must be owned by uid {me} or root",
                folder.display()
            )
        } else {
            continue;
        };
        return Err(FileError::Unfit {
            path: path.to_owned(),
            rule,
        });
    }
    Ok(())
}

/// Opens a log for appending, and creates it with mode 0600 if it does not exist. A file must be as private as [`read`]
/// requires for [`Audience::Owner`], and must have no second hard link. The log may also be a device, or a pipe, which
/// others may read but not write.
///
/// # Errors
/// [`FileError::Unfit`] with the rule that is broken, or [`FileError::Io`] if the log cannot be opened.
pub fn open_log(path: &Path) -> Result<File, FileError> {
    let link = || FileError::Unfit {
        path: path.to_owned(),
        rule: "must not be a symbolic link; name the file itself".to_owned(),
    };
    let file = OpenOptions::new()
        .append(true)
        .read(fs::symlink_metadata(path).map_or(true, |meta| meta.is_file()))
        .create(true)
        .mode(0o600)
        // Unlike `open`, this waits for the reader of a pipe.
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(path)
        .map_err(|source| match source.raw_os_error() {
            Some(code) if code == rustix::io::Errno::LOOP.raw_os_error() => link(),
            _ => FileError::Io {
                path: path.to_owned(),
                source,
            },
        })?;
    let kind = file.metadata().map_err(io(path))?.file_type();
    if kind.is_file() {
        // Under another name it may be a key, which the log would write to.
        if fit(&file, path, Audience::Owner)?.nlink() > 1 {
            return Err(FileError::Unfit {
                path: path.to_owned(),
                rule: "must have no second hard link; use a new file".to_owned(),
            });
        }
    } else {
        owned(
            &file,
            path,
            if kind.is_fifo() {
                Some(Audience::Everyone)
            } else {
                None
            },
        )?;
    }
    Ok(file)
}

pub(super) fn nofollow() -> i32 {
    // O_NONBLOCK: a FIFO in place of the file is refused for its type; opening it must not wait.
    (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32
}
