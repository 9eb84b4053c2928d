//! The requests and answers of the client's operations.

use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::base::host_names::is_loopback;
use crate::base::secret::Secret;

/// The broker to call, and how to reach it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `https://HOST:PORT`, or `http://` on loopback.
    pub url: String,
    /// The region for which calls are signed.
    pub region: String,
    /// The CA that signed the broker's certificate, in PEM; by default the system's CAs are used.
    pub ca_pem: Option<String>,
}

impl Endpoint {
    /// Whether credentials would leave this machine unencrypted: `http://` and a host that is
    /// neither `localhost` nor a loopback address.
    pub fn is_in_clear(&self) -> bool {
        let Ok(uri) = self.url.parse::<http::Uri>() else {
            return false;
        };
        let is_https = uri
            .scheme_str()
            .is_some_and(|s| s.eq_ignore_ascii_case("https"));
        !is_https && !is_loopback(uri.host().unwrap_or_default())
    }
}

/// Credentials to sign calls with. `Debug` does not print the secrets.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The id of the access key: `AKIA…` for a long-term key, `ASIA…` for a temporary one.
    pub access_key_id: String,
    /// The secret access key, with which calls are signed.
    pub secret_access_key: Arc<Secret<String>>,
    /// The session token of temporary credentials; `None` for a long-term key.
    pub session_token: Option<Arc<Secret<String>>>,
    /// When temporary credentials were issued or received, and when they expire; `None` if that is not known.
    pub life: Option<(Timestamp, Timestamp)>,
}

impl Credentials {
    /// Makes credentials of a long-term key.
    pub fn long_term(access_key_id: &str, secret_access_key: &str) -> Self {
        Self::new(access_key_id, secret_access_key, None)
    }

    /// Makes credentials of a key; a temporary key needs its session token.
    pub fn new(access_key_id: &str, secret_access_key: &str, session_token: Option<&str>) -> Self {
        Self {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: Arc::new(Secret::new(secret_access_key.to_owned())),
            session_token: session_token.map(|t| Arc::new(Secret::new(t.to_owned()))),
            life: None,
        }
    }

    /// When the credentials expire, if that is known.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.life.map(|(_, end)| end)
    }
}

/// The parameters of AssumeRole. `sts.proto` has the bounds of each field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are the parameters of AWS")]
pub struct AssumeRole {
    pub role_arn: String,
    pub role_session_name: String,
    /// The duration of the session in seconds, from 900 to 129600; 3600 by default.
    pub duration_seconds: Option<i32>,
    /// An inline session policy as JSON, which limits what the session may do.
    pub policy: Option<String>,
    /// The ARNs of managed policies that limit what the session may do.
    pub policy_arns: Vec<String>,
    /// Keys and values of session tags.
    pub tags: Vec<(String, String)>,
    /// The keys of the tags that are passed on to sessions assumed from this one.
    pub transitive_tag_keys: Vec<String>,
    pub external_id: Option<String>,
    /// The person or program behind the session. It stays the same in sessions assumed from this one.
    pub source_identity: Option<String>,
    /// The serial number of the calling user's MFA device, and its current code.
    pub mfa: Option<(String, String)>,
}

impl AssumeRole {
    /// Makes a request with only the required parameters.
    pub fn new(role_arn: &str, role_session_name: &str) -> Self {
        Self {
            role_arn: role_arn.to_owned(),
            role_session_name: role_session_name.to_owned(),
            ..Self::default()
        }
    }
}

/// The parameters of AssumeRoleWithWebIdentity. `sts.proto` has the bounds of each field.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are the parameters of AWS")]
pub struct AssumeRoleWithWebIdentity {
    pub role_arn: String,
    pub role_session_name: String,
    /// The token of an OpenID Connect provider, in compact form.
    pub token: Arc<Secret<String>>,
    /// The duration of the session in seconds, from 900 to 129600; 3600 by default.
    pub duration_seconds: Option<i32>,
    /// An inline session policy as JSON, which limits what the session may do.
    pub policy: Option<String>,
    /// The ARNs of managed policies that limit what the session may do.
    pub policy_arns: Vec<String>,
}

/// The session that AssumeRoleWithWebIdentity issued, and the claims of the token.
#[derive(Debug, Clone)]
pub struct WebIdentityRole {
    /// The session, with its credentials.
    pub role: AssumedRole,
    /// The subject of the token, its claim `sub`: the user's id at the provider.
    pub subject: String,
    /// The issuer of the token, its claim `iss`.
    pub provider: String,
    /// The client id of the application to which the provider issued the token: the claim `azp`, or the first audience
    /// in the claim `aud` if there is no `azp`.
    pub audience: String,
}

/// The parameters of AssumeRoleWithSAML. `sts.proto` has the bounds of each field.
#[derive(Debug, Clone)]
pub struct AssumeRoleWithSaml {
    /// The ARN of the role to assume. It must be in the same account as the provider.
    pub role_arn: String,
    /// The ARN of the SAML provider that made the response.
    pub principal_arn: String,
    /// The identity provider's response in base64.
    pub response: Arc<Secret<String>>,
    /// The duration of the session in seconds, from 900 to 129600; by default the assertion's, or one
    /// hour.
    pub duration_seconds: Option<i32>,
    /// An inline session policy as JSON, which limits what the session may do.
    pub policy: Option<String>,
    /// The ARNs of managed policies that limit what the session may do.
    pub policy_arns: Vec<String>,
}

/// The credentials that AssumeRoleWithSAML returned, with the identity that the provider asserted.
#[derive(Debug, Clone)]
pub struct SamlRole {
    /// The session, with its credentials.
    pub role: AssumedRole,
    /// The NameID of the assertion, which identifies the user at the identity provider.
    pub subject: String,
    /// The format of the NameID, without the prefix of SAML 2.0.
    pub subject_type: String,
    /// The entity ID of the identity provider.
    pub issuer: String,
    /// The URL to which the assertion was sent.
    pub audience: String,
    /// A hash of the issuer, the account and the provider's name. Together with `subject`, it identifies a user
    /// uniquely.
    pub name_qualifier: String,
}

/// A token that proves the caller's identity to others.
#[derive(Debug, Clone)]
pub struct WebIdentityToken {
    /// The JSON Web Token. Until it expires, anybody who holds it can act as the caller towards its audience.
    pub token: Arc<Secret<String>>,
    /// When the token expires.
    pub expires_at: Timestamp,
}

/// A session of a role that the broker issued.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are those of AWS's answer")]
pub struct AssumedRole {
    pub credentials: Credentials,
    /// The role's unique id and the name of the session: `AROA…:SESSION`.
    pub assumed_role_id: String,
    /// The ARN of the session: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    pub arn: String,
    /// How much of the space for session policies and tags is used, in percent: 0 to 100.
    pub packed_policy_size: i32,
    /// The source identity of the session; empty if it has none.
    pub source_identity: String,
}

/// The identity to which the credentials belong, as GetCallerIdentity returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The unique id: `AIDA…` for a user, `AROA…:SESSION` for a role session, `ACCOUNT:NAME` for a federated user.
    pub user_id: String,
    /// The id of the account: twelve digits.
    pub account: String,
    /// The ARN of the user or session.
    pub arn: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_a_secret() {
        let credentials = Credentials::new("ASIA", "canary-secret", Some("canary-token"));
        assert!(!format!("{credentials:?}").contains("canary"));
    }
}
