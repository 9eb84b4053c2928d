//! One call, from tonic to its operation.
//!
//! The services are written by hand on tonic's server: a signature covers the bytes of the message, so
//! the handler needs those bytes, not a decoded message.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http::HeaderMap;
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use super::messages::Rpc;
use super::status::failure;
use crate::authn::{Evidence, Proof, Shown};
use crate::base::digest::sha256;
use crate::base::http::CHANGE;
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::{self, Operation, Reply, Service};
use crate::origin::Origin;
use crate::proof::sigv4::{Incoming, Presented};
use crate::routes::Grpc;

/// The answer of a handler: the encoded response, or a status.
pub(super) type Answer = Result<Response<Bytes>, Status>;

/// A call whose message has not been received yet.
pub(super) struct Handler {
    pub(super) broker: Arc<Broker>,
    pub(super) origin: Origin,
    pub(super) service: Grpc,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) host: Result<String, Error>,
    /// Set once the message was received; from then on every answer is the handler's.
    pub(super) reached: Arc<OnceLock<()>>,
}

impl tower_service::Service<Request<Bytes>> for Handler {
    type Response = Response<Bytes>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let service = self.service;
        let (call, name) = self.begin(request);
        Box::pin(async move {
            match service {
                Grpc::SessionAdministration => super::administer(call, &name).await,
                Grpc::Relying => super::rely(call, &name).await,
                _ => super::dispatch(call, &name).await,
            }
        })
    }
}

impl Handler {
    /// The call with its message, and the name of its method.
    pub(super) fn begin(&mut self, request: Request<Bytes>) -> (Call, String) {
        let _ = self.reached.set(()); // a handler is called once
        let evidence = self.evidence(&request);
        let name = std::mem::take(&mut self.name);
        let call = Call {
            broker: self.broker.clone(),
            origin: self.origin.clone(),
            evidence,
            message: request.into_inner(),
        };
        (call, name)
    }

    /// Reads the signature from the metadata, or takes the client's certificate in its place. It covers the HTTP/2
    /// request and the bytes of the message.
    fn evidence(&self, request: &Request<Bytes>) -> Result<Evidence, Error> {
        let headers: &HeaderMap = request.metadata().as_ref();
        let host = self.host.clone()?;
        let presented = Presented::read(&Incoming {
            method: "POST",
            path: &self.path,
            query: &[],
            headers,
            host: &host,
            payload_sha256: sha256(request.get_ref()),
        })?;
        // A signed call is the signer's, whatever certificate the connection has.
        let certificate = self
            .origin
            .certificate
            .clone()
            .filter(|_| presented.is_none());
        Ok(match certificate {
            Some(certificate) => Evidence::Shown(Shown::Certificate(certificate)),
            None => Evidence::signed(presented),
        })
    }
}

pub(super) struct Call {
    broker: Arc<Broker>,
    origin: Origin,
    evidence: Result<Evidence, Error>,
    message: Bytes,
}

impl Call {
    /// Decodes the message and runs its operation.
    pub(super) async fn run<A: Rpc>(mut self) -> Answer {
        if A::PROOF != Proof::Signature {
            // The proof is in the message, so a signature is ignored.
            self.evidence = Ok(Evidence::Anonymous);
        }
        let input = decoded(self.message).and_then(|message| A::read(message, &mut self.evidence));
        let reply = ops::serve(&self.broker, self.evidence, input, self.origin).await;
        let change = reply.change.map(MetadataValue::from);
        match reply.result {
            Ok(output) => {
                let message = A::Response::from(output);
                let mut response = Response::new(Bytes::from(message.encode_to_vec()));
                if let Ok(id) = reply.request_id.parse() {
                    response.metadata_mut().insert("x-amzn-requestid", id);
                }
                if let Some(change) = change {
                    response.metadata_mut().insert(CHANGE, change);
                }
                Ok(response)
            }
            Err(error) => {
                let mut status = failure(&reply.request_id, &error);
                if let Some(change) = change {
                    status.metadata_mut().insert(CHANGE, change);
                }
                Err(status)
            }
        }
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
    pub(super) async fn refuse(self, name: &str) -> Answer {
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
        Err(failure(&reply.request_id, &reply.error))
    }
}

fn decoded<M: Message + Default>(message: Bytes) -> Result<M, Error> {
    M::decode(message).map_err(|e| Error::Malformed(format!("The message cannot be decoded: {e}.")))
}

/// A codec that leaves messages as bytes.
pub(super) struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
