//! AssumeRoleWithSAML: issues a session of a role to a user whom a SAML identity provider has
//! authenticated. The provider's signed response is the only proof: STS API Reference,
//! "AssumeRoleWithSAML".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::federated_session::FederatedSession;
use super::session_input::{
    self, AnsweredCredentials, AnsweredRoleUser, audited_credentials, audited_role_user, required,
    trimmed,
};
use crate::audit::Digest;
use crate::authn::{Evidence, Proof, Shown};
use crate::base::arn::{RoleArn, SamlProviderArn};
use crate::base::field;
use crate::base::secret::Secret;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::federation::{Assertion, FederatedIdentity};
use crate::mint::Credentials;
use crate::ops::context::Context;
use crate::ops::operation::Operation;
use crate::proof::saml::MAX_CHARACTERS;
use crate::session::durations;
use crate::trust::Denied;

const ACTION: &str = "sts:AssumeRoleWithSAML";

/// The parameters as the caller sent them, before any check. AWS documents the fields.
#[derive(Default)]
pub struct AssumeRoleWithSamlInput {
    pub role_arn: Option<String>,
    pub principal_arn: Option<String>,
    pub saml_assertion: Option<String>,
    pub policy_arns: Vec<String>,
    pub policy: Option<String>,
    pub duration_seconds: Option<i64>,
}

/// A call of AssumeRoleWithSAML whose parameters have been checked. The SAML response is not part
/// of it, but is the evidence that authenticates the caller.
pub struct AssumeRoleWithSaml {
    role_arn: RoleArn,
    provider_arn: SamlProviderArn,
    policy_arns: Vec<String>,
    policy: Option<String>,
    duration: Option<Duration>,
}

/// The new session, and the parts of the assertion that AWS returns.
pub struct AssumeRoleWithSamlOutput {
    pub credentials: Credentials,
    /// The id of the session, `AROA…:SESSION`.
    pub assumed_role_id: String,
    pub arn: String,
    /// The size of the packed session policies and tags, in percent of the limit.
    pub packed_policy_size: u64,
    pub subject: String,
    /// The format of the NameID, without the URN prefix of SAML 2.0, such as `persistent`.
    pub subject_type: String,
    /// The entity ID of the identity provider.
    pub issuer: String,
    /// The URL of the recipient that the assertion names.
    pub audience: String,
    /// A hash of the issuer, the account and the provider's name. Together with the subject, it
    /// identifies a user uniquely.
    pub name_qualifier: String,
    /// The source identity of the session; empty if it has none.
    pub source_identity: String,
}

impl AssumeRoleWithSaml {
    /// Checks the parameters. Returns the SAML response as the caller's evidence, and the rest as
    /// the call.
    ///
    /// # Errors
    /// [`Error`] that names the first field that breaks a rule, and the rule.
    pub fn parse(input: AssumeRoleWithSamlInput) -> Result<(Evidence, Self), Error> {
        let role_arn = RoleArn::parse("RoleArn", &required("RoleArn", input.role_arn)?)?;
        let provider = required("PrincipalArn", input.principal_arn)?;
        let provider_arn = SamlProviderArn::parse("PrincipalArn", &provider)?;
        let response = Secret::new(trimmed(required("SAMLAssertion", input.saml_assertion)?));
        field::length("SAMLAssertion", response.expose(), 4, MAX_CHARACTERS)?;
        let request = Self {
            policy_arns: session_input::policy_arns(input.policy_arns)?,
            policy: input
                .policy
                .map(session_input::session_policy)
                .transpose()?,
            duration: input.duration_seconds.map(durations::bounded).transpose()?,
            provider_arn,
            role_arn,
        };
        let shown = Shown::Saml {
            response,
            provider: request.provider_arn.clone(),
            account: request.role_arn.account(),
        };
        Ok((Evidence::Shown(shown), request))
    }

    /// Builds the call for a person who signed in through this provider, without session policies.
    pub fn by_sign_in(role_arn: RoleArn, provider_arn: SamlProviderArn) -> Self {
        Self {
            role_arn,
            provider_arn,
            policy_arns: Vec::new(),
            policy: None,
            duration: None,
        }
    }

