//! Versions of managed policies. Each change of a policy creates a version; the default version is
//! in force.

use serde::{Deserialize, Serialize};

use super::{changeable, edited, one};
use crate::commands::Edit;
use crate::directory::declaration::{ManagedPolicyDetail, PolicyVersion};
use crate::directory::resource::Resource;
use crate::directory::version_number;
use crate::error::Error;
use crate::evaluator::PolicyKind;
use crate::ops::context::Context;
use crate::ops::iam::action::{Action, permit};
use crate::ops::iam::change::{change, part_not_found};
use crate::ops::iam::documents;
use crate::ops::iam::entities;
use crate::ops::iam::page::{PageEnd, PageRequest};
use crate::ops::iam::rows;
use crate::ops::iam::target::Target;

/// A version of a policy in the form of answers. Lists do not contain the document.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::parts::ops::iam) struct Version {
    document: Option<String>,
    version_id: String,
    is_default_version: bool,
    create_date: String,
}

impl Version {
    /// Converts a stored version to the form of lists, without its document.
    fn listed(policy: &ManagedPolicyDetail, version: &PolicyVersion) -> Self {
        let created = version.create_date.as_ref().or(policy.create_date.as_ref());
        Self {
            document: None,
            is_default_version: policy.default_version() == Some(&version.version_id),
            version_id: version.version_id.clone(),
            create_date: entities::date(created.cloned()),
        }
    }

    /// Converts a stored version to the form of answers, with its document.
    ///
    /// # Errors
    /// [`Error::InternalFailure`] if the document is unreadable, which cannot happen to a stored
    /// one.
    pub(in crate::parts::ops::iam) fn whole(
        policy: &ManagedPolicyDetail,
        version: &PolicyVersion,
    ) -> Result<Self, Error> {
        let document = version.document.as_ref();
        Ok(Self {
            document: document
                .map(|document| entities::document(document, &policy.arn))
                .transpose()?,
            ..Self::listed(policy, version)
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Shown {
    policy_version: Version,
}

/// Creates a version of a policy. With `SetAsDefault`, the new version becomes the one in force.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreatePolicyVersion {
    policy_arn: String,
    policy_document: String,
    #[serde(default)]
    set_as_default: bool,
}

impl Action for CreatePolicyVersion {
    const NAME: &'static str = "CreatePolicyVersion";
    const READ_ONLY: bool = false;
    type Output = Shown;

    async fn run(self, cx: &mut Context<'_>) -> Result<Shown, Error> {
        let target = Target::policy(cx, &self.policy_arn)?;
        permit::<Self>(cx, &target.resource())?;
        let name = changeable::<Self>(cx, &target)?;
        documents::checked(PolicyKind::Identity, &self.policy_document)?;
        change(cx, Self::NAME, |cx| {
            let target = Target::policy(cx, &self.policy_arn)?;
            permit::<Self>(cx, &target.resource())?;
            let name = changeable::<Self>(cx, &target)?;
            let edit = Edit::CreatePolicyVersion(self.policy_document.clone(), self.set_as_default);
            Ok(edited(name, edit))
        })
        .await?;
        // The number of the version was given when it was written. The newest version with the document
        // is that one, or one of the same content that somebody else made at the same time.
        let mut found = rows::by_id(cx, name.kind, vec![name.id.clone()]).await?;
        let Some(Resource::Policy(policy)) = found.remove(&name.id) else {
            return Err(target.not_found());
        };
        let wanted = self.policy_document.trim();
        let is_same = |version: &&PolicyVersion| {
            let text = version.document.as_ref().and_then(|d| d.text().ok());
            text.is_some_and(|text| text == wanted)
        };
        let versions = policy.policy_version_list.iter().filter(is_same);
        match versions.max_by_key(|v| version_number(&v.version_id)) {
            Some(version) => Ok(Shown {
                policy_version: Version::listed(&policy, version),
            }),
            None => Err(Error::ConcurrentModification(
                "The version was created, but somebody else has deleted it in the meantime."
                    .to_owned(),
            )),
        }
    }
}

/// Returns a version of a policy with its document.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetPolicyVersion {
    policy_arn: String,
    version_id: String,
}

impl Action for GetPolicyVersion {
    const NAME: &'static str = "GetPolicyVersion";
    const READ_ONLY: bool = true;
    type Output = Shown;

    async fn run(self, cx: &mut Context<'_>) -> Result<Shown, Error> {
        let target = Target::policy(cx, &self.policy_arn)?;
        let policy = one::<Self>(cx, &target).await?;
        let mut versions = policy.policy_version_list.iter();
        match versions.find(|v| v.version_id == self.version_id) {
            Some(version) => Ok(Shown {
                policy_version: Version::whole(&policy, version)?,
            }),
            None => Err(Error::NotFound(no_such_version(
                &policy.arn,
                &self.version_id,
            ))),
        }
    }
}

/// Lists the versions of a policy, the newest first.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListPolicyVersions {
    policy_arn: String,
    #[serde(flatten)]
    page: PageRequest,
}

/// A page of versions without their documents.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Versions {
    versions: Vec<Version>,
    #[serde(flatten)]
    end: PageEnd,
}

