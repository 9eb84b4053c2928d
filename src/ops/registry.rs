//! Every action there is, by name: what the wires dispatch on, and the only file of `ops` that knows
//! them all.

use super::admin::describe_session::DescribeSession;
use super::admin::list_sessions::ListSessions;
use super::admin::preview_revocation::PreviewRevocation;
use super::admin::revoke_sessions::RevokeSessions;
use super::operation::Operation;
use super::sts::assume_role::AssumeRole;
use super::sts::assume_role_with_web_identity::AssumeRoleWithWebIdentity;
use super::sts::decode_authorization_message::DecodeAuthorizationMessage;
use super::sts::get_access_key_info::GetAccessKeyInfo;
use super::sts::get_caller_identity::GetCallerIdentity;
use super::sts::get_federation_token::GetFederationToken;
use super::sts::get_session_token::GetSessionToken;
use super::sts::get_web_identity_token::GetWebIdentityToken;
use crate::audit;
use crate::error::Error;

/// Every action of the API and whether this version answers it: what both wires dispatch on.
pub const ACTIONS: &[(&str, bool)] = &[
    (AssumeRole::NAME, true),
    (AssumeRoleWithWebIdentity::NAME, true),
    ("AssumeRoleWithSAML", false),
    (GetSessionToken::NAME, true),
    (GetFederationToken::NAME, true),
    (GetCallerIdentity::NAME, true),
    (GetAccessKeyInfo::NAME, true),
    (DecodeAuthorizationMessage::NAME, true),
    (GetWebIdentityToken::NAME, true),
];

#[cfg_attr(
    not(any(test, feature = "internals")),
    allow(dead_code, reason = "tests compare it with the wires")
)]
/// What an account's administrators do about sessions. On gRPC only: AWS has no such actions.
pub const ADMINISTRATION: &[&str] = &[
    ListSessions::NAME,
    DescribeSession::NAME,
    RevokeSessions::NAME,
    PreviewRevocation::NAME,
];

/// Why an action is not answered.
pub fn unanswered(action: &str, version: &str) -> Error {
    match ACTIONS
        .iter()
        .find(|(name, answered)| *name == action && !answered)
    {
        Some((name, _)) => Error::NotAvailable((*name).into()),
        None => Error::InvalidAction {
            action: audit::clip(action),
            version: audit::clip(version),
        },
    }
}
