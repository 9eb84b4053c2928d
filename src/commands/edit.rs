//! One aspect of a resource: what is attached to it, what is in it, or what is said of it. Each aspect
//! is a file of its own; this one says which there are.

mod attributes;
mod groups;
mod mfa;
mod policies;
mod rename;
mod tags;
mod versions;

use crate::base::clock::Timestamp;
use crate::directory::declaration::Document;
use crate::directory::resource::Resource;

use super::CommandError;
pub(super) use rename::follow;

#[cfg_attr(
    not(any(test, feature = "internals")),
    allow(
        dead_code,
        reason = "actions of the IAM API that are not answered yet make them"
    )
)]
/// A change of one aspect, as the IAM API names it for the kind of thing it is.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Attach a managed policy, by ARN, to a user, group or role.
    AttachPolicy(String),
    /// Detach it.
    DetachPolicy(String),
    /// Embed a policy: its name and document.
    PutPolicy(String, String),
    /// Take an embedded policy out.
    DeletePolicy(String),
    /// Set the permissions boundary of a user or role, by ARN.
    PutPermissionsBoundary(String),
    /// Lift it.
    DeletePermissionsBoundary,
    /// Set tags; a key that is there gets the new value.
    Tag(Vec<(String, String)>),
    /// Remove tags, by key.
    Untag(Vec<String>),
    /// Put a user in a group.
    AddToGroup(String),
    /// Take it out.
    RemoveFromGroup(String),
    /// Who may assume a role.
    UpdateAssumeRolePolicy(String),
    /// A role's or policy's description.
    UpdateDescription(String),
    /// 3,600 to 129,600 seconds.
    UpdateMaxSessionDuration(i64),
    /// Another name, another path, or both, for a user or group.
    Rename {
        /// The new name.
        name: Option<String>,
        /// The new path.
        path: Option<String>,
    },
    /// A new version of a managed policy, in force at once or not.
    CreatePolicyVersion(String, bool),
    /// A version that is not in force.
    DeletePolicyVersion(String),
    /// The version in force.
    SetDefaultPolicyVersion(String),
    /// Whether an access key proves anything.
    SetActive(bool),
    /// The role of an instance profile.
    AddRole(String),
    /// None any more.
    RemoveRole(String),
    /// An account's alias.
    SetAlias(Option<String>),
    /// Give an MFA device to a user, by ARN.
    AssignMfaDevice(String),
    /// Take it back.
    ReleaseMfaDevice,
}

impl Edit {
    /// Changes the resource.
    ///
    /// # Errors
    /// When this kind of resource has no such aspect, or what is to go is not there.
    pub(super) fn apply(
        &self,
        resource: &mut Resource,
        now: Timestamp,
    ) -> Result<(), CommandError> {
        match self {
            Self::AttachPolicy(arn) => policies::attach(resource, arn),
            Self::DetachPolicy(arn) => policies::detach(resource, arn),
            Self::PutPolicy(name, document) => policies::put_inline(resource, name, document),
            Self::DeletePolicy(name) => policies::delete_inline(resource, name),
            Self::PutPermissionsBoundary(arn) => policies::put_boundary(resource, arn),
            Self::DeletePermissionsBoundary => policies::delete_boundary(resource),
            Self::Tag(tags) => tags::set(resource, tags),
            Self::Untag(keys) => tags::remove(resource, keys),
            Self::AddToGroup(name) => groups::add(resource, name),
            Self::RemoveFromGroup(name) => groups::remove(resource, name),
            Self::UpdateAssumeRolePolicy(document) => attributes::trust(resource, document),
            Self::UpdateDescription(text) => attributes::description(resource, text),
            Self::UpdateMaxSessionDuration(seconds) => {
                attributes::max_session_duration(resource, *seconds)
            }
            Self::Rename { name, path } => {
                rename::rename(resource, name.as_deref(), path.as_deref())
            }
            Self::CreatePolicyVersion(document, is_default) => {
                versions::create(resource, document, *is_default, now)
            }
            Self::DeletePolicyVersion(id) => versions::delete(resource, id),
            Self::SetDefaultPolicyVersion(id) => versions::set_default(resource, id),
            Self::SetActive(active) => attributes::active(resource, *active),
            Self::AddRole(name) => attributes::add_role(resource, name),
            Self::RemoveRole(name) => attributes::remove_role(resource, name),
            Self::SetAlias(alias) => attributes::alias(resource, alias.as_deref()),
            Self::AssignMfaDevice(user_arn) => mfa::assign(resource, user_arn, now),
            Self::ReleaseMfaDevice => mfa::release(resource),
        }
    }
}

fn parse(document: &str) -> Result<Document, CommandError> {
    Document::new(document).map_err(|e| CommandError::MalformedPolicyDocument(e.to_string()))
}

/// Removes the member of a list that is meant, which `what` names for people.
fn remove_from<T>(
    list: &mut Vec<T>,
    is_meant: impl Fn(&T) -> bool,
    what: &str,
) -> Result<(), CommandError> {
    let at = list
        .iter()
        .position(is_meant)
        .ok_or_else(|| CommandError::NoSuchEntity(format!("`{what}` on it")))?;
    list.remove(at);
    Ok(())
}

/// This kind of resource has no such aspect.
fn unfit(resource: &Resource, what: &str) -> CommandError {
    let kind = resource.kind();
    CommandError::Validation(format!(
        "{}: {what} cannot be set on a resource of kind {kind}",
        resource.name()
    ))
}
