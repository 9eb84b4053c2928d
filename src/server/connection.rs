//! The service's connections: TLS, HTTP/1.1 and HTTP/2, each with every limit spelled out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::body::{Answer, Metered, Unsent};
use super::front::Turned;
use super::handshake::{Greeting, InTurn};
use super::proxies::{self, Client};
use super::wire::{Notes, Wire};
use super::{Shared, front};
use crate::admission;
use crate::config::Limits;
use crate::error::Error;
use crate::{ops, routes};

/// The longest header list of one request, in bytes: a session token and room to spare.
pub(super) const MAX_HEADER_BYTES: usize = 32_768;
/// The most headers of one request.
const MAX_HEADERS: usize = 64;
/// The longest header list that h2 unpacks, in bytes as HTTP/2 counts them. What is between the two
/// bounds is refused with an answer that every client understands; h2's own is not one of gRPC.
const MAX_UNPACKED_HEADER_BYTES: u32 = 65_536;
/// What a header takes in memory beside its text.
const HEADER_OVERHEAD: usize = 128;
/// How much of bodies that nobody has read yet h2 takes from a connection, in bytes. It is charged as it
/// comes. h2 ends a connection on which more than half of this divided by 256 short pieces of bodies
/// wait, so it must be enough for a short one of each stream.
const CONNECTION_WINDOW: u32 = 262_144;
/// How long a new connection waits for the one that makes room for it.
const ROOM: Duration = Duration::from_millis(100);
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
        // A trusted proxy stands for many clients: their calls are counted, not its connections.
        let source = (!shared.listener.is_trusted(peer.ip())).then(|| peer.ip());
        let Ok(account) = shared.admission.connect(source) else {
            shared.broker.metrics.connections_refused.inc();
            warn(
                "a source address has its share of the connections; more of it are closed at once",
            );
            continue;
        };
        let Some(slot) = slot(&slots, &shared).await else {
            shared.broker.metrics.connections_refused.inc();
            warn("the limit of connections is reached; more are closed at once");
            continue;
        };
        tokio::spawn(serve(stream, peer, shared.clone(), account, slot));
    }
}

/// A place for one more connection: if there is none, another makes room.
async fn slot(slots: &Arc<Semaphore>, shared: &Shared) -> Option<OwnedSemaphorePermit> {
    if let Ok(slot) = slots.clone().try_acquire_owned() {
        return Some(slot);
    }
    if !shared.admission.make_room() {
        return None;
    }
    tokio::time::timeout(ROOM, slots.clone().acquire_owned())
        .await
        .ok()?
        .ok()
}

async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    account: Arc<admission::Connection>,
    _slot: OwnedSemaphorePermit,
) {
    // Small answers leave at once; a socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    let connections = &shared.broker.metrics.connections;
    connections.inc();
    if let Some(client) = client(&mut stream, peer, &shared).await {
        // The PROXY protocol: the connection is one client's.
        let account = match client.ip == peer.ip().to_canonical() {
            true => Ok(account),
            false => shared.admission.connect(Some(client.ip)),
        };
        match account {
            Err(_) => _ = shared.broker.metrics.connections_refused.inc(),
            Ok(account) => tokio::select! {
                () = talk(stream, client, &shared, &account) => {}
                () = account.asked_to_leave() => { shared.broker.metrics.connections_refused.inc(); }
            },
        }
    }
    connections.dec();
}

async fn talk(
    stream: TcpStream,
    client: Client,
    shared: &Arc<Shared>,
    account: &Arc<admission::Connection>,
) {
    let Some(config) = shared.tls.load_full() else {
        return run(stream, client, shared, account).await;
    };
    let Ok(counted) = shared.admission.handshake(account) else {
        shared.broker.metrics.connections_refused.inc();
        return;
    };
    let handshake = InTurn::new(
        TlsAcceptor::from(config).accept(Greeting::new(stream)),
        &shared.handshakes,
    );
    let shaken = tokio::time::timeout(shared.limits.handshake, handshake).await;
    drop(counted);
    match shaken {
        Ok(Ok(mut stream)) => {
            stream.get_mut().0.is_shaken();
            run(
                stream,
                Client {
                    secure_transport: true,
                    ..client
                },
                shared,
                account,
            )
            .await;
        }
        Ok(Err(error)) => tracing::debug!(peer = %client.ip, %error, "TLS handshake failed"),
        Err(_) => _ = shared.broker.metrics.connections_refused.inc(),
    }
}

