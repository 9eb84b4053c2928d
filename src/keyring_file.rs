//! The keyring on disk. Its file is private to the broker's user, and is written completely or not
//! at all.

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
        /// The field of the keyring that breaks a rule, and the rule.
        error: KeyringError,
    },
}

/// Reads a keyring file, which must be private to this user.
///
/// # Errors
/// [`KeyringFileError::File`] if the file cannot be read or is not private to this user, and
/// [`KeyringFileError::Content`] if a field breaks a rule.
pub fn load(path: &Path) -> Result<Keyring, KeyringFileError> {
    Keyring::parse(files::read(path, Audience::Owner, MAX_BYTES)?.expose()).map_err(content(path))
}

/// Writes a keyring with mode 0600, atomically.
///
/// # Errors
/// [`KeyringFileError::File`] if the file cannot be written, as in [`files::write_private`];
/// [`KeyringFileError::Content`] if the keyring cannot be serialised.
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
