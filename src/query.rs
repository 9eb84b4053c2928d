//! The AWS Query protocol: converts forms to calls of operations, and their results to XML or JSON.
//! The operations make all decisions.
//!
//! The protocol is that of AWS's "Query API" pages and of botocore's `query` serializer. A request
//! is parsed strictly and only once, both for the check of the signature and for the operation, so
//! that the two cannot read it differently.

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

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;

use crate::authn::{self, Evidence};
use crate::base::digest::sha256;
use crate::base::form::{MAX_PARAMETERS, Parameters, count_parameters};
use crate::base::http::host;
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::{self, CALL_TIMEOUT, Service};
use crate::origin::Origin;
use crate::proof::sigv4::{Incoming, Presented};
use crate::request_body::{self, MAX_BODY_BYTES, closing};
use call::Call;
use foreign::Foreign;
use form::Pairs;
use respond::Respond;

/// The maximum number of parameters in a long request. Simulations of many actions on many
/// resources need more parameters than other calls.
const MAX_LONG_PARAMETERS: usize = 4_096;
/// The memory in bytes that [`MAX_LONG_PARAMETERS`] parameters use besides their names and values.
const PARAMETER_BYTES: usize = 256 * MAX_LONG_PARAMETERS;

/// The parameters of a request, and the evidence that authenticates its caller.
type Form = (Parameters, Result<Evidence, Error>);

/// Serves one request of the Query protocol. A request for an AWS service that Brevet does not have
/// is refused in that service's protocol.
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
    // Pinned here, so that it is not moved into the timeout.
    let answered = pin!(answer(broker, origin, &head, body));
    match tokio::time::timeout(CALL_TIMEOUT, answered).await {
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
        // Boxed, as is all that few requests need.
        let response = Box::pin(foreign.refuse(broker, origin)).await;
        return if body.is_end_stream() {
            response
        } else {
            closing(response)
        };
    }
    let may_be_long = || authn::announces_active_key(broker, Service::Iam.scope(), &head.headers);
    let body = match request_body::read(broker, &origin, &head.headers, body, &may_be_long).await {
        Ok(body) => body,
        Err(error) => return Box::pin(refuse(broker, origin, &head.headers, error)).await,
    };
    let is_long =
        body.len() > MAX_BODY_BYTES || (count_parameters(&body) > MAX_PARAMETERS && may_be_long());
    let read = if !is_long {
        read(head, body, MAX_PARAMETERS)
    } else if let Some(Err(shed)) = origin.call.as_ref().map(|c| c.charge_long(PARAMETER_BYTES)) {
        Err(ops::shed(broker, shed))
    } else {
        let head = head.clone();
        Box::pin(off_the_workers(&origin, move || {
            read(&head, body, MAX_LONG_PARAMETERS)
        }))
        .await
        .and_then(std::convert::identity)
    };
    let (form, evidence) = match read {
        Ok(read) => read,
        Err(error) => {
            let reply = Box::pin(ops::refuse_unread(broker, "none", error, origin)).await;
            return respond.failure(&reply.request_id, &reply.error);
        }
    };
    let mut call = Call {
        broker,
        respond,
        form,
        evidence,
        origin,
        is_long,
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
            Box::pin(call.refuse(Service::Sts, action, error)).await
        }
    }
}

/// Reads the parameters and the signature of a request.
fn read(head: &http::request::Parts, body: Bytes, most: usize) -> Result<Form, Error> {
    let Pairs { url, parameters } = Pairs::read(head, &body, most)?;
    let evidence = evidence(head, &url, &body);
    // The body ends here: the parameters hold the same content, and a waiting call would keep it twice.
    Ok((parameters, evidence))
}

/// Runs work that would delay other calls on a separate thread. The work keeps the call's share of
/// the limits until it has ended, even if the caller has disconnected.
///
/// # Errors
/// [`Error::InternalFailure`] if the work panicked, which is a bug.
async fn off_the_workers<T: Send + 'static>(
    origin: &Origin,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let held = origin.call.clone();
    let work = move || {
        let done = work();
        drop(held);
        done
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::InternalFailure)
}

/// Refuses a request whose body has not been read completely, and closes its connection.
pub async fn refuse(
    broker: &Arc<Broker>,
    origin: Origin,
    headers: &HeaderMap,
    error: Error,
) -> Response<Full<Bytes>> {
    let reply = ops::refuse_unread(broker, "none", error, origin).await;
    closing(Respond::to(headers).failure(&reply.request_id, &reply.error))
}

/// Reads the signature of a request, which covers the URL's parameters and the body as the client
/// sent them.
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
