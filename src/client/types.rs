//! What calls are made with, and what they answer.

use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::base::host_names::is_loopback;
use crate::base::secret::Secret;

/// Where the broker is.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `https://HOST:PORT`, or `http://` on loopback.
    pub url: String,
    /// The region of the signature's scope.
    pub region: String,
    /// PEM of the CA that signed the broker's certificate; none: the system's roots.
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

/// What a client signs with. Never printed.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `AKIA…` or `ASIA…`
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Arc<Secret<String>>,
    /// Of temporary credentials.
    pub session_token: Option<Arc<Secret<String>>>,
    /// Of temporary credentials: when they were received and when they end.
    pub life: Option<(Timestamp, Timestamp)>,
}

impl Credentials {
    /// A long-term key.
    pub fn long_term(access_key_id: &str, secret_access_key: &str) -> Self {
        Self::new(access_key_id, secret_access_key, None)
    }

    /// A key, with the session token of a temporary one.
    pub fn new(access_key_id: &str, secret_access_key: &str, session_token: Option<&str>) -> Self {
        Self {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: Arc::new(Secret::new(secret_access_key.to_owned())),
            session_token: session_token.map(|t| Arc::new(Secret::new(t.to_owned()))),
            life: None,
        }
    }

    /// When temporary credentials end.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.life.map(|(_, end)| end)
    }
}

/// What to ask for. See the proto for each field's bounds.
#[derive(Debug, Clone, Default)]
pub struct AssumeRole {
    /// The parameter `RoleArn`, which is required.
    pub role_arn: String,
    /// The parameter `RoleSessionName`, which is required.
    pub role_session_name: String,
    /// 900 to 129600.
    pub duration_seconds: Option<i32>,
    /// The inline session policy.
    pub policy: Option<String>,
    /// Managed session policies.
    pub policy_arns: Vec<String>,
    /// Session tags.
    pub tags: Vec<(String, String)>,
    /// Those that are inherited.
    pub transitive_tag_keys: Vec<String>,
    /// Of a third party's customer.
    pub external_id: Option<String>,
    /// Who stands behind the chain.
    pub source_identity: Option<String>,
    /// The calling user's MFA device and its code.
    pub mfa: Option<(String, String)>,
}

impl AssumeRole {
    /// With nothing but what is required.
    pub fn new(role_arn: &str, role_session_name: &str) -> Self {
        Self {
            role_arn: role_arn.to_owned(),
            role_session_name: role_session_name.to_owned(),
            ..Self::default()
        }
    }
}

/// What to ask for with a token of an OpenID Connect provider. See the proto for each field's bounds.
#[derive(Debug, Clone)]
pub struct AssumeRoleWithWebIdentity {
    /// The role's ARN.
    pub role_arn: String,
    /// What the session is called.
    pub role_session_name: String,
    /// The provider's token: the proof.
    pub token: Arc<Secret<String>>,
    /// 900 to 129600.
    pub duration_seconds: Option<i32>,
    /// The inline session policy.
    pub policy: Option<String>,
    /// Managed session policies.
    pub policy_arns: Vec<String>,
}

/// Credentials of a role for whoever a provider vouched for.
#[derive(Debug, Clone)]
pub struct WebIdentityRole {
    /// The session.
    pub role: AssumedRole,
    /// The token's `sub`.
    pub subject: String,
    /// The token's `iss`.
    pub provider: String,
    /// The token's `aud`.
    pub audience: String,
}

/// A token that tells others who the caller is.
#[derive(Debug, Clone)]
pub struct WebIdentityToken {
    /// The JSON Web Token. Whoever holds it passes for the caller until it expires.
    pub token: Arc<Secret<String>>,
    /// From this instant on it is refused.
    pub expires_at: Timestamp,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct AssumedRole {
    /// The session's credentials.
    pub credentials: Credentials,
    /// `AROA…:SESSION`
    pub assumed_role_id: String,
    /// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`
    pub arn: String,
    /// In percent.
    pub packed_policy_size: i32,
    /// In force; empty: none.
    pub source_identity: String,
}

/// Who credentials belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// `AIDA…` or `AROA…:SESSION`
    pub user_id: String,
    /// Twelve digits.
    pub account: String,
    /// The principal's ARN.
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
