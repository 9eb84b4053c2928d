//! Files that hold secrets or rule who may do what: read only when nobody else could have written
//! them, written whole or not at all.

mod private;
mod trusted;

use std::path::{Path, PathBuf};

pub use private::{
    create_private, create_private_dir, folder, keep, name_for_replaced, sync_folder, write_private,
};
pub use trusted::{check, open_log, read};

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

fn io(path: &Path) -> impl Fn(std::io::Error) -> FileError + '_ {
    |source| FileError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
