//! From a refusal ([`Error`]) to an HTTP status, and to the side whose fault it is.

use http::StatusCode;

use crate::error::{Class, Error};

/// The HTTP status and the side (`Sender` or `Receiver`) for each class of refusals. No other code chooses
/// them.
pub(super) fn fault(error: &Error) -> (StatusCode, &'static str) {
    match error.class() {
        Class::Forbidden
        | Class::WrongCredentials
        | Class::SwitchedOff
        | Class::RejectedToken
        | Class::Unauthenticated => (StatusCode::FORBIDDEN, "Sender"),
        Class::InvalidToken
        | Class::ProviderUnavailable
        | Class::InvalidArgument
        | Class::Unimplemented
        | Class::UnfitProof
        | Class::Throttled
        | Class::Unmodifiable => (StatusCode::BAD_REQUEST, "Sender"),
        Class::AlreadyExists
        | Class::Conflict
        | Class::LimitExceeded
        | Class::ConcurrentModification => (StatusCode::CONFLICT, "Sender"),
        Class::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Sender"),
        Class::HeadersTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Sender"),
        Class::Timeout => (StatusCode::REQUEST_TIMEOUT, "Sender"),
        Class::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Receiver"),
        Class::NotFound => (StatusCode::NOT_FOUND, "Sender"),
        Class::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Receiver"),
    }
}