/// Who is at the other end; none if a trusted proxy was to say so and did not.
async fn client(stream: &mut TcpStream, peer: SocketAddr, shared: &Shared) -> Option<Client> {
    let client = Client::new(peer.ip(), false);
    if !shared.listener.proxy_protocol || !shared.listener.is_trusted(client.ip) {
        return Some(client);
    }
    match tokio::time::timeout(
        shared.limits.handshake,
        proxies::read_proxy_header(stream, client),
    )
    .await
    {
        Ok(Ok(client)) => return Some(client),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a connection without a good PROXY header was closed")
        }
        Err(_) => {}
    }
    shared.broker.metrics.connections_refused.inc();
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
    /// Why the connection should end now.
    fn verdict(&self, limits: &Limits) -> Option<&'static str> {
        if self.born.elapsed() > limits.connection_age {
            return Some("age");
        }
        let rest = self
            .born
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)));
        let limit = if self.served.load(Ordering::Relaxed) == 0 {
            limits.handshake
        } else {
            limits.idle
        };
        (self.calls.load(Ordering::Relaxed) == 0 && rest > limit).then_some("idle")
    }
}

/// What the calls of a connection share.
struct Served {
    shared: Arc<Shared>,
    peer: Client,
    account: Arc<admission::Connection>,
    activity: Activity,
    notes: Arc<Notes>,
    unsent: Unsent,
}

/// Counts a call as one in progress until it is answered or given up.
struct InProgress(Arc<Served>);

impl InProgress {
    fn new(served: Arc<Served>) -> Self {
        served.activity.calls.fetch_add(1, Ordering::Relaxed);
        served.activity.served.fetch_add(1, Ordering::Relaxed);
        Self(served)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let activity = &self.0.activity;
        activity.calls.fetch_sub(1, Ordering::Relaxed);
        let age = u64::try_from(activity.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        activity.last.store(age, Ordering::Relaxed);
    }
}

/// On the heap: hyper moves the future of each HTTP/2 call by value, into a task of its own, and keeps
/// its room until the answer is read.
type Serving = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

impl Served {
    /// Takes a request in, or turns it away before anything of it is kept.
    fn serve(self: &Arc<Self>, request: Request<Incoming>) -> Serving {
        let in_progress = InProgress::new(self.clone());
        let is_http2 = request.version() == Version::HTTP_2;
        let client = proxies::client(&self.shared.listener, self.peer, request.headers());
        let address = client.unwrap_or(self.peer).ip;
        let purpose = routes::purpose(request.uri().path());
        let call = match header_bytes(&request) {
            None => Err(Error::HeadersTooLarge(MAX_HEADERS, MAX_HEADER_BYTES)),
            Some(bytes) => self
                .account
                .call(address, bytes, purpose)
                .map_err(|shed| ops::shed(&self.shared.broker, shed)),
        };
        match call {
            Ok(call) => Box::pin(async move {
                let served = &in_progress.0;
                let request = request.map(|body| Metered::new(body, call.clone()));
                let response = front::answer(
                    &served.shared,
                    served.peer,
                    client,
                    &served.notes,
                    call.clone(),
                    request,
                )
                .await;
                Ok(response.map(|body| Answer::new(body, call, &served.unsent, is_http2)))
            }),
            Err(error) => {
                let Ok(call) = self.account.refusal(address) else {
                    self.notes.cut("there is no room even for a refusal");
                    return Box::pin(std::future::pending());
                };
                let turned = Turned::new(&request);
                let client = client.unwrap_or(self.peer);
                drop(request);
                Box::pin(async move {
                    let served = &in_progress.0;
                    let response =
                        front::turn_away(&served.shared, client, call.clone(), turned, error).await;
                    Ok(response.map(|body| Answer::new(body, call, &served.unsent, is_http2)))
                })
            }
        }
    }
}

/// What the request line and the headers take in memory; none if they are more than the limits.
fn header_bytes<B>(request: &Request<B>) -> Option<usize> {
    let headers = request.headers();
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    // As on the wire of HTTP/1.1: a colon, a blank and a line end.
    let text = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum::<usize>()
        + target;
    (headers.len() <= MAX_HEADERS && text <= MAX_HEADER_BYTES)
        .then_some(text + HEADER_OVERHEAD * headers.len())
}

async fn run<S>(stream: S, peer: Client, shared: &Arc<Shared>, account: &Arc<admission::Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = Arc::new(Served {
        shared: shared.clone(),
        peer,
        account: account.clone(),
        activity: Activity {
            born: Instant::now(),
            calls: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            served: AtomicU64::new(0),
        },
        notes: Arc::default(),
        unsent: Unsent::default(),
    });
    // However it ends.
    let _over = Over(served.clone());
    let stream = Wire::new(stream, served.notes.clone(), account.clone());
    let service = {
        let served = served.clone();
        service_fn(move |request: Request<Incoming>| served.serve(request))
    };
    let builder = builder(&shared.limits);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut stop = shared.stop.clone();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    // Once it was asked to go: when it is cut off.
    let mut deadline = None;
    loop {
        let reason = tokio::select! {
            ended = (Turn { inner: connection.as_mut(), served: &served, waited: false }) => {
                match ended {
                    End::Over(Ok(())) => {}
                    End::Over(Err(error)) => tracing::debug!(peer = %peer.ip, %error, "connection ended"),
                    End::Cut(why) => {
                        shared.broker.metrics.connections_refused.inc();
                        tracing::debug!(peer = %peer.ip, why, "connection cut");
                    }
                }
                return;
            }
            () = stopped(&mut stop), if deadline.is_none() => Some("shutdown"),
            _ = tick.tick() => {
                served.tick();
                served.activity.verdict(&shared.limits)
            }
        };
        match (reason, deadline) {
            (Some("idle"), None) if served.activity.served.load(Ordering::Relaxed) == 0 => {
                // It never sent a request: nothing is lost by closing at once.
                shared.broker.metrics.connections_refused.inc();
                return;
            }
            (Some(reason), None) => {
                connection.as_mut().graceful_shutdown();
                let goodbye = if reason == "idle" {
                    GOODBYE
                } else {
                    shared.limits.shutdown_grace.max(GOODBYE)
                };
                deadline = Some(Instant::now() + goodbye);
            }
            // Whoever has not finished by then is cut off.
            (_, Some(deadline)) if deadline <= Instant::now() => return,
            _ => {}
        }
    }
}

/// Gives back what was handed over to the connection when it ends, also if its task is dropped. Calls
/// that it has begun may last longer.
struct Over(Arc<Served>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.unsent.over();
    }
}

