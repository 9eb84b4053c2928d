//! The floors: servers that do what every server of their protocol must do, and optionally sign once with
//! Ed25519. They run in processes of their own, and their answers have the form and the length of a broker's.

use std::convert::Infallible;
use std::future::Ready;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};

use brevet::api::sts::v1 as pb;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prost::Message;
use ring::signature::Ed25519KeyPair;
use tonic::body::Body;
use tonic::{Status, codegen::http};

use crate::envoy::{self, CheckRequest, CheckResponse};
use crate::load::on_cores;

/// What a floor does.
#[derive(Debug, Default, Clone, Copy, clap::Args)]
pub struct Floor {
    /// Serves HTTP/1.1 with hyper, and not gRPC with tonic.
    #[arg(long)]
    pub http1: bool,
    /// Signs once for each answer.
    #[arg(long)]
    pub sign: bool,
    /// Uses tokio's multi-thread runtime with one worker, and not the one of a single thread.
    #[arg(long)]
    pub multi_thread: bool,
    /// The length of an answer's body in bytes.
    #[arg(long, default_value_t = 0)]
    pub answer_bytes: usize,
}

/// A running floor.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(floor: Floor, cores: &str) -> Self {
        let mut command = on_cores(cores, std::env::current_exe().unwrap());
        command.arg("floor");
        for (option, is_set) in [
            ("--http1", floor.http1),
            ("--sign", floor.sign),
            ("--multi-thread", floor.multi_thread),
        ] {
            if is_set {
                command.arg(option);
            }
        }
        command.args(["--answer-bytes", &floor.answer_bytes.to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            address: line.trim().parse().unwrap(),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves a floor until the process is ended, and prints its address first.
pub fn serve(floor: Floor) {
    let mut builder = if floor.multi_thread {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1);
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let key = floor.sign.then(|| Arc::new(key));
    builder.enable_all().build().unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        // A task, because the multi-thread runtime's workers do not run what `block_on` waits for.
        let serving = if floor.http1 {
            tokio::spawn(http1_server(listener, floor.answer_bytes, key))
        } else {
            tokio::spawn(grpc(listener, floor.answer_bytes, key))
        };
        serving.await.unwrap();
    });
}

/// About as many bytes as a token that is signed alone.
const SIGNED: [u8; 560] = [b't'; 560];

fn sign(key: &Ed25519KeyPair) -> u8 {
    key.sign(std::hint::black_box(&SIGNED)).as_ref()[0]
}