impl Action for ListPolicyVersions {
    const NAME: &'static str = "ListPolicyVersions";
    const READ_ONLY: bool = true;
    type Output = Versions;

    async fn run(self, cx: &mut Context<'_>) -> Result<Versions, Error> {
        let target = Target::policy(cx, &self.policy_arn)?;
        let policy = one::<Self>(cx, &target).await?;
        let keyed = policy.policy_version_list.iter().map(|version| {
            // Keys are sorted upwards, and the newest version comes first.
            let key = u32::MAX - version_number(&version.version_id);
            (format!("{key:010}"), version)
        });
        let (page, end) = self.page.take(keyed, |(key, _)| key)?;
        let listed = page.iter().map(|(_, v)| Version::listed(&policy, v));
        Ok(Versions {
            versions: listed.collect(),
            end,
        })
    }
}

/// Deletes a version of a policy other than the default version.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeletePolicyVersion {
    policy_arn: String,
    version_id: String,
}

impl Action for DeletePolicyVersion {
    const NAME: &'static str = "DeletePolicyVersion";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let edit = Edit::DeletePolicyVersion(self.version_id.clone());
        let changed = change_version::<Self>(cx, &self.policy_arn, &self.version_id, &edit).await;
        changed.map_err(|error| match error {
            Error::DeleteConflict(_) => {
                Error::DeleteConflict("Cannot delete the default version of a policy.".to_owned())
            }
            other => other,
        })
    }
}

/// Makes another version of a policy the default version, which puts it in force.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetDefaultPolicyVersion {
    policy_arn: String,
    version_id: String,
}

impl Action for SetDefaultPolicyVersion {
    const NAME: &'static str = "SetDefaultPolicyVersion";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let edit = Edit::SetDefaultPolicyVersion(self.version_id.clone());
        change_version::<Self>(cx, &self.policy_arn, &self.version_id, &edit).await
    }
}

/// Applies a change to an existing version of a policy.
///
/// # Errors
/// [`Error::NotFound`] with AWS's text if the version does not exist, and the errors of [`change`].
async fn change_version<A: Action>(
    cx: &mut Context<'_>,
    policy_arn: &str,
    version_id: &str,
    edit: &Edit,
) -> Result<(), Error> {
    let decide = |cx: &mut Context<'_>| {
        let target = Target::policy(cx, policy_arn)?;
        permit::<A>(cx, &target.resource())?;
        let name = changeable::<A>(cx, &target)?;
        Ok(edited(name, edit.clone()))
    };
    decide(cx)?;
    let changed = change(cx, A::NAME, decide).await;
    changed.map_err(part_not_found(no_such_version(policy_arn, version_id)))
}

/// Returns AWS's error text for a version that does not exist.
fn no_such_version(policy_arn: &str, version_id: &str) -> String {
    format!("Policy {policy_arn} version {version_id} does not exist or is not attachable.")
}
