//! Files that hold secrets or rule who may do what: read only when nobody else could have written
//! them, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::clock::Timestamp;
use crate::base::secret::Secret;

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system's answer.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is there, and not fit to be trusted.
    #[error("{path}: {rule}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What must hold, and the way there.
        rule: String,
    },
}

/// Who may read a file besides its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Nobody: mode 0600 or 0400.
    Owner,
    /// Anybody; only the owner may write.
    Everyone,
}

/// Reads a file of at most `max_bytes` after checking that no other account could have written it,
/// nor read it where `audience` says so: no symbolic link, a regular file, owned by this account
/// or by root, in a folder that others cannot write (a sticky one such as `/tmp` is fine).
///
/// # Errors
/// Names the file and the rule.
pub fn read(path: &Path, audience: Audience, max_bytes: u64) -> Result<Secret<Vec<u8>>, FileError> {
    let unfit = |rule: String| FileError::Unfit {
        path: path.to_owned(),
        rule,
    };
    let file = open(path)?;
    let meta = fit(&file, path, audience)?;
    if meta.len() > max_bytes {
        return Err(unfit(format!(
            "has {} bytes; at most {max_bytes} are read",
            meta.len()
        )));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default());
    file.take(max_bytes)
        .read_to_end(&mut bytes)
        .map_err(io(path))?;
    Ok(Secret::new(bytes))
}

/// Checks a file that something else will open: by the rules of [`read`].
///
/// # Errors
/// Names the file and the rule.
pub fn check(path: &Path, audience: Audience) -> Result<(), FileError> {
    let file = open(path)?;
    fit(&file, path, audience).map(|_| ())
}

fn open(path: &Path) -> Result<File, FileError> {
    // Opened first and judged by its handle, so that it cannot be exchanged in between.
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

/// Whether nobody else could have made it, nor reaches it in a way that `audience` does not have; none:
/// anybody may.
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
            "has mode {:04o}, which lets others in; run `{fix} {}`",
            meta.mode() & 0o7777,
            path.display()
        )));
    }
    check_folders(path, me)?;
    Ok(meta)
}

/// The rule that an owner breaks, and what to do: most often a command was run by root that the broker's
/// own account has to run.
fn belongs_to_another(owner: u32, me: u32) -> String {
    let allowed = match me {
        0 => "root".to_owned(),
        _ => format!("uid {me} or root"),
    };
    format!(
        "is owned by uid {owner}; must be owned by {allowed}. If uid {owner} is the broker's account, run the \
         command as that account: `runuser -u ACCOUNT -- brevet ...`"
    )
}

/// Whoever can write a folder on the way to a file, or owns a link on it, can put another file in its
/// place.
fn check_folders(path: &Path, me: u32) -> Result<(), FileError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // As it is written, with its links, and as it is.
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
        // Above its own folder a group that root lets write is root's to choose, as in /var/log.
        let is_roots = meta.uid() == 0 && folder != real && folder != written;
        let others = if is_roots { 0o002 } else { 0o022 };
        let is_writable = !meta.is_symlink() && meta.mode() & others != 0 && !sticky;
        let rule = if is_writable {
            format!(
                "stands in or below a folder that other accounts can write; run `chmod go-w {}`",
                folder.display()
            )
        } else if meta.uid() != me && meta.uid() != 0 {
            let owner = meta.uid();
            format!(
                "stands in or below {}, which uid {owner} owns; must be owned by uid {me} or root",
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

/// Writes a file of mode 0600 in one step: a reader sees the old content or the new, never a part.
///
/// # Errors
/// The system's answer; the old file then stands.
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
        fs::rename(&temporary, path)?;
        let parent = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&temporary); // it may not exist; the error to tell is the first one
        FileError::Io {
            path: path.to_owned(),
            source,
        }
    })
}

/// A name for what a file holds before it is replaced at `now`: `FILE.replaced-20260102T030405Z`, with a
/// number behind it if that is taken.
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

/// Keeps what a file holds under another name, on stable storage, so that the file can be replaced by a
/// rename. The file itself stays where it is.
///
/// # Errors
/// The system's answer.
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

/// Puts the entries of the folder that holds a file on stable storage: what was created, renamed or
/// removed there.
///
/// # Errors
/// The system's answer.
pub fn sync_folder(of: &Path) -> Result<(), FileError> {
    let folder = folder(of);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io(folder))
}

/// The folder that a file is in.
pub fn folder(of: &Path) -> &Path {
    of.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Makes an empty file of mode 0600 that something else will fill. One that is there stays.
///
/// # Errors
/// The system's answer.
pub fn create_private(path: &Path) -> Result<File, FileError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io(path))
}

