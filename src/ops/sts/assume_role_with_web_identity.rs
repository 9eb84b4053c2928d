//! AssumeRoleWithWebIdentity: a role for whoever an OpenID Connect provider vouches for. The token is
//! all the proof there is: STS API Reference, "AssumeRoleWithWebIdentity".

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::session_input::{
    self, AnsweredCredentials, AnsweredRoleUser, audited_credentials, audited_role_user,
    check_policy_arns, check_session_policy, required,
};
use crate::audit::Digest;
use crate::authn::{Evidence, Proof, Shown};
use crate::base::arn::RoleArn;
use crate::base::clock::Timestamp;
use crate::base::field::FieldError;
use crate::base::names::{RoleSessionName, SourceIdentity, Tag};
use crate::base::secret::Secret;
use crate::budgets::CountedAs;
use crate::directory::Role;
use crate::error::Error;
use crate::federation::WebIdentity;
use crate::mint::{Credentials, Shape};
use crate::ops::context::Context;
use crate::ops::operation::Operation;
use crate::session::durations;
use crate::session::packing::{self, Limits, Packed, TagClaim};
use crate::trust::{self, Denied, Grant, SessionRequest};

/// Where a token carries session tags, and who stands behind the session: IAM User Guide, "Pass
/// session tags in AWS STS" and "Monitor and control actions taken with assumed roles".
const TAGS: &str = "https://aws.amazon.com/tags";
const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";
/// Where a token says which roles alone it is good for, by their ARNs.
const ROLES: &str = "https://aws.amazon.com/roles";

/// The parameters as a wire carries them, unchecked.
#[derive(Default)]
pub struct AssumeRoleWithWebIdentityInput {
    /// Required.
    pub role_arn: Option<String>,
    /// Required.
    pub role_session_name: Option<String>,
    /// Required.
    pub web_identity_token: Option<String>,
    /// Of an OAuth 2.0 access token.
    pub provider_id: Option<String>,
    /// Managed session policies.
    pub policy_arns: Vec<String>,
    /// The inline session policy.
    pub policy: Option<String>,
    /// In seconds.
    pub duration_seconds: Option<i64>,
}

/// The checked request, its token apart: that is the evidence.
pub struct AssumeRoleWithWebIdentity {
    role_arn: RoleArn,
    role_session_name: RoleSessionName,
    policy_arns: Vec<String>,
    policy: Option<String>,
    duration: Option<Duration>,
}

/// The answer.
pub struct AssumeRoleWithWebIdentityOutput {
    /// What the caller came for.
    pub credentials: Credentials,
    /// `AROA…:SESSION`
    pub assumed_role_id: String,
    /// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`
    pub arn: String,
    /// In percent.
    pub packed_policy_size: u64,
    /// The token's `iss`.
    pub provider: String,
    /// The token's `aud`, or its `azp`.
    pub audience: String,
    /// The token's `sub`.
    pub subject: String,
    /// In force; none if empty.
    pub source_identity: String,
}

impl AssumeRoleWithWebIdentity {
    /// Checks each parameter by itself; what proves the caller, and what it asks for.
    ///
    /// # Errors
    /// Names the first field that breaks a rule, and the rule.
    pub fn parse(input: AssumeRoleWithWebIdentityInput) -> Result<(Evidence, Self), Error> {
        let role_arn = RoleArn::parse("RoleArn", &required("RoleArn", input.role_arn)?)?;
        let name = required("RoleSessionName", input.role_session_name)?;
        let role_session_name = RoleSessionName::parse("RoleSessionName", &name)?;
        let token = Secret::new(trimmed(required(
            "WebIdentityToken",
            input.web_identity_token,
        )?));
        crate::base::field::length(
            "WebIdentityToken",
            token.expose(),
            4,
            crate::proof::jwt::MAX_CHARACTERS,
        )?;
        if input.provider_id.is_some() {
            let rule = "must be null: OAuth 2.0 access tokens are not accepted, ID tokens are";
            return Err(FieldError::new("ProviderId", rule).into());
        }
        let request = Self {
            policy_arns: session_input::policy_arns(input.policy_arns)?,
            policy: input
                .policy
                .map(session_input::session_policy)
                .transpose()?,
            duration: input.duration_seconds.map(durations::bounded).transpose()?,
            role_session_name,
            role_arn,
        };
        let account = request.role_arn.account();
        Ok((
            Evidence::Shown(Shown::WebIdentity { token, account }),
            request,
        ))
    }
}

