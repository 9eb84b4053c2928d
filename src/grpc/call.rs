//! One gRPC call, from its message to its operation and its answer.
//!
//! A signature covers the bytes of the message, so the bytes are kept until the signature was read from the headers.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response};
use prost::Message;
use tonic::body::Body;

use super::framing;
use super::messages::Rpc;
use super::status::failure;
use crate::authn::{Evidence, Proof, Shown};
use crate::base::digest::sha256;
use crate::base::http::{CHANGE, host};
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::{self, Operation, Reply, Service};
use crate::origin::Origin;
use crate::proof::sigv4::{Incoming, Presented};

/// A call whose message was received but not decoded.
pub(super) struct Call {
    broker: Arc<Broker>,
    origin: Origin,
    evidence: Result<Evidence, Error>,
    message: Bytes,
}

impl Call {
    /// Makes a call from the headers and the message of a request, and from the connection's facts in `origin`.
    pub(super) fn new(broker: &Arc<Broker>, origin: Origin, parts: &Parts, message: Bytes) -> Self {
        Self {
            broker: broker.clone(),
            evidence: evidence(&origin, parts, &message),
            origin,
            message,
        }
    }

    /// Decodes the message and runs its operation.
    pub(super) async fn run<A: Rpc>(mut self) -> Response<Body> {
        if A::PROOF != Proof::Signature {
            // The proof is in the message, so a signature is ignored.
            self.evidence = Ok(Evidence::Anonymous);
        }
        let input = decoded(self.message).and_then(|message| A::read(message, &mut self.evidence));
        let reply = ops::serve(&self.broker, self.evidence, input, self.origin).await;
        let mut response = match reply.result {
            Ok(output) => framing::answer(&A::Response::from(output), reply.request_id),
            Err(error) => failure(&reply.request_id, &error).into_http(),
        };
        if let Some(change) = reply.change {
            let headers = response.headers_mut();
            headers.insert(CHANGE, HeaderValue::from(change));
        }
        response
    }

    pub(super) fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Decodes the message and runs an operation whose answer is a stream. `read` checks the message.
    pub(super) async fn serve<M: Message + Default, O: Operation>(
        self,
        read: impl FnOnce(M) -> Result<O, Error>,
    ) -> Reply<O::Output> {
        let input = decoded(self.message).and_then(read);
        ops::serve(&self.broker, self.evidence, input, self.origin).await
    }

    /// Refuses a method that the service does not have.
    pub(super) async fn refuse(self, name: &str) -> Response<Body> {
        let error = ops::registry::unanswered(name, "v1");
        let reply = ops::refuse(
            &self.broker,
            Service::Sts,
            name.to_owned(),
            self.evidence,
            error,
            self.origin,
        )
        .await;
        failure(&reply.request_id, &reply.error).into_http()
    }
}

/// Reads the signature from the headers, or takes the client's certificate in its place. The signature covers the
/// HTTP/2 request and the bytes of the message.
fn evidence(origin: &Origin, parts: &Parts, message: &Bytes) -> Result<Evidence, Error> {
    let host = host(&parts.uri, &parts.headers)?;
    let presented = Presented::read(&Incoming {
        method: "POST",
        path: parts.uri.path(),
        query: &[],
        headers: &parts.headers,
        host,
        payload_sha256: sha256(message),
    })?;
    // A signed call is the signer's, whatever certificate the connection has.
    let certificate = origin.certificate.clone();
    let certificate = certificate.filter(|_| presented.is_none());
    Ok(match certificate {
        Some(certificate) => Evidence::Shown(Shown::Certificate(certificate)),
        None => Evidence::signed(presented),
    })
}

fn decoded<M: Message + Default>(message: Bytes) -> Result<M, Error> {
    M::decode(message).map_err(|e| Error::Malformed(format!("The message cannot be decoded: {e}.")))
}