impl Served {
    /// A second has passed: what has been coming, or waiting to be read, for too long ends the
    /// connection.
    fn tick(&self) {
        self.notes.tick();
        if self.unsent.tick() {
            self.notes.cut("an answer was not read");
        }
        if Duration::from_secs(self.notes.partial_seconds().into()) > self.shared.limits.handshake {
            self.notes.cut("a request's head did not arrive in time");
        }
    }
}

/// How a connection ended by itself.
enum End<T> {
    Over(T),
    /// It broke a limit: why.
    Cut(&'static str),
}

/// Lets the calls that became ready together finish before the connection writes, so that their
/// answers leave in one system call: whenever the connection is woken, the others go first.
struct Turn<'a, C> {
    inner: Pin<&'a mut C>,
    served: &'a Served,
    waited: bool,
}

impl<C: Future> Future for Turn<'_, C> {
    type Output = End<C::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End<C::Output>> {
        self.waited = !self.waited;
        if self.waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Served { notes, unsent, .. } = self.served;
        notes.turn();
        let handed_over = unsent.count();
        let over = self.inner.as_mut().poll(cx);
        if let Some(why) = notes.is_cut() {
            return Poll::Ready(End::Cut(why));
        }
        if !notes.is_blocked() {
            // Whatever hyper had before its turn has been written. On HTTP/1.1 its calls run within it.
            unsent.sent(if notes.is_http2() {
                handed_over
            } else {
                usize::MAX
            });
        }
        over.map(End::Over)
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper's own limit of the time also runs between two requests; `Wire` sees when one begins.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(MAX_UNPACKED_HEADER_BYTES)
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(16_384)
        .max_send_buf_size(65_536)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}