impl Operation for AssumeRoleWithWebIdentity {
    const NAME: &'static str = "AssumeRoleWithWebIdentity";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const HANDS_OUT: bool = true;
    const PROOF: Proof = Proof::WebIdentity;
    type Output = AssumeRoleWithWebIdentityOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            role_arn: self.role_arn.as_str(),
            role_session_name: self.role_session_name.as_str(),
            duration_seconds: self.duration.map(|d| d.as_secs()),
            policy: self.policy.as_deref().map(Digest::of),
            policy_arns: &self.policy_arns,
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<AssumeRoleWithWebIdentityOutput, Error> {
        // Signed calls do not come here.
        let identity = cx
            .caller()
            .web_identity()
            .cloned()
            .ok_or(Error::MissingAuthenticationToken)?;
        // The provider's own word comes before the role's.
        let authorized = authorized_by_idp(&identity, &self.role_arn)?;
        let asked =
            session_tags(&identity).and_then(|tags| Ok((tags, source_identity(&identity)?)));
        let ((tags, transitive), source_identity) = match asked {
            Ok(asked) => asked,
            Err(error) => return cx.count_unadmitted().and(Err(error)),
        };
        let asked = SessionRequest {
            role_session_name: Some(self.role_session_name.as_str()),
            source_identity: source_identity.as_ref().map(SourceIdentity::as_str),
            tags: &tags,
            transitive_tag_keys: &transitive,
            external_id: None,
            role_authorized_by_idp: Some(authorized),
        };
        let role = self.role(cx);
        let grant = match self.admit(cx, &role, &identity, &asked) {
            Ok(grant) => grant,
            Err(denied) => {
                cx.count_unadmitted()?;
                return Err(self.refused(cx, &denied));
            }
        };
        cx.count_admitted(role.account)?;
        let granted = (grant, self.limits(cx, &role, &asked)?);
        let (role, (grant, (term, limits, packed))) = if identity.provider.one_time {
            // Whoever is refused keeps the token. It is spent before the decision that counts, since that
            // takes its time.
            drop(granted);
            spend(cx, &identity).await?;
            let role = self.role(cx);
            match self.admit(cx, &role, &identity, &asked) {
                Ok(grant) => {
                    let limits = self.limits(cx, &role, &asked)?;
                    (role, (grant, limits))
                }
                Err(denied) => return Err(self.refused(cx, &denied)),
            }
        } else {
            (role, granted)
        };
        let packed_policy_size = packed.percent;
        let shape = Shape {
            session_name: self.role_session_name.as_str().to_owned(),
            source_identity: source_identity
                .map(|s| s.as_str().to_owned())
                .unwrap_or_default(),
            tags: limits.tags,
            packed,
            mfa: None,
        };
        let session = cx.issue(grant, term, shape).await?;
        let answered = Answered {
            credentials: audited_credentials(&session.credentials),
            assumed_role_user: audited_role_user(&session),
            packed_policy_size,
            provider: &identity.provider.url,
            audience: &identity.audience,
            subject_from_web_identity_token: &identity.subject,
        };
        cx.answered(&answered, role.account.as_str());
        Ok(AssumeRoleWithWebIdentityOutput {
            credentials: session.credentials,
            assumed_role_id: session.user_id,
            arn: session.arn,
            packed_policy_size,
            provider: identity.provider.url.to_string(),
            audience: identity.audience.clone(),
            subject: identity.subject.clone(),
            source_identity: session.record.source_identity,
        })
    }
}

impl AssumeRoleWithWebIdentity {
    /// The role as the directory has it now, or the one that trusts nobody.
    fn role(&self, cx: &Context<'_>) -> Arc<Role> {
        cx.directory
            .role(self.role_arn.as_str())
            .unwrap_or_else(|| cx.directory.decoy())
            .clone()
    }

    /// Whether whoever the token is of may act as the role, now.
    fn admit<'c>(
        &self,
        cx: &'c Context<'_>,
        role: &Arc<Role>,
        identity: &WebIdentity,
        asked: &SessionRequest<'_>,
    ) -> Result<Grant<'c>, Box<Denied>> {
        let facts = cx.facts().web_identity_token(identity).session(asked);
        let mut actions = vec!["sts:AssumeRoleWithWebIdentity"];
        actions.extend((!asked.tags.is_empty()).then_some("sts:TagSession"));
        actions.extend(
            asked
                .source_identity
                .is_some()
                .then_some("sts:SetSourceIdentity"),
        );
        trust::admit(
            role,
            &self.role_arn,
            cx.caller(),
            &cx.directory,
            facts,
            &actions,
        )
    }

    fn refused(&self, cx: &mut Context<'_>, denied: &Denied) -> Error {
        match cx.refuse(denied, self.role_arn.as_str()) {
            Error::AccessDenied {
                action,
                encoded_message,
                ..
            } => Error::NotAuthorized {
                action,
                encoded_message,
            },
            other => other,
        }
    }

    /// How long the session lives, and what cuts it.
    fn limits(
        &self,
        cx: &Context<'_>,
        role: &Role,
        asked: &SessionRequest<'_>,
    ) -> Result<(Duration, Limits, Packed), Error> {
        let term = durations::role_session(self.duration, role.max_session, false)?;
        check_policy_arns(cx, &self.policy_arns, role.account)?;
        let tags = asked.tags.iter().map(|t| {
            let transitive = asked
                .transitive_tag_keys
                .iter()
                .any(|k| k.eq_ignore_ascii_case(&t.key));
            TagClaim {
                key: t.key.clone(),
                value: t.value.clone(),
                transitive,
            }
        });
        let mut limits = Limits {
            tags: tags.collect(),
            policy: self.policy.clone().unwrap_or_default(),
            policy_arns: self.policy_arns.clone(),
        };
        check_session_policy(cx, &limits.policy)?;
        let packed = packing::pack(&mut limits)?;
        Ok((term, limits, packed))
    }
}

