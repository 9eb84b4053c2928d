//! The STS API (version 2011-06-15): the operation of each action, its parameters and its result.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use super::answer::{Element, group, number, text, time};
use super::call::{Call, Query};
use crate::authn::Evidence;
use crate::base::form::Parameters;
use crate::base::names::Tag;
use crate::error::Error;
use crate::mint::Credentials;
use crate::ops::sts::assume_role::{AssumeRole, AssumeRoleInput, AssumeRoleOutput};
use crate::ops::sts::assume_role_with_saml::{
    AssumeRoleWithSaml, AssumeRoleWithSamlInput, AssumeRoleWithSamlOutput,
};
use crate::ops::sts::assume_role_with_web_identity::{
    AssumeRoleWithWebIdentity, AssumeRoleWithWebIdentityInput, AssumeRoleWithWebIdentityOutput,
};
use crate::ops::sts::decode_authorization_message::{
    DecodeAuthorizationMessage, DecodeAuthorizationMessageOutput,
};
use crate::ops::sts::get_access_key_info::{GetAccessKeyInfo, GetAccessKeyInfoOutput};
use crate::ops::sts::get_caller_identity::{GetCallerIdentity, GetCallerIdentityOutput};
use crate::ops::sts::get_federation_token::{
    GetFederationToken, GetFederationTokenInput, GetFederationTokenOutput,
};
use crate::ops::sts::get_scoped_credentials::{
    GetScopedCredentials, GetScopedCredentialsInput, GetScopedCredentialsOutput,
};
use crate::ops::sts::get_session_token::{GetSessionToken, GetSessionTokenOutput};
use crate::ops::sts::get_web_identity_token::{
    GetWebIdentityToken, GetWebIdentityTokenInput, GetWebIdentityTokenOutput,
};
use crate::ops::{self, Operation, Service};

pub(super) const VERSION: &str = "2011-06-15";
pub(super) async fn serve(call: Call<'_>, action: &str) -> Response<Full<Bytes>> {
    match action {
        AssumeRole::NAME => call.run::<AssumeRole>().await,
        AssumeRoleWithSaml::NAME => call.run::<AssumeRoleWithSaml>().await,
        AssumeRoleWithWebIdentity::NAME => call.run::<AssumeRoleWithWebIdentity>().await,
        DecodeAuthorizationMessage::NAME => call.run::<DecodeAuthorizationMessage>().await,
        GetAccessKeyInfo::NAME => call.run::<GetAccessKeyInfo>().await,
        GetCallerIdentity::NAME => call.run::<GetCallerIdentity>().await,
        GetFederationToken::NAME => call.run::<GetFederationToken>().await,
        GetScopedCredentials::NAME => call.run::<GetScopedCredentials>().await,
        GetSessionToken::NAME => call.run::<GetSessionToken>().await,
        GetWebIdentityToken::NAME => call.run::<GetWebIdentityToken>().await,
        other => {
            let error = ops::registry::unanswered(other, VERSION);
            call.refuse(Service::Sts, other.to_owned(), error).await
        }
    }
}

impl Query for AssumeRole {
    fn read(form: &mut Parameters, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Self::parse(assume_role(form)?)
    }

    fn write(output: AssumeRoleOutput) -> Option<Vec<Element>> {
        let mut elements = vec![
            credentials(&output.credentials),
            role_user(output.assumed_role_id, output.arn),
            number("PackedPolicySize", output.packed_policy_size),
        ];
        elements.extend(source_identity(output.source_identity));
        Some(elements)
    }
}

impl Query for AssumeRoleWithSaml {
    fn read(form: &mut Parameters, evidence: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let input = AssumeRoleWithSamlInput {
            role_arn: form.take("RoleArn"),
            principal_arn: form.take("PrincipalArn"),
            saml_assertion: form.take("SAMLAssertion"),
            policy_arns: policy_arns(form),
            policy: form.take("Policy"),
            duration_seconds: form.number("DurationSeconds")?,
        };
        form.none_left()?;
        let (response, operation) = Self::parse(input)?;
        *evidence = Ok(response);
        Ok(operation)
    }

