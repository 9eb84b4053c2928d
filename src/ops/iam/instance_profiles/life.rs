//! Creates, shows and deletes instance profiles.

use serde::{Deserialize, Serialize};

use super::shown;
use crate::base::arn::IamArn;
use crate::commands::Command;
use crate::directory::declaration::{InstanceProfile, Tag};
use crate::directory::resource::Resource;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::{Action, permit};
use crate::ops::iam::change::{change, delete};
use crate::ops::iam::creation::{New, filled, permit_creation};
use crate::ops::iam::entities::{Extent, Profile};
use crate::ops::iam::rows;
use crate::ops::iam::target::Target;

/// Creates an instance profile without a role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateInstanceProfile {
    instance_profile_name: String,
    path: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OneProfile {
    instance_profile: Profile,
}

impl Action for CreateInstanceProfile {
    const NAME: &'static str = "CreateInstanceProfile";
    const READ_ONLY: bool = false;
    type Output = OneProfile;

    async fn run(self, cx: &mut Context<'_>) -> Result<OneProfile, Error> {
        let path = self.path.unwrap_or_else(|| "/".to_owned());
        let account = cx.caller().account();
        let name = self.instance_profile_name;
        let arn = IamArn::text(account.as_str(), "instance-profile", &path, &name);
        let new = New {
            arn: &arn,
            tags: &self.tags,
            boundary: None,
            tagging: "iam:TagInstanceProfile",
        };
        let profile = InstanceProfile {
            arn: arn.clone(),
            path: Some(path),
            instance_profile_name: name,
            tags: Some(self.tags.clone()),
            ..InstanceProfile::default()
        };
        let created = filled(cx, Resource::InstanceProfile(profile))?;
        change(cx, Self::NAME, |cx| {
            permit_creation::<Self>(cx, &new)?;
            Ok(vec![Command::Create(created.clone())])
        })
        .await?;
        let Resource::InstanceProfile(profile) = created else {
            return Err(Error::InternalFailure);
        };
        Ok(OneProfile {
            instance_profile: Profile::new(profile, None, Extent::Whole),
        })
    }
}

/// Returns an instance profile with its role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetInstanceProfile {
    instance_profile_name: String,
}

impl Action for GetInstanceProfile {
    const NAME: &'static str = "GetInstanceProfile";
    const READ_ONLY: bool = true;
    type Output = OneProfile;

    async fn run(self, cx: &mut Context<'_>) -> Result<OneProfile, Error> {
        let target = Target::instance_profile(cx, &self.instance_profile_name);
        let profile = rows::one::<Self>(cx, &target).await?;
        let mut profiles = shown(cx, vec![profile], Extent::Whole).await?;
        permit::<Self>(cx, &target.resource())?;
        let instance_profile = profiles.pop().ok_or(Error::InternalFailure)?;
        Ok(OneProfile { instance_profile })
    }
}

/// Deletes an instance profile that has no role.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteInstanceProfile {
    instance_profile_name: String,
}

impl Action for DeleteInstanceProfile {
    const NAME: &'static str = "DeleteInstanceProfile";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        delete::<Self>(cx, |cx| {
            Ok(Target::instance_profile(cx, &self.instance_profile_name))
        })
        .await
    }
}
