//! Changes single fields of resources: a role's trust policy, descriptions, the session duration, a
//! key's status, the role of an instance profile, and an account's alias and password policy.

use super::{parse, remove_from, unfit};
use crate::commands::CommandError;
use crate::directory::declaration::{InstanceProfile, PasswordPolicyDetail, ProfileRole};
use crate::directory::resource::Resource;

pub(super) fn trust(resource: &mut Resource, document: &str) -> Result<(), CommandError> {
    match resource {
        Resource::Role(role) => role.assume_role_policy_document = Some(parse(document)?),
        other => return Err(unfit(other, "a trust policy")),
    }
    Ok(())
}

pub(super) fn description(resource: &mut Resource, text: &str) -> Result<(), CommandError> {
    match resource {
        Resource::Role(role) => role.description = Some(text.to_owned()),
        Resource::Policy(policy) => policy.description = Some(text.to_owned()),
        other => return Err(unfit(other, "a description")),
    }
    Ok(())
}

pub(super) fn max_session_duration(
    resource: &mut Resource,
    seconds: i64,
) -> Result<(), CommandError> {
    match resource {
        Resource::Role(role) => role.max_session_duration = Some(seconds),
        other => return Err(unfit(other, "a session duration")),
    }
    Ok(())
}

pub(super) fn active(resource: &mut Resource, active: bool) -> Result<(), CommandError> {
    match resource {
        Resource::AccessKey(key) => {
            key.status = Some(if active { "Active" } else { "Inactive" }.to_owned());
        }
        other => return Err(unfit(other, "a status")),
    }
    Ok(())
}

pub(super) fn add_role(resource: &mut Resource, name: &str) -> Result<(), CommandError> {
    profile(resource)?.roles.push(ProfileRole {
        role_name: name.to_owned(),
        ..ProfileRole::default()
    });
    Ok(())
}

pub(super) fn remove_role(resource: &mut Resource, name: &str) -> Result<(), CommandError> {
    let label = resource.label().to_owned();
    let words = format!("Role {name} is not in instance profile {label}.");
    let what = format!("role {name} in the {}", resource.name());
    let roles = &mut profile(resource)?.roles;
    let is_meant = |r: &ProfileRole| r.role_name.eq_ignore_ascii_case(name);
    remove_from(roles, is_meant, what, words)
}

pub(super) fn alias(resource: &mut Resource, alias: Option<&str>) -> Result<(), CommandError> {
    match resource {
        Resource::Account(account) => account.account_alias = alias.map(str::to_owned),
        other => return Err(unfit(other, "an alias")),
    }
    Ok(())
}

pub(super) fn password_policy(
    resource: &mut Resource,
    policy: Option<&PasswordPolicyDetail>,
) -> Result<(), CommandError> {
    match resource {
        Resource::Account(account) => account.password_policy = policy.cloned(),
        other => return Err(unfit(other, "a password policy")),
    }
    Ok(())
}

fn profile(resource: &mut Resource) -> Result<&mut InstanceProfile, CommandError> {
    match resource {
        Resource::InstanceProfile(profile) => Ok(profile),
        other => Err(unfit(other, "a role")),
    }
}
