//! The AWS Query face: turns forms into operations, and their results into XML or JSON. Holds no rule.
//!
//! The protocol is that of AWS's "Query API" pages and of botocore's `query` serializer. A request is parsed
//! once and strictly, for the check of the signature and for the operation, so the two cannot read it
//! differently.

mod answer;
mod call;
mod fault;
mod foreign;
mod form;
mod iam;
mod model;
mod respond;
mod sts;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;

use crate::authn::Evidence;
use crate::base::digest::sha256;
use crate::base::http::host;
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::{self, CALL_TIMEOUT, Service};
use crate::origin::Origin;
use crate::proof::sigv4::{Incoming, Presented};
use crate::request_body::{self, closing};
use call::Call;
use foreign::Foreign;
use form::Pairs;
use respond::Respond;

/// Serves one request of the Query protocol.
pub async fn serve<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    request: Request<B>,
) -> Response<Full<Bytes>>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let late = request_body::without_texts(&origin);
    match tokio::time::timeout(CALL_TIMEOUT, answer(broker, origin, &head, body)).await {
        Ok(response) => response,
        Err(_) => {
            let reply = request_body::too_late(broker, late, &head.headers).await;
            closing(Respond::to(&head.headers).failure(&reply.request_id, &reply.error))
        }
    }
}

async fn answer<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    head: &http::request::Parts,
    body: B,
) -> Response<Full<Bytes>>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let respond = Respond::to(&head.headers);
    if let Some(foreign) = Foreign::read(head) {
        let response = foreign.refuse(broker, origin).await;
        return if body.is_end_stream() {
            response
        } else {
            closing(response)
        };
    }
    let body = match request_body::read(broker, &origin, &head.headers, body).await {
        Ok(body) => body,
        Err(error) => return refuse(broker, origin, &head.headers, error).await,
    };
    let Pairs { url, parameters } = match Pairs::read(head, &body) {
        Ok(pairs) => pairs,
        Err(error) => {
            let reply = ops::refuse_unread(broker, "none", error, origin).await;
            return respond.failure(&reply.request_id, &reply.error);
        }
    };
    let evidence = evidence(head, &url, &body);
    // The parameters hold the same content; without this a waiting call would keep it twice.
    drop((body, url));
    let mut call = Call {
        broker,
        respond,
        form: parameters,
        evidence,
        origin,
    };
    let action = call.form.take("Action").unwrap_or_default();
    let version = call.form.take("Version").unwrap_or_default();
    match version.as_str() {
        sts::VERSION => sts::serve(call, &action).await,
        iam::VERSION => iam::serve(call, &action).await,
        _ => {
            let error = Error::InvalidAction {
                action: crate::audit::clip(&action),
                version: crate::audit::clip(&version),
            };
            call.refuse(Service::Sts, action, error).await
        }
    }
}

/// Refuses a request before its body is read, and closes its connection.
pub async fn refuse(
    broker: &Arc<Broker>,
    origin: Origin,
    headers: &HeaderMap,
    error: Error,
) -> Response<Full<Bytes>> {
    let reply = ops::refuse_unread(broker, "none", error, origin).await;
    closing(Respond::to(headers).failure(&reply.request_id, &reply.error))
}

/// Reads the signature of a request. It covers the URL's parameters and the body as they were sent.
fn evidence(
    head: &http::request::Parts,
    url: &[(String, String)],
    body: &Bytes,
) -> Result<Evidence, Error> {
    let presented = Presented::read(&Incoming {
        method: head.method.as_str(),
        // `Pairs::read` has refused every other path.
        path: "/",
        query: url,
        headers: &head.headers,
        host: host(&head.uri, &head.headers)?,
        payload_sha256: sha256(body),
    })?;
    Ok(Evidence::signed(presented))
}