    fn write(output: AssumeRoleWithSamlOutput) -> Option<Vec<Element>> {
        let mut elements = vec![
            credentials(&output.credentials),
            role_user(output.assumed_role_id, output.arn),
            number("PackedPolicySize", output.packed_policy_size),
            text("Subject", output.subject),
            text("SubjectType", output.subject_type),
            text("Issuer", output.issuer),
            text("Audience", output.audience),
            text("NameQualifier", output.name_qualifier),
        ];
        elements.extend(source_identity(output.source_identity));
        Some(elements)
    }
}

impl Query for AssumeRoleWithWebIdentity {
    fn read(form: &mut Parameters, evidence: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let input = AssumeRoleWithWebIdentityInput {
            role_arn: form.take("RoleArn"),
            role_session_name: form.take("RoleSessionName"),
            web_identity_token: form.take("WebIdentityToken"),
            provider_id: form.take("ProviderId"),
            policy_arns: policy_arns(form),
            policy: form.take("Policy"),
            duration_seconds: form.number("DurationSeconds")?,
        };
        form.none_left()?;
        let (token, operation) = Self::parse(input)?;
        *evidence = Ok(token);
        Ok(operation)
    }

    fn write(output: AssumeRoleWithWebIdentityOutput) -> Option<Vec<Element>> {
        let mut elements = vec![
            credentials(&output.credentials),
            text("SubjectFromWebIdentityToken", output.subject),
            role_user(output.assumed_role_id, output.arn),
            number("PackedPolicySize", output.packed_policy_size),
            text("Provider", output.provider),
            text("Audience", output.audience),
        ];
        elements.extend(source_identity(output.source_identity));
        Some(elements)
    }
}

impl Query for DecodeAuthorizationMessage {
    fn read(form: &mut Parameters, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let message = form.take("EncodedMessage");
        form.none_left()?;
        Self::parse(message)
    }

    fn write(output: DecodeAuthorizationMessageOutput) -> Option<Vec<Element>> {
        Some(vec![text("DecodedMessage", output.decoded_message)])
    }
}

impl Query for GetAccessKeyInfo {
    fn read(form: &mut Parameters, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let id = form.take("AccessKeyId");
        form.none_left()?;
        Self::parse(id.as_deref())
    }

    fn write(output: GetAccessKeyInfoOutput) -> Option<Vec<Element>> {
        Some(vec![text("Account", output.account)])
    }
}

impl Query for GetCallerIdentity {
    /// Ignores unknown parameters. Servers replay signed requests of this action as proofs of
    /// identity, and some add parameters.
    fn read(_: &mut Parameters, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        Ok(Self)
    }

    fn write(output: GetCallerIdentityOutput) -> Option<Vec<Element>> {
        Some(vec![
            text("Arn", output.arn),
            text("UserId", output.user_id),
            text("Account", output.account),
        ])
    }
}

impl Query for GetFederationToken {
    fn read(form: &mut Parameters, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let input = GetFederationTokenInput {
            name: form.take("Name"),
            policy: form.take("Policy"),
            policy_arns: policy_arns(form),
            duration_seconds: form.number("DurationSeconds")?,
            tags: tags(form),
        };
        form.none_left()?;
        Self::parse(input)
    }

    fn write(output: GetFederationTokenOutput) -> Option<Vec<Element>> {
        let user = vec![
            text("FederatedUserId", output.federated_user_id),
            text("Arn", output.arn),
        ];
        Some(vec![
            credentials(&output.credentials),
            group("FederatedUser", user),
            number("PackedPolicySize", output.packed_policy_size),
        ])
    }
}

impl Query for GetScopedCredentials {
    fn read(form: &mut Parameters, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let input = GetScopedCredentialsInput {
            policy: form.take("Policy"),
            duration_seconds: form.number("DurationSeconds")?,
            minimum_session_token_size: form.number("MinimumSessionTokenSize")?,
            scoped_session_description: form.take("ScopedSessionDescription"),
        };
        form.none_left()?;
        Self::parse(input)
    }

