//! Refusals of programs that request something on behalf of a person.

use std::borrow::Cow;

use super::Class;

/// Why a program does not get what it requests on behalf of a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct GrantError {
    pub kind: GrantErrorKind,
    /// A sentence for the program's author or user.
    pub text: Cow<'static, str>,
}

/// The kind of refusal: RFC 6749 section 5.2, RFC 8628 section 3.5, RFC 7591 section 3.2.2, and the errors
/// of the API `sso-oidc`, which are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantErrorKind {
    AuthorizationPending,
    SlowDown,
    ExpiredToken,
    AccessDenied,
    InvalidGrant,
    InvalidRequest,
    /// The requested `response_type` is not supported: RFC 6749 section 4.1.2.1. AWS's API has no name for
    /// this.
    UnsupportedResponseType,
    InvalidClient,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
    InvalidClientMetadata,
    InvalidRedirectUri,
}

impl GrantErrorKind {
    /// Makes a refusal of this kind. `text` tells the program's author or user what is wrong.
    pub fn because(self, text: impl Into<Cow<'static, str>>) -> GrantError {
        GrantError {
            kind: self,
            text: text.into(),
        }
    }

    /// The name of the exception for this kind in AWS's API.
    pub fn aws(self) -> &'static str {
        match self {
            Self::AuthorizationPending => "AuthorizationPendingException",
            Self::SlowDown => "SlowDownException",
            Self::ExpiredToken => "ExpiredTokenException",
            Self::AccessDenied => "AccessDeniedException",
            Self::InvalidGrant => "InvalidGrantException",
            Self::InvalidRequest | Self::UnsupportedResponseType => "InvalidRequestException",
            Self::InvalidClient => "InvalidClientException",
            Self::UnauthorizedClient => "UnauthorizedClientException",
            Self::UnsupportedGrantType => "UnsupportedGrantTypeException",
            Self::InvalidScope => "InvalidScopeException",
            Self::InvalidClientMetadata => "InvalidClientMetadataException",
            Self::InvalidRedirectUri => "InvalidRedirectUriException",
        }
    }

    /// The error code for this kind in OAuth 2.0, which AWS's API also has in its body.
    pub fn oauth(self) -> &'static str {
        match self {
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::ExpiredToken => "expired_token",
            Self::AccessDenied => "access_denied",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidRequest => "invalid_request",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidClientMetadata => "invalid_client_metadata",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
        }
    }

    pub(super) fn class(self) -> Class {
        match self {
            Self::InvalidClient => Class::Unauthenticated,
            Self::AccessDenied => Class::WrongCredentials,
            _ => Class::InvalidArgument,
        }
    }
}
