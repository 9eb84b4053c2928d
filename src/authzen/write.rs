//! Translates decisions and refusals into answers of the API.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value, json};

use super::read::Form;
use crate::error::{Class, Error};
use crate::ops::relying::authorize::{Authorized, Decided};

/// Makes the answer to a request that was decided.
pub(super) fn decided(output: &Authorized, form: Form, request_id: &str) -> Response<Full<Bytes>> {
    let mut decisions = output.decisions.iter().map(|d| decision(d, output.change));
    let body = match form {
        // A call with one item has one decision.
        Form::Single => decisions
            .next()
            .unwrap_or_else(|| json!({"decision": false})),
        Form::List => json!({"evaluations": decisions.collect::<Vec<_>>()}),
    };
    answer(StatusCode::OK, request_id, &body)
}

fn decision(decided: &Decided, change: i64) -> Value {
    let mut context = Map::new();
    let mut set = |name: &str, value: Value| context.insert(name.to_owned(), value);
    set("code", decided.code.as_str().into());
    if !decided.reason.is_empty() {
        set("reason", decided.reason.as_str().into());
    }
    if !decided.encoded_message.is_empty() {
        set("encoded_message", decided.encoded_message.as_str().into());
    }
    if let Some(at) = decided.expires_at {
        set("expires_at", at.to_string().into());
    }
    set("change", change.into());
    set("cache_seconds", decided.cached.as_secs().into());
    json!({"decision": decided.is_allowed(), "context": context})
}

/// Makes the answer to a request that was refused: the message as a JSON string.
pub(super) fn refused(error: &Error, request_id: &str) -> Response<Full<Bytes>> {
    let status = status(error);
    let mut response = answer(status, request_id, &error.message().into());
    let headers = response.headers_mut();
    match status {
        StatusCode::UNAUTHORIZED => {
            for scheme in ["AWS4-HMAC-SHA256", "Bearer"] {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
            }
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    response
}

/// The HTTP status for each class of refusals: AuthZEN 1.0, "Error Responses".
fn status(error: &Error) -> StatusCode {
    match error.class() {
        Class::Unauthenticated | Class::UnfitProof => StatusCode::UNAUTHORIZED,
        Class::Forbidden
        | Class::WrongCredentials
        | Class::SwitchedOff
        | Class::InvalidToken
        | Class::RejectedToken => StatusCode::FORBIDDEN,
        Class::InvalidArgument
        | Class::Unimplemented
        | Class::NotFound
        | Class::Gone
        | Class::AlreadyExists
        | Class::Conflict
        | Class::LimitExceeded
        | Class::ConcurrentModification
        | Class::Unmodifiable => StatusCode::BAD_REQUEST,
        Class::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Class::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Class::Timeout => StatusCode::REQUEST_TIMEOUT,
        Class::Throttled => StatusCode::TOO_MANY_REQUESTS,
        Class::Unavailable | Class::ProviderUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Class::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn answer(status: StatusCode, request_id: &str, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
