//! One aspect of a thing: what is attached to it, in it, or said of it.

use crate::base::clock::Timestamp;
use crate::directory::declaration::{
    Attached, Boundary, Document, InlinePolicy, PolicyVersion, ProfileRole, Tag,
};
use crate::directory::resource::{Kind, Resource};

use super::{CommandError, rules};

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
    /// The action of the IAM API.
    pub(super) fn action(&self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::AttachPolicy(_), Kind::User) => "AttachUserPolicy",
            (Self::AttachPolicy(_), Kind::Group) => "AttachGroupPolicy",
            (Self::AttachPolicy(_), _) => "AttachRolePolicy",
            (Self::DetachPolicy(_), Kind::User) => "DetachUserPolicy",
            (Self::DetachPolicy(_), Kind::Group) => "DetachGroupPolicy",
            (Self::DetachPolicy(_), _) => "DetachRolePolicy",
            (Self::PutPolicy(..), Kind::User) => "PutUserPolicy",
            (Self::PutPolicy(..), Kind::Group) => "PutGroupPolicy",
            (Self::PutPolicy(..), _) => "PutRolePolicy",
            (Self::DeletePolicy(_), Kind::User) => "DeleteUserPolicy",
            (Self::DeletePolicy(_), Kind::Group) => "DeleteGroupPolicy",
            (Self::DeletePolicy(_), _) => "DeleteRolePolicy",
            (Self::PutPermissionsBoundary(_), Kind::User) => "PutUserPermissionsBoundary",
            (Self::PutPermissionsBoundary(_), _) => "PutRolePermissionsBoundary",
            (Self::DeletePermissionsBoundary, Kind::User) => "DeleteUserPermissionsBoundary",
            (Self::DeletePermissionsBoundary, _) => "DeleteRolePermissionsBoundary",
            (Self::Tag(_), Kind::User) => "TagUser",
            (Self::Tag(_), Kind::Role) => "TagRole",
            (Self::Tag(_), Kind::Policy) => "TagPolicy",
            (Self::Tag(_), _) => "TagResource",
            (Self::Untag(_), Kind::User) => "UntagUser",
            (Self::Untag(_), Kind::Role) => "UntagRole",
            (Self::Untag(_), Kind::Policy) => "UntagPolicy",
            (Self::Untag(_), _) => "UntagResource",
            (Self::AddToGroup(_), _) => "AddUserToGroup",
            (Self::RemoveFromGroup(_), _) => "RemoveUserFromGroup",
            (Self::UpdateAssumeRolePolicy(_), _) => "UpdateAssumeRolePolicy",
            (Self::UpdateDescription(_), Kind::Policy) => "UpdatePolicy",
            (Self::UpdateDescription(_) | Self::UpdateMaxSessionDuration(_), _) => "UpdateRole",
            (Self::Rename { .. }, Kind::Group) => "UpdateGroup",
            (Self::Rename { .. }, _) => "UpdateUser",
            (Self::CreatePolicyVersion(..), _) => "CreatePolicyVersion",
            (Self::DeletePolicyVersion(_), _) => "DeletePolicyVersion",
            (Self::SetDefaultPolicyVersion(_), _) => "SetDefaultPolicyVersion",
            (Self::SetActive(_), _) => "UpdateAccessKey",
            (Self::AddRole(_), _) => "AddRoleToInstanceProfile",
            (Self::RemoveRole(_), _) => "RemoveRoleFromInstanceProfile",
            (Self::SetAlias(Some(_)), _) => "CreateAccountAlias",
            (Self::SetAlias(None), _) => "DeleteAccountAlias",
            (Self::AssignMfaDevice(_), _) => "EnableMFADevice",
            (Self::ReleaseMfaDevice, _) => "DeactivateMFADevice",
        }
    }

    /// Changes the thing.
    ///
    /// # Errors
    /// When this kind of thing has no such aspect, or what is to go is not there.
    pub(super) fn apply(&self, thing: &mut Resource, now: Timestamp) -> Result<(), CommandError> {
        match self {
            Self::AttachPolicy(arn) => {
                let list = attached(thing)?;
                if !list.iter().any(|a| a.policy_arn == *arn) {
                    let name = arn.rsplit('/').next().map(str::to_owned);
                    list.push(Attached {
                        policy_name: name,
                        policy_arn: arn.clone(),
                    });
                }
            }
            Self::DetachPolicy(arn) => remove(attached(thing)?, |a| a.policy_arn == *arn, arn)?,
            Self::PutPolicy(name, document) => {
                let document = Some(parse(document)?);
                let list = inline(thing)?;
                match list.iter_mut().find(|p| p.policy_name == *name) {
                    Some(policy) => policy.policy_document = document,
                    None => list.push(InlinePolicy {
                        policy_name: name.clone(),
                        policy_document: document,
                    }),
                }
            }
            Self::DeletePolicy(name) => remove(inline(thing)?, |p| p.policy_name == *name, name)?,
            Self::PutPermissionsBoundary(arn) => {
                *boundary(thing)? = Some(Boundary {
                    permissions_boundary_type: Some("Policy".to_owned()),
                    permissions_boundary_arn: arn.clone(),
                });
            }
            Self::DeletePermissionsBoundary => {
                let boundary = boundary(thing)?;
                if boundary.take().is_none() {
                    return Err(CommandError::NoSuchEntity(
                        "permissions boundary on it".to_owned(),
                    ));
                }
            }
            Self::Tag(tags) => {
                let list = rules::tags_mut(thing).ok_or_else(|| unfit("tags"))?;
                for (key, value) in tags {
                    match list.iter_mut().find(|t| t.key.eq_ignore_ascii_case(key)) {
                        Some(tag) => {
                            *tag = Tag {
                                key: key.clone(),
                                value: value.clone(),
                            }
                        }
                        None => list.push(Tag {
                            key: key.clone(),
                            value: value.clone(),
                        }),
                    }
                }
            }
            Self::Untag(keys) => {
                let list = rules::tags_mut(thing).ok_or_else(|| unfit("tags"))?;
                list.retain(|t| !keys.iter().any(|k| t.key.eq_ignore_ascii_case(k)));
            }
            Self::AddToGroup(name) => {
                let groups = groups(thing)?;
                if !groups.iter().any(|g| g.eq_ignore_ascii_case(name)) {
                    groups.push(name.clone());
                }
            }
            Self::RemoveFromGroup(name) => {
                remove(groups(thing)?, |g| g.eq_ignore_ascii_case(name), name)?
            }
            Self::UpdateAssumeRolePolicy(document) => match thing {
                Resource::Role(role) => role.assume_role_policy_document = Some(parse(document)?),
                _ => return Err(unfit("a trust policy")),
            },
            Self::UpdateDescription(text) => match thing {
                Resource::Role(role) => role.description = Some(text.clone()),
                Resource::Policy(policy) => policy.description = Some(text.clone()),
                _ => return Err(unfit("a description")),
            },
            Self::UpdateMaxSessionDuration(seconds) => match thing {
                Resource::Role(role) => role.max_session_duration = Some(*seconds),
                _ => return Err(unfit("a session duration")),
            },
            Self::Rename { name, path } => rename(thing, name.as_deref(), path.as_deref())?,
            Self::CreatePolicyVersion(document, default) => {
                let Resource::Policy(policy) = thing else {
                    return Err(unfit("versions"));
                };
                let numbers = policy
                    .policy_version_list
                    .iter()
                    .filter_map(|v| v.version_id.strip_prefix('v')?.parse().ok());
                let next = numbers.max().unwrap_or(0u32).saturating_add(1);
                let version = PolicyVersion {
                    document: Some(parse(document)?),
                    version_id: format!("v{next}"),
                    is_default_version: false,
                    create_date: Some(now.to_string()),
                };
                policy.policy_version_list.insert(0, version);
                policy.update_date = Some(now.to_string());
                if *default {
                    set_default(policy, &format!("v{next}"))?;
                }
            }
            Self::DeletePolicyVersion(id) => {
                let Resource::Policy(policy) = thing else {
                    return Err(unfit("versions"));
                };
                if policy.default_version_id.as_deref() == Some(id) {
                    return Err(CommandError::DeleteConflict(format!(
                        "version {id} is the one in force"
                    )));
                }
                remove(&mut policy.policy_version_list, |v| v.version_id == *id, id)?;
            }
            Self::SetDefaultPolicyVersion(id) => {
                let Resource::Policy(policy) = thing else {
                    return Err(unfit("versions"));
                };
                set_default(policy, id)?;
            }
            Self::SetActive(active) => {
                let Resource::AccessKey(key) = thing else {
                    return Err(unfit("a status"));
                };
                key.status = Some(if *active { "Active" } else { "Inactive" }.to_owned());
            }
            Self::AddRole(name) => {
                let Resource::InstanceProfile(profile) = thing else {
                    return Err(unfit("a role"));
                };
                profile.roles.push(ProfileRole {
                    role_name: name.clone(),
                    ..ProfileRole::default()
                });
            }
            Self::RemoveRole(name) => {
                let Resource::InstanceProfile(profile) = thing else {
                    return Err(unfit("a role"));
                };
                remove(
                    &mut profile.roles,
                    |r| r.role_name.eq_ignore_ascii_case(name),
                    name,
                )?;
            }
            Self::SetAlias(alias) => {
                let Resource::Account(account) = thing else {
                    return Err(unfit("an alias"));
                };
                account.account_alias.clone_from(alias);
            }
            Self::AssignMfaDevice(user_arn) => {
                let Resource::MfaDevice(device) = thing else {
                    return Err(unfit("a user"));
                };
                if !device.user_arn.is_empty() {
                    return Err(CommandError::EntityAlreadyExists(
                        "an assignment of the MFA device".to_owned(),
                    ));
                }
                device.user_arn.clone_from(user_arn);
                device.enable_date = Some(now.to_string());
            }
            Self::ReleaseMfaDevice => {
                let Resource::MfaDevice(device) = thing else {
                    return Err(unfit("a user"));
                };
                if device.user_arn.is_empty() {
                    return Err(CommandError::NoSuchEntity(
                        "user of the MFA device".to_owned(),
                    ));
                }
                device.user_arn.clear();
                device.enable_date = None;
            }
        }
        Ok(())
    }
}

