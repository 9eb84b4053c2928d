//! Why a command is refused, and the answer that its caller gets.

use super::{Cause, Error};
use crate::base::entropy::NoEntropy;
use crate::directory::resource::Name;
use crate::master_key::MasterKeyError;
use crate::store::StoreError;

/// Why a command was refused, named as IAM names it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("NoSuchEntity: there is no {0}")]
    NoSuchEntity(String),
    #[error("EntityAlreadyExists: {0}")]
    EntityAlreadyExists(String),
    /// The entity cannot be deleted while others depend on it.
    #[error("DeleteConflict: {0}")]
    DeleteConflict(String),
    #[error("LimitExceeded: cannot exceed quota for {quota}: {most}; {what} would have {count}")]
    LimitExceeded {
        what: String,
        /// The name of the quota at AWS, such as `PoliciesPerRole`.
        quota: &'static str,
        count: usize,
        most: usize,
    },
    /// A policy document cannot be parsed, or breaks a rule of the policy language.
    #[error("MalformedPolicyDocument: {0}")]
    MalformedPolicyDocument(String),
    #[error("ValidationError: {0}")]
    Validation(String),
    /// Somebody else changed the entity at the same time.
    #[error(
        "ConcurrentModification: {name} was changed by somebody else (it is at version {found}, this change was made for \
         version {expected}); read it again and repeat the change"
    )]
    ConcurrentModification {
        name: Name,
        found: i64,
        /// The version for which the command was made.
        expected: i64,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// The system has no random bytes for ids and nonces.
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

/// The message of IAM for a quota that would be exceeded.
fn exceeded(quota: &str, most: usize) -> String {
    if quota == "VersionsPerPolicy" {
        return format!(
            "A managed policy can have up to {most} versions. Before you create a new version, you must delete an existing version."
        );
    }
    format!("Cannot exceed quota for {quota}: {most}")
}
