//! The settings of sign-ins: `[sign_in]` of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

/// The settings of sign-ins: how people may sign in, for how long, and for which programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The URL at which browsers reach the broker, without a slash at the end. `{address}` in it stands
    /// for the broker's address.
    pub public_url: String,
    /// How long a sign-in lasts: 15 minutes to 90 days.
    pub session: Duration,
    /// How long a browser may be away before it must sign in again: 1 minute to 24 hours.
    pub idle: Duration,
    /// Whether users of the directory sign in with a name and a password.
    pub passwords: bool,
    /// Whether programs may use the device flow (RFC 8628).
    pub device_flow: bool,
    /// How old the newest factor of a sign-in may be when the person approves a program; `None` for any age.
    pub mfa_max_age: Option<Duration>,
    /// The identity providers that are offered, in this order. `None` offers all providers of the directory that can be
    /// used, which is for development only; in production the operator names them.
    pub providers: Option<Vec<ProviderShown>>,
    /// The programs that an administrator has registered.
    pub clients: Vec<AppClient>,
    /// Whether registrations of programs are sealed with a fixed key, so that they stay valid when a broker without a
    /// store restarts. This is for development only, because everybody knows the key.
    pub fixed_registration_key: bool,
}

/// An identity provider that the sign-in page offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderShown {
    /// The ARN of the provider's entry in the directory.
    pub arn: String,
    /// The name on the provider's button on the sign-in page.
    pub name: String,
    pub details: ProviderDetails,
}

/// How people sign in at an identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderDetails {
    /// The client id of this broker at the provider. If it is `None`, the client id of the provider's entry in the
    /// directory is used. OpenID Connect only.
    pub client_id: Option<String>,
    /// The scopes that the broker requests from the provider. OpenID Connect only.
    pub scopes: Vec<String>,
    /// How long ago the person may have signed in at the provider; `None` for any time. OpenID Connect only.
    pub max_age: Option<Duration>,
    /// Maps values of `acr`, or of AuthnContextClassRef, to the factor that they prove, by its name of RFC 8176.
    pub acr: BTreeMap<String, String>,
    /// Maps values of `amr` to the factor that they prove, by its name of RFC 8176.
    pub amr: BTreeMap<String, String>,
    /// Whether the provider may begin a sign-in. SAML only.
    pub idp_initiated: bool,
    /// Whether an assertion without the attribute `Role` is accepted, so that the trust policies alone decide which
    /// roles the person may assume. SAML only.
    pub roles_by_trust_policies: bool,
}

impl Default for ProviderDetails {
    fn default() -> Self {
        Self {
            client_id: None,
            scopes: ["openid", "profile", "email"].map(str::to_owned).into(),
            max_age: None,
            acr: BTreeMap::new(),
            amr: BTreeMap::new(),
            idp_initiated: false,
            roles_by_trust_policies: false,
        }
    }
}

/// A program that an administrator has registered. It has no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppClient {
    /// The value of `client_id` in requests of the program.
    pub id: String,
    /// The name that people see when they approve the program.
    pub name: String,
    /// The URLs to which the browser may be sent back. They are compared as text.
    pub redirect_uris: Vec<String>,
}

impl Settings {
    /// The settings with defaults for a broker at this public URL.
    pub fn at(public_url: impl Into<String>) -> Self {
        Self {
            public_url: public_url.into(),
            session: Duration::from_secs(8 * 3_600),
            idle: Duration::from_secs(3_600),
            passwords: true,
            device_flow: true,
            mfa_max_age: None,
            providers: None,
            clients: Vec::new(),
            fixed_registration_key: false,
        }
    }

    /// Replaces `{address}` by the address at which the broker listens.
    #[must_use]
    pub fn listening_at(&self, address: &str) -> Self {
        Self {
            public_url: self.public_url.replace("{address}", address),
            ..self.clone()
        }
    }
}
