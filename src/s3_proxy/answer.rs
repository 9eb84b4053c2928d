//! The answers to a proxy: the headers with which it forwards the request to the store, or the refusal that it passes
//! to its client.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tonic::Code as Grpc;
use tonic::body::Body;

use super::forwarded::{Family, Forwarded};
use crate::api::envoy::check_response::HttpResponse;
use crate::api::envoy::header_value_option::HeaderAppendAction;
use crate::api::envoy::{
    CheckResponse, DeniedHttpResponse, HeaderValue as EnvoyValue, HeaderValueOption, HttpStatus,
    OkHttpResponse, Status,
};
use crate::base::secret::Secret;
use crate::ops::s3::decide::Decision;
use crate::s3::{Code, S3Refusal};

/// The path and query for the store, without the client's own signature, for a proxy that can send another URI.
const URI: HeaderName = HeaderName::from_static("x-brevet-uri");
/// The value of `Host` with which the proxy must call the store, since the signature covers it.
const HOST: HeaderName = HeaderName::from_static("x-brevet-host");
/// The body of a refusal in one line, for a proxy that drops bodies.
const REFUSAL: HeaderName = HeaderName::from_static("x-brevet-refusal");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
/// The value of `Retry-After` in temporary refusals, in seconds.
const RETRY_SECONDS: &str = "1";
/// Headers that could make a store believe that it was called by another host name.
const NOT_FOR_STORES: [&str; 4] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
];

/// The answer to Envoy. `is_head` says that the request is HEAD, whose answer has no body.
pub(super) fn to_envoy(decision: Decision, is_head: bool) -> CheckResponse {
    let (code, response) = match decision {
        Decision::Allow {
            set,
            remove_headers,
            remove_query,
            host,
            names_bucket: _,
        } => {
            let set = set
                .iter()
                .map(|(name, value)| (*name, value.expose().as_str()));
            let host = [(":authority", host.as_str())];
            let others = NOT_FOR_STORES.map(str::to_owned);
            let ok = OkHttpResponse {
                headers: set.chain(host).map(overwriting).collect(),
                headers_to_remove: remove_headers.into_iter().chain(others).collect(),
                response_headers_to_add: Vec::new(),
                query_parameters_to_remove: remove_query,
            };
            (Grpc::Ok, HttpResponse::OkResponse(ok))
        }
        Decision::Preflight(headers) => {
            let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
            (Grpc::PermissionDenied, denied(200, headers, String::new()))
        }
        Decision::Refuse(refusal) => {
            let body = match is_head {
                true => String::new(),
                false => refusal.xml(),
            };
            let id = ("x-amz-request-id", refusal.request_id.as_str());
            let own = [("content-type", "application/xml"), id];
            let retry = is_temporary(&refusal).then_some(("retry-after", RETRY_SECONDS));
            let headers = own.into_iter().chain(retry);
            (
                Grpc::PermissionDenied,
                denied(refusal.status(), headers, body),
            )
        }
    };
    CheckResponse {
        status: Some(Status { code: code as i32 }),
        http_response: Some(response),
    }
}

fn denied<'a>(
    status: u16,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: String,
) -> HttpResponse {
    HttpResponse::DeniedResponse(DeniedHttpResponse {
        status: Some(HttpStatus {
            code: status.into(),
        }),
        headers: headers
            .filter(|(_, value)| !value.is_empty())
            .map(overwriting)
            .collect(),
        body,
    })
}

fn overwriting((name, value): (&str, &str)) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(EnvoyValue {
            key: name.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
    }
}

