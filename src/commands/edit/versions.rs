//! Creates and deletes versions of a managed policy, and sets its default version. A new version gets the number after
//! the highest that the policy ever had.

use super::{parse, remove_from, unfit};
use crate::base::clock::Timestamp;
use crate::commands::{CommandError, Message};
use crate::directory::declaration::{ManagedPolicyDetail, PolicyVersion};
use crate::directory::resource::Resource;

pub(super) fn create(
    resource: &mut Resource,
    document: &str,
    is_default: bool,
    now: Timestamp,
) -> Result<(), CommandError> {
    let policy = of(resource)?;
    let next = policy.highest_version().saturating_add(1);
    let id = format!("v{next}");
    policy.highest_version_id = None;
    let version = PolicyVersion {
        document: Some(parse(document)?),
        version_id: id.clone(),
        is_default_version: false,
        create_date: Some(now.to_string()),
    };
    policy.policy_version_list.insert(0, version);
    policy.update_date = Some(now.to_string());
    if is_default {
        put_in_force(policy, &id)?;
    }
    Ok(())
}

pub(super) fn delete(resource: &mut Resource, id: &str) -> Result<(), CommandError> {
    let policy = of(resource)?;
    if policy.default_version() == Some(id) {
        let message = Message::from(format!(
            "version {id} is the default version of the policy {}: set another default version first",
            policy.arn
        ));
        let words = "Cannot delete the default version of a policy.";
        return Err(CommandError::DeleteConflict(message.or_at_aws(words)));
    }
    let highest = policy.highest_version();
    let what = format!("version {id} of the policy {}", policy.arn);
    let words = no_such_version(policy, id);
    let versions = &mut policy.policy_version_list;
    remove_from(versions, |v| v.version_id == id, what, words)?;
    policy.keep_highest_version(highest);
    Ok(())
}

pub(super) fn set_default(resource: &mut Resource, id: &str) -> Result<(), CommandError> {
    put_in_force(of(resource)?, id)
}

fn put_in_force(policy: &mut ManagedPolicyDetail, id: &str) -> Result<(), CommandError> {
    let mut versions = policy.policy_version_list.iter();
    if !versions.any(|v| v.version_id == id) {
        let message = Message::from(format!("version {id} of the policy {}", policy.arn));
        let words = no_such_version(policy, id);
        return Err(CommandError::NoSuchEntity(message.or_at_aws(words)));
    }
    for version in &mut policy.policy_version_list {
        version.is_default_version = version.version_id == id;
    }
    policy.default_version_id = Some(id.to_owned());
    Ok(())
}

/// AWS's message about a version that does not exist.
fn no_such_version(policy: &ManagedPolicyDetail, id: &str) -> String {
    format!(
        "Policy {} version {id} does not exist or is not attachable.",
        policy.arn
    )
}

fn of(resource: &mut Resource) -> Result<&mut ManagedPolicyDetail, CommandError> {
    match resource {
        Resource::Policy(policy) => Ok(policy),
        other => Err(unfit(other, "versions")),
    }
}
