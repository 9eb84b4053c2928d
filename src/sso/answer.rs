//! The answers of AWS's APIs `sso-oidc` and `sso`: JSON, with the name of an error in a header.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::error::{Class, Error, GrantErrorKind};

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The answer to a successful request, with `body` as JSON.
pub(super) fn ok(request_id: &str, body: &Value) -> Response<Full<Bytes>> {
    answer(StatusCode::OK, request_id, body)
}

/// The answer of `sso-oidc` to a request that failed.
pub(super) fn oidc_error(error: &Error, request_id: &str) -> Response<Full<Bytes>> {
    let kind = match (error, error.class()) {
        (Error::Grant(error), _) => Some(error.kind),
        // Its clients know no other error for too many requests.
        (_, Class::Throttled) => Some(GrantErrorKind::SlowDown),
        (Error::NotSignedIn, _) => Some(GrantErrorKind::InvalidGrant),
        (_, Class::InvalidArgument | Class::BodyTooLarge | Class::Timeout) => {
            Some(GrantErrorKind::InvalidRequest)
        }
        _ => None,
    };
    let (status, name, code) = match kind {
        Some(kind @ GrantErrorKind::InvalidClient) => {
            (StatusCode::UNAUTHORIZED, kind.aws(), kind.oauth())
        }
        Some(kind) => (StatusCode::BAD_REQUEST, kind.aws(), kind.oauth()),
        None => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerException",
            "server_error",
        ),
    };
    let body = json!({"error": code, "error_description": error.to_string()});
    named(answer(status, request_id, &body), name)
}

/// The answer of `sso`, the portal, to a request that failed. The status 401 makes clients sign in again, so it is used
/// only if a new sign-in helps.
pub(super) fn portal_error(error: &Error, request_id: &str) -> Response<Full<Bytes>> {
    let (status, name) = match error.class() {
        _ if matches!(
            error,
            Error::NotSignedIn | Error::Ended | Error::ExpiredToken
        ) =>
        {
            (StatusCode::UNAUTHORIZED, "UnauthorizedException")
        }
        _ if matches!(error, Error::ExpiredWebIdentityToken(_)) => {
            (StatusCode::UNAUTHORIZED, "UnauthorizedException")
        }
        Class::Throttled => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException"),
        Class::NotFound => (StatusCode::NOT_FOUND, "ResourceNotFoundException"),
        Class::Forbidden
        | Class::InvalidToken
        | Class::RejectedToken
        | Class::WrongCredentials
        | Class::Unauthenticated => (StatusCode::FORBIDDEN, "ForbiddenException"),
        Class::InvalidArgument | Class::BodyTooLarge | Class::Timeout => {
            (StatusCode::BAD_REQUEST, "InvalidRequestException")
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException"),
    };
    let body = json!({"message": error.to_string()});
    let mut response = named(answer(status, request_id, &body), name);
    if status == StatusCode::TOO_MANY_REQUESTS {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The answer to a request for a role that the person may not assume.
pub(super) fn no_access(role: &str, account: &str, request_id: &str) -> Response<Full<Bytes>> {
    let text = format!("No access to the role {role} in the account {account}");
    let body = json!({"message": text});
    named(
        answer(StatusCode::FORBIDDEN, request_id, &body),
        "ForbiddenException",
    )
}

fn named(mut response: Response<Full<Bytes>>, name: &'static str) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert(ERROR_TYPE, HeaderValue::from_static(name));
    response
}

fn answer(status: StatusCode, request_id: &str, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}