/// Without the white space around it: files that tokens come in often end with a line break. In place,
/// so that no copy is left.
fn trimmed(mut token: String) -> String {
    const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];
    token.truncate(token.trim_end_matches(BLANK).len());
    token.drain(..token.len() - token.trim_start_matches(BLANK).len());
    token
}

/// A token of a provider whose tokens are good once.
async fn spend(cx: &mut Context<'_>, identity: &WebIdentity) -> Result<(), Error> {
    let id = identity
        .token
        .text("jti")
        .filter(|id| !id.is_empty() && id.len() <= 1_024);
    let id = id.ok_or_else(|| {
        Error::InvalidIdentityToken(
            "The token has no `jti`, which this provider's must have".into(),
        )
    })?;
    let (issued_at, expires_at) = (identity.issued_at, identity.expires_at);
    let (issued_at, expires_at) = (
        Timestamp::from_seconds(issued_at),
        Timestamp::from_seconds(expires_at),
    );
    let first = cx
        .wait(
            cx.broker
                .store
                .see(&identity.provider.url, id, issued_at, expires_at),
        )
        .await?;
    if first {
        Ok(())
    } else {
        Err(Error::IdpRejectedClaim("The token was used already".into()))
    }
}

/// `{"principal_tags": {"Team": ["blue"]}, "transitive_tag_keys": ["Team"]}`
fn session_tags(identity: &WebIdentity) -> Result<(Vec<Tag>, Vec<String>), Error> {
    let bad = || Error::InvalidIdentityToken(format!("The claim `{TAGS}` is not as it should be"));
    let Some(claim) = identity.token.claims().get(TAGS) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let mut tags = Vec::new();
    for (key, value) in claim
        .get("principal_tags")
        .and_then(|t| t.as_object())
        .ok_or_else(bad)?
    {
        let value = match value {
            serde_json::Value::Array(list) if list.len() == 1 => {
                list.first().and_then(|v| v.as_str())
            }
            other => other.as_str(),
        };
        tags.push(Tag {
            key: key.clone(),
            value: value.ok_or_else(bad)?.to_owned(),
        });
    }
    let transitive: Vec<String> = match claim.get("transitive_tag_keys") {
        None => Vec::new(),
        Some(list) => {
            let list = list.as_array().ok_or_else(bad)?;
            list.iter()
                .map(|v| v.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(bad)?
        }
    };
    if transitive
        .iter()
        .any(|k| !tags.iter().any(|t| t.key.eq_ignore_ascii_case(k)))
    {
        return Err(bad());
    }
    Ok((session_input::tags(tags)?, transitive))
}

/// Whether the token names the role among those that it is good for; false: it names none at all. A
/// claim that names other roles, or is malformed, refuses the token, whatever the role's trust policy
/// says. Service Authorization Reference for AWS STS, `sts:RoleAuthorizedByIdp`.
fn authorized_by_idp(identity: &WebIdentity, role: &RoleArn) -> Result<bool, Error> {
    let named = match identity.token.claims().get(ROLES) {
        None => return Ok(false),
        Some(serde_json::Value::String(arn)) => arn == role.as_str(),
        Some(serde_json::Value::Array(arns)) if arns.iter().all(serde_json::Value::is_string) => {
            arns.iter().any(|arn| arn.as_str() == Some(role.as_str()))
        }
        Some(_) => {
            return Err(Error::InvalidIdentityToken(format!(
                "The claim `{ROLES}` is not as it should be"
            )));
        }
    };
    if named {
        return Ok(true);
    }
    let text = "The target role ARN is not present in the roles claim of the identity token";
    Err(Error::InvalidIdentityToken(text.to_owned()))
}

fn source_identity(identity: &WebIdentity) -> Result<Option<SourceIdentity>, Error> {
    match identity.token.claims().get(SOURCE_IDENTITY) {
        None => Ok(None),
        Some(value) => {
            let text = value.as_str().unwrap_or_default();
            Ok(Some(SourceIdentity::parse("SourceIdentity", text)?))
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    role_arn: &'a str,
    role_session_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Digest>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    policy_arns: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    credentials: AnsweredCredentials<'a>,
    assumed_role_user: AnsweredRoleUser<'a>,
    packed_policy_size: u64,
    provider: &'a str,
    audience: &'a str,
    subject_from_web_identity_token: &'a str,
}
