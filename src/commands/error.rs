//! Converts errors of the snapshot compiler into errors of the command.

use crate::directory::DirectoryError;
use crate::error::CommandError;

pub(super) fn refused(error: DirectoryError) -> CommandError {
    if error.place.ends_with("Document") || error.place.contains("inline policy") {
        CommandError::MalformedPolicyDocument(format!("{}: {}", error.place, error.rule).into())
    } else {
        CommandError::Validation(format!("{}: {}", error.place, error.rule))
    }
}
