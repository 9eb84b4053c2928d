//! Changes single fields of roles: the description, the maximum session duration and the trust
//! policy.

use serde::{Deserialize, Serialize};

use super::{OneRole, answer, no_signin, trust_policy};
use crate::commands::{Command, Edit};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::{Action, permit};
use crate::ops::iam::change::change;
use crate::ops::iam::rows;
use crate::ops::iam::target::Target;

/// Changes the description and the maximum session duration of a role. Fields that the request
/// leaves out stay as they are.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateRole {
    role_name: String,
    description: Option<String>,
    max_session_duration: Option<i64>,
    max_signin_session_duration: Option<i64>,
    reset_max_signin_session_duration: Option<bool>,
}

/// The empty output of UpdateRole, which AWS's model requires.
#[derive(Serialize)]
pub struct Updated {}

impl Action for UpdateRole {
    const NAME: &'static str = "UpdateRole";
    const READ_ONLY: bool = false;
    type Output = Updated;

    async fn run(self, cx: &mut Context<'_>) -> Result<Updated, Error> {
        let description = self.description.map(Edit::UpdateDescription);
        let duration = self
            .max_session_duration
            .map(Edit::UpdateMaxSessionDuration);
        let is_limited = duration.is_some();
        let signin = self.max_signin_session_duration.is_some()
            || self.reset_max_signin_session_duration == Some(true);
        let edits: Vec<Edit> = description.into_iter().chain(duration).collect();
        let decide = |cx: &mut Context<'_>| -> Result<Vec<Command>, Error> {
            let target = Target::role(cx, &self.role_name);
            permit::<Self>(cx, &target.bounded())?;
            no_signin(signin)?;
            // Of a service-linked role, only the description can be changed.
            if is_limited {
                target.modifiable()?;
            }
            let name = target.name()?;
            let command = |edit: &Edit| Command::edit(name.clone(), edit.clone());
            Ok(edits.iter().map(command).collect())
        };
        if edits.is_empty() {
            decide(cx)?;
        } else {
            change(cx, Self::NAME, decide).await?;
        }
        Ok(Updated {})
    }
}

/// Changes the description of a role, and returns the role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateRoleDescription {
    role_name: String,
    description: String,
}

impl Action for UpdateRoleDescription {
    const NAME: &'static str = "UpdateRoleDescription";
    const READ_ONLY: bool = false;
    type Output = OneRole;

    async fn run(self, cx: &mut Context<'_>) -> Result<OneRole, Error> {
        let edit = Edit::UpdateDescription(self.description);
        change(cx, Self::NAME, |cx| {
            let target = Target::role(cx, &self.role_name);
            permit::<Self>(cx, &target.bounded())?;
            Ok(vec![Command::edit(target.name()?, edit.clone())])
        })
        .await?;
        let target = Target::role(cx, &self.role_name);
        let role = rows::one_on::<Self>(cx, &target, &target.bounded()).await?;
        let mut answer = answer(cx, role).await?;
        permit::<Self>(cx, &target.bounded())?;
        answer.role = answer.role.without_last_use();
        Ok(answer)
    }
}

/// Replaces the trust policy of a role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateAssumeRolePolicy {
    role_name: String,
    policy_document: String,
}

impl Action for UpdateAssumeRolePolicy {
    const NAME: &'static str = "UpdateAssumeRolePolicy";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        change(cx, Self::NAME, |cx| {
            let target = Target::role(cx, &self.role_name);
            permit::<Self>(cx, &target.bounded())?;
            trust_policy(&self.policy_document)?;
            target.modifiable()?;
            Ok(vec![Command::edit(
                target.name()?,
                Edit::UpdateAssumeRolePolicy(self.policy_document.clone()),
            )])
        })
        .await
    }
}
