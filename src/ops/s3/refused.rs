//! Why the broker refused a request to an object store, and the error that its caller gets.

use crate::error::{Class, Error};
use crate::proof::sigv4::S3SigError;
use crate::s3::{Code, S3Refusal};
use crate::trust::Denied;

/// The reason for refusing a request to an object store, with the details for the audit record.
pub(in crate::parts::ops) enum Refused {
    /// The head of the request breaks a rule of S3, or its signature does.
    Head(S3Refusal),
    /// The caller could not be authenticated, or the broker cannot decide at the moment.
    Broker(Error),
    /// The policies do not allow the caller to make the request.
    Denied(Box<Unpermitted>),
}

/// A permission that the request needs and the caller does not have.
pub(in crate::parts::ops) struct Unpermitted {
    pub denied: Box<Denied>,
    /// The ARN of the bucket or object that the permission is for.
    pub resource: String,
    /// The error message for the caller.
    pub message: String,
}

impl From<S3Refusal> for Refused {
    fn from(refusal: S3Refusal) -> Self {
        Self::Head(refusal)
    }
}

impl From<S3SigError> for Refused {
    fn from(error: S3SigError) -> Self {
        Self::Head(error.into())
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Broker(error)
    }
}

/// Converts an error of the broker to an error code and message of Amazon S3.
pub(in crate::parts::ops) fn translated(error: &Error) -> S3Refusal {
    let (code, message) = match error {
        Error::ExpiredToken => (Code::ExpiredToken, "The provided token has expired.".into()),
        Error::InvalidClientTokenId | Error::Ended => (
            Code::InvalidToken,
            "The provided token is malformed or otherwise invalid.".into(),
        ),
        Error::SignatureDoesNotMatch(message) => (Code::SignatureDoesNotMatch, message.clone()),
        Error::Throttling => (Code::SlowDown, "Please reduce your request rate.".into()),
        error => match error.class() {
            Class::Unavailable => (Code::ServiceUnavailable, error.to_string()),
            Class::Unauthenticated | Class::Forbidden => {
                (Code::AccessDenied, "Access Denied".into())
            }
            _ => (
                Code::InternalError,
                "We encountered an internal error. Please try again.".into(),
            ),
        },
    };
    S3Refusal::new(code, message)
}
