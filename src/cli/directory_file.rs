//! Reads a directory file for a command.

use std::path::Path;

use super::{Failure, input};
use crate::directory::declaration::Declaration;
use crate::directory::{self, DirectoryError};

/// Reads a directory file, or standard input for `-`.
///
/// # Errors
/// The file cannot be read, is too large or breaks a rule; the message names the place in the file and the
/// rule.
pub(super) fn read(path: &Path) -> Result<Declaration, Failure> {
    let bytes = input::read(path, directory::MAX_BYTES)?;
    directory::parse(&bytes).map_err(|error| unread(&path.display().to_string(), &error))
}

/// Makes the error about a malformed directory file. `file` is the name that the operator gave.
pub(super) fn unread(file: &str, error: &DirectoryError) -> Failure {
    let shape = "must be JSON in the format that `aws iam get-account-authorization-details` or `brevet export` prints";
    format!("{file}: {}: {}; the file {shape}", error.place, error.rule).into()
}
