//! Inline policies of users, groups and roles: IAM API Reference, "PutRolePolicy", "GetRolePolicy",
//! "DeleteRolePolicy", "ListRolePolicies", and the same for users and groups.

use serde::{Deserialize, Serialize};

use super::action::{Action, permit};
use super::change::{change, part_not_found};
use super::documents;
use super::entities;
use super::owner::{Owned, Owner};
use super::page::{PageEnd, PageRequest};
use super::rows;
use crate::commands::{Command, Edit};
use crate::error::Error;
use crate::evaluator::PolicyKind;
use crate::ops::context::Context;

/// Defines the actions that put, get, delete and list inline policies for one kind of entity.
/// `$field` is the request's field with the entity's name.
macro_rules! actions {
    ($owner:ident, $field:literal, $put:ident, $get:ident, $shown:ident, $delete:ident, $list:ident) => {
        /// Adds an inline policy, or replaces the one with the same name.
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $put {
            #[serde(rename = $field)]
            owner: String,
            policy_name: String,
            policy_document: String,
        }

        impl Action for $put {
            const NAME: &'static str = stringify!($put);
            const READ_ONLY: bool = false;
            type Output = ();

            async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
                put::<Self>(
                    cx,
                    Owner::$owner,
                    &self.owner,
                    &self.policy_name,
                    &self.policy_document,
                )
                .await
            }
        }

        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $get {
            #[serde(rename = $field)]
            owner: String,
            policy_name: String,
        }

        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $shown {
            #[serde(rename = $field)]
            owner: String,
            policy_name: String,
            policy_document: String,
        }

        impl Action for $get {
            const NAME: &'static str = stringify!($get);
            const READ_ONLY: bool = true;
            type Output = $shown;

            async fn run(self, cx: &mut Context<'_>) -> Result<$shown, Error> {
                let shown = get::<Self>(cx, Owner::$owner, &self.owner, &self.policy_name).await?;
                Ok($shown {
                    owner: shown.owner,
                    policy_name: shown.policy_name,
                    policy_document: shown.policy_document,
                })
            }
        }

        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $delete {
            #[serde(rename = $field)]
            owner: String,
            policy_name: String,
        }

        impl Action for $delete {
            const NAME: &'static str = stringify!($delete);
            const READ_ONLY: bool = false;
            type Output = ();

            async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
                delete::<Self>(cx, Owner::$owner, &self.owner, &self.policy_name).await
            }
        }

        /// Lists the names of the inline policies, page by page.
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $list {
            #[serde(rename = $field)]
            owner: String,
            #[serde(flatten)]
            page: PageRequest,
        }

        impl Action for $list {
            const NAME: &'static str = stringify!($list);
            const READ_ONLY: bool = true;
            type Output = Names;

            async fn run(self, cx: &mut Context<'_>) -> Result<Names, Error> {
                list::<Self>(cx, Owner::$owner, &self.owner, &self.page).await
            }
        }
    };
}

actions!(
    User,
    "UserName",
    PutUserPolicy,
    GetUserPolicy,
    UserPolicy,
    DeleteUserPolicy,
    ListUserPolicies
);
actions!(
    Group,
    "GroupName",
    PutGroupPolicy,
    GetGroupPolicy,
    GroupPolicy,
    DeleteGroupPolicy,
    ListGroupPolicies
);
actions!(
    Role,
    "RoleName",
    PutRolePolicy,
    GetRolePolicy,
    RolePolicy,
    DeleteRolePolicy,
    ListRolePolicies
);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Names {
    policy_names: Vec<String>,
    #[serde(flatten)]
    end: PageEnd,
}

/// An inline policy in the form of answers, with its percent-encoded document.
struct Shown {
    owner: String,
    policy_name: String,
    policy_document: String,
}

async fn put<A: Action>(
    cx: &mut Context<'_>,
    owner: Owner,
    name: &str,
    policy: &str,
    document: &str,
) -> Result<(), Error> {
    change(cx, A::NAME, |cx| {
        let target = owner.target(cx, name)?;
        permit::<A>(cx, &target.bounded())?;
        let name = target.name()?;
        documents::checked(PolicyKind::Identity, document)?;
        Ok(vec![Command::edit(
            name,
            Edit::PutPolicy(policy.to_owned(), document.to_owned()),
        )])
    })
    .await
}

async fn delete<A: Action>(
    cx: &mut Context<'_>,
    owner: Owner,
    name: &str,
    policy: &str,
) -> Result<(), Error> {
    let decide = |cx: &mut Context<'_>| {
        let target = owner.target(cx, name)?;
        permit::<A>(cx, &target.bounded())?;
        Ok(vec![Command::edit(
            target.name()?,
            Edit::DeletePolicy(policy.to_owned()),
        )])
    };
    decide(cx)?;
    let changed = change(cx, A::NAME, decide).await;
    changed.map_err(part_not_found(not_found(owner, policy)))
}

/// Returns AWS's error text for an inline policy that does not exist.
fn not_found(owner: Owner, policy: &str) -> String {
    format!(
        "The {} policy with name {policy} cannot be found.",
        owner.kind()
    )
}

async fn get<A: Action>(
    cx: &mut Context<'_>,
    owner: Owner,
    name: &str,
    policy: &str,
) -> Result<Shown, Error> {
    let target = owner.target(cx, name)?;
    let owned = Owned::of(&rows::one::<A>(cx, &target).await?);
    let mut inline = owned.inline.into_iter();
    let found = inline.find(|p| p.policy_name.eq_ignore_ascii_case(policy));
    let document = found
        .as_ref()
        .and_then(|p| p.policy_document.as_ref())
        .map(|document| entities::document(document, &target.arn))
        .transpose()?;
    match (found, document) {
        (Some(found), Some(policy_document)) => Ok(Shown {
            owner: owned.name,
            policy_name: found.policy_name,
            policy_document,
        }),
        _ => Err(Error::NotFound(not_found(owner, policy))),
    }
}

async fn list<A: Action>(
    cx: &mut Context<'_>,
    owner: Owner,
    name: &str,
    page: &PageRequest,
) -> Result<Names, Error> {
    let target = owner.target(cx, name)?;
    let owned = Owned::of(&rows::one::<A>(cx, &target).await?);
    let names = owned.inline.into_iter().map(|policy| policy.policy_name);
    let (policy_names, end) = page.take(names, |name| name)?;
    Ok(Names { policy_names, end })
}
