//! [`Error`] to an HTTP status and the side that AWS's faults name.

use http::StatusCode;

use crate::error::{Class, Error};

/// The one place where refusals become HTTP statuses and AWS's sides.
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
