//! Creates, shows and deletes managed policies.

use serde::{Deserialize, Serialize};

use super::{changeable, one};
use crate::base::arn::IamArn;
use crate::commands::Command;
use crate::directory::declaration::{ManagedPolicyDetail, PolicyVersion, Tag};
use crate::directory::resource::Resource;
use crate::error::Error;
use crate::evaluator::PolicyKind;
use crate::ops::context::Context;
use crate::ops::iam::action::{Action, permit};
use crate::ops::iam::change::change;
use crate::ops::iam::creation::{New, filled};
use crate::ops::iam::documents;
use crate::ops::iam::entities::{Extent, Policy};
use crate::ops::iam::target::Target;

/// Creates a managed policy with its first version.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreatePolicy {
    policy_name: String,
    path: Option<String>,
    policy_document: String,
    description: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Shown {
    policy: Policy,
}

impl Action for CreatePolicy {
    const NAME: &'static str = "CreatePolicy";
    const READ_ONLY: bool = false;
    type Output = Shown;

    async fn run(self, cx: &mut Context<'_>) -> Result<Shown, Error> {
        let account = cx.caller().account();
        let path = self.path.as_deref().unwrap_or("/");
        let arn = IamArn::text(account.as_str(), "policy", path, &self.policy_name);
        let new = New {
            arn: &arn,
            tags: &self.tags,
            boundary: None,
            tagging: "iam:TagPolicy",
        };
        new.permit::<Self>(cx)?;
        new.check_tags()?;
        let now = cx.now.to_string();
        let policy = Resource::Policy(ManagedPolicyDetail {
            policy_name: self.policy_name.clone(),
            arn: arn.clone(),
            path: Some(path.to_owned()),
            description: self.description.clone(),
            default_version_id: Some("v1".to_owned()),
            is_attachable: Some(true),
            create_date: Some(now.clone()),
            update_date: Some(now.clone()),
            policy_version_list: vec![PolicyVersion {
                document: Some(documents::checked(
                    PolicyKind::Identity,
                    &self.policy_document,
                )?),
                version_id: "v1".to_owned(),
                is_default_version: true,
                create_date: Some(now),
            }],
            tags: Some(self.tags.clone()),
            ..ManagedPolicyDetail::default()
        });
        let policy = filled(cx, policy)?;
        let changed = change(cx, Self::NAME, |cx| {
            new.permit::<Self>(cx)?;
            Ok(vec![Command::Create(policy.clone())])
        });
        changed.await.map_err(|error| match error {
            Error::EntityAlreadyExists(_) => Error::EntityAlreadyExists(format!(
                "A policy called {} already exists. Duplicate names are not allowed.",
                self.policy_name
            )),
            other => other,
        })?;
        let Resource::Policy(policy) = policy else {
            return Err(Error::InternalFailure);
        };
        Ok(Shown {
            policy: Policy::new(policy, (0, 0), Extent::Whole),
        })
    }
}

/// Returns a managed policy without its documents.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetPolicy {
    policy_arn: String,
}

impl Action for GetPolicy {
    const NAME: &'static str = "GetPolicy";
    const READ_ONLY: bool = true;
    type Output = Shown;

    async fn run(self, cx: &mut Context<'_>) -> Result<Shown, Error> {
        let target = Target::policy(cx, &self.policy_arn)?;
        let policy = one::<Self>(cx, &target).await?;
        let uses = cx.directory.policy_uses(cx.caller().account(), &policy.arn);
        Ok(Shown {
            policy: Policy::new(policy, uses, Extent::Whole),
        })
    }
}

/// Deletes a managed policy that nothing uses and that has only its default version.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeletePolicy {
    policy_arn: String,
}

impl Action for DeletePolicy {
    const NAME: &'static str = "DeletePolicy";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        change(cx, Self::NAME, |cx| {
            let target = Target::policy(cx, &self.policy_arn)?;
            permit::<Self>(cx, &target.resource())?;
            Ok(vec![Command::delete(changeable::<Self>(cx, &target)?)])
        })
        .await
    }
}
