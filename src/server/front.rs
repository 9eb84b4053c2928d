//! The first steps for each request, whatever its protocol: refuses ambiguous requests, finds the client behind
//! proxies, and answers cross-origin requests.

use std::sync::Arc;

use http::header::{
    ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE, REFERER, TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;

use super::body::Metered;
use super::proxies::{Client, Unreadable};
use super::wire::Notes;
use super::{Shared, cors, dispatch};
use crate::admission::Call;
use crate::error::Error;
use crate::origin::Origin;
use crate::proof::certificate::ClientCertificate;
use crate::routes::{self, Http};
use crate::{audit, grpc, query};

/// Answers one request. `peer` is the other end of the connection, `client` the client behind it.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    peer: Client,
    client: Result<Client, Unreadable>,
    notes: &Notes,
    call: Arc<Call>,
    certificate: Option<Arc<ClientCertificate>>,
    request: Request<Metered>,
) -> Response<Body> {
    // No page of another origin may read the pages for people.
    let page = match routes::http(request.uri().path()) {
        Http::Portal => None,
        _ => cors::origin(&shared.listener.cors_origins, request.headers()),
    };
    if let Some(page) = &page
        && let Some(response) = cors::preflight(&request, page)
    {
        return response;
    }
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let mut response = admit(shared, peer, client, notes, call, certificate, request).await;
    let headers = response.headers_mut();
    if let Some(page) = &page {
        cors::allow(headers, page);
    }
    if headers.get(CONNECTION).is_some_and(|v| v == "close") {
        notes.linger();
    }
    if is_chunked {
        // `wire` cannot know where the next request begins, so there must be none.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The parts of a request that are needed to refuse it and to record the refusal, without reading its body.
pub(super) struct Turned {
    path: String,
    headers: HeaderMap,
    is_grpc: bool,
}

impl Turned {
    pub(super) fn new<B>(request: &Request<B>) -> Self {
        let is_grpc = is_grpc(request.headers());
        let path = if is_grpc {
            audit::clip(request.uri().path())
        } else {
            String::new()
        };
        let mut headers = HeaderMap::new();
        for name in [ACCEPT, USER_AGENT] {
            if let Some(value) = request.headers().get(&name)
                && value.len() <= MAX_KEPT_HEADER
                && let Ok(copied) = HeaderValue::from_bytes(value.as_bytes())
            {
                headers.insert(name, copied);
            }
        }
        Self {
            path,
            headers,
            is_grpc,
        }
    }
}

/// The longest header, in bytes, that is copied from a request whose body is not read.
const MAX_KEPT_HEADER: usize = 512;

/// Refuses a request without reading its body.
pub(super) async fn turn_away(
    shared: &Arc<Shared>,
    client: Client,
    call: Arc<Call>,
    turned: Turned,
    error: Error,
) -> Response<Body> {
    let origin = origin(client, &turned.headers, call);
    match turned.is_grpc {
        true => grpc::refuse(&shared.broker, origin, &turned.path, error).await,
        false => query::refuse(&shared.broker, origin, &turned.headers, error)
            .await
            .map(Body::new),
    }
}

fn origin(client: Client, headers: &HeaderMap, call: Arc<Call>) -> Origin {
    let seen = |name| {
        headers
            .get(name)
            .map(|v| audit::clip(&String::from_utf8_lossy(v.as_bytes())))
    };
    Origin {
        source_ip: client.ip,
        secure_transport: client.secure_transport,
        user_agent: seen(USER_AGENT),
        referer: seen(REFERER),
        certificate: None,
        call: Some(call),
    }
}

async fn admit(
    shared: &Arc<Shared>,
    peer: Client,
    client: Result<Client, Unreadable>,
    notes: &Notes,
    call: Arc<Call>,
    certificate: Option<Arc<ClientCertificate>>,
    request: Request<Metered>,
) -> Response<Body> {
    let headers = request.headers();
    let is_grpc = is_grpc(headers);
    let origin = Origin {
        certificate,
        ..origin(client.unwrap_or(peer), headers, call)
    };
    let mut refused = None;
    if let Err(Unreadable(name)) = client {
        refused = Some(format!(
            "The header '{name}' that the proxy sent cannot be read: it must name the client by an IP address."
        ));
    }
    if notes.is_ambiguous() || !is_plainly_framed(headers) {
        refused = Some(
            "The request must give the length of its body at most once, by Content-Length or by \
            `Transfer-Encoding: chunked`."
                .to_owned(),
        );
    }
    if let Some(text) = refused {
        let error = Error::Malformed(text);
        return match is_grpc {
            true => grpc::refuse(&shared.broker, origin, request.uri().path(), error).await,
            false => query::refuse(&shared.broker, origin, headers, error)
                .await
                .map(Body::new),
        };
    }
    if is_grpc && *request.method() != Method::POST {
        let error = Error::Malformed("A gRPC call must be a POST.".to_owned());
        let mut response = grpc::refuse(&shared.broker, origin, request.uri().path(), error).await;
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    dispatch::answer(shared, origin, is_grpc, request).await
}

/// Whether the content type is `application/grpc`, with or without an encoding or parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Whether the request has no `Transfer-Encoding`, or exactly `chunked`. HTTP servers do not agree on the meaning of
/// any other value.
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    encodings
        .next()
        .is_none_or(|v| v.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && encodings.next().is_none()
}
