//! ListPolicies: lists the managed policies of an account and those of AWS.

use serde::{Deserialize, Serialize};

use crate::directory::resource::{Resource, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::{self, Action};
use crate::ops::iam::entities::{Extent, Policy};
use crate::ops::iam::page::{PageEnd, PageRequest};
use crate::ops::iam::rows::{self, List};

/// Lists the managed policies of the account and those of AWS.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListPolicies {
    scope: Option<String>,
    #[serde(default)]
    only_attached: bool,
    path_prefix: Option<String>,
    policy_usage_filter: Option<String>,
    #[serde(flatten)]
    page: PageRequest,
}

/// A page of policies, without descriptions and tags.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policies {
    policies: Vec<Policy>,
    #[serde(flatten)]
    end: PageEnd,
}

impl Action for ListPolicies {
    const NAME: &'static str = "ListPolicies";
    const READ_ONLY: bool = true;
    type Output = Policies;

    async fn run(self, cx: &mut Context<'_>) -> Result<Policies, Error> {
        let account = cx.caller().account();
        let local = List::Of(ResourceKind::Policy, account.as_str());
        let of_aws = List::Of(ResourceKind::Policy, "aws");
        let lists = match self.scope.as_deref() {
            Some("Local") => vec![local],
            Some("AWS") => vec![of_aws, List::BuiltIn],
            _ => vec![local, of_aws, List::BuiltIn],
        };
        let directory = cx.directory.clone();
        let prefix = self.path_prefix.as_deref().unwrap_or("/");
        let wanted = |resource: &Resource| {
            let Resource::Policy(policy) = resource else {
                return false;
            };
            let (attachments, boundaries) = directory.policy_uses(account, &policy.arn);
            let is_used = match self.policy_usage_filter.as_deref() {
                Some("PermissionsBoundary") => boundaries > 0,
                Some(_) => attachments > 0,
                None => attachments > 0 || !self.only_attached,
            };
            is_used && policy.path.as_deref().unwrap_or("/").starts_with(prefix)
        };
        let any = action::Resource::any();
        let (found, end) = rows::pages::<Self>(cx, &any, &lists, &self.page, wanted).await?;
        let mut policies = Vec::with_capacity(found.len());
        for resource in found {
            if let Resource::Policy(policy) = resource {
                let uses = cx.directory.policy_uses(account, &policy.arn);
                policies.push(Policy::new(policy, uses, Extent::Listed));
            }
        }
        Ok(Policies { policies, end })
    }
}
