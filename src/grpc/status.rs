//! Translates a refusal ([`Error`]) into a gRPC [`Status`].

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::{Class, Error};

/// Makes the gRPC status of a refusal: a code, the message, and google.rpc details for programs.
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
    if error.is_temporary() {
        details.set_retry_info(Some(Duration::from_secs(1)));
    }
    Status::with_error_details(status(error), error.to_string(), details)
}

/// The gRPC code for each class of refusals. Every refusal over gRPC gets its code here.
fn status(error: &Error) -> Code {
    match error.class() {
        Class::Forbidden | Class::WrongCredentials | Class::RejectedToken => Code::PermissionDenied,
        Class::InvalidArgument | Class::InvalidToken => Code::InvalidArgument,
        Class::BodyTooLarge | Class::HeadersTooLarge | Class::Throttled | Class::LimitExceeded => {
            Code::ResourceExhausted
        }
        Class::SwitchedOff | Class::Conflict | Class::Unmodifiable | Class::Gone => {
            Code::FailedPrecondition
        }
        Class::AlreadyExists => Code::AlreadyExists,
        Class::ConcurrentModification => Code::Aborted,
        Class::Timeout => Code::DeadlineExceeded,
        Class::Unimplemented => Code::Unimplemented,
        Class::Unauthenticated | Class::UnfitProof => Code::Unauthenticated,
        Class::Unavailable | Class::ProviderUnavailable => Code::Unavailable,
        Class::NotFound => Code::NotFound,
        Class::Internal => Code::Internal,
    }
}

/// The protobuf name of an AWS parameter, such as `role_session_name` for `RoleSessionName`.
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
