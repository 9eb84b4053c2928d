//! Reads the stored policies of a user, group or role for a simulation.

use std::collections::HashMap;

use super::scenario;
use super::sources::{PolicySet, SourcePolicy};
use crate::base::arn::{AccountId, IamArn, name_of};
use crate::directory::declaration::{Attached, Boundary, Document, InlinePolicy};
use crate::directory::is_aws_managed;
use crate::directory::resource::{self, ResourceKind};
use crate::error::Error;
use crate::evaluator::{AnnotatedPolicy, Policy, PolicyKind};
use crate::ops::context::Context;
use crate::ops::iam::action::{Action, Resource, permit, requested};
use crate::ops::iam::rows::by_id;
use crate::ops::iam::target::Target;
use crate::trust::SimulatedPrincipal;

/// A user, group or role from the directory, with the policies that apply to it.
pub(in crate::parts::ops::iam) struct StoredPrincipal {
    pub principal: SimulatedPrincipal,
    pub policies: PolicySet,
}

/// The policies of one entity. Managed policies are only named, and must still be read.
#[derive(Default)]
struct Held {
    inline: Vec<InlinePolicy>,
    attached: Vec<Attached>,
    boundary: Option<Boundary>,
}

impl StoredPrincipal {
    /// Authorizes the action on the entity with this ARN, and reads its policies. For a user, this includes the
    /// policies of its groups.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] unless the text is the ARN of a user, group or role; [`Error::AccessDenied`] if the
    /// caller may not read it, and then [`Error::NotFound`] if it does not exist; [`Error::ConcurrentModification`] if
    /// its policies change at the same time; [`Error::InternalFailure`] if a stored policy cannot be read; and the
    /// errors of [`Context::wait`].
    pub async fn read<A: Action>(cx: &mut Context<'_>, arn: &str) -> Result<Self, Error> {
        let mut principal = scenario::principal(arn)?;
        let asked = IamArn::parse(arn).ok_or(Error::InternalFailure)?;
        let target = match asked.kind {
            "user" => Target::user(cx, Some(asked.name))?,
            "role" => Target::role(cx, asked.name),
            _ => Target::group(cx, asked.name),
        };
        // A name is unique in its account, so the one that is found may have another path.
        if target.arn != arn {
            permit::<A>(cx, &Resource::new(arn, &[]))?;
            return Err(target.not_found());
        }
        let target = target.known_by_arn();
        permit::<A>(cx, &target.resource())?;
        let name = target.name()?;
        let mut found = by_id(cx, name.kind, vec![name.id.clone()]).await?;
        let mut groups = Vec::new();
        let mut held = Vec::new();
        match found.remove(&name.id) {
            Some(resource::Resource::User(user)) => {
                principal.id = Some(user.user_id);
                principal.tags = requested(&user.tags);
                groups = user.group_list;
                held.push((
                    format!("user_{}", user.user_name),
                    Held {
                        inline: user.user_policy_list,
                        attached: user.attached_managed_policies,
                        boundary: user.permissions_boundary,
                    },
                ));
            }
            Some(resource::Resource::Role(role)) => {
                principal.id = Some(role.role_id);
                principal.tags = requested(&role.tags);
                held.push((
                    format!("role_{}", role.role_name),
                    Held {
                        inline: role.role_policy_list,
                        attached: role.attached_managed_policies,
                        boundary: role.permissions_boundary,
                    },
                ));
            }
            Some(group) => held.extend(of_group(group)),
            None => return Err(target.not_found()),
        }
        for group in groups_named(cx, asked.account, groups).await? {
            held.extend(of_group(group));
        }
        let mut policies = compiled(cx, held).await?;
        permit::<A>(cx, &target.resource())?;
        if let Some(member) = cx.directory.member(asked.account) {
            let path = (member.organization.to_string(), member.path.to_string());
            principal.organization = Some(path);
            policies.service_control = member.service_control().map(of_organization);
        }
        Ok(Self {
            principal,
            policies,
        })
    }
}

/// Converts service control policies, level by level, for a simulation. Results do not show their
/// names and texts to an account.
fn of_organization(levels: Vec<Vec<&Policy>>) -> Vec<Vec<SourcePolicy>> {
    let one = |policy: &Policy| SourcePolicy {
        id: String::new(),
        policy: policy.clone().into(),
    };
    let level = |level: Vec<&Policy>| level.into_iter().map(one).collect();
    levels.into_iter().map(level).collect()
}

