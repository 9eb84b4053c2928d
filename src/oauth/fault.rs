//! Maps a refused request ([`Error`]) to an HTTP status and an OAuth error code.

use http::StatusCode;

use crate::error::{Class, Error, GrantErrorKind};

/// Returns the HTTP status and the OAuth error code for an error (RFC 6749 section 5.2, RFC 8693
/// section 2.2.2). All OAuth endpoints take both from here.
pub(super) fn fault(error: &Error) -> (StatusCode, &'static str) {
    if let Error::Grant(error) = error {
        let status = match error.kind {
            GrantErrorKind::InvalidClient => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        };
        return (status, error.kind.oauth());
    }
    match error.class() {
        Class::InvalidToken | Class::RejectedToken => (StatusCode::BAD_REQUEST, "invalid_grant"),
        Class::Forbidden => (StatusCode::BAD_REQUEST, "invalid_target"),
        Class::ProviderUnavailable | Class::Unavailable | Class::Throttled | Class::Timeout => {
            (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
        }
        Class::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        Class::WrongCredentials
        | Class::SwitchedOff
        | Class::InvalidArgument
        | Class::BodyTooLarge
        | Class::HeadersTooLarge
        | Class::Unimplemented
        | Class::Unauthenticated
        | Class::UnfitProof
        | Class::NotFound
        | Class::Gone
        | Class::AlreadyExists
        | Class::Conflict
        | Class::LimitExceeded
        | Class::ConcurrentModification
        | Class::Unmodifiable => (StatusCode::BAD_REQUEST, "invalid_request"),
    }
}