/// Opens a log for appending, and makes it (mode 0600) where there is none. It must be as private as
/// what [`read`] takes for [`Audience::Owner`]. A pipe or a device may stand in its place; others may read
/// from a pipe and not write to it.
///
/// # Errors
/// Names the file and the rule.
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
        // Unlike `open` it waits for the reader of a pipe.
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
        fit(&file, path, Audience::Owner)?;
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

/// Makes a folder of mode 0700, with its parents.
///
/// # Errors
/// The system's answer.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io(path))
}

fn nofollow() -> i32 {
    // O_NONBLOCK: a FIFO in the file's place is refused by its type, not waited for.
    (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> FileError + '_ {
    |source| FileError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_replaced_is_kept_under_a_name_that_nothing_else_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring.json");
        let now = Timestamp::from_amz("20260102T030405Z").unwrap();
        for (content, name) in [
            ("one", "keyring.json.replaced-20260102T030405Z"),
            ("two", "keyring.json.replaced-20260102T030405Z-2"),
            ("three", "keyring.json.replaced-20260102T030405Z-3"),
        ] {
            write_private(&path, content.as_bytes()).unwrap();
            let kept = name_for_replaced(&path, now);
            assert_eq!(kept, dir.path().join(name));
            keep(&path, &kept).unwrap();
            write_private(&path, b"new").unwrap();
            assert_eq!(fs::read(&kept).unwrap(), content.as_bytes());
        }
        assert!(keep(&dir.path().join("missing"), &dir.path().join("kept")).is_err());
        assert!(!dir.path().join("kept").exists());
    }

    #[test]
    fn cf_03_a_file_that_others_can_reach_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            read(&path, Audience::Owner, 100).unwrap().expose(),
            b"secret"
        );
        let chmod =
            |p: &Path, mode| fs::set_permissions(p, fs::Permissions::from_mode(mode)).unwrap();
        for (mode, audience) in [
            (0o644, Audience::Owner),
            (0o620, Audience::Owner),
            (0o664, Audience::Everyone),
            (0o646, Audience::Everyone),
        ] {
            chmod(&path, mode);
            assert!(read(&path, audience, 100).is_err(), "{mode:o}");
        }
        chmod(&path, 0o600);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(
            read(&link, Audience::Owner, 100)
                .unwrap_err()
                .to_string()
                .contains("symbolic link")
        );
        assert!(read(dir.path(), Audience::Everyone, 100).is_err());
        assert!(read(&path, Audience::Owner, 3).is_err());
        chmod(dir.path(), 0o777);
        assert!(
            read(&path, Audience::Owner, 100)
                .unwrap_err()
                .to_string()
                .contains("folder")
        );
        chmod(dir.path(), 0o700);
    }

    #[test]
    fn a_file_of_another_account_says_who_has_to_run_the_command() {
        let as_root = belongs_to_another(995, 0);
        assert!(
            as_root.contains("must be owned by root.") && as_root.contains("runuser"),
            "{as_root}"
        );
        assert!(belongs_to_another(995, 1000).contains("must be owned by uid 1000 or root."));
    }

    #[test]
    fn cf_03_every_folder_on_the_way_counts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b/c");
        create_private_dir(&folder).unwrap();
        let path = folder.join("key");
        write_private(&path, b"secret").unwrap();
        assert!(read(&path, Audience::Owner, 100).is_ok());
        let chmod =
            |p: &Path, mode| fs::set_permissions(p, fs::Permissions::from_mode(mode)).unwrap();
        for (mode, names) in [
            (0o777, &["a", "a/b", "a/b/c"][..]),
            (0o702, &["a", "a/b", "a/b/c"]),
            (0o770, &["a/b/c"]),
        ] {
            for name in names {
                chmod(&dir.path().join(name), mode);
                let error = read(&path, Audience::Owner, 100).unwrap_err().to_string();
                assert!(
                    error.contains("chmod go-w")
                        && error.contains(&dir.path().join(name).display().to_string()),
                    "{error}"
                );
                chmod(&dir.path().join(name), 0o700);
            }
        }
        // With the sticky bit nobody takes away what is another's, as in /tmp.
        chmod(&dir.path().join("a"), 0o1777);
        assert!(read(&path, Audience::Owner, 100).is_ok());
        chmod(&dir.path().join("a"), 0o700);
        // By a link: the folders on both ways count.
        let open = dir.path().join("open");
        create_private_dir(&open).unwrap();
        std::os::unix::fs::symlink(&folder, open.join("link")).unwrap();
        let linked = open.join("link/key");
        assert!(read(&linked, Audience::Owner, 100).is_ok());
        for folder in [&open, &dir.path().join("a/b")] {
            chmod(folder, 0o777);
            assert!(
                read(&linked, Audience::Owner, 100).is_err(),
                "{}",
                folder.display()
            );
            chmod(folder, 0o700);
        }
    }
}
