//! [`Error`] to an HTTP status and an error code of OAuth.

use http::StatusCode;

use crate::error::Error;

/// The one place where refusals become errors of OAuth: RFC 6749 section 5.2, RFC 8693 section
/// 2.2.2.
pub(super) fn fault(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::InvalidIdentityToken(_)
        | Error::ExpiredWebIdentityToken(_)
        | Error::IdpRejectedClaim(_) => (StatusCode::BAD_REQUEST, "invalid_grant"),
        Error::NotAuthorized { .. } | Error::AccessDenied { .. } => {
            (StatusCode::BAD_REQUEST, "invalid_target")
        }
        Error::IdpCommunicationError
        | Error::ServiceUnavailable(_)
        | Error::Throttling
        | Error::RequestTimeout(_) => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
        Error::InternalFailure => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        Error::Validation(_)
        | Error::Duration(_)
        | Error::Malformed(_)
        | Error::MalformedPolicyDocument(_)
        | Error::PackedPolicyTooLarge(_)
        | Error::TooLarge(_)
        | Error::HeadersTooLarge(..)
        | Error::JwtPayloadSizeExceeded(..)
        | Error::OutboundWebIdentityFederationDisabled(_)
        | Error::SessionDurationEscalation
        | Error::LongTermCredentialsOnly(_)
        | Error::Mfa(_)
        | Error::InvalidAuthenticationCode
        | Error::InvalidAuthorizationMessage
        | Error::InvalidAction { .. }
        | Error::NotAvailable(_)
        | Error::UnknownOperation(_)
        | Error::MissingAuthenticationToken
        | Error::IncompleteSignature(_)
        | Error::SignatureDoesNotMatch(_)
        | Error::PresignedAction(_)
        | Error::RequestExpired(_)
        | Error::InvalidClientTokenId
        | Error::Ended
        | Error::ExpiredToken
        | Error::NotFound(_)
        | Error::EntityAlreadyExists(_)
        | Error::DeleteConflict(_)
        | Error::LimitExceeded(_)
        | Error::ConcurrentModification(_)
        | Error::EntityTemporarilyUnmodifiable(_)
        | Error::UnmodifiableEntity(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
    }
}
