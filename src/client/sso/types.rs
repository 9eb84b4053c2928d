//! The requests and answers of the APIs `sso-oidc` and `sso`.

use std::sync::Arc;

use serde::Deserialize;

use crate::base::clock::Timestamp;
use crate::base::secret::Secret;

/// The registration of a program. Any program can register, so it is no proof of identity.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The id that the broker gave to the program.
    pub client_id: String,
    /// The secret that belongs to the id.
    pub client_secret: Arc<Secret<String>>,
    /// When the registration expires.
    pub expires_at: Timestamp,
}

/// The properties with which a program registers.
#[derive(Debug, Clone, Copy)]
pub struct Registering<'a> {
    /// The name of the program, which is shown to the person.
    pub client_name: &'a str,
    /// The scopes, such as `sso:account:access`.
    pub scopes: &'a [String],
    /// The address on this computer to which the browser is redirected, without a port; `None` for the
    /// device flow.
    pub redirect_uri: Option<&'a str>,
    /// The start URL, which names the portal. Nothing is requested from this URL.
    pub start_url: &'a str,
}

/// The answer to StartDeviceAuthorization: the codes of a device flow that has begun.
#[derive(Debug, Clone)]
pub struct DeviceAuthorization {
    /// The code with which the program polls for a token.
    pub device_code: Arc<Secret<String>>,
    /// The short code that the person compares or enters.
    pub user_code: String,
    /// The page on which the person approves or refuses.
    pub verification_uri: String,
    /// The URL of that page, which already contains the code.
    pub verification_uri_complete: String,
    /// For how many seconds the code is valid.
    pub expires_in: u64,
    /// How many seconds to wait between two polls.
    pub interval: u64,
}

/// The code or token that a program exchanges for an access token.
#[derive(Debug, Clone, Copy)]
pub enum Grant<'a> {
    /// A code of the authorization code flow.
    Code {
        /// The code from the redirect to the program.
        code: &'a str,
        /// The PKCE code verifier (RFC 7636), whose hash was in the authorization request.
        verifier: &'a str,
        /// The redirect URI of the request, with its port.
        redirect_uri: &'a str,
    },
    /// The device code of the device flow.
    Device(&'a str),
    /// A refresh token, from an earlier answer.
    Refresh(&'a str),
}

/// The token of a person who has approved the program.
#[derive(Debug, Clone)]
pub struct SsoToken {
    /// The access token, with which the program gets credentials.
    pub access_token: Arc<Secret<String>>,
    /// The next refresh token, if the program may refresh.
    pub refresh_token: Option<Arc<Secret<String>>>,
    /// When the access token expires.
    pub expires_at: Timestamp,
}

/// An account in which the person may have a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SsoAccount {
    /// The id of the account: twelve digits.
    pub account_id: String,
    /// The display name of the account.
    #[serde(default)]
    pub account_name: String,
}
