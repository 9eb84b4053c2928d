//! Adds a role to an instance profile, and removes it.

use serde::Deserialize;

use crate::base::arn::name_of;
use crate::commands::{Command, Edit};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::{Action, permit, permit_as};
use crate::ops::iam::change::change;
use crate::ops::iam::target::Target;

/// The permission to give a role to a service or a workload.
pub(in crate::parts::ops::iam) const PASS_ROLE: &str = "iam:PassRole";
/// The service in `iam:PassedToService` when a role is given away with its instance profile.
pub(in crate::parts::ops::iam) const PASSED_TO: &str = "ec2.amazonaws.com";

/// Adds a role to an instance profile that has none. The caller also needs `iam:PassRole` for the
/// role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddRoleToInstanceProfile {
    instance_profile_name: String,
    role_name: String,
}

impl Action for AddRoleToInstanceProfile {
    const NAME: &'static str = "AddRoleToInstanceProfile";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        change(cx, Self::NAME, |cx| {
            let profile = Target::instance_profile(cx, &self.instance_profile_name);
            permit::<Self>(cx, &profile.resource())?;
            let role = Target::role(cx, &self.role_name);
            let passed = role
                .resource()
                .with("iam:PassedToService", Some(PASSED_TO))
                .with("iam:AssociatedResourceArn", Some(&profile.arn));
            permit_as(cx, PASS_ROLE, &passed)?;
            edited(&profile, &role, Edit::AddRole)
        })
        .await
    }
}

/// Removes the role from an instance profile.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RemoveRoleFromInstanceProfile {
    instance_profile_name: String,
    role_name: String,
}

impl Action for RemoveRoleFromInstanceProfile {
    const NAME: &'static str = "RemoveRoleFromInstanceProfile";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        change(cx, Self::NAME, |cx| {
            let profile = Target::instance_profile(cx, &self.instance_profile_name);
            permit::<Self>(cx, &profile.resource())?;
            let role = Target::role(cx, &self.role_name);
            edited(&profile, &role, Edit::RemoveRole)
        })
        .await
    }
}

fn edited(
    profile: &Target,
    role: &Target,
    edit: fn(String) -> Edit,
) -> Result<Vec<Command>, Error> {
    let name = profile.name()?;
    role.name()?;
    Ok(vec![Command::edit(
        name,
        edit(name_of(&role.arn).to_owned()),
    )])
}
