//! Cross-origin requests (Fetch Standard, "HTTP extensions for CORS"): the answers that a browser requires
//! before it lets a page of another origin call the broker and read its answers.
//!
//! Nothing here grants access: calls are signed with keys that the page must have, and no browser adds
//! signatures by itself.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;

/// The headers of an answer that pages may read. `Date` is among them because SDKs correct their clock by it.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "date, retry-after, x-amzn-requestid, x-amzn-errortype, x-brevet-change",
);
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
/// How long a browser may remember the answer to a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The value of `Origin`, if there is exactly one and the configuration allows it; `None` otherwise.
pub(super) fn origin(origins: &[HeaderValue], headers: &HeaderMap) -> Option<HeaderValue> {
    if origins.is_empty() {
        return None;
    }
    let mut sent = headers.get_all(ORIGIN).iter();
    match (sent.next(), sent.next()) {
        (Some(origin), None) => origins.iter().find(|o| *o == origin).cloned(),
        _ => None,
    }
}

/// The answer to a preflight request; `None` for other requests.
pub(super) fn preflight<B>(request: &Request<B>, origin: &HeaderValue) -> Option<Response<Body>> {
    let headers = request.headers();
    if *request.method() != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // All headers are allowed, since SDKs add their own; the signature decides which of them count.
    if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    allow(answer, origin);
    Some(response)
}

/// Adds the headers that let pages of an origin read an answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: &HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(VARY, HeaderValue::from_static("origin"));
}
