//! Lists the instance profiles of an account, or of a role.

use serde::{Deserialize, Serialize};

use super::shown;
use crate::base::arn::name_of;
use crate::directory::resource::{self, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::{Action, Resource, permit};
use crate::ops::iam::entities::{Extent, Profile};
use crate::ops::iam::page::{PageEnd, PageRequest};
use crate::ops::iam::rows::{self, List};
use crate::ops::iam::target::Target;

/// One page of instance profiles, each with its role.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Profiles {
    instance_profiles: Vec<Profile>,
    #[serde(flatten)]
    end: PageEnd,
}

/// Converts a page of stored instance profiles to the answer. Authorizes the action on `resource` again afterwards,
/// because the conversion waits for the store.
async fn answer<A: Action>(
    cx: &mut Context<'_>,
    resource: &Resource<'_>,
    (page, end): (Vec<resource::Resource>, PageEnd),
) -> Result<Profiles, Error> {
    let instance_profiles = shown(cx, page, Extent::Listed).await?;
    permit::<A>(cx, resource)?;
    Ok(Profiles {
        instance_profiles,
        end,
    })
}

/// Lists the account's instance profiles whose path begins with a prefix.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListInstanceProfiles {
    path_prefix: Option<String>,
    #[serde(flatten)]
    page: PageRequest,
}

impl Action for ListInstanceProfiles {
    const NAME: &'static str = "ListInstanceProfiles";
    const READ_ONLY: bool = true;
    type Output = Profiles;

    async fn run(self, cx: &mut Context<'_>) -> Result<Profiles, Error> {
        let all = Resource::any();
        let (kind, prefix) = (ResourceKind::InstanceProfile, self.path_prefix.as_deref());
        let page = rows::page_in_path::<Self>(cx, &all, kind, prefix, &self.page).await?;
        answer::<Self>(cx, &all, page).await
    }
}

/// Lists the instance profiles that contain a role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListInstanceProfilesForRole {
    role_name: String,
    #[serde(flatten)]
    page: PageRequest,
}

impl Action for ListInstanceProfilesForRole {
    const NAME: &'static str = "ListInstanceProfilesForRole";
    const READ_ONLY: bool = true;
    type Output = Profiles;

    async fn run(self, cx: &mut Context<'_>) -> Result<Profiles, Error> {
        let role = Target::role(cx, &self.role_name);
        permit::<Self>(cx, &role.resource())?;
        role.name()?;
        let list = List::Referring(ResourceKind::InstanceProfile, &role);
        let name = name_of(&role.arn);
        let wanted = |entry: &resource::Resource| match entry {
            resource::Resource::InstanceProfile(profile) => {
                let mut roles = profile.roles.iter();
                roles.any(|role| role.role_name.eq_ignore_ascii_case(name))
            }
            _ => false,
        };
        let page = rows::page::<Self>(cx, &role.resource(), &list, &self.page, wanted).await?;
        answer::<Self>(cx, &role.resource(), page).await
    }
}
