//! Why commands are refused, and the answers that their callers get.

use std::fmt;

use super::{Cause, Error};
use crate::base::arn::name_of;
use crate::base::entropy::NoEntropy;
use crate::directory::resource::{Name, ResourceKind};
use crate::master_key::MasterKeyError;
use crate::store::StoreError;

/// AWS's message about a policy that is not JSON.
pub const INVALID_JSON: &str = "This policy contains invalid Json";

/// The message of a refusal: for operators, and for callers of the IAM API if AWS words it
/// differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    operator: String,
    aws: Option<String>,
}

impl Message {
    /// Sets AWS's message, which callers of the IAM API get.
    #[must_use]
    pub fn or_at_aws(self, words: impl Into<String>) -> Self {
        Self {
            aws: Some(words.into()),
            ..self
        }
    }

    fn for_callers(self, otherwise: impl FnOnce(String) -> String) -> String {
        self.aws.unwrap_or_else(|| otherwise(self.operator))
    }
}

impl From<String> for Message {
    fn from(operator: String) -> Self {
        Self {
            operator,
            aws: None,
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operator)
    }
}

/// Why a command was refused, named as IAM names it. Nothing was changed, unless the store failed while it committed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("NoSuchEntity: there is no {0}")]
    NoSuchEntity(Message),
    #[error("EntityAlreadyExists: there is already {0}")]
    EntityAlreadyExists(Message),
    /// The entity cannot be deleted while others depend on it, or while it is the default version of a policy.
    #[error("DeleteConflict: {0}")]
    DeleteConflict(Message),
    #[error(
        "LimitExceeded: {what} would have {count}, but the quota {quota} allows at most {most}"
    )]
    LimitExceeded {
        what: String,
        /// AWS's name of the quota, such as `PoliciesPerRole`.
        quota: &'static str,
        count: usize,
        most: usize,
    },
    /// A policy document cannot be parsed, or breaks a rule of the policy language.
    #[error("MalformedPolicyDocument: {0}")]
    MalformedPolicyDocument(Message),
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
        /// The version on which the command was based.
        expected: i64,
    },
    /// Nobody could administer the directory after the change, although somebody can before.
    #[error(
        "UnmodifiableEntity: nobody could administer the directory any more after this change: no user with an active \
         access key, and no role that such a user or an identity provider can assume, could change any user, role and \
         policy; make another administrator first"
    )]
    LastAdministrator,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// The system has no random bytes for ids and nonces.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

impl CommandError {
    /// Makes the error about an entity that does not exist.
    pub fn no_such(name: &Name) -> Self {
        let words = no_such(name.kind, asked(name));
        Self::NoSuchEntity(Message::from(name.to_string()).or_at_aws(words))
    }

    /// Makes the error about an entity whose name is taken. `by` describes the entity that has it.
    pub fn taken(name: &Name, by: String) -> Self {
        let asked = asked(name);
        let words = match name.kind {
            ResourceKind::User => format!("User with name {asked} already exists."),
            ResourceKind::Role => format!("Role with name {asked} already exists."),
            ResourceKind::Group => format!("Group with name {asked} already exists."),
            ResourceKind::InstanceProfile => format!("Instance Profile {asked} already exists."),
            ResourceKind::Policy => {
                let asked = name_of(asked);
                format!("A policy called {asked} already exists. Duplicate names are not allowed.")
            }
            ResourceKind::LoginProfile => {
                format!("Login Profile for User {asked} already exists.")
            }
            ResourceKind::MfaDevice => {
                "MFADevice entity at the same path and name already exists.".to_owned()
            }
            _ => format!("{name} already exists."),
        };
        Self::EntityAlreadyExists(Message::from(by).or_at_aws(words))
    }
}

/// AWS's message about an entity that does not exist. `asked` is its name; for policies, providers
/// and MFA devices it is the ARN or serial number.
pub fn no_such(kind: ResourceKind, asked: &str) -> String {
    match kind {
        ResourceKind::User => format!("The user with name {asked} cannot be found."),
        ResourceKind::Role => format!("The role with name {asked} cannot be found."),
        ResourceKind::Group => format!("The group with name {asked} cannot be found."),
        ResourceKind::InstanceProfile => format!("Instance Profile {asked} cannot be found."),
        ResourceKind::Policy => format!("Policy {asked} was not found."),
        ResourceKind::OidcProvider => format!("OpenIDConnect Provider not found for arn {asked}"),
        ResourceKind::SamlProvider => format!("Manifest not found for arn {asked}"),
        ResourceKind::AccessKey => format!("The Access Key with id {asked} cannot be found."),
        ResourceKind::MfaDevice => {
            format!("VirtualMFADevice with serial number {asked} doesn't exist.")
        }
        ResourceKind::LoginProfile => format!("Login Profile for User {asked} cannot be found."),
        kind => format!("The {kind} {asked} cannot be found."),
    }
}

/// The name by which callers of the IAM API know an entity, or its id if it has no name.
fn asked(name: &Name) -> &str {
    match name.kind {
        ResourceKind::User
        | ResourceKind::Role
        | ResourceKind::Group
        | ResourceKind::InstanceProfile
        | ResourceKind::LoginProfile => name_of(&name.id),
        _ => &name.id,
    }
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NoSuchEntity(message) => {
                Self::NotFound(message.for_callers(|what| format!("There is no {what}.")))
            }
            CommandError::EntityAlreadyExists(message) => Self::EntityAlreadyExists(
                message.for_callers(|what| format!("There is already {what}.")),
            ),
            CommandError::DeleteConflict(message) => {
                Self::DeleteConflict(message.for_callers(|what| what))
            }
            CommandError::LimitExceeded { quota, most, .. } => {
                Self::LimitExceeded(exceeded(quota, most))
            }
            CommandError::MalformedPolicyDocument(message) => {
                Self::MalformedPolicyDocument(message.for_callers(|what| what))
            }
            CommandError::Validation(what) => Self::Malformed(what),
            CommandError::ConcurrentModification { .. } => {
                Self::ConcurrentModification(error.to_string())
            }
            CommandError::LastAdministrator => Self::UnmodifiableEntity(
                "Nobody could administer the directory any more after this change: no user with an active access key, \
                 and no role that such a user or an identity provider can assume, could change any user, role and \
                 policy. Make another administrator first."
                    .to_owned(),
            ),
            CommandError::Store(error) => error.into(),
            CommandError::Entropy(error) => error.into(),
            CommandError::MasterKey(error) => Self::MasterKey(Cause::new(error)),
        }
    }
}

/// IAM's message about a quota that would be exceeded.
fn exceeded(quota: &str, most: usize) -> String {
    if quota == "VersionsPerPolicy" {
        return format!(
            "A managed policy can have up to {most} versions. Before you create a new version, you must delete an existing version."
        );
    }
    format!("Cannot exceed quota for {quota}: {most}")
}
