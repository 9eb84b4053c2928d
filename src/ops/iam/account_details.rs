//! Returns the complete account: IAM API Reference, "GetAccountAuthorizationDetails". `brevet
//! import` accepts the answer unchanged.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::action::{self, Action, permit};
use super::entities;
use super::page::{PageEnd, PageRequest};
use super::rows::{self, List};
use crate::directory::declaration::{Declaration, Document};
use crate::directory::is_aws_managed;
use crate::directory::resource::{Resource, ResourceKind, folded};
use crate::error::Error;
use crate::ops::context::Context;

/// Lists the users, groups, roles and policies of the account with everything that determines their
/// permissions.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetAccountAuthorizationDetails {
    #[serde(default)]
    filter: Vec<String>,
    #[serde(flatten)]
    page: PageRequest,
}

/// A page of the answer. Its four lists share `MaxItems`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Details {
    user_detail_list: Vec<Value>,
    group_detail_list: Vec<Value>,
    role_detail_list: Vec<Value>,
    policies: Vec<Value>,
    #[serde(flatten)]
    end: PageEnd,
}

impl Action for GetAccountAuthorizationDetails {
    const NAME: &'static str = "GetAccountAuthorizationDetails";
    const READ_ONLY: bool = true;
    type Output = Details;

    async fn run(self, cx: &mut Context<'_>) -> Result<Details, Error> {
        let account = cx.caller().account();
        let asked = |entity: &str| self.filter.iter().any(|filter| filter == entity);
        let all = self.filter.is_empty();
        let mut lists = Vec::new();
        for (entity, kind) in [
            ("User", ResourceKind::User),
            ("Group", ResourceKind::Group),
            ("Role", ResourceKind::Role),
            ("LocalManagedPolicy", ResourceKind::Policy),
        ] {
            if all || asked(entity) {
                lists.push(List::Of(kind, account.as_str()));
            }
        }
        if all || asked("AWSManagedPolicy") {
            lists.extend([List::Of(ResourceKind::Policy, "aws"), List::BuiltIn]);
        }
        // Unless all of AWS's policies are asked for, only those that the account uses are shown.
        let directory = cx.directory.clone();
        let wanted = |resource: &Resource| match resource {
            Resource::Policy(policy) if is_aws_managed(&policy.arn) && all => {
                directory.policy_uses(account, &policy.arn) != (0, 0)
            }
            _ => true,
        };
        let any = action::Resource::any();
        let (mut found, end) = rows::pages::<Self>(cx, &any, &lists, &self.page, wanted).await?;
        rows::show_principals(cx, &mut found).await?;
        let profiles = profiles_of(cx, &found).await?;
        permit::<Self>(cx, &any)?;
        for resource in &mut found {
            encode(resource)?;
        }
        let mut file = Declaration::from_resources(found.into_iter().chain(profiles));
        for policy in &mut file.policies {
            let (attachments, boundaries) = cx.directory.policy_uses(account, &policy.arn);
            policy.attachment_count = i64::try_from(attachments).ok();
            policy.permissions_boundary_usage_count = i64::try_from(boundaries).ok();
            let default = policy.default_version().map(str::to_owned);
            for version in &mut policy.policy_version_list {
                version.is_default_version = Some(&version.version_id) == default.as_ref();
            }
            policy.default_version_id = default;
            policy.is_attachable.get_or_insert(true);
        }
        let attached = ("AttachedManagedPolicies", json!([]));
        let users = [("GroupList", json!([])), attached.clone()];
        let groups = [("GroupPolicyList", json!([])), attached.clone()];
        let roles = [
            ("RolePolicyList", json!([])),
            ("InstanceProfileList", json!([])),
            ("RoleLastUsed", json!({})),
            attached,
        ];
        Ok(Details {
            user_detail_list: shown(&file.user_detail_list, &users)?,
            group_detail_list: shown(&file.group_detail_list, &groups)?,
            role_detail_list: shown(&file.role_detail_list, &roles)?,
            policies: shown(&file.policies, &[])?,
            end,
        })
    }
}

/// Returns the instance profiles that contain a role on the page.
async fn profiles_of(cx: &mut Context<'_>, page: &[Resource]) -> Result<Vec<Resource>, Error> {
    let account = cx.caller().account();
    let roles = page.iter().filter_map(|resource| match resource {
        Resource::Role(role) => Some(folded(account.as_str(), &role.role_name)),
        _ => None,
    });
    let roles: HashSet<String> = roles.collect();
    if roles.is_empty() {
        return Ok(Vec::new());
    }
    let of_page = cx.directory.instance_profiles().filter(|profile| {
        let role = profile.role.as_deref();
        role.is_some_and(|role| roles.contains(role))
    });
    let mut arns: Vec<String> = of_page.map(|profile| profile.arn.to_string()).collect();
    arns.sort();
    let mut found = rows::by_id(cx, ResourceKind::InstanceProfile, arns.clone()).await?;
    Ok(arns.iter().filter_map(|arn| found.remove(arn)).collect())
}

/// Replaces the policy documents of a resource by their percent-encoded text, as IAM's answers
/// contain them.
fn encode(resource: &mut Resource) -> Result<(), Error> {
    let owner = resource.name().to_string();
    for document in resource.documents_mut().into_iter().flatten() {
        let text = Value::String(entities::document(document, &owner)?);
        *document = Document::new(&text.to_string()).map_err(|_| Error::InternalFailure)?;
    }
    Ok(())
}

/// Converts entries to the form of AWS's export. The members in `always` are present even if they
/// are empty.
fn shown<T: Serialize>(entries: &[T], always: &[(&str, Value)]) -> Result<Vec<Value>, Error> {
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut entry = serde_json::to_value(entry).map_err(|_| Error::InternalFailure)?;
        if let Value::Object(members) = &mut entry {
            for (name, empty) in always {
                members.entry(*name).or_insert_with(|| empty.clone());
            }
        }
        all.push(entry);
    }
    Ok(all)
}
