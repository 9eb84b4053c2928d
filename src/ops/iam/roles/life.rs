//! Creates, shows and deletes roles.

use serde::Deserialize;

use super::{OneRole, answer, no_signin, trust_policy};
use crate::base::arn::IamArn;
use crate::base::field::FieldError;
use crate::commands::Command;
use crate::directory::declaration::{RoleDetail, Tag};
use crate::directory::resource::Resource;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::{Action, permit};
use crate::ops::iam::boundaries::{boundary, check_boundary};
use crate::ops::iam::change::change;
use crate::ops::iam::creation::{New, filled, permit_creation};
use crate::ops::iam::entities::{Extent, Role};
use crate::ops::iam::rows;
use crate::ops::iam::target::Target;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateRole {
    path: Option<String>,
    role_name: String,
    assume_role_policy_document: String,
    description: Option<String>,
    max_session_duration: Option<i64>,
    max_signin_session_duration: Option<i64>,
    permissions_boundary: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

impl Action for CreateRole {
    const NAME: &'static str = "CreateRole";
    const READ_ONLY: bool = false;
    type Output = OneRole;

    async fn run(self, cx: &mut Context<'_>) -> Result<OneRole, Error> {
        let path = self.path.unwrap_or_else(|| "/".to_owned());
        let account = cx.caller().account();
        let arn = IamArn::text(account.as_str(), "role", &path, &self.role_name);
        let new = New {
            arn: &arn,
            tags: &self.tags,
            boundary: self.permissions_boundary.as_deref(),
            tagging: "iam:TagRole",
        };
        permit_creation::<Self>(cx, &new)?;
        if path.starts_with("/aws-service-role/") {
            let rule =
                "must not begin with `/aws-service-role/`, which is for service-linked roles";
            return Err(FieldError::new("Path", rule).into());
        }
        no_signin(self.max_signin_session_duration.is_some())?;
        let trust = trust_policy(&self.assume_role_policy_document)?;
        let role = RoleDetail {
            arn: arn.clone(),
            path: Some(path),
            role_name: self.role_name,
            assume_role_policy_document: Some(trust),
            description: self.description,
            max_session_duration: self.max_session_duration,
            permissions_boundary: self.permissions_boundary.as_deref().map(boundary),
            tags: self.tags.clone(),
            ..RoleDetail::default()
        };
        let created = filled(cx, Resource::Role(Box::new(role)))?;
        change(cx, Self::NAME, |cx| {
            permit_creation::<Self>(cx, &new)?;
            new.boundary.map_or(Ok(()), |arn| check_boundary(cx, arn))?;
            Ok(vec![Command::Create(created.clone())])
        })
        .await?;
        let Resource::Role(role) = created else {
            return Err(Error::InternalFailure);
        };
        // The trust policy is shown as it was sent.
        let role = Role::new(*role, Extent::Whole)?.once_created();
        Ok(OneRole { role })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetRole {
    role_name: String,
}

impl Action for GetRole {
    const NAME: &'static str = "GetRole";
    const READ_ONLY: bool = true;
    type Output = OneRole;

    async fn run(self, cx: &mut Context<'_>) -> Result<OneRole, Error> {
        let target = Target::role(cx, &self.role_name);
        let role = rows::one_on::<Self>(cx, &target, &target.bounded()).await?;
        let answer = answer(cx, role).await?;
        permit::<Self>(cx, &target.bounded())?;
        Ok(answer)
    }
}

/// Deletes a role that has neither policies nor instance profiles.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteRole {
    role_name: String,
}

impl Action for DeleteRole {
    const NAME: &'static str = "DeleteRole";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        change(cx, Self::NAME, |cx| {
            let target = Target::role(cx, &self.role_name);
            permit::<Self>(cx, &target.bounded())?;
            target.modifiable()?;
            Ok(vec![Command::delete(target.name()?)])
        })
        .await
    }
}
