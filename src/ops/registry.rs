//! The names of all actions. The interfaces dispatch on these lists.

use super::admin::describe_session::DescribeSession;
use super::admin::end_sign_in::EndSignIn;
use super::admin::list_sessions::ListSessions;
use super::admin::list_sign_ins::ListSignIns;
use super::admin::preview_revocation::PreviewRevocation;
use super::admin::revoke_sessions::RevokeSessions;
use super::operation::Operation;
use super::relying::authorize::Authorize;
use super::relying::derive_signing_key::DeriveSigningKey;
use super::relying::evaluate_policy::EvaluatePolicy;
use super::relying::resolve_identity::ResolveIdentity;
use super::relying::verify_request::VerifyRequest;
use super::relying::watch_revocations::WatchRevocations;
use super::sts::assume_role::AssumeRole;
use super::sts::assume_role_for_workload::AssumeRoleForWorkload;
use super::sts::assume_role_with_saml::AssumeRoleWithSaml;
use super::sts::assume_role_with_web_identity::AssumeRoleWithWebIdentity;
use super::sts::decode_authorization_message::DecodeAuthorizationMessage;
use super::sts::get_access_key_info::GetAccessKeyInfo;
use super::sts::get_caller_identity::GetCallerIdentity;
use super::sts::get_federation_token::GetFederationToken;
use super::sts::get_scoped_credentials::GetScopedCredentials;
use super::sts::get_session_token::GetSessionToken;
use super::sts::get_web_identity_token::GetWebIdentityToken;
use crate::audit;
use crate::error::Error;

/// The actions of the STS API that the broker knows, and whether this version supports each.
pub const ACTIONS: &[(&str, bool)] = &[
    (AssumeRole::NAME, true),
    (AssumeRoleWithWebIdentity::NAME, true),
    (AssumeRoleWithSaml::NAME, true),
    (GetSessionToken::NAME, true),
    (GetFederationToken::NAME, true),
    (GetCallerIdentity::NAME, true),
    (GetAccessKeyInfo::NAME, true),
    (DecodeAuthorizationMessage::NAME, true),
    (GetWebIdentityToken::NAME, true),
    (GetScopedCredentials::NAME, true),
];

#[cfg_attr(
    not(any(test, feature = "internals")),
    allow(dead_code, reason = "tests compare this list with the protocols")
)]
/// The actions with which administrators list and end sessions and sign-ins. They exist only in gRPC, because AWS has
/// no such actions.
pub const ADMINISTRATION: &[&str] = &[
    ListSessions::NAME,
    DescribeSession::NAME,
    RevokeSessions::NAME,
    PreviewRevocation::NAME,
    ListSignIns::NAME,
    EndSignIn::NAME,
];

#[cfg_attr(
    not(any(test, feature = "internals")),
    allow(dead_code, reason = "tests compare this list with the protocols")
)]
/// Brevet's own actions in the gRPC service SecurityTokenService. AWS does not have them.
pub const OWN: &[&str] = &[AssumeRoleForWorkload::NAME];

#[cfg_attr(
    not(any(test, feature = "internals")),
    allow(dead_code, reason = "tests compare this list with the protocols")
)]
/// The actions of the gRPC service Relying, for programs that accept sessions or give them to others. AWS has no such
/// actions.
pub const RELYING: &[&str] = &[Authorize::NAME, VerifyRequest::NAME, WatchRevocations::NAME];

#[cfg_attr(
    not(any(test, feature = "internals")),
    allow(dead_code, reason = "tests compare it with the protocols")
)]
/// The actions for gateways that check signatures themselves. They exist only on the listener for proxies.
pub const GATEWAYS: &[&str] = &[
    DeriveSigningKey::NAME,
    EvaluatePolicy::NAME,
    ResolveIdentity::NAME,
];

/// Returns the error for an action that this version does not support, or that does not exist in
/// AWS either.
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
