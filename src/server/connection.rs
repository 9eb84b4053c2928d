//! The service's connections: TLS, HTTP/1.1 and HTTP/2, each with every limit spelled out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

use super::proxies::{self, Client};
use super::wire::{Notes, Wire};
use super::{Shared, front, well_known};
use crate::config::Limits;
use crate::ops::Origin;
use crate::{grpc, query};

/// The longest header list of one request, in bytes: a session token and room to spare.
pub(super) const MAX_HEADER_BYTES: usize = 65_536;
const MAX_HEADERS: usize = 64;
/// How long the accept loop rests when the system has no file descriptors left.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);
/// From the polite request to go to the closing.
const GOODBYE: Duration = Duration::from_secs(5);

/// Takes connections until the daemon stops.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, slots: Arc<Semaphore>) {
    let mut stop = shared.stop.clone();
    let mut warned: Option<Instant> = None;
    let mut warn = |text: &'static str| {
        if warned.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
            warned = Some(Instant::now());
            tracing::warn!("{text}");
        }
    };
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    // Out of descriptors, or the peer has gone: either way trying at once is no use.
                    warn("a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => return,
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            shared.sts.metrics.connections_refused.inc();
            warn("the limit of connections is reached; more are closed at once");
            continue;
        };
        tokio::spawn(serve(stream, peer, shared.clone(), slot));
    }
}

async fn serve(mut stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, _slot: OwnedSemaphorePermit) {
    // Small answers leave at once; a socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    let connections = &shared.sts.metrics.connections;
    connections.inc();
    if let Some(client) = client(&mut stream, peer, &shared).await {
        match shared.tls.load_full() {
            None => run(stream, client, &shared).await,
            Some(config) => {
                let handshake = tokio::time::timeout(shared.limits.handshake, TlsAcceptor::from(config).accept(stream));
                match handshake.await {
                    Ok(Ok(stream)) => run(stream, Client { secure_transport: true, ..client }, &shared).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                    Err(_) => _ = shared.sts.metrics.connections_refused.inc(),
                }
            }
        }
    }
    connections.dec();
}

/// Who is at the other end; none if a trusted proxy was to say so and did not.
async fn client(stream: &mut TcpStream, peer: SocketAddr, shared: &Shared) -> Option<Client> {
    let client = Client::new(peer.ip(), false);
    if !shared.listener.proxy_protocol || !shared.listener.is_trusted(client.ip) {
        return Some(client);
    }
    match tokio::time::timeout(shared.limits.handshake, proxies::read_proxy_header(stream, client)).await {
        Ok(Ok(client)) => return Some(client),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection without a good PROXY header was closed"),
        Err(_) => {}
    }
    shared.sts.metrics.connections_refused.inc();
    None
}

/// Until the daemon is told to stop, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await; // an error says that the sender is gone
}

/// What the watchdog knows of a connection.
struct Activity {
    born: Instant,
    calls: AtomicUsize,
    /// Milliseconds after `born`.
    last: AtomicU64,
    /// How many calls there have been.
    served: AtomicU64,
}

impl Activity {
    fn touch(&self) {
        self.last.store(u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Why the connection should end now.
    fn verdict(&self, limits: &Limits) -> Option<&'static str> {
        if self.born.elapsed() > limits.connection_age {
            return Some("age");
        }
        let rest = self.born.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)));
        let limit = if self.served.load(Ordering::Relaxed) == 0 { limits.handshake } else { limits.idle };
        (self.calls.load(Ordering::Relaxed) == 0 && rest > limit).then_some("idle")
    }
}

