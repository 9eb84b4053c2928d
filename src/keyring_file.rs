//! The keyring on disk: private to its account, written whole or not at all.

use std::path::Path;

use crate::files::{self, Audience, FileError};
use crate::keyring::{Keyring, KeyringError};

const MAX_BYTES: u64 = 65_536;

/// Why a keyring file was refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyringFileError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its content.
    #[error(transparent)]
    Content(#[from] KeyringError),
}

/// Reads a keyring file, which must be private to this account.
///
/// # Errors
/// Names the file or the field, and the rule.
pub fn load(path: &Path) -> Result<Keyring, KeyringFileError> {
    Ok(Keyring::parse(files::read(path, Audience::Owner, MAX_BYTES)?.expose())?)
}

/// Writes a keyring, mode 0600, in one step.
///
/// # Errors
/// The system's answer; the old file then stands.
pub fn save(keyring: &Keyring, path: &Path) -> Result<(), KeyringFileError> {
    Ok(files::write_private(path, &keyring.to_bytes()?)?)
}
