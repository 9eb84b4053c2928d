//! Managed policies attached to users, groups and roles: IAM API Reference, "AttachRolePolicy",
//! "DetachRolePolicy", "ListAttachedRolePolicies", the same for users and groups, and
//! "ListEntitiesForPolicy".

mod entities;

use serde::{Deserialize, Serialize};

use super::action::{Action, permit};
use super::change::{change, part_not_found};
use super::owner::{Owned, Owner};
use super::page::{PageEnd, PageRequest};
use super::rows;
use super::target::Target;
use crate::base::arn::{account_of, name_of, path_of};
use crate::commands::{Command, Edit};
use crate::error::Error;
use crate::ops::context::Context;

pub use entities::ListEntitiesForPolicy;

/// The condition key for the ARN of the policy that a request attaches or detaches.
const POLICY_ARN: &str = "iam:PolicyARN";

/// Defines the actions that attach, detach and list policies for one kind of entity. `$field` is
/// the request's field with the entity's name.
macro_rules! actions {
    ($owner:ident, $field:literal, $attach:ident, $detach:ident, $list:ident) => {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $attach {
            #[serde(rename = $field)]
            owner: String,
            policy_arn: String,
        }

        impl Action for $attach {
            const NAME: &'static str = stringify!($attach);
            const READ_ONLY: bool = false;
            type Output = ();

            async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
                attach::<Self>(cx, Owner::$owner, &self.owner, &self.policy_arn).await
            }
        }

        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $detach {
            #[serde(rename = $field)]
            owner: String,
            policy_arn: String,
        }

        impl Action for $detach {
            const NAME: &'static str = stringify!($detach);
            const READ_ONLY: bool = false;
            type Output = ();

            async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
                detach::<Self>(cx, Owner::$owner, &self.owner, &self.policy_arn).await
            }
        }

        /// Lists the attached policies, page by page.
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $list {
            #[serde(rename = $field)]
            owner: String,
            path_prefix: Option<String>,
            #[serde(flatten)]
            page: PageRequest,
        }

        impl Action for $list {
            const NAME: &'static str = stringify!($list);
            const READ_ONLY: bool = true;
            type Output = AttachedPolicies;

            async fn run(self, cx: &mut Context<'_>) -> Result<AttachedPolicies, Error> {
                let prefix = self.path_prefix.as_deref();
                list::<Self>(cx, Owner::$owner, &self.owner, prefix, &self.page).await
            }
        }
    };
}

actions!(
    User,
    "UserName",
    AttachUserPolicy,
    DetachUserPolicy,
    ListAttachedUserPolicies
);
actions!(
    Group,
    "GroupName",
    AttachGroupPolicy,
    DetachGroupPolicy,
    ListAttachedGroupPolicies
);
actions!(
    Role,
    "RoleName",
    AttachRolePolicy,
    DetachRolePolicy,
    ListAttachedRolePolicies
);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttachedPolicies {
    attached_policies: Vec<AttachedPolicy>,
    #[serde(flatten)]
    end: PageEnd,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AttachedPolicy {
    policy_name: String,
    policy_arn: String,
}

async fn attach<A: Action>(
    cx: &mut Context<'_>,
    owner: Owner,
    name: &str,
    policy_arn: &str,
) -> Result<(), Error> {
    change(cx, A::NAME, |cx| {
        let policy = Target::policy(cx, policy_arn)?;
        let target = owner.target(cx, name)?;
        permit::<A>(cx, &target.bounded().with(POLICY_ARN, Some(policy_arn)))?;
        let name = target.name()?;
        // Policies of services are only for the roles that services make for themselves.
        if policy_arn.starts_with("arn:aws:iam::aws:policy/aws-service-role/") {
            return Err(Error::PolicyNotAttachable(
                "Cannot attach a Service Role Policy to a Customer Role.".to_owned(),
            ));
        }
        policy.name().map_err(|_| {
            Error::NotFound(format!(
                "Policy {policy_arn} does not exist or is not attachable."
            ))
        })?;
        Ok(vec![Command::edit(
            name,
            Edit::AttachPolicy(policy_arn.to_owned()),
        )])
    })
    .await
}

async fn detach<A: Action>(
    cx: &mut Context<'_>,
    owner: Owner,
    name: &str,
    policy_arn: &str,
) -> Result<(), Error> {
    let decide = |cx: &mut Context<'_>| {
        Target::policy(cx, policy_arn)?;
        let target = owner.target(cx, name)?;
        permit::<A>(cx, &target.bounded().with(POLICY_ARN, Some(policy_arn)))?;
        Ok(vec![Command::edit(
            target.name()?,
            Edit::DetachPolicy(policy_arn.to_owned()),
        )])
    };
    decide(cx)?;
    let changed = change(cx, A::NAME, decide).await;
    changed.map_err(part_not_found(format!(
        "Policy {policy_arn} was not found."
    )))
}

async fn list<A: Action>(
    cx: &mut Context<'_>,
    owner: Owner,
    name: &str,
    prefix: Option<&str>,
    page: &PageRequest,
) -> Result<AttachedPolicies, Error> {
    let target = owner.target(cx, name)?;
    let owned = Owned::of(&rows::one::<A>(cx, &target).await?);
    let prefix = prefix.unwrap_or("/");
    let attached = owned.attached.into_iter().map(|a| a.policy_arn);
    let attached = attached.filter(|arn| path_of(arn).starts_with(prefix));
    // AWS may have a policy of the same name as the account.
    let keyed = attached.map(|arn| (format!("{}/{}", name_of(&arn), account_of(&arn)), arn));
    let (page, end) = page.take(keyed, |(key, _)| key)?;
    let shown = page.into_iter().map(|(_, policy_arn)| AttachedPolicy {
        policy_name: name_of(&policy_arn).to_owned(),
        policy_arn,
    });
    Ok(AttachedPolicies {
        attached_policies: shown.collect(),
        end,
    })
}
