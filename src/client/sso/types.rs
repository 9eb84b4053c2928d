//! What the APIs `sso-oidc` and `sso` take and answer.

use std::sync::Arc;

use serde::Deserialize;

use crate::base::clock::Timestamp;
use crate::base::secret::Secret;

/// The registration of a program, which proves nothing about it.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The id of the program.
    pub client_id: String,
    /// The secret that belongs to the id.
    pub client_secret: Arc<Secret<String>>,
    /// When the registration ends.
    pub expires_at: Timestamp,
}

/// What a program registers for.
#[derive(Debug, Clone, Copy)]
pub struct Registering<'a> {
    /// The name that the person sees.
    pub client_name: &'a str,
    /// The scopes, such as `sso:account:access`.
    pub scopes: &'a [String],
    /// The address on this computer to which the browser comes back, without a port; `None` for the device
    /// flow.
    pub redirect_uri: Option<&'a str>,
    /// The name of the portal.
    pub start_url: &'a str,
}

/// A device flow that has begun.
#[derive(Debug, Clone)]
pub struct DeviceAuthorization {
    /// What the program polls with.
    pub device_code: Arc<Secret<String>>,
    /// What the person compares or enters.
    pub user_code: String,
    /// The page on which the person decides.
    pub verification_uri: String,
    /// The same page with the code.
    pub verification_uri_complete: String,
    /// For how many seconds the code is good.
    pub expires_in: u64,
    /// How many seconds to wait between two polls.
    pub interval: u64,
}

/// What a program shows for a token.
#[derive(Debug, Clone, Copy)]
pub enum Grant<'a> {
    /// A code of the authorization code flow.
    Code {
        /// The code.
        code: &'a str,
        /// The PKCE code verifier.
        verifier: &'a str,
        /// The redirect URI of the request, with its port.
        redirect_uri: &'a str,
    },
    /// The device code of the device flow.
    Device(&'a str),
    /// A refresh token.
    Refresh(&'a str),
}

/// The token of a person who has approved the program.
#[derive(Debug, Clone)]
pub struct SsoToken {
    /// The access token.
    pub access_token: Arc<Secret<String>>,
    /// The next refresh token, if the program may refresh.
    pub refresh_token: Option<Arc<Secret<String>>>,
    /// When the access token ends.
    pub expires_at: Timestamp,
}

/// An account in which the person may have a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SsoAccount {
    /// The number of the account.
    pub account_id: String,
    /// The name of the account.
    #[serde(default)]
    pub account_name: String,
}
