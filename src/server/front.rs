//! What stands between a connection and the two protocols: requests that could be read in two ways
//! are refused, the client behind proxies is found, and pages of other origins are let in.

use std::sync::Arc;

use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, REFERER, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tonic::body::Body;

use super::proxies::{self, Client, Unreadable};
use super::wire::Notes;
use super::{Shared, connection, cors};
use crate::error::Error;
use crate::ops::Origin;
use crate::{audit, grpc, query};

/// Answers one request that came over a connection of `peer`.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    peer: Client,
    notes: &Notes,
    request: Request<Incoming>,
) -> Response<Body> {
    let page = cors::origin(&shared.listener.cors_origins, request.headers());
    if let Some(page) = &page
        && let Some(response) = cors::preflight(&request, page)
    {
        return response;
    }
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let mut response = admit(shared, peer, notes, request).await;
    let headers = response.headers_mut();
    if let Some(page) = &page {
        cors::allow(headers, page);
    }
    if headers.get(CONNECTION).is_some_and(|v| v == "close") {
        notes.linger();
    }
    if is_chunked {
        // Where the next request begins is not known to `wire`.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn admit(shared: &Arc<Shared>, peer: Client, notes: &Notes, request: Request<Incoming>) -> Response<Body> {
    let headers = request.headers();
    let is_grpc = is_grpc(headers);
    let seen = |name| headers.get(name).map(|v| audit::clip(&String::from_utf8_lossy(v.as_bytes())));
    let mut origin = Origin {
        source_ip: peer.ip,
        secure_transport: peer.secure_transport,
        user_agent: seen(USER_AGENT),
        referer: seen(REFERER),
    };
    let mut refused = None;
    match proxies::client(&shared.listener, peer, headers) {
        Ok(client) => (origin.source_ip, origin.secure_transport) = (client.ip, client.secure_transport),
        Err(Unreadable(name)) => refused = Some(format!("the proxy's '{name}' header cannot be read")),
    }
    if notes.is_ambiguous() || !is_plainly_framed(headers) {
        refused = Some("the length of the body must be given in one way".to_owned());
    }
    if let Some(text) = refused {
        let error = Error::Malformed(text);
        return match is_grpc {
            true => grpc::refuse(&shared.sts, origin, request.uri().path(), error).await,
            false => query::refuse(&shared.sts, origin, headers, error).await.map(Body::new),
        };
    }
    if is_grpc && *request.method() != Method::POST {
        let error = Error::Malformed("a gRPC call is a POST".to_owned());
        let mut response = grpc::refuse(&shared.sts, origin, request.uri().path(), error).await;
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    connection::answer(shared, origin, is_grpc, request).await
}

/// `application/grpc`, with or without the name of an encoding or parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|v| v.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Whether a body's encoding, if one is named, is `chunked` once. What an HTTP server makes of
/// anything else is not agreed on.
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    encodings.next().is_none_or(|v| v.as_bytes().eq_ignore_ascii_case(b"chunked")) && encodings.next().is_none()
}
