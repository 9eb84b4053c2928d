//! AssumeRoleWithWebIdentity: a role for whoever an OpenID Connect provider vouches for. The token is
//! all the proof there is: STS API Reference, "AssumeRoleWithWebIdentity".

use serde::Serialize;
use serde_json::value::RawValue;

use super::federated_session::FederatedSession;
use super::session_input::{
    self, AnsweredCredentials, AnsweredRoleUser, audited_credentials, audited_role_user, required,
};
use crate::audit::Digest;
use crate::authn::{Evidence, Proof, Shown};
use crate::base::arn::RoleArn;
use crate::base::field::{self, FieldError};
use crate::base::names::RoleSessionName;
use crate::base::secret::Secret;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::mint::Credentials;
use crate::ops::context::Context;
use crate::ops::operation::Operation;
use crate::proof::jwt;
use crate::session::durations;

/// The parameters as a wire carries them, unchecked.
#[derive(Default)]
pub struct AssumeRoleWithWebIdentityInput {
    /// The parameter `RoleArn`, which is required.
    pub role_arn: Option<String>,
    /// The parameter `RoleSessionName`, which is required.
    pub role_session_name: Option<String>,
    /// The parameter `WebIdentityToken`, which is required.
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
pub struct AssumeRoleWithWebIdentity(FederatedSession);

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
        field::length("WebIdentityToken", token.expose(), 4, jwt::MAX_CHARACTERS)?;
        if input.provider_id.is_some() {
            let rule = "must be null: OAuth 2.0 access tokens are not accepted, ID tokens are";
            return Err(FieldError::new("ProviderId", rule).into());
        }
        let request = FederatedSession {
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
        let shown = Shown::WebIdentity { token, account };
        Ok((Evidence::Shown(shown), Self(request)))
    }
}

impl Operation for AssumeRoleWithWebIdentity {
    const NAME: &'static str = "AssumeRoleWithWebIdentity";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const HANDS_OUT: bool = true;
    const PROOF: Proof = Proof::WebIdentity;
    type Output = AssumeRoleWithWebIdentityOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        let asked = &self.0;
        serde_json::value::to_raw_value(&Parameters {
            role_arn: asked.role_arn.as_str(),
            role_session_name: asked.role_session_name.as_str(),
            duration_seconds: asked.duration.map(|d| d.as_secs()),
            policy: asked.policy.as_deref().map(Digest::of),
            policy_arns: &asked.policy_arns,
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<AssumeRoleWithWebIdentityOutput, Error> {
        // Signed calls do not come here.
        let identity = cx
            .caller()
            .federated()
            .cloned()
            .ok_or(Error::MissingAuthenticationToken)?;
        // The provider's own word comes before the role's.
        let authorized = identity.authorizes(&self.0.role_arn)?;
        let action = "sts:AssumeRoleWithWebIdentity";
        let made = self.0.make(cx, &identity, action, Some(authorized)).await?;
        let answered = Answered {
            credentials: audited_credentials(&made.session.credentials),
            assumed_role_user: audited_role_user(&made.session),
            packed_policy_size: made.packed_policy_size,
            provider: &identity.issuer,
            audience: &identity.audience,
            subject_from_web_identity_token: &identity.subject,
        };
        cx.answered(&answered, made.account.as_str());
        Ok(AssumeRoleWithWebIdentityOutput {
            credentials: made.session.credentials,
            assumed_role_id: made.session.user_id,
            arn: made.session.arn,
            packed_policy_size: made.packed_policy_size,
            provider: identity.issuer.to_string(),
            audience: identity.audience.clone(),
            subject: identity.subject.clone(),
            source_identity: made.session.record.source_identity,
        })
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