/// The answer to nginx, Traefik or Caddy. `asked` is `None` if the question could not be read.
pub(super) fn to_proxy(decision: Decision, asked: Option<&Forwarded>) -> Response<Body> {
    let family = asked.map_or(Family::Forwarded, |asked| asked.family);
    match (decision, asked) {
        (
            Decision::Allow {
                set,
                remove_query,
                host,
                names_bucket,
                ..
            },
            Some(asked),
        ) => {
            if family == Family::Forwarded && !remove_query.is_empty() {
                return refused(&presigned(), family);
            }
            if names_bucket && !asked.takes_host {
                return refused(&bucket_in_host(), family);
            }
            allowed(&set, &without(&asked.uri, &remove_query), &host, family)
        }
        (Decision::Preflight(_), _) => {
            let message = "This proxy would send the preflight request on to the store, so it must answer such requests by its own configuration.";
            refused(&S3Refusal::new(Code::AccessDenied, message), family)
        }
        (Decision::Refuse(refusal), _) => refused(&refusal, family),
        (Decision::Allow { .. }, None) => refused(
            &S3Refusal::new(
                Code::InternalError,
                "The proxy's description of its client's request could not be read.",
            ),
            family,
        ),
    }
}

fn presigned() -> S3Refusal {
    S3Refusal::new(
        Code::InvalidRequest,
        "A presigned URL carries its signature in the query, which this proxy cannot remove before the store reads it: use Envoy or nginx, or sign with headers.",
    )
}

fn bucket_in_host() -> S3Refusal {
    S3Refusal::new(
        Code::InvalidRequest,
        "The host names the bucket, and this proxy cannot call the store by another host: use Envoy, nginx or Caddy, or name the bucket in the path (path style).",
    )
}

fn allowed(
    set: &[(&'static str, Secret<String>)],
    uri: &str,
    host: &str,
    family: Family,
) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    for (name, value) in set {
        let Ok(mut value) = HeaderValue::from_str(value.expose()) else {
            return refused(&unsendable(), family);
        };
        // So that no log of HTTP libraries shows it.
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    let (Ok(uri), Ok(host)) = (HeaderValue::from_str(uri), HeaderValue::from_str(host)) else {
        return refused(&unsendable(), family);
    };
    headers.insert(URI, uri);
    headers.insert(HOST, host);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn unsendable() -> S3Refusal {
    S3Refusal::new(
        Code::InvalidUri,
        "The path, the host or a header for the store has characters that a header cannot contain.",
    )
}

/// The answer that replaces a store's own refusal, if a store refuses a request that the broker has allowed. The
/// refusal of the store would show the store's access key. This answer is for proxies that cannot write one themselves.
pub(super) fn store_refused() -> Response<Body> {
    let refusal = S3Refusal::new(
        Code::ServiceUnavailable,
        "The store refused a request that the broker had allowed, for example because the store rejects the access \
         key or the clock of the broker, or because the object is locked.",
    );
    refused(&refusal, Family::Forwarded)
}

/// The answer to a request that was refused. For nginx the status is always 403, because nginx passes on no other
/// status, and drops the body.
fn refused(refusal: &S3Refusal, family: Family) -> Response<Body> {
    let xml = refusal.xml();
    let line = HeaderValue::from_str(&xml.replace(['\n', '\t'], " "));
    let mut response = Response::new(Body::new(Full::new(Bytes::from(xml))));
    let status = match family {
        Family::Original => StatusCode::FORBIDDEN,
        Family::Forwarded => {
            StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN)
        }
    };
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(&refusal.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    if is_temporary(refusal) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
    }
    if let (Family::Original, Ok(line)) = (family, line) {
        headers.insert(REFUSAL, line);
    }
    response
}

fn is_temporary(refusal: &S3Refusal) -> bool {
    matches!(refusal.code, Code::ServiceUnavailable | Code::SlowDown)
}

/// Removes the query parameters with these names, and leaves the rest of the path and query as it was.
fn without(uri: &str, names: &[String]) -> String {
    let Some((path, query)) = uri.split_once('?').filter(|_| !names.is_empty()) else {
        return uri.to_owned();
    };
    let is_kept = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        !names.iter().any(|removed| removed == name)
    };
    let kept: Vec<&str> = query.split('&').filter(is_kept).collect();
    match kept.is_empty() {
        true => path.to_owned(),
        false => [path, "?", &kept.join("&")].concat(),
    }
}
