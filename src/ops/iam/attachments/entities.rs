//! Lists the users, groups and roles that have a managed policy.

use serde::{Deserialize, Serialize};

use crate::directory::resource::{Resource, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::Action;
use crate::ops::iam::owner::Owned;
use crate::ops::iam::page::{PageEnd, PageRequest};
use crate::ops::iam::rows::{self, List};
use crate::ops::iam::target::Target;

/// Lists the groups, users and roles of the account to which a policy is attached, or of which it is
/// the permissions boundary.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListEntitiesForPolicy {
    policy_arn: String,
    entity_filter: Option<String>,
    path_prefix: Option<String>,
    policy_usage_filter: Option<String>,
    #[serde(flatten)]
    page: PageRequest,
}

/// A page of the answer. Its three lists share `MaxItems`.
#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entities {
    policy_groups: Vec<PolicyGroup>,
    policy_users: Vec<PolicyUser>,
    policy_roles: Vec<PolicyRole>,
    #[serde(flatten)]
    end: Option<PageEnd>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyGroup {
    group_name: String,
    group_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyUser {
    user_name: String,
    user_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyRole {
    role_name: String,
    role_id: String,
}

impl Action for ListEntitiesForPolicy {
    const NAME: &'static str = "ListEntitiesForPolicy";
    const READ_ONLY: bool = true;
    type Output = Entities;

    async fn run(self, cx: &mut Context<'_>) -> Result<Entities, Error> {
        let target = Target::policy(cx, &self.policy_arn)?;
        let kinds: &[ResourceKind] = match self.entity_filter.as_deref() {
            None => &[ResourceKind::Group, ResourceKind::User, ResourceKind::Role],
            Some("Group") => &[ResourceKind::Group],
            Some("User") => &[ResourceKind::User],
            Some("Role") => &[ResourceKind::Role],
            // Policies have no policies.
            Some(_) => &[],
        };
        let lists: Vec<List<'_>> = kinds
            .iter()
            .map(|kind| List::Referring(*kind, &target))
            .collect();
        let prefix = self.path_prefix.as_deref().unwrap_or("/");
        let arn = &self.policy_arn;
        let usage = self.policy_usage_filter.as_deref();
        let wanted = |resource: &Resource| {
            let owned = Owned::of(resource);
            let attached = owned.attached.iter().any(|a| a.policy_arn == *arn);
            let bounded = owned.boundary.as_deref() == Some(arn);
            let is_used = (attached && usage != Some("PermissionsBoundary"))
                || (bounded && usage != Some("PermissionsPolicy"));
            is_used && owned.path.as_deref().unwrap_or("/").starts_with(prefix)
        };
        let resource = target.resource();
        let (found, end) = rows::pages::<Self>(cx, &resource, &lists, &self.page, wanted).await?;
        target.name()?;
        let mut entities = Entities {
            end: Some(end),
            ..Entities::default()
        };
        for resource in found {
            let Owned { name, id, .. } = Owned::of(&resource);
            match resource.kind() {
                ResourceKind::Group => entities.policy_groups.push(PolicyGroup {
                    group_name: name,
                    group_id: id,
                }),
                ResourceKind::User => entities.policy_users.push(PolicyUser {
                    user_name: name,
                    user_id: id,
                }),
                _ => entities.policy_roles.push(PolicyRole {
                    role_name: name,
                    role_id: id,
                }),
            }
        }
        Ok(entities)
    }
}
