//! A directory file that a command is given.

use std::path::Path;

use super::{Failure, input};
use crate::directory::declaration::Declaration;
use crate::directory::{self, DirectoryError};

/// Reads a directory file; `-` is standard input.
///
/// # Errors
/// Names the place in the file, and the rule.
pub(super) fn read(path: &Path) -> Result<Declaration, Failure> {
    let bytes = input::read(path, directory::MAX_BYTES)?;
    directory::parse(&bytes).map_err(|error| unread(&path.display().to_string(), &error))
}

/// Why a directory file cannot be read, by the name that it was given.
pub(super) fn unread(file: &str, error: &DirectoryError) -> Failure {
    let shape =
        "must be JSON as `aws iam get-account-authorization-details` or `brevet export` prints it";
    format!("{file}: {}: {}; it {shape}", error.place, error.rule).into()
}
