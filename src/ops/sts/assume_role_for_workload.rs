//! AssumeRoleForWorkload: issues a session of a role for a workload to the node that it runs on.
//! Brevet's instance profiles, task roles and EKS Pod Identity use this action, which AWS does not
//! have.

mod workload;

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use self::workload::{Identified, Parsed, Role};
use super::session_input::{
    AnsweredCredentials, AnsweredRoleUser, AuditTag, audited_credentials, audited_role_user,
    audited_tags,
};
use crate::base::arn::RoleArn;
use crate::base::names::{self, RoleSessionName, Tag};
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::mint::{Credentials, SessionDetails};
use crate::ops::context::Context;
use crate::ops::node::Node;
use crate::ops::operation::Operation;
use crate::ops::service::Service;
use crate::session::durations;
use crate::session::packing::{self, Limits, TagClaim};
use crate::trust::{self, Denied, Grant, SessionRequest};

pub use self::workload::Workload;

/// The permission that the node needs on the role of the workload.
const ACTION: &str = "brevet:AssumeRoleForWorkload";

/// The parameters as the caller sent them, before any check. The proto documents the fields.
#[derive(Default)]
pub struct AssumeRoleForWorkloadInput {
    pub workload: Option<Workload>,
    pub role_arn: Option<String>,
    pub role_session_name: Option<String>,
    pub duration_seconds: Option<i64>,
    pub tags: Vec<Tag>,
}

/// A call of AssumeRoleForWorkload whose parameters have been checked.
pub struct AssumeRoleForWorkload {
    workload: Parsed,
    role_arn: Option<RoleArn>,
    role_session_name: Option<RoleSessionName>,
    duration: Option<Duration>,
    tags: Vec<Tag>,
}

pub struct AssumeRoleForWorkloadOutput {
    /// The temporary credentials. No other call returns them again.
    pub credentials: Credentials,
    /// The role's unique id and the session's name, `AROA…:SESSION`.
    pub assumed_role_id: String,
    pub arn: String,
    /// The size of the packed tags, in percent of the limit.
    pub packed_policy_size: u64,
    pub role_arn: String,
}

impl AssumeRoleForWorkload {
    /// Checks the form of each parameter, which needs no directory.
    ///
    /// # Errors
    /// [`Error`] that names the first field that breaks a rule, and the rule.
    pub fn parse(input: AssumeRoleForWorkloadInput) -> Result<Self, Error> {
        let role_arn = input
            .role_arn
            .map(|arn| RoleArn::parse("RoleArn", &arn))
            .transpose()?;
        let role_session_name = input
            .role_session_name
            .map(|name| RoleSessionName::parse("RoleSessionName", &name))
            .transpose()?;
        let given = (role_arn.is_some(), role_session_name.is_some());
        Ok(Self {
            workload: Parsed::parse(input.workload, given, &input.tags)?,
            role_arn,
            role_session_name,
            duration: input.duration_seconds.map(durations::bounded).transpose()?,
            tags: names::tags(input.tags)?,
        })
    }
}

