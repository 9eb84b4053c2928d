//! Changes of one aspect of a resource, such as its tags or its attached policies. Each aspect has
//! a file of its own; this file lists them.

mod attributes;
mod groups;
mod login_profile;
mod mfa;
mod policies;
mod providers;
mod rename;
mod tags;
mod versions;

use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::directory::declaration::{Document, PasswordPolicyDetail};
use crate::directory::resource::Resource;

use super::{CommandError, Message};
use crate::error::INVALID_JSON;
pub use providers::{PrivateKey, SamlUpdate, private_keys};
pub(super) use rename::follow;

/// A change of one aspect of a resource, named as in the IAM API.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Attaches a managed policy, given by ARN, to a user, group or role.
    AttachPolicy(String),
    /// Detaches a managed policy, given by ARN.
    DetachPolicy(String),
    /// Sets an inline policy, given by name and document.
    PutPolicy(String, String),
    /// Deletes an inline policy, given by name.
    DeletePolicy(String),
    /// Sets the permissions boundary of a user or role, given by ARN.
    PutPermissionsBoundary(String),
    /// Removes the permissions boundary of a user or role.
    DeletePermissionsBoundary,
    /// Sets tags; the value of an existing key is replaced.
    Tag(Vec<(String, String)>),
    /// Removes tags, given by key.
    Untag(Vec<String>),
    /// Adds a user to a group, given by name.
    AddToGroup(String),
    /// Removes a user from a group, given by name.
    RemoveFromGroup(String),
    /// Sets a role's trust policy.
    UpdateAssumeRolePolicy(String),
    /// Sets the description of a role or policy.
    UpdateDescription(String),
    /// Sets a role's maximum session duration, from 3,600 to 129,600 seconds.
    UpdateMaxSessionDuration(i64),
    /// Changes the name, the path or both of a user or group.
    Rename {
        /// The new name; `None` keeps the old one.
        name: Option<String>,
        /// The new path; `None` keeps the old one.
        path: Option<String>,
    },
    /// Creates a version of a managed policy from a document, and makes it the default if the flag
    /// is set.
    CreatePolicyVersion(String, bool),
    /// Deletes a version of a managed policy that is not the default.
    DeletePolicyVersion(String),
    /// Makes a version of a managed policy, given by id (`v2`), the default.
    SetDefaultPolicyVersion(String),
    /// Activates or deactivates an access key.
    SetActive(bool),
    /// Adds a role, given by name, to an instance profile.
    AddRole(String),
    /// Removes the role of an instance profile.
    RemoveRole(String),
    /// Sets or removes an account's alias.
    SetAlias(Option<String>),
    /// Sets or removes an account's password policy.
    SetPasswordPolicy(Option<PasswordPolicyDetail>),
    /// Changes the password of a user, or whether the user must choose another one.
    UpdateLoginProfile {
        /// The hash of the new password; `None` keeps the old password.
        password_hash: Option<Secret<String>>,
        /// Whether the user must choose another password at the next sign-in; `None` keeps the current setting.
        password_reset_required: Option<bool>,
    },
    /// Replaces the hash of a login profile's password by a new hash of the same password, such as one of a higher
    /// cost.
    MakePasswordHashAnew(Secret<String>),
    /// Assigns an MFA device to a user, given by ARN.
    AssignMfaDevice(String),
    /// Removes an MFA device from its user.
    ReleaseMfaDevice,
    /// Adds a client id to an OpenID Connect provider.
    AddClientId(String),
    /// Removes a client id from an OpenID Connect provider.
    RemoveClientId(String),
    /// Replaces the thumbprints of an OpenID Connect provider.
    UpdateThumbprints(Vec<String>),
    /// Changes the metadata, the private keys or the encryption mode of a SAML provider.
    UpdateSamlProvider(Box<SamlUpdate>),
}

impl Edit {
    /// Whether the caller must unseal the secret of the resource before [`Edit::apply`].
    pub(super) fn needs_secret(&self) -> bool {
        matches!(
            self,
            Self::AssignMfaDevice(_)
                | Self::ReleaseMfaDevice
                | Self::UpdateLoginProfile { .. }
                | Self::MakePasswordHashAnew(_)
                | Self::UpdateSamlProvider(_)
        )
    }

    /// Applies the change to the resource.
    ///
    /// # Errors
    /// `Validation` if this kind of resource does not have the aspect, `NoSuchEntity` if what should be removed does
    /// not exist, or the error of another rule that the change breaks, such as `MalformedPolicyDocument`.
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
            Self::SetPasswordPolicy(policy) => {
                attributes::password_policy(resource, policy.as_ref())
            }
            Self::UpdateLoginProfile {
                password_hash,
                password_reset_required,
            } => {
                let hash = password_hash.as_ref().map(|hash| hash.expose().as_str());
                login_profile::update(resource, hash, *password_reset_required, now)
            }
            Self::MakePasswordHashAnew(hash) => login_profile::make_anew(resource, hash.expose()),
            Self::AssignMfaDevice(user_arn) => mfa::assign(resource, user_arn, now),
            Self::ReleaseMfaDevice => mfa::release(resource),
            Self::AddClientId(id) => providers::add_client_id(resource, id),
            Self::RemoveClientId(id) => providers::remove_client_id(resource, id),
            Self::UpdateThumbprints(list) => providers::thumbprints(resource, list),
            Self::UpdateSamlProvider(update) => providers::update_saml(resource, update, now),
        }
    }
}

fn parse(document: &str) -> Result<Document, CommandError> {
    Document::new(document).map_err(|e| {
        let message = Message::from(e.to_string());
        CommandError::MalformedPolicyDocument(message.or_at_aws(INVALID_JSON))
    })
}

/// Removes the first item for which `is_meant` holds. If there is none, `what` describes the missing item for
/// operators, and `words` is the message for callers of the IAM API.
fn remove_from<T>(
    list: &mut Vec<T>,
    is_meant: impl Fn(&T) -> bool,
    what: String,
    words: String,
) -> Result<(), CommandError> {
    let Some(at) = list.iter().position(is_meant) else {
        return Err(CommandError::NoSuchEntity(
            Message::from(what).or_at_aws(words),
        ));
    };
    list.remove(at);
    Ok(())
}

/// Makes the error for an edit of an aspect, named by `what`, that this kind of resource does not have.
fn unfit(resource: &Resource, what: &str) -> CommandError {
    let kind = resource.kind();
    CommandError::Validation(format!(
        "{}: a resource of kind {kind} cannot have {what}",
        resource.name()
    ))
}
