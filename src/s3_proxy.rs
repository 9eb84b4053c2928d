//! Answers proxies in front of object stores that ask whether a request may go on: Envoy by its external authorization
//! filter over gRPC, and nginx, Traefik and Caddy over HTTP. Such a request of a proxy is called a question. This
//! module converts a question to the head of the client's request, and a decision to an answer; [`decide`] makes the
//! decision. [`versitygw`] answers a gateway that checks signatures itself.
//!
//! An answer contains a signature that the store accepts, so it is sent to the operator's proxies only and never
//! logged.

mod answer;
mod envoy;
mod forwarded;
mod gate;
mod memory;
mod versitygw;

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use tonic::Status;
use tonic::body::Body;
use tonic_prost::ProstCodec;

use crate::api::envoy::{CheckRequest, CheckResponse};
use crate::audit;
use crate::broker::Broker;
use crate::ops::CALL_TIMEOUT;
use crate::ops::s3::decide::{Decision, decide};
use crate::origin::Origin;
use crate::routes::{self, Proxies};
use crate::s3::{Code, Head, S3Refusal, S3Store};
use envoy::Checked;
use forwarded::Forwarded;

pub use gate::Gate;
pub use memory::Memory;
pub use versitygw::Gateway;

/// The maximum length of a message from Envoy, in bytes. A message has the headers of a request and, for DeleteObjects,
/// the body.
const MAX_MESSAGE_BYTES: usize = (2 << 20) + (256 << 10);
/// The message for a sender that has shown neither a valid client certificate nor a shared secret.
const NOT_ADMITTED: &str = "Only the operator's own proxies may call this listener: present a client certificate of \
    the CA in [s3] client_ca, or send a secret of [s3] secret_files in X-Brevet-Proxy-Secret.";

/// The state of the broker for one question of a proxy, and the facts about the sender that the listener has found out.
pub struct Question {
    pub broker: Arc<Broker>,
    pub stores: Arc<[Arc<S3Store>]>,
    /// Whether the sender is one of the operator's proxies.
    pub is_admitted: bool,
    /// The facts that decide whether the sender may ask as a gateway that checks signatures itself.
    pub gateway: Gateway,
    /// `Err` with the reason if the broker is not ready to serve anybody now.
    pub readiness: Result<(), String>,
    /// Counts and limits the memory for the bodies that are still arriving.
    pub memory: Arc<Memory>,
}

/// Answers one question of a proxy. The path of the request says in which protocol the proxy asks.
pub async fn serve<B>(question: Question, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    match (routes::proxies(request.uri().path()), question.is_admitted) {
        (Proxies::Gateway(call), true) if question.gateway.regions.is_some() => {
            let Question {
                broker,
                gateway,
                memory,
                ..
            } = question;
            gateway
                .serve(&broker, memory, call, request)
                .await
                .map(Body::new)
        }
        (Proxies::EnvoyCheck, true) => check(question, request).await,
        (Proxies::EnvoyCheck, false) => Status::unauthenticated(NOT_ADMITTED).into_http(),
        (Proxies::Authorize, true) => authorize(question, &request).await,
        (Proxies::StoreRefused, true) => answer::store_refused(),
        (
            Proxies::Authorize | Proxies::StoreRefused | Proxies::Gateway(_) | Proxies::Unknown,
            false,
        ) => {
            let mut response = text(StatusCode::FORBIDDEN, NOT_ADMITTED);
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
            response
        }
        (Proxies::Gateway(_), true) => text(
            StatusCode::NOT_FOUND,
            "Gateways that check signatures themselves are not served here: set [s3] gateway_regions to the regions for which they sign.",
        ),
        (Proxies::Unknown, true) => text(
            StatusCode::NOT_FOUND,
            "This listener serves only /s3/authorize, /s3/store-refused and Envoy's gRPC service envoy.service.auth.v3.Authorization, and the calls of gateways if [s3] gateway_regions is set.",
        ),
    }
}

