//! GetFederationToken: issues a session for a federated user, whom the calling user has authenticated. The session has
//! the permissions that both the user's policies and the session policies allow, and those that the policy of a
//! resource gives to the federated user itself. Without session policies it has only the latter. STS API Reference,
//! "GetFederationToken".

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::session_input::{
    self, AnsweredCredentials, AuditTag, audited_credentials, audited_tags, check_policy_arns,
    check_session_policy, required,
};
use crate::audit::Digest;
use crate::base::names::{self, FederatedUserName, Tag};
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::lineage::federated_user_arn;
use crate::mint::{Credentials, SessionDetails};
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::session::durations;
use crate::session::packing::{self, Limits, TagClaim};
use crate::trust::{self, SessionRequest};

/// The parameters as the caller sent them, before any check. AWS documents the fields.
#[derive(Default)]
pub struct GetFederationTokenInput {
    pub name: Option<String>,
    pub policy: Option<String>,
    pub policy_arns: Vec<String>,
    pub duration_seconds: Option<i64>,
    pub tags: Vec<Tag>,
}

/// A call of GetFederationToken whose parameters have been checked.
pub struct GetFederationToken {
    name: FederatedUserName,
    policy: Option<String>,
    policy_arns: Vec<String>,
    duration: Option<Duration>,
    tags: Vec<Tag>,
}

/// The session that GetFederationToken issued, as AWS's answer describes it.
pub struct GetFederationTokenOutput {
    /// The temporary credentials. No other call returns them again.
    pub credentials: Credentials,
    /// The id of the federated user, `ACCOUNT:NAME`.
    pub federated_user_id: String,
    pub arn: String,
    /// The size of the packed session policies and tags, in percent of the limit.
    pub packed_policy_size: u64,
}

impl GetFederationToken {
    /// Checks the form of each parameter, which needs no directory.
    ///
    /// # Errors
    /// [`Error`] that names the first field that breaks a rule, and the rule.
    pub fn parse(input: GetFederationTokenInput) -> Result<Self, Error> {
        Ok(Self {
            name: FederatedUserName::parse("Name", &required("Name", input.name)?)?,
            policy: input
                .policy
                .map(session_input::session_policy)
                .transpose()?,
            policy_arns: session_input::policy_arns(input.policy_arns)?,
            duration: input.duration_seconds.map(durations::bounded).transpose()?,
            tags: names::tags(input.tags)?,
        })
    }
}

impl Operation for GetFederationToken {
    const NAME: &'static str = "GetFederationToken";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    /// Accepts all kinds of credentials here, because the action itself refuses temporary ones with
    /// AWS's own text.
    const OPEN_TO: OpenTo = OpenTo::All;
    const HANDS_OUT: bool = true;
    type Output = GetFederationTokenOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            name: self.name.as_str(),
            duration_seconds: self.duration.map(|d| d.as_secs()),
            policy: self.policy.as_deref().map(Digest::of),
            policy_arns: &self.policy_arns,
            tags: audited_tags(&self.tags),
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<GetFederationTokenOutput, Error> {
        if cx.caller().session().is_some() {
            return Err(Error::LongTermCredentialsOnly(Self::NAME));
        }
        let account = cx.caller().account();
        let resource = federated_user_arn(account, self.name.as_str());
        let facts = cx.facts().session(&SessionRequest {
            tags: &self.tags,
            ..SessionRequest::default()
        });
        let actions: &[&str] = match self.tags.is_empty() {
            true => &["sts:GetFederationToken"],
            false => &["sts:GetFederationToken", "sts:TagSession"],
        };
        let granted = trust::vouch(cx.caller(), &cx.directory, &facts, &resource, actions);
        let grant = match granted {
            Ok(grant) => grant,
            Err(denied) => return Err(cx.refuse(&denied, &resource)),
        };
        check_policy_arns(cx, &self.policy_arns, account)?;
        let tags = self.tags.into_iter().map(|t| TagClaim {
            key: t.key,
            value: t.value,
            transitive: false,
        });
        let mut limits = Limits {
            tags: tags.collect(),
            policy: self.policy.unwrap_or_default(),
            policy_arns: self.policy_arns,
            scope_down: Vec::new(),
        };
        check_session_policy(cx, &limits.policy)?;
        let packed = packing::pack(&mut limits)?;
        let packed_policy_size = packed.percent;
        let details = SessionDetails {
            session_name: self.name.as_str().to_owned(),
            source_identity: String::new(),
            tags: limits.tags,
            packed,
            mfa: None,
        };
        let term = self.duration.unwrap_or(durations::USER_DEFAULT);
        let session = cx.issue(grant, term, details).await?;
        let answered = Answered {
            credentials: audited_credentials(&session.credentials),
            federated_user: AnsweredUser {
                federated_user_id: &session.user_id,
                arn: &session.arn,
            },
            packed_policy_size,
        };
        cx.answered(&answered, account);
        Ok(GetFederationTokenOutput {
            credentials: session.credentials,
            federated_user_id: session.user_id,
            arn: session.arn,
            packed_policy_size,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Digest>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    policy_arns: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<AuditTag<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    credentials: AnsweredCredentials<'a>,
    federated_user: AnsweredUser<'a>,
    packed_policy_size: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AnsweredUser<'a> {
    federated_user_id: &'a str,
    arn: &'a str,
}
