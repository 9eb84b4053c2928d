//! Instance profiles: IAM API Reference, "CreateInstanceProfile", "GetInstanceProfile",
//! "DeleteInstanceProfile", "ListInstanceProfiles", "ListInstanceProfilesForRole",
//! "AddRoleToInstanceProfile", "RemoveRoleFromInstanceProfile".

mod life;
mod lists;
mod role;

use std::collections::HashMap;

use super::entities::{Extent, Profile, Role};
use super::rows;
use crate::directory::declaration::InstanceProfile;
use crate::directory::resource::{Resource, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;

pub use life::{CreateInstanceProfile, DeleteInstanceProfile, GetInstanceProfile};
pub use lists::{ListInstanceProfiles, ListInstanceProfilesForRole};
pub use role::{AddRoleToInstanceProfile, RemoveRoleFromInstanceProfile};
pub(super) use role::{PASS_ROLE, PASSED_TO};

/// Converts stored instance profiles to the form of answers, with their roles. Waits for the store,
/// so the caller must be authorized again afterwards.
async fn shown(
    cx: &mut Context<'_>,
    entries: Vec<Resource>,
    extent: Extent,
) -> Result<Vec<Profile>, Error> {
    let mut arns: Vec<String> = entries
        .iter()
        .filter_map(|entry| match entry {
            Resource::InstanceProfile(profile) => arn_of_role(cx, profile),
            _ => None,
        })
        .collect();
    arns.sort();
    arns.dedup();
    let mut found: Vec<Resource> = rows::by_id(cx, ResourceKind::Role, arns)
        .await?
        .into_values()
        .collect();
    rows::show_principals(cx, &mut found).await?;
    let roles: HashMap<String, Resource> = found
        .into_iter()
        .map(|role| (role.name().id, role))
        .collect();
    let mut shown = Vec::with_capacity(entries.len());
    for entry in entries {
        let Resource::InstanceProfile(profile) = entry else {
            continue;
        };
        let arn = arn_of_role(cx, &profile);
        let role = match arn.and_then(|arn| roles.get(&arn)) {
            Some(Resource::Role(role)) => Some(Role::new((**role).clone(), Extent::Listed)?),
            _ => None,
        };
        shown.push(Profile::new(profile, role, extent));
    }
    Ok(shown)
}

/// Returns the ARN of the role in an instance profile; `None` if it has no role or the role does
/// not exist.
fn arn_of_role(cx: &Context<'_>, profile: &InstanceProfile) -> Option<String> {
    let name = &profile.roles.first()?.role_name;
    let role = cx.directory.role_named(cx.caller().account(), name);
    role.map(|role| role.arn.to_string())
}
