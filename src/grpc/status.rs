//! [`Error`] to [`Status`]: what a refusal is on gRPC.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::Error;

/// A refusal as gRPC says it: a code, a sentence, and details for programs.
pub fn failure(request_id: &str, error: &Error) -> Status {
    let mut details = ErrorDetails::new();
    details
        .set_error_info(error.code(), "brevet", [])
        .set_request_info(request_id, "");
    if let Some(field) = error.field() {
        details.add_bad_request_violation(snake_case(&field.field), field.rule.clone());
    }
    if let Some(encoded_message) = error.encoded_message() {
        let metadata = [(
            "encoded_authorization_message".to_owned(),
            encoded_message.to_owned(),
        )];
        details.set_error_info(error.code(), "brevet", metadata);
    }
    if matches!(
        error,
        Error::ServiceUnavailable(_) | Error::Throttling | Error::IdpCommunicationError
    ) {
        details.set_retry_info(Some(Duration::from_secs(1)));
    }
    Status::with_error_details(status(error), error.to_string(), details)
}

/// The one place where refusals become gRPC codes.
fn status(error: &Error) -> Code {
    match error {
        Error::AccessDenied { .. }
        | Error::NotAuthorized { .. }
        | Error::IdpRejectedClaim(_)
        | Error::LongTermCredentialsOnly(_)
        | Error::PresignedAction(_)
        | Error::Mfa(_)
        | Error::SessionDurationEscalation
        | Error::InvalidAuthenticationCode => Code::PermissionDenied,
        Error::Validation(_)
        | Error::Duration(_)
        | Error::Malformed(_)
        | Error::MalformedPolicyDocument(_)
        | Error::PackedPolicyTooLarge(_)
        | Error::InvalidAuthorizationMessage
        | Error::InvalidIdentityToken(_)
        | Error::ExpiredWebIdentityToken(_)
        | Error::JwtPayloadSizeExceeded(..) => Code::InvalidArgument,
        Error::TooLarge(_)
        | Error::HeadersTooLarge(..)
        | Error::Throttling
        | Error::LimitExceeded(_) => Code::ResourceExhausted,
        Error::OutboundWebIdentityFederationDisabled(_)
        | Error::DeleteConflict(_)
        | Error::UnmodifiableEntity(_)
        | Error::EntityTemporarilyUnmodifiable(_) => Code::FailedPrecondition,
        Error::EntityAlreadyExists(_) => Code::AlreadyExists,
        Error::ConcurrentModification(_) => Code::Aborted,
        Error::RequestTimeout(_) => Code::DeadlineExceeded,
        Error::InvalidAction { .. } | Error::NotAvailable(_) | Error::UnknownOperation(_) => {
            Code::Unimplemented
        }
        Error::MissingAuthenticationToken
        | Error::IncompleteSignature(_)
        | Error::SignatureDoesNotMatch(_)
        | Error::RequestExpired(_)
        | Error::InvalidClientTokenId
        | Error::Ended
        | Error::ExpiredToken => Code::Unauthenticated,
        Error::ServiceUnavailable(_) | Error::IdpCommunicationError => Code::Unavailable,
        Error::NotFound(_) => Code::NotFound,
        Error::InternalFailure => Code::Internal,
    }
}

/// `RoleSessionName` as the proto names it: `role_session_name`.
fn snake_case(field: &str) -> String {
    let mut out = String::with_capacity(field.len() + 4);
    for c in field.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