/// Answers a request of Envoy's external authorization filter (the gRPC method Check).
async fn check<B>(question: Question, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    // Kept until there is an answer.
    let held = question.memory.of_question();
    let request = request.map(|body| memory::Counted::new(body, held.clone()));
    let codec = ProstCodec::<CheckResponse, CheckRequest>::default();
    let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE_BYTES);
    match tokio::time::timeout(CALL_TIMEOUT, grpc.unary(Check(Arc::new(question)), request)).await {
        Ok(response) => response,
        Err(_) => {
            let limit = CALL_TIMEOUT.as_secs();
            let text =
                format!("The check request was not received and answered within {limit} seconds.");
            Status::deadline_exceeded(text).into_http()
        }
    }
}

/// Serves Envoy's gRPC method Check.
struct Check(Arc<Question>);

impl tower_service::Service<tonic::Request<CheckRequest>> for Check {
    type Response = tonic::Response<CheckResponse>;
    type Error = Status;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Status>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let question = self.0.clone();
        Box::pin(async move {
            let checked = envoy::read(request.into_inner());
            let decision = match &checked {
                Ok(checked) => question.decide(checked.head(), checked.origin()).await,
                Err(rule) => misconfigured(rule),
            };
            let is_head = checked.is_ok_and(|checked| checked.method == "HEAD");
            Ok(tonic::Response::new(answer::to_envoy(decision, is_head)))
        })
    }
}

/// Answers the question of nginx, Traefik or Caddy.
async fn authorize<B>(question: Question, request: &Request<B>) -> Response<Body> {
    let read = forwarded::read(request.headers());
    let decision = match &read {
        Ok(forwarded) => question.decide(forwarded.head(), forwarded.origin()).await,
        Err(rule) => misconfigured(rule),
    };
    answer::to_proxy(decision, read.as_ref().ok())
}

impl Question {
    /// Finds the store by the host name in the head of a request, and decides whether the request may go on to the
    /// store.
    async fn decide(&self, head: Head<'_>, origin: Origin) -> Decision {
        if let Err(why) = &self.readiness {
            tracing::debug!(
                why,
                "a request to an object store was refused, because the broker is not ready"
            );
            let refusal = S3Refusal::new(Code::ServiceUnavailable, "Please try again.");
            return Decision::Refuse(refusal);
        }
        match S3Store::behind(&self.stores, head.authority) {
            Some(store) => decide(&self.broker, store, head, origin).await,
            None => Decision::Refuse(S3Refusal::new(
                Code::InvalidRequest,
                "This broker has no object store for the host in the request: add the host to `hosts` in [[s3.stores]], and let the proxy pass on the client's Host.",
            )),
        }
    }
}

impl Checked {
    fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            path: &self.uri,
            authority: &self.host,
            headers: &self.headers,
            body: self.body.as_deref(),
            size: self.size,
        }
    }

    fn origin(&self) -> Origin {
        origin(&self.headers, self.client_ip, self.is_secure)
    }
}

impl Forwarded {
    fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            path: &self.uri,
            authority: &self.host,
            headers: &self.headers,
            body: None,
            size: self.size,
        }
    }

    fn origin(&self) -> Origin {
        origin(&self.headers, self.client_ip, self.is_secure)
    }
}

/// The client's address, user agent and TLS for the audit record and for policies, as the proxy reports them.
fn origin(
    headers: &[(String, String)],
    source_ip: std::net::IpAddr,
    secure_transport: bool,
) -> Origin {
    let text = |name: &str| {
        let found = headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| audit::clip(value))
    };
    Origin {
        source_ip,
        secure_transport,
        user_agent: text("user-agent"),
        referer: text("referer"),
        certificate: None,
        call: None,
    }
}

/// Refuses a request that the proxy's question does not describe as it must. Logs `rule`, the rule that the question
/// breaks, for the operator.
fn misconfigured(rule: &str) -> Decision {
    tracing::warn!(
        rule,
        "a proxy's request for a decision about an object store breaks a rule, so the request of its client was refused"
    );
    Decision::Refuse(S3Refusal::new(Code::InvalidRequest, rule))
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let body = http_body_util::Full::new(bytes::Bytes::from_static(text.as_bytes()));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
