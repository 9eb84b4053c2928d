//! Why a command is refused, and what its caller is told.

use super::{Cause, Error};
use crate::base::entropy::NoEntropy;
use crate::directory::resource::Name;
use crate::master_key::MasterKeyError;
use crate::store::StoreError;

/// Why a command was refused, named as IAM names it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no such thing.
    #[error("NoSuchEntity: there is no {0}")]
    NoSuchEntity(String),
    /// There is one already.
    #[error("EntityAlreadyExists: {0}")]
    EntityAlreadyExists(String),
    /// Something depends on it.
    #[error("DeleteConflict: {0}")]
    DeleteConflict(String),
    /// One too many.
    #[error("LimitExceeded: cannot exceed quota for {quota}: {most}; {what} would have {count}")]
    LimitExceeded {
        /// Who or what would have too many.
        what: String,
        /// As AWS names it: `PoliciesPerRole`.
        quota: &'static str,
        /// How many it would have.
        count: usize,
        /// How many it may have.
        most: usize,
    },
    /// A policy document that is none.
    #[error("MalformedPolicyDocument: {0}")]
    MalformedPolicyDocument(String),
    /// A field breaks a rule.
    #[error("ValidationError: {0}")]
    Validation(String),
    /// Somebody else changed it meanwhile.
    #[error(
        "ConcurrentModification: {name} was changed meanwhile (version {found}, decided on {expected}); look again"
    )]
    ConcurrentModification {
        /// The thing.
        name: Name,
        /// As the store has it.
        found: i64,
        /// As the command was decided on.
        expected: i64,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The master key.
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// No chance, no ids.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NoSuchEntity(what) => Self::NotFound(format!("There is no {what}.")),
            CommandError::EntityAlreadyExists(what) => {
                Self::EntityAlreadyExists(format!("There is already {what}."))
            }
            CommandError::DeleteConflict(what) => Self::DeleteConflict(what),
            CommandError::LimitExceeded { quota, most, .. } => {
                Self::LimitExceeded(exceeded(quota, most))
            }
            CommandError::MalformedPolicyDocument(what) => Self::MalformedPolicyDocument(what),
            CommandError::Validation(what) => Self::Malformed(what),
            CommandError::ConcurrentModification { .. } => {
                Self::ConcurrentModification(error.to_string())
            }
            CommandError::Store(error) => error.into(),
            CommandError::Entropy(error) => error.into(),
            CommandError::MasterKey(error) => Self::MasterKey(Cause::new(error)),
        }
    }
}

/// The text of IAM for a quota that would be exceeded.
fn exceeded(quota: &str, most: usize) -> String {
    if quota == "VersionsPerPolicy" {
        return format!(
            "A managed policy can have up to {most} versions. Before you create a new version, you must delete an existing version."
        );
    }
    format!("Cannot exceed quota for {quota}: {most}")
}