    fn write(output: GetScopedCredentialsOutput) -> Option<Vec<Element>> {
        let whole = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (size, used) = (
            whole(output.session_token_size()),
            whole(output.session_token_utilization()),
        );
        let session = vec![
            text("ScopedSessionId", output.scoped_session_id),
            text("Arn", output.arn),
        ];
        let mut elements = vec![
            credentials(&output.credentials),
            group("SessionInfo", session),
            number("SessionTokenUtilization", used),
            number("SessionTokenSize", size),
            number("ScopedPoliciesCount", whole(output.scoped_policies_count)),
        ];
        elements.extend(source_identity(output.source_identity));
        Some(elements)
    }
}

impl Query for GetSessionToken {
    fn read(form: &mut Parameters, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let seconds = form.number("DurationSeconds")?;
        let (serial, code) = (form.take("SerialNumber"), form.take("TokenCode"));
        form.none_left()?;
        Self::parse(seconds, serial, code)
    }

    fn write(output: GetSessionTokenOutput) -> Option<Vec<Element>> {
        Some(vec![credentials(&output.credentials)])
    }
}

impl Query for GetWebIdentityToken {
    fn read(form: &mut Parameters, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let input = GetWebIdentityTokenInput {
            audience: form.list("Audience", |form, at| form.take(at)),
            signing_algorithm: form.take("SigningAlgorithm"),
            duration_seconds: form.number("DurationSeconds")?,
            tags: tags(form),
        };
        form.none_left()?;
        Self::parse(input)
    }

    fn write(output: GetWebIdentityTokenOutput) -> Option<Vec<Element>> {
        let token = output.web_identity_token.expose().as_str();
        Some(vec![
            text("WebIdentityToken", token),
            time("Expiration", output.expiration),
        ])
    }
}

/// Takes the parameters of AssumeRole out of a form, without checking their values.
pub(super) fn assume_role(form: &mut Parameters) -> Result<AssumeRoleInput, Error> {
    let input = AssumeRoleInput {
        role_arn: form.take("RoleArn"),
        role_session_name: form.take("RoleSessionName"),
        policy_arns: policy_arns(form),
        policy: form.take("Policy"),
        duration_seconds: form.number("DurationSeconds")?,
        tags: tags(form),
        transitive_tag_keys: form.list("TransitiveTagKeys", |form, at| form.take(at)),
        external_id: form.take("ExternalId"),
        serial_number: form.take("SerialNumber"),
        token_code: form.take("TokenCode"),
        source_identity: form.take("SourceIdentity"),
        provided_contexts: !form
            .list("ProvidedContexts", |form, at| {
                let provider = form.take(&format!("{at}.ProviderArn"));
                form.take(&format!("{at}.ContextAssertion")).or(provider)
            })
            .is_empty(),
    };
    form.none_left()?;
    Ok(input)
}

fn policy_arns(form: &mut Parameters) -> Vec<String> {
    form.list("PolicyArns", |form, at| form.take(&format!("{at}.arn")))
}

fn tags(form: &mut Parameters) -> Vec<Tag> {
    form.list("Tags", |form, at| {
        Some(Tag {
            key: form.take(&format!("{at}.Key"))?,
            value: form.take(&format!("{at}.Value")).unwrap_or_default(),
        })
    })
}

fn credentials(credentials: &Credentials) -> Element {
    group(
        "Credentials",
        vec![
            text("AccessKeyId", credentials.access_key_id.as_str()),
            text(
                "SecretAccessKey",
                credentials.secret_access_key.expose().as_str(),
            ),
            text("SessionToken", credentials.session_token.expose().as_str()),
            time("Expiration", credentials.expires_at),
        ],
    )
}

fn role_user(assumed_role_id: String, arn: String) -> Element {
    let user = vec![text("AssumedRoleId", assumed_role_id), text("Arn", arn)];
    group("AssumedRoleUser", user)
}

/// Returns the element for a source identity; `None` if it is empty.
fn source_identity(source_identity: String) -> Option<Element> {
    (!source_identity.is_empty()).then(|| text("SourceIdentity", source_identity))
}
