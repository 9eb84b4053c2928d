//! [`Error`] to an HTTP status and the side that AWS's faults name.

use http::StatusCode;

use crate::error::Error;

/// The one place where refusals become HTTP statuses and AWS's sides.
pub(super) fn fault(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::AccessDenied { .. }
        | Error::NotAuthorized { .. }
        | Error::IdpRejectedClaim(_)
        | Error::LongTermCredentialsOnly(_)
        | Error::PresignedAction(_)
        | Error::Mfa(_)
        | Error::OutboundWebIdentityFederationDisabled(_)
        | Error::SessionDurationEscalation
        | Error::InvalidAuthenticationCode
        | Error::MissingAuthenticationToken
        | Error::SignatureDoesNotMatch(_)
        | Error::InvalidClientTokenId
        | Error::Ended
        | Error::ExpiredToken => (StatusCode::FORBIDDEN, "Sender"),
        Error::Validation(_)
        | Error::Duration(_)
        | Error::Malformed(_)
        | Error::MalformedPolicyDocument(_)
        | Error::PackedPolicyTooLarge(_)
        | Error::InvalidAction { .. }
        | Error::NotAvailable(_)
        | Error::UnknownOperation(_)
        | Error::IncompleteSignature(_)
        | Error::RequestExpired(_)
        | Error::InvalidAuthorizationMessage
        | Error::InvalidIdentityToken(_)
        | Error::ExpiredWebIdentityToken(_)
        | Error::IdpCommunicationError
        | Error::Throttling
        | Error::UnmodifiableEntity(_)
        | Error::JwtPayloadSizeExceeded(..) => (StatusCode::BAD_REQUEST, "Sender"),
        Error::EntityAlreadyExists(_)
        | Error::DeleteConflict(_)
        | Error::LimitExceeded(_)
        | Error::ConcurrentModification(_)
        | Error::EntityTemporarilyUnmodifiable(_) => (StatusCode::CONFLICT, "Sender"),
        Error::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "Sender"),
        Error::HeadersTooLarge(..) => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Sender"),
        Error::RequestTimeout(_) => (StatusCode::REQUEST_TIMEOUT, "Sender"),
        Error::ServiceUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "Receiver"),
        Error::NotFound(_) => (StatusCode::NOT_FOUND, "Sender"),
        Error::InternalFailure => (StatusCode::INTERNAL_SERVER_ERROR, "Receiver"),
    }
}