/// What referred to a thing by its old name refers to it by the new one.
pub(super) fn follow(thing: &mut Resource, old: &Resource, new: &Resource) {
    match (thing, old, new) {
        (Resource::User(user), Resource::Group(old), Resource::Group(new)) => {
            for name in &mut user.group_list {
                if name.eq_ignore_ascii_case(&old.group_name) {
                    name.clone_from(&new.group_name);
                }
            }
        }
        (Resource::AccessKey(key), Resource::User(_), Resource::User(new)) => {
            key.user_arn.clone_from(&new.arn)
        }
        (Resource::MfaDevice(device), Resource::User(_), Resource::User(new)) => {
            device.user_arn.clone_from(&new.arn)
        }
        _ => {}
    }
}

fn rename(
    thing: &mut Resource,
    name: Option<&str>,
    path: Option<&str>,
) -> Result<(), CommandError> {
    let account = thing.account().to_owned();
    let (kind, own_name, own_path, arn) = match thing {
        Resource::User(u) => ("user", &mut u.user_name, &mut u.path, &mut u.arn),
        Resource::Group(g) => ("group", &mut g.group_name, &mut g.path, &mut g.arn),
        _ => return Err(unfit("another name")),
    };
    if let Some(name) = name {
        name.clone_into(own_name);
    }
    if let Some(path) = path {
        *own_path = Some(path.to_owned());
    }
    *arn = format!(
        "arn:aws:iam::{account}:{kind}{}{own_name}",
        own_path.as_deref().unwrap_or("/")
    );
    Ok(())
}

