//! Permissions boundaries of users and roles: IAM API Reference, "PutUserPermissionsBoundary",
//! "DeleteUserPermissionsBoundary", "PutRolePermissionsBoundary", "DeleteRolePermissionsBoundary".

use serde::Deserialize;

use super::action::{Action, permit};
use super::change::change;
use super::target::Target;
use crate::base::arn::account_of;
use crate::commands::{Command, Edit};
use crate::directory::declaration::Boundary;
use crate::error::Error;
use crate::ops::context::Context;

pub(super) fn boundary(arn: &str) -> Boundary {
    Boundary {
        permissions_boundary_type: Some("Policy".to_owned()),
        permissions_boundary_arn: arn.to_owned(),
    }
}

/// Checks that a policy may be the boundary of a user or role of the caller's account. Whether it exists is checked
/// when the boundary is set.
///
/// # Errors
/// [`Error::InvalidArn`] if the text is not the ARN of a policy, and [`Error::NotFound`] if it is a policy of another
/// account.
pub(super) fn check_boundary(cx: &Context<'_>, arn: &str) -> Result<(), Error> {
    Target::policy(cx, arn)?;
    let account = account_of(arn);
    if account == "aws" || account == cx.caller().account().as_str() {
        return Ok(());
    }
    Err(Error::NotFound(format!(
        "Policy {arn} does not exist or is not attachable."
    )))
}

/// Sets the boundary of an entity. The caller is authorized with the requested boundary as
/// `iam:PermissionsBoundary`.
async fn put<A: Action>(
    cx: &mut Context<'_>,
    arn: &str,
    target: impl Fn(&Context<'_>) -> Result<Target, Error>,
) -> Result<(), Error> {
    change(cx, A::NAME, |cx| {
        let target = target(cx)?;
        let resource = target.resource();
        permit::<A>(cx, &resource.with("iam:PermissionsBoundary", Some(arn)))?;
        check_boundary(cx, arn)?;
        target.modifiable()?;
        Ok(vec![Command::edit(
            target.name()?,
            Edit::PutPermissionsBoundary(arn.to_owned()),
        )])
    })
    .await
}

/// Removes the boundary of an entity. The caller is authorized with the current boundary as
/// `iam:PermissionsBoundary`.
async fn delete<A: Action>(
    cx: &mut Context<'_>,
    target: impl Fn(&Context<'_>) -> Result<Target, Error>,
) -> Result<(), Error> {
    change(cx, A::NAME, |cx| {
        let target = target(cx)?;
        permit::<A>(cx, &target.bounded())?;
        target.modifiable()?;
        Ok(vec![Command::edit(
            target.name()?,
            Edit::DeletePermissionsBoundary,
        )])
    })
    .await
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutUserPermissionsBoundary {
    user_name: String,
    permissions_boundary: String,
}

impl Action for PutUserPermissionsBoundary {
    const NAME: &'static str = "PutUserPermissionsBoundary";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let user = |cx: &Context<'_>| Target::user(cx, Some(&self.user_name));
        put::<Self>(cx, &self.permissions_boundary, user).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteUserPermissionsBoundary {
    user_name: String,
}

impl Action for DeleteUserPermissionsBoundary {
    const NAME: &'static str = "DeleteUserPermissionsBoundary";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let user = |cx: &Context<'_>| Target::user(cx, Some(&self.user_name));
        delete::<Self>(cx, user).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutRolePermissionsBoundary {
    role_name: String,
    permissions_boundary: String,
}

impl Action for PutRolePermissionsBoundary {
    const NAME: &'static str = "PutRolePermissionsBoundary";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let role = |cx: &Context<'_>| Ok(Target::role(cx, &self.role_name));
        put::<Self>(cx, &self.permissions_boundary, role).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteRolePermissionsBoundary {
    role_name: String,
}

impl Action for DeleteRolePermissionsBoundary {
    const NAME: &'static str = "DeleteRolePermissionsBoundary";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let role = |cx: &Context<'_>| Ok(Target::role(cx, &self.role_name));
        delete::<Self>(cx, role).await
    }
}