async fn run<S>(stream: S, client: Client, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity {
        born: Instant::now(),
        calls: AtomicUsize::new(0),
        last: AtomicU64::new(0),
        served: AtomicU64::new(0),
    });
    let notes = Arc::new(Notes::default());
    let stream = Wire::new(stream, notes.clone());
    let service = {
        let (activity, shared) = (activity.clone(), shared.clone());
        service_fn(move |request: Request<Incoming>| {
            let (activity, shared, notes) = (activity.clone(), shared.clone(), notes.clone());
            async move {
                activity.calls.fetch_add(1, Ordering::Relaxed);
                activity.served.fetch_add(1, Ordering::Relaxed);
                let response = front::answer(&shared, client, &notes, request).await;
                activity.calls.fetch_sub(1, Ordering::Relaxed);
                activity.touch();
                Ok::<_, Infallible>(response)
            }
        })
    };
    let builder = builder(&shared.limits);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut stop = shared.stop.clone();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let reason = loop {
        tokio::select! {
            ended = (Turn { inner: connection.as_mut(), waited: false }) => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %client.ip, %error, "connection ended");
                }
                return;
            }
            () = stopped(&mut stop) => break "shutdown",
            _ = tick.tick() => if let Some(reason) = activity.verdict(&shared.limits) { break reason },
        }
    };
    if reason == "idle" && activity.served.load(Ordering::Relaxed) == 0 {
        // It never sent a request: nothing is lost by closing at once.
        shared.sts.metrics.connections_refused.inc();
        return;
    }
    connection.as_mut().graceful_shutdown();
    let goodbye = if reason == "idle" { GOODBYE } else { shared.limits.shutdown_grace.max(GOODBYE) };
    // Whoever has not finished by then is cut off.
    let _ = tokio::time::timeout(goodbye, connection).await;
}

/// Lets the calls that became ready together finish before the connection writes, so that their
/// answers leave in one system call: whenever the connection is woken, the others go first.
struct Turn<'a, C> {
    inner: Pin<&'a mut C>,
    waited: bool,
}

impl<C: Future> Future for Turn<'_, C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        self.waited = !self.waited;
        if self.waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.inner.as_mut().poll(cx)
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(1_048_576)
        .max_frame_size(16_384)
        .max_send_buf_size(65_536)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Hands a request to the protocol that it is of.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    origin: Origin,
    is_grpc: bool,
    request: Request<Incoming>,
) -> Response<Body> {
    if !is_grpc && let Some(known) = well_known::answer(&shared.sts, request.method(), request.uri().path()) {
        return known.map(Body::new);
    }
    if !is_grpc {
        return query::serve(&shared.sts, origin, request).await.map(Body::new);
    }
    let service = request.uri().path().split('/').nth(1).unwrap_or_default();
    match service {
        grpc::SERVICE | grpc::ADMINISTRATION => grpc::serve(&shared.sts, origin, request).await,
        Health::NAME => {
            infallible(tonic_health::pb::health_server::HealthServer::new(Health(shared.clone())).call(request).await)
        }
        "grpc.reflection.v1.ServerReflection" if shared.reflection => match reflection().build_v1() {
            Ok(mut service) => infallible(service.call(request).await),
            Err(_) => infallible(grpc::unimplemented()),
        },
        // What most tools still ask for.
        "grpc.reflection.v1alpha.ServerReflection" if shared.reflection => match reflection().build_v1alpha() {
            Ok(mut service) => infallible(service.call(request).await),
            Err(_) => infallible(grpc::unimplemented()),
        },
        _ => infallible(grpc::unimplemented()),
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(grpc::DESCRIPTORS)
}

fn infallible(result: Result<Response<Body>, Infallible>) -> Response<Body> {
    match result {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The standard health service; its answer is readiness's.
struct Health(Arc<Shared>);

impl NamedService for Health {
    const NAME: &'static str = "grpc.health.v1.Health";
}

#[tonic::async_trait]
impl tonic_health::pb::health_server::Health for Health {
    async fn check(
        &self,
        request: tonic::Request<tonic_health::pb::HealthCheckRequest>,
    ) -> Result<tonic::Response<tonic_health::pb::HealthCheckResponse>, tonic::Status> {
        if !["", grpc::SERVICE, grpc::ADMINISTRATION].contains(&request.get_ref().service.as_str()) {
            return Err(tonic::Status::not_found("no such service"));
        }
        let status = match self.0.is_ready() {
            Ok(()) => tonic_health::ServingStatus::Serving,
            Err(_) => tonic_health::ServingStatus::NotServing,
        };
        Ok(tonic::Response::new(tonic_health::pb::HealthCheckResponse { status: status as i32 }))
    }

    type WatchStream = std::pin::Pin<
        Box<dyn tokio_stream::Stream<Item = Result<tonic_health::pb::HealthCheckResponse, tonic::Status>> + Send>,
    >;

    async fn watch(
        &self,
        _: tonic::Request<tonic_health::pb::HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("ask with Check"))
    }
}