impl Operation for AssumeRoleForWorkload {
    const NAME: &'static str = "AssumeRoleForWorkload";
    const SERVICE: Service = Service::Brevet;
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const HANDS_OUT: bool = true;
    type Output = AssumeRoleForWorkloadOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&self.asked(None)).ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<AssumeRoleForWorkloadOutput, Error> {
        // A pod is known by its token, whose provider's keys may have to be fetched.
        let pod = self.workload.verify(cx).await?;
        if pod.is_some() {
            let asked = serde_json::value::to_raw_value(&self.asked(pod.as_ref())).ok();
            cx.asked(&asked);
        }
        let Some(node) = Node::of(cx.caller()) else {
            let note = "The caller must be a node: a user with a long-term access key or a certificate, or a role \
                session that was issued for a web identity token of the node, without a source identity or transitive \
                tags, and was not narrowed.";
            return Err(cx.refuse_because(ACTION, "*", note));
        };
        let found = self
            .workload
            .identify(&node, pod.as_ref(), cx, self.role_arn.as_ref());
        let workload = match found {
            Ok(workload) => workload,
            Err(note) => return Err(cx.refuse_because(ACTION, "*", note)),
        };
        let lineage = node.lineage(&workload.name);
        let role_arn = workload.role.arn().clone();
        if self
            .role_arn
            .as_ref()
            .is_some_and(|asked| *asked != role_arn)
        {
            let note = "The directory assigns another role than RoleArn to the workload.";
            let resource = self.role_arn.as_ref().map_or("*", RoleArn::as_str);
            return Err(cx.refuse_because(ACTION, resource, note));
        }
        let name = match &self.role_session_name {
            Some(name) => name.as_str().to_owned(),
            None => workload.session_name.clone(),
        };
        let tags = match workload.tags.as_slice() {
            [] => self.tags.as_slice(),
            tags => tags,
        };
        let keys: Vec<String> = workload.tags.iter().map(|tag| tag.key.clone()).collect();
        let request = SessionRequest {
            role_session_name: Some(&name),
            tags,
            transitive_tag_keys: &keys,
            ..SessionRequest::default()
        };
        let role = cx.directory.role(role_arn.as_str());
        let role = role.unwrap_or_else(|| cx.directory.decoy()).clone();
        let grant = match decide(cx, &role, &workload, &request) {
            Ok(grant) => grant.for_workload(lineage),
            Err(denied) => return Err(cx.refuse(&denied, role_arn.as_str())),
        };
        let chained = cx.caller().session().is_some();
        let term = durations::role_session(self.duration, role.max_session, chained)?;
        let details = details(name, tags, !keys.is_empty())?;
        let packed_policy_size = details.packed.percent;
        let session = cx.issue(grant, term, details).await?;
        let answered = Answered {
            credentials: audited_credentials(&session.credentials),
            assumed_role_user: audited_role_user(&session),
            packed_policy_size,
            role_arn: role_arn.as_str(),
        };
        cx.answered(&answered, role.account);
        Ok(AssumeRoleForWorkloadOutput {
            credentials: session.credentials,
            assumed_role_id: session.user_id,
            arn: session.arn,
            packed_policy_size,
            role_arn: role_arn.as_str().to_owned(),
        })
    }
}

impl AssumeRoleForWorkload {
    /// Returns the parameters for the audit record. `pod` adds the facts from a pod's token, once
    /// it is verified.
    fn asked<'a>(&'a self, pod: Option<&'a workload::Pod>) -> Parameters<'a> {
        Parameters {
            workload: self.workload.audited(pod),
            role_arn: self.role_arn.as_ref().map(RoleArn::as_str),
            role_session_name: self.role_session_name.as_ref().map(RoleSessionName::as_str),
            duration_seconds: self.duration.map(|d| d.as_secs()),
            tags: audited_tags(&self.tags),
        }
    }
}

/// Returns the details of a workload's session, which has tags but no session policies.
///
/// # Errors
/// [`Error::PackedPolicyTooLarge`] if the tags are too long.
fn details(name: String, tags: &[Tag], transitive: bool) -> Result<SessionDetails, Error> {
    let tag = |tag: &Tag| TagClaim {
        key: tag.key.clone(),
        value: tag.value.clone(),
        transitive,
    };
    let mut limits = Limits {
        tags: tags.iter().map(tag).collect(),
        policy: String::new(),
        policy_arns: Vec::new(),
        scope_down: Vec::new(),
    };
    let packed = packing::pack(&mut limits)?;
    Ok(SessionDetails {
        session_name: name,
        source_identity: String::new(),
        tags: limits.tags,
        packed,
        mfa: None,
    })
}

/// Decides whether the node may give credentials of the role to the workload: first by the node's
/// own policies, then by the role's trust policy.
fn decide<'c>(
    cx: &'c Context<'_>,
    role: &std::sync::Arc<crate::directory::Role>,
    workload: &Identified,
    request: &SessionRequest<'_>,
) -> Result<Grant<'c>, Box<Denied>> {
    let (caller, directory) = (cx.caller(), &cx.directory);
    let mut facts = cx.facts().session(request);
    let asked = workload.role.arn();
    facts.resource_tags(&role.tags, true);
    trust::permit(caller, directory, &facts, ACTION, asked.as_str())?;
    let actions: &[&'static str] = match request.tags.is_empty() {
        true => &["sts:AssumeRole"],
        false => &["sts:AssumeRole", "sts:TagSession"],
    };
    match &workload.role {
        Role::OfNode(arn) => {
            let facts = cx.facts().session(request);
            trust::admit(role, arn, caller, directory, facts, actions)
        }
        Role::OfService { arn, service } => {
            let facts = cx.facts_of_service(service).session(request);
            trust::admit_service(role, arn, service.name, caller, directory, facts, actions)
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    workload: workload::Audited<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_session_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<AuditTag<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    credentials: AnsweredCredentials<'a>,
    assumed_role_user: AnsweredRoleUser<'a>,
    packed_policy_size: u64,
    role_arn: &'a str,
}
