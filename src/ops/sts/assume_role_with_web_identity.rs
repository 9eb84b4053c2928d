//! AssumeRoleWithWebIdentity: issues a session of a role to the holder of a token from an OpenID
//! Connect provider. The token is the only proof: STS API Reference, "AssumeRoleWithWebIdentity".

use serde::Serialize;
use serde_json::value::RawValue;

use super::federated_session::FederatedSession;
use super::session_input::{
    self, AnsweredCredentials, AnsweredRoleUser, audited_credentials, audited_role_user, required,
    trimmed,
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

/// The parameters as the caller sent them, before any check. AWS documents the fields.
#[derive(Default)]
pub struct AssumeRoleWithWebIdentityInput {
    pub role_arn: Option<String>,
    pub role_session_name: Option<String>,
    pub web_identity_token: Option<String>,
    /// The parameter `ProviderId`, which AWS uses for OAuth 2.0 access tokens. Brevet refuses it.
    pub provider_id: Option<String>,
    pub policy_arns: Vec<String>,
    pub policy: Option<String>,
    pub duration_seconds: Option<i64>,
}

/// A call of AssumeRoleWithWebIdentity whose parameters have been checked. The token is not part of
/// it, but is the evidence that authenticates the caller.
pub struct AssumeRoleWithWebIdentity(FederatedSession);

/// The session that AssumeRoleWithWebIdentity issued, and the claims of the token that AWS returns.
pub struct AssumeRoleWithWebIdentityOutput {
    /// The temporary credentials. No other call returns them again.
    pub credentials: Credentials,
    /// The role's unique id and the session's name, `AROA…:SESSION`.
    pub assumed_role_id: String,
    pub arn: String,
    /// The size of the packed session policies and tags, in percent of the limit.
    pub packed_policy_size: u64,
    /// The token's issuer, from the claim `iss`.
    pub provider: String,
    /// The client to which the token was issued: the claim `azp`, or the first audience in the claim `aud` if there is
    /// no `azp`.
    pub audience: String,
    /// The token's subject, from the claim `sub`.
    pub subject: String,
    /// The source identity of the session; empty if it has none.
    pub source_identity: String,
}

impl AssumeRoleWithWebIdentity {
    /// Checks the form of each parameter, which needs no directory. Returns the token as the
    /// caller's evidence, and the rest as the call.
    ///
    /// # Errors
    /// [`Error`] that names the first field that breaks a rule, and the rule.
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
            let rule = "must be left out: only ID tokens are accepted, not OAuth 2.0 access tokens";
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

    /// Builds the call for a person who signed in through an OpenID Connect provider, without
    /// session policies.
    pub fn by_sign_in(role_arn: RoleArn, role_session_name: RoleSessionName) -> Self {
        Self(FederatedSession {
            role_arn,
            role_session_name,
            policy_arns: Vec::new(),
            policy: None,
            duration: None,
        })
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
        // A signed call cannot get here.
        let identity = cx
            .caller()
            .federated()
            .cloned()
            .ok_or(Error::MissingAuthenticationToken)?;
        // What the provider says about roles is checked before the role's trust policy.
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
        cx.answered(&answered, made.account);
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
