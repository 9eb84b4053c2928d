//! The keyring on disk: private to its account, written whole or not at all.

use std::path::{Path, PathBuf};

use crate::files::{self, Audience, FileError};
use crate::session::keyring::{Keyring, KeyringError};

const MAX_BYTES: u64 = 65_536;

#[derive(Debug, thiserror::Error)]
pub enum KeyringFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path}: {error}")]
    Content {
        path: PathBuf,
        /// The field, and the rule.
        error: KeyringError,
    },
}

/// Reads a keyring file, which must be private to this account.
///
/// # Errors
/// Names the file or the field, and the rule.
pub fn load(path: &Path) -> Result<Keyring, KeyringFileError> {
    Keyring::parse(files::read(path, Audience::Owner, MAX_BYTES)?.expose()).map_err(content(path))
}

/// Writes a keyring, mode 0600, in one step.
///
/// # Errors
/// The system's answer; the old file then stands.
pub fn save(keyring: &Keyring, path: &Path) -> Result<(), KeyringFileError> {
    Ok(files::write_private(
        path,
        &keyring.to_bytes().map_err(content(path))?,
    )?)
}

fn content(path: &Path) -> impl Fn(KeyringError) -> KeyringFileError + '_ {
    |error| KeyringFileError::Content {
        path: path.to_owned(),
        error,
    }
}
