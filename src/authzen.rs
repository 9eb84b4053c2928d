//! The OpenID AuthZEN Authorization API 1.0: a service asks over HTTP whether a principal may do something. It
//! runs the operation Authorize, with the same audit record. This module has no rules of its own.
//!
//! The service authenticates itself as all callers do: by a signature (AWS Signature Version 4 for `sts`), by a
//! bearer token of `/oauth2/token`, or by a client certificate. `docs/how-to/authorize-requests.md` explains how
//! subjects, actions and resources are translated into those of policies.

mod read;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use crate::authn::bearer::Bearer;
use crate::authn::{Evidence, Shown};
use crate::base::digest::sha256;
use crate::base::form;
use crate::base::http::{host, media_type};
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::relying::authorize::Authorize;
use crate::ops::{self, CALL_TIMEOUT};
use crate::origin::Origin;
use crate::proof::sigv4::{Incoming, Presented};
use crate::request_body;
use crate::routes::{ACCESS_EVALUATION, ACCESS_EVALUATIONS};
use read::Form;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The endpoints of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/access/v1/evaluation`: one question.
    Evaluation,
    /// `/access/v1/evaluations`: several questions in one request.
    Evaluations,
}

/// Serves one request of the API within the time limit of a call. Copies the request's `X-Request-ID` into the
/// response.
pub async fn serve<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    endpoint: Endpoint,
    request: Request<B>,
) -> Response<Full<Bytes>>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let late = request_body::without_texts(&origin);
    let answer = async {
        let body = request_body::read(broker, &origin, &head.headers, body, || false).await;
        answer(broker, origin, endpoint, &head, body).await
    };
    let mut response = match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Ok(response) => response,
        Err(_) => {
            let reply = request_body::too_late(broker, late, &head.headers).await;
            request_body::closing(write::refused(&reply.error, &reply.request_id))
        }
    };
    if let Some(id) = head.headers.get(X_REQUEST_ID) {
        response.headers_mut().insert(X_REQUEST_ID, id.clone());
    }
    response
}

async fn answer(
    broker: &Arc<Broker>,
    origin: Origin,
    endpoint: Endpoint,
    head: &http::request::Parts,
    body: Result<Bytes, Error>,
) -> Response<Full<Bytes>> {
    if head.method != Method::POST {
        return only(StatusCode::METHOD_NOT_ALLOWED, "POST");
    }
    let body = match body {
        Ok(body) => body,
        Err(error) => {
            let reply = ops::refuse_unread(broker, "Authorize", error, origin).await;
            return write::refused(&reply.error, &reply.request_id);
        }
    };
    let evidence = evidence(broker, &origin, head, &body);
    let is_json = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|v| media_type(v).eq_ignore_ascii_case(b"application/json"));
    let read = match is_json {
        true => read::request(endpoint, &body),
        false => Err(Error::Malformed(
            "The Content-Type must be application/json.".to_owned(),
        )),
    };
    let (form, input) = match read {
        Ok((form, input)) => (form, Ok(input)),
        Err(error) => (Form::Single, Err(error)),
    };
    let reply = ops::serve::<Authorize>(broker, evidence, input, origin).await;
    match reply.result {
        Ok(output) => write::decided(&output, form, &reply.request_id),
        Err(error) => write::refused(&error, &reply.request_id),
    }
}

/// Collects the evidence of who sent a request: a bearer token, a signature, or the certificate of the client.
fn evidence(
    broker: &Broker,
    origin: &Origin,
    head: &http::request::Parts,
    body: &Bytes,
) -> Result<Evidence, Error> {
    let now = broker.clock.now();
    if let Some(bearer) = Bearer::of_client(broker, &head.headers, now)? {
        return bearer.evidence(broker, head.uri.path(), body, now);
    }
    let query = form::pairs(head.uri.query().unwrap_or_default().as_bytes())?;
    let presented = Presented::read(&Incoming {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: &query,
        headers: &head.headers,
        host: host(&head.uri, &head.headers)?,
        payload_sha256: sha256(body),
    })?;
    // A signed call is the signer's, whatever certificate the connection has.
    let certificate = origin.certificate.clone().filter(|_| presented.is_none());
    Ok(match certificate {
        Some(certificate) => Evidence::Shown(Shown::Certificate(certificate)),
        None => Evidence::signed(presented),
    })
}

/// The metadata of the broker as a policy decision point. `None` if the configuration has no `issuer`, because the
/// metadata must contain the URL of the broker.
pub fn configuration(broker: &Broker, method: &Method) -> Option<Response<Full<Bytes>>> {
    let base = broker.issuer.as_ref()?;
    if method != Method::GET {
        return Some(only(StatusCode::METHOD_NOT_ALLOWED, "GET"));
    }
    let document = json!({
        "policy_decision_point": base,
        "access_evaluation_endpoint": format!("{base}{ACCESS_EVALUATION}"),
        "access_evaluations_endpoint": format!("{base}{ACCESS_EVALUATIONS}"),
    });
    let mut response = Response::new(Full::new(Bytes::from(document.to_string())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    Some(response)
}

fn only(status: StatusCode, method: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(method));
    response
}
