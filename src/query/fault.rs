//! Maps an error ([`Error`]) to an HTTP status, and to the side that made the error.

use http::StatusCode;

use crate::error::{Class, Error};

/// Returns the HTTP status and the side (`Sender` or `Receiver`) for an error. All answers of the
/// Query protocol take both from here.
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
        Class::Gone => (StatusCode::GONE, "Sender"),
        Class::NotFound => (StatusCode::NOT_FOUND, "Sender"),
        Class::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Receiver"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code and HTTP status as AWS's API reference of IAM has them under "Errors".
    #[test]
    fn errors_of_iam_have_its_codes_and_statuses() {
        let text = || "why".to_owned();
        let cases = [
            (Error::NotFound(text()), "NoSuchEntity", 404),
            (
                Error::EntityAlreadyExists(text()),
                "EntityAlreadyExists",
                409,
            ),
            (Error::DeleteConflict(text()), "DeleteConflict", 409),
            (Error::LimitExceeded(text()), "LimitExceeded", 409),
            (
                Error::ConcurrentModification(text()),
                "ConcurrentModification",
                409,
            ),
            (
                Error::EntityTemporarilyUnmodifiable(text()),
                "EntityTemporarilyUnmodifiable",
                409,
            ),
            (
                Error::MalformedPolicyDocument(text()),
                "MalformedPolicyDocument",
                400,
            ),
            (Error::InvalidMarker, "ValidationError", 400),
            (Error::InvalidArn, "ValidationError", 400),
            (Error::UserNameRequired, "ValidationError", 400),
            (Error::InvalidInput(text()), "InvalidInput", 400),
            (Error::UnmodifiableEntity(text()), "UnmodifiableEntity", 400),
            (
                Error::PolicyNotAttachable(text()),
                "PolicyNotAttachable",
                400,
            ),
            (
                Error::PasswordPolicyViolation(text()),
                "PasswordPolicyViolation",
                400,
            ),
            (Error::InvalidUserType(text()), "InvalidUserType", 400),
            (
                Error::InvalidAuthenticationCode,
                "InvalidAuthenticationCode",
                403,
            ),
            (Error::ReportNotPresent, "ReportNotPresent", 410),
            (Error::ReportExpired, "ReportExpired", 410),
        ];
        for (error, code, status) in cases {
            let answered = fault(&error);
            assert_eq!(
                (error.code(), answered.0.as_u16(), answered.1),
                (code, status, "Sender")
            );
        }
        assert_eq!(Error::InvalidMarker.to_string(), "Invalid Marker.");
    }
}
