//! Files that hold secrets or decide who may do what. They are read only if no user but this one and root could have
//! written them, and are replaced atomically.

mod private;
mod trusted;

use std::path::{Path, PathBuf};

pub use private::{
    create_private, create_private_dir, folder, keep, name_for_replaced, sync_folder, write_private,
};
pub use trusted::{check, check_folder, open_log, read};

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused to open, read or write the file.
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The file, or a folder on the way to it, cannot be trusted: its owner, mode, kind, size or content breaks a rule.
    #[error("{path}: {rule}")]
    Unfit {
        path: PathBuf,
        /// The rule that is broken, and how to comply with it.
        rule: String,
    },
}

/// Who may read a file in addition to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Nobody else may read it: the mode must give nothing to the group and to others, as 0600 and 0400 do.
    Owner,
    /// Anybody may read it, but only the owner may write it.
    Everyone,
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> FileError + '_ {
    |source| FileError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
