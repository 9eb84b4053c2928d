//! Changes the attached policies, inline policies and permissions boundaries of users, groups and
//! roles.

use super::{parse, remove_from, unfit};
use crate::base::arn::name_of;
use crate::commands::{CommandError, Message};
use crate::directory::declaration::{Attached, Boundary, InlinePolicy};
use crate::directory::resource::Resource;

/// Attaches a policy. It is not an error if it is already attached: IAM API Reference,
/// "AttachRolePolicy".
pub(super) fn attach(resource: &mut Resource, arn: &str) -> Result<(), CommandError> {
    let list = attached(resource)?;
    if !list.iter().any(|a| a.policy_arn == arn) {
        list.push(Attached {
            policy_name: Some(name_of(arn).to_owned()),
            policy_arn: arn.to_owned(),
        });
    }
    Ok(())
}

pub(super) fn detach(resource: &mut Resource, arn: &str) -> Result<(), CommandError> {
    let words = format!("Policy {arn} was not found.");
    let what = format!("policy {arn} attached to the {}", resource.name());
    remove_from(attached(resource)?, |a| a.policy_arn == arn, what, words)
}

pub(super) fn put_inline(
    resource: &mut Resource,
    name: &str,
    document: &str,
) -> Result<(), CommandError> {
    let document = Some(parse(document)?);
    let list = inline(resource)?;
    match list
        .iter_mut()
        .find(|p| p.policy_name.eq_ignore_ascii_case(name))
    {
        Some(policy) => policy.policy_document = document,
        None => list.push(InlinePolicy {
            policy_name: name.to_owned(),
            policy_document: document,
        }),
    }
    Ok(())
}

pub(super) fn delete_inline(resource: &mut Resource, name: &str) -> Result<(), CommandError> {
    let kind = resource.kind();
    let words = format!("The {kind} policy with name {name} cannot be found.");
    let is_meant = |p: &InlinePolicy| p.policy_name.eq_ignore_ascii_case(name);
    let what = format!("inline policy {name} of the {}", resource.name());
    remove_from(inline(resource)?, is_meant, what, words)
}

pub(super) fn put_boundary(resource: &mut Resource, arn: &str) -> Result<(), CommandError> {
    *boundary(resource)? = Some(Boundary {
        permissions_boundary_type: Some("Policy".to_owned()),
        permissions_boundary_arn: arn.to_owned(),
    });
    Ok(())
}

pub(super) fn delete_boundary(resource: &mut Resource) -> Result<(), CommandError> {
    let (kind, label) = (resource.kind(), resource.label().to_owned());
    match boundary(resource)?.take() {
        Some(_) => Ok(()),
        None => {
            let message = Message::from(format!("permissions boundary on the {kind} {label}"));
            let words = format!("The {kind} {label} has no permissions boundary.");
            Err(CommandError::NoSuchEntity(message.or_at_aws(words)))
        }
    }
}

fn attached(resource: &mut Resource) -> Result<&mut Vec<Attached>, CommandError> {
    match resource {
        Resource::User(u) => Ok(&mut u.attached_managed_policies),
        Resource::Group(g) => Ok(&mut g.attached_managed_policies),
        Resource::Role(r) => Ok(&mut r.attached_managed_policies),
        other => Err(unfit(other, "attached policies")),
    }
}

fn inline(resource: &mut Resource) -> Result<&mut Vec<InlinePolicy>, CommandError> {
    match resource {
        Resource::User(u) => Ok(&mut u.user_policy_list),
        Resource::Group(g) => Ok(&mut g.group_policy_list),
        Resource::Role(r) => Ok(&mut r.role_policy_list),
        other => Err(unfit(other, "inline policies")),
    }
}

fn boundary(resource: &mut Resource) -> Result<&mut Option<Boundary>, CommandError> {
    match resource {
        Resource::User(u) => Ok(&mut u.permissions_boundary),
        Resource::Role(r) => Ok(&mut r.permissions_boundary),
        other => Err(unfit(other, "a permissions boundary")),
    }
}