fn set_default(
    policy: &mut crate::directory::declaration::ManagedPolicy,
    id: &str,
) -> Result<(), CommandError> {
    if !policy
        .policy_version_list
        .iter()
        .any(|v| v.version_id == id)
    {
        return Err(CommandError::NoSuchEntity(format!("version {id} of it")));
    }
    for version in &mut policy.policy_version_list {
        version.is_default_version = version.version_id == id;
    }
    policy.default_version_id = Some(id.to_owned());
    Ok(())
}

fn parse(document: &str) -> Result<Document, CommandError> {
    Document::new(document).map_err(|e| CommandError::MalformedPolicyDocument(e.to_string()))
}

fn attached(thing: &mut Resource) -> Result<&mut Vec<Attached>, CommandError> {
    match thing {
        Resource::User(u) => Ok(&mut u.attached_managed_policies),
        Resource::Group(g) => Ok(&mut g.attached_managed_policies),
        Resource::Role(r) => Ok(&mut r.attached_managed_policies),
        _ => Err(unfit("attached policies")),
    }
}

fn inline(thing: &mut Resource) -> Result<&mut Vec<InlinePolicy>, CommandError> {
    match thing {
        Resource::User(u) => Ok(&mut u.user_policy_list),
        Resource::Group(g) => Ok(&mut g.group_policy_list),
        Resource::Role(r) => Ok(&mut r.role_policy_list),
        _ => Err(unfit("inline policies")),
    }
}

fn boundary(thing: &mut Resource) -> Result<&mut Option<Boundary>, CommandError> {
    match thing {
        Resource::User(u) => Ok(&mut u.permissions_boundary),
        Resource::Role(r) => Ok(&mut r.permissions_boundary),
        _ => Err(unfit("a permissions boundary")),
    }
}

fn groups(thing: &mut Resource) -> Result<&mut Vec<String>, CommandError> {
    match thing {
        Resource::User(u) => Ok(&mut u.group_list),
        _ => Err(unfit("groups")),
    }
}

fn remove<T>(
    list: &mut Vec<T>,
    is_it: impl Fn(&T) -> bool,
    what: &str,
) -> Result<(), CommandError> {
    let at = list
        .iter()
        .position(is_it)
        .ok_or_else(|| CommandError::NoSuchEntity(format!("`{what}` on it")))?;
    list.remove(at);
    Ok(())
}

fn unfit(what: &str) -> CommandError {
    CommandError::Validation(format!("this kind of thing does not have {what}"))
}