fn of_group(group: resource::Resource) -> Option<(String, Held)> {
    let resource::Resource::Group(group) = group else {
        return None;
    };
    let held = Held {
        inline: group.group_policy_list,
        attached: group.attached_managed_policies,
        boundary: None,
    };
    Some((format!("group_{}", group.group_name), held))
}

async fn groups_named(
    cx: &mut Context<'_>,
    account: AccountId,
    names: Vec<String>,
) -> Result<Vec<resource::Resource>, Error> {
    let mut arns = Vec::with_capacity(names.len());
    for name in &names {
        let group = cx
            .directory
            .group_named(account, name)
            .ok_or_else(changing)?;
        arns.push(group.arn.to_string());
    }
    let mut groups = by_id(cx, ResourceKind::Group, arns.clone()).await?;
    let groups = arns
        .iter()
        .map(|arn| groups.remove(arn).ok_or_else(changing));
    groups.collect()
}

/// Reads the managed policies, and returns all policies of the entities. A managed policy that
/// several entities have occurs once.
async fn compiled(cx: &mut Context<'_>, held: Vec<(String, Held)>) -> Result<PolicySet, Error> {
    let boundary = held
        .iter()
        .find_map(|(_, held)| held.boundary.as_ref())
        .map(|boundary| boundary.permissions_boundary_arn.clone());
    let attached = held.iter().flat_map(|(_, held)| &held.attached);
    let mut attached: Vec<String> = attached.map(|policy| policy.policy_arn.clone()).collect();
    attached.sort();
    attached.dedup();
    let all = attached.iter().chain(&boundary).cloned().collect();
    let managed = by_id(cx, ResourceKind::Policy, all).await?;
    let closed = cx.directory.closed_policy().clone();
    let mut identity = Vec::new();
    for (holder, held) in held {
        for policy in held.inline {
            let text = policy.policy_document.as_ref();
            let id = format!("{holder}_{}", policy.policy_name);
            let policy = annotated(PolicyKind::Identity, text, &id)?;
            identity.push(SourcePolicy { id, policy });
        }
    }
    for arn in &attached {
        identity.push(default_version(arn, &managed, &closed)?);
    }
    let boundary = boundary.map(|arn| default_version(&arn, &managed, &closed));
    Ok(PolicySet {
        identity,
        boundary: boundary.transpose()?,
        service_control: None,
    })
}

/// Returns the default version of a managed policy. An AWS managed policy whose document is missing
/// counts as a policy that denies everything, because the broker cannot know what its statements
/// deny.
fn default_version(
    arn: &str,
    managed: &HashMap<String, resource::Resource>,
    closed: &Policy,
) -> Result<SourcePolicy, Error> {
    let id = name_of(arn).to_owned();
    let Some(resource::Resource::Policy(policy)) = managed.get(arn) else {
        if is_aws_managed(arn) {
            let policy = closed.clone().into();
            return Ok(SourcePolicy { id, policy });
        }
        return Err(changing());
    };
    let default =
        policy
            .policy_version_list
            .iter()
            .find(|version| match &policy.default_version_id {
                Some(id) => version.version_id == *id,
                None => version.is_default_version,
            });
    let text = default.and_then(|version| version.document.as_ref());
    Ok(SourcePolicy {
        id,
        policy: annotated(PolicyKind::AwsManaged, text, arn)?,
    })
}

/// Parses a stored policy. `name` is its ARN or source id, for the log.
fn annotated(
    kind: PolicyKind,
    document: Option<&Document>,
    name: &str,
) -> Result<AnnotatedPolicy, Error> {
    let text = document.and_then(|document| document.text().ok());
    let parsed = text.and_then(|text| AnnotatedPolicy::parse(kind, &text).ok());
    parsed.ok_or_else(|| {
        tracing::error!(policy = name, "the stored document of this policy cannot be read, so the simulation was refused: run `brevet check`, which names the row");
        Error::InternalFailure
    })
}

fn changing() -> Error {
    let text = "The policies of the principal are being changed; try again.";
    Error::ConcurrentModification(text.to_owned())
}
