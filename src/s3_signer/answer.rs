//! The answers of the API: headers with a signature, or a refusal in the form of Iceberg's REST catalogs
//! (`IcebergErrorResponse` in `rest-catalog-open-api.yaml`).

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::Added;
use crate::error::{Class, Error};
use crate::s3::S3Refusal;

/// Why a request was not signed. The two variants have answers of different forms.
pub(super) enum Refused {
    /// The broker does not accept the caller or the question. The audit record is still to be written.
    Broker(Error),
    /// The request to the store is malformed, the caller may not make it, or the broker is not ready.
    Store(S3Refusal),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Broker(error)
    }
}

impl From<S3Refusal> for Refused {
    fn from(refusal: S3Refusal) -> Self {
        Self::Store(refusal)
    }
}

/// The HTTP status by which Iceberg's clients recognize an expired token.
const AUTHENTICATION_TIMEOUT: u16 = 419;

/// The answer with the headers that the client adds to its request. Clients must not cache it, since the broker decides
/// on every request anew.
pub(super) fn signed(uri: &str, added: &Added) -> Response<Full<Bytes>> {
    let one = |(name, value): &(&'static str, _)| {
        let value: &crate::base::secret::Secret<String> = value;
        ((*name).to_owned(), json!([value.expose()]))
    };
    let headers: serde_json::Map<String, Value> = added.iter().map(one).collect();
    let body = json!({"uri": uri, "headers": headers});
    response(StatusCode::OK, &body)
}

/// The answer to a caller whose request to the store is refused.
pub(super) fn refused(refusal: &S3Refusal) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
    let message = refusal.full_message();
    let mut response = failure(status, refusal.code.as_str(), &message, &refusal.request_id);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let second = HeaderValue::from_static("1");
        response.headers_mut().insert(RETRY_AFTER, second);
    }
    response
}

/// The answer to a caller or a question that the broker does not accept.
pub(super) fn failed(error: &Error, request_id: &str) -> Response<Full<Bytes>> {
    let (status, kind) = match (error, error.class()) {
        (Error::ExpiredToken, _) => (
            StatusCode::from_u16(AUTHENTICATION_TIMEOUT).unwrap_or(StatusCode::UNAUTHORIZED),
            "AuthenticationTimeoutException",
        ),
        (_, Class::Unauthenticated | Class::UnfitProof | Class::WrongCredentials) => {
            (StatusCode::UNAUTHORIZED, "NotAuthorizedException")
        }
        (_, Class::Forbidden) => (StatusCode::FORBIDDEN, "ForbiddenException"),
        (_, Class::Unavailable | Class::Throttled | Class::Timeout) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailableException",
        ),
        (_, Class::Internal) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
        _ => (StatusCode::BAD_REQUEST, "BadRequestException"),
    };
    failure(status, kind, &error.message(), request_id)
}

/// The answer to any method other than POST.
pub(super) fn only_post() -> Response<Full<Bytes>> {
    let status = StatusCode::METHOD_NOT_ALLOWED;
    let mut response = failure(status, "BadRequestException", "Use POST.", "");
    let post = HeaderValue::from_static("POST");
    response.headers_mut().insert(ALLOW, post);
    response
}

fn failure(status: StatusCode, kind: &str, message: &str, id: &str) -> Response<Full<Bytes>> {
    let error = json!({"message": message, "type": kind, "code": status.as_u16()});
    let mut response = response(status, &json!({"error": error}));
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

fn response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store"),
    );
    response
}