    fn asked(&self) -> Parameters<'_> {
        Parameters {
            role_arn: self.role_arn.as_str(),
            principal_arn: self.provider_arn.as_str(),
            duration_seconds: self.duration.map(|d| d.as_secs()),
            policy: self.policy.as_deref().map(Digest::of),
            policy_arns: &self.policy_arns,
            asserted: None,
        }
    }

    /// Checks that the assertion contains the pair of the role and the provider. This is required
    /// even if the role's trust policy allows the session.
    fn check_role_pair(
        &self,
        cx: &mut Context<'_>,
        assertion: &Assertion<'_>,
    ) -> Result<(), Error> {
        let (role, provider) = (self.role_arn.as_str(), self.provider_arn.as_str());
        let Err(refusal) = assertion.claims.check_role(role, provider) else {
            return Ok(());
        };
        cx.count_unadmitted()?;
        let denied = Denied::because(ACTION.to_owned(), &cx.facts(), refusal.to_string());
        Err(cx.refuse_as_federated(&denied, role))
    }
}

impl Operation for AssumeRoleWithSaml {
    const NAME: &'static str = "AssumeRoleWithSAML";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const HANDS_OUT: bool = true;
    const PROOF: Proof = Proof::Saml;
    type Output = AssumeRoleWithSamlOutput;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&self.asked()).ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<AssumeRoleWithSamlOutput, Error> {
        let identity = cx.caller().federated().cloned();
        // `PROOF` excludes callers without an assertion.
        let identity: Arc<FederatedIdentity> = identity.ok_or(Error::MissingAuthenticationToken)?;
        let assertion = identity
            .assertion()
            .ok_or(Error::MissingAuthenticationToken)?;
        cx.asked(&Parameters {
            asserted: Some(Asserted::of(&assertion)),
            ..self.asked()
        });
        // The roles in the assertion are checked before the role's trust policy.
        if !identity.needs_no_role_pair() {
            self.check_role_pair(cx, &assertion)?;
        }
        let session = FederatedSession {
            role_arn: self.role_arn,
            role_session_name: assertion.claims.role_session_name.clone(),
            policy_arns: self.policy_arns,
            policy: self.policy,
            duration: self.duration,
        };
        let made = session.make(cx, &identity, ACTION, None).await?;
        let source_identity = made.session.record.source_identity.clone();
        let answered = Answered {
            credentials: audited_credentials(&made.session.credentials),
            assumed_role_user: audited_role_user(&made.session),
            packed_policy_size: made.packed_policy_size,
            subject: &identity.subject,
            subject_type: assertion.subject_type,
            issuer: &identity.issuer,
            audience: &identity.audience,
            name_qualifier: assertion.name_qualifier,
            source_identity: Some(source_identity.as_str()).filter(|s| !s.is_empty()),
        };
        cx.answered(&answered, made.account);
        Ok(AssumeRoleWithSamlOutput {
            credentials: made.session.credentials,
            assumed_role_id: made.session.user_id,
            arn: made.session.arn,
            packed_policy_size: made.packed_policy_size,
            subject: identity.subject.clone(),
            subject_type: assertion.subject_type.to_owned(),
            issuer: identity.issuer.to_string(),
            audience: identity.audience.clone(),
            name_qualifier: assertion.name_qualifier.to_owned(),
            source_identity,
        })
    }
}

/// The parameters in the audit record, with CloudTrail's names: IAM User Guide, "Logging IAM and AWS STS
/// API calls with AWS CloudTrail".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    role_arn: &'a str,
    principal_arn: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Digest>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    policy_arns: &'a [String],
    #[serde(flatten)]
    asserted: Option<Asserted<'a>>,
}

/// The facts from a verified assertion that the audit record contains.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asserted<'a> {
    #[serde(rename = "sAMLAssertionID")]
    assertion_id: &'a str,
    role_session_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_identity: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    principal_tags: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    transitive_tag_keys: &'a [String],
}

impl<'a> Asserted<'a> {
    fn of(assertion: &Assertion<'a>) -> Self {
        let claims = assertion.claims;
        let tags = claims.tags.iter();
        Self {
            assertion_id: assertion.id,
            role_session_name: claims.role_session_name.as_str(),
            source_identity: claims.source_identity.as_ref().map(|s| s.as_str()),
            principal_tags: tags.map(|t| (t.key.as_str(), t.value.as_str())).collect(),
            transitive_tag_keys: &claims.transitive_tag_keys,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    credentials: AnsweredCredentials<'a>,
    assumed_role_user: AnsweredRoleUser<'a>,
    packed_policy_size: u64,
    subject: &'a str,
    subject_type: &'a str,
    issuer: &'a str,
    audience: &'a str,
    name_qualifier: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_identity: Option<&'a str>,
}