/// hyper's server, and nothing else.
async fn http1_server(
    listener: tokio::net::TcpListener,
    answer_bytes: usize,
    key: Option<Arc<Ed25519KeyPair>>,
) {
    let body = Bytes::from(vec![b'x'; answer_bytes]);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (body, key) = (body.clone(), key.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (body, key) = (body.clone(), key.clone());
            async move {
                request.into_body().collect().await?;
                let mut response = Response::new(Full::new(body));
                let headers = response.headers_mut();
                headers.insert("content-type", HeaderValue::from_static("text/xml"));
                if let Some(key) = key {
                    headers.insert("x-signed", HeaderValue::from(u16::from(sign(&key))));
                }
                Ok::<_, hyper::Error>(response)
            }
        });
        tokio::spawn(async move {
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// tonic's own server and codec, and nothing else.
async fn grpc(
    listener: tokio::net::TcpListener,
    answer_bytes: usize,
    key: Option<Arc<Ed25519KeyPair>>,
) {
    // The rest of a message frame has 5 bytes, and the token's length is written in two.
    let without_token = answer(pb::AssumeRoleRequest::default(), String::new()).encoded_len() + 5;
    let token_bytes = answer_bytes.saturating_sub(without_token + 2 + SESSION.len() + ROLE.len());
    let token_bytes = token_bytes.max(2);
    let service = Echo { token_bytes, key };
    let without_value = envoy::allowed(String::new()).encoded_len() + 5;
    // The lengths that contain that of the value are written in a byte more each.
    let value_bytes = answer_bytes.saturating_sub(without_value + 4);
    let check = CheckEcho { value_bytes };
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .add_service(service)
        .add_service(check)
        .serve_with_incoming(incoming)
        .await
        .unwrap();
}

/// What the requests of the load have, and the echo repeats.
pub const SESSION: &str = "bench";
pub const ROLE: &str = "arn:aws:iam::111122223333:role/Administrator";

fn answer(asked: pb::AssumeRoleRequest, token: String) -> pb::AssumeRoleResponse {
    let expiration = prost_types::Timestamp {
        seconds: 1_800_000_000,
        nanos: 0,
    };
    pb::AssumeRoleResponse {
        credentials: Some(pb::Credentials {
            access_key_id: "ASIARTX3GSDSUVGMOSXK".to_owned(),
            secret_access_key: "s".repeat(40),
            session_token: token,
            expiration: Some(expiration),
        }),
        assumed_role_user: Some(pb::AssumedRoleUser {
            assumed_role_id: asked.role_session_name,
            arn: asked.role_arn,
        }),
        packed_policy_size: 0,
        source_identity: String::new(),
    }
}

#[derive(Clone)]
struct Echo {
    token_bytes: usize,
    key: Option<Arc<Ed25519KeyPair>>,
}

impl tonic::server::NamedService for Echo {
    const NAME: &'static str = brevet::api::SERVICE;
}

impl tower_service::Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let echo = self.clone();
        if request.uri().path().ends_with("/GetCallerIdentity") {
            return Box::pin(async move {
                Ok(tonic::server::Grpc::new(tonic_prost::ProstCodec::default())
                    .unary(WhoAmI(echo), request)
                    .await)
            });
        }
        Box::pin(async move {
            Ok(tonic::server::Grpc::new(tonic_prost::ProstCodec::default())
                .unary(AssumeRole(echo), request)
                .await)
        })
    }
}

struct AssumeRole(Echo);

impl tower_service::Service<tonic::Request<pb::AssumeRoleRequest>> for AssumeRole {
    type Response = tonic::Response<pb::AssumeRoleResponse>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<pb::AssumeRoleRequest>) -> Self::Future {
        let mut token = "t".repeat(self.0.token_bytes);
        if let Some(key) = &self.0.key {
            token.replace_range(..2, &format!("{:02x}", sign(key)));
        }
        let answer = answer(request.into_inner(), token);
        std::future::ready(Ok(tonic::Response::new(answer)))
    }
}

struct WhoAmI(Echo);

impl tower_service::Service<tonic::Request<pb::GetCallerIdentityRequest>> for WhoAmI {
    type Response = tonic::Response<pb::GetCallerIdentityResponse>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::Request<pb::GetCallerIdentityRequest>) -> Self::Future {
        let mut answer = pb::GetCallerIdentityResponse {
            user_id: "AROAIDCLZYIKKTOFYB2XJ:bench".to_owned(),
            account: "111122223333".to_owned(),
            arn: "arn:aws:sts::111122223333:assumed-role/Administrator/bench".to_owned(),
        };
        if let Some(key) = &self.0.key {
            answer.user_id.push(char::from(sign(key) & 0x7f));
        }
        std::future::ready(Ok(tonic::Response::new(answer)))
    }
}

/// Answers Envoy's Check.
#[derive(Clone)]
struct CheckEcho {
    value_bytes: usize,
}

impl tonic::server::NamedService for CheckEcho {
    const NAME: &'static str = envoy::SERVICE;
}

impl tower_service::Service<Request<Body>> for CheckEcho {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<CheckResponse, CheckRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(echo, request).await)
        })
    }
}

impl tower_service::Service<tonic::Request<CheckRequest>> for CheckEcho {
    type Response = tonic::Response<CheckResponse>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::Request<CheckRequest>) -> Self::Future {
        let answer = envoy::allowed("v".repeat(self.value_bytes));
        std::future::ready(Ok(tonic::Response::new(answer)))
    }
}
