//! The listener for proxies in front of object stores: it limits connections and questions, and admits only the
//! operator's proxies.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::connection::{certified, slot};
use super::handshake::{self, Greeting, InTurn};
use super::s3_parts::S3Parts;
use super::shared::Shared;
use super::workers::Workers;
use crate::admission::{self, Admission, Bounds};
use crate::proof::certificate::Certified;
use crate::s3_proxy::{self, Gateway, Question};

/// The maximum number of connections. Proxies keep their connections open, and Envoy needs one for each of its threads.
/// If there are as many, the oldest one that has not shown that it is a proxy's gives way to a new one.
const MAX_CONNECTIONS: usize = 1_024;
/// The limits by which connections are counted that have not shown whose they are. Half as many as there are
/// connections may be in their TLS handshake, which is an eighth of this number, and an eighth for each source. A
/// single proxy may have all connections, so the share of a source, a quarter, is as many. Questions are not counted
/// here.
const NEWCOMERS: Bounds = Bounds {
    connections: 4 * MAX_CONNECTIONS,
    calls: 0,
    bytes: 0,
};
/// The maximum number of simultaneous questions on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// The maximum number of headers of a question. They include the headers of the client's request and those that the
/// proxy adds.
const MAX_HEADERS: usize = 128;
/// The maximum length of the header list of a question, in bytes.
const MAX_HEADER_BYTES: usize = 98_304;
/// How long a connection may take to complete its TLS handshake, and then again to prove that it comes from one of the
/// operator's proxies.
const UNTIL_PROVEN: Duration = Duration::from_secs(10);
/// How long an HTTP/1.1 connection waits for the head of the next question. This is longer than proxies keep idle
/// connections, so the proxy closes them first.
const IDLE: Duration = Duration::from_secs(300);
const MAX_AGE: Duration = Duration::from_secs(3_600);
/// How long questions in progress may take after a connection was asked to close.
const GOODBYE: Duration = Duration::from_secs(5);

/// The listener, as its connections share it.
struct Listening {
    shared: Arc<Shared>,
    own: Arc<S3Parts>,
    admission: Arc<Admission>,
    /// Permits for TLS handshakes, besides those of the listener for clients: neither listener's clients wait for those
    /// of the other.
    handshakes: Arc<Semaphore>,
}

/// A connection, and the address that it came from.
struct Peer {
    address: SocketAddr,
    account: Arc<admission::Connection>,
}

/// Serves proxies until the daemon stops.
pub(super) async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    workers: Arc<Workers>,
    own: Arc<S3Parts>,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut stop = shared.stop.clone();
    let listening = Arc::new(Listening {
        shared: shared.clone(),
        own,
        admission: Admission::new(NEWCOMERS),
        handshakes: handshake::places_for_proxies(),
    });
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => {
                    // No file descriptors are left, or the peer has gone; trying again at once does not help.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => return,
        };
        let Some(slot) = slot(&slots, &listening.admission).await else {
            shared.broker.metrics.connections_refused.inc();
            continue;
        };
        let Ok(account) = listening.admission.connect(Some(address.ip())) else {
            shared.broker.metrics.connections_refused.inc();
            continue;
        };
        let listening = listening.clone();
        workers.serve(stream, move |stream| async move {
            // Given back once all of the connection is gone.
            let _slot = slot;
            let peer = Peer {
                address,
                account: account.clone(),
            };
            tokio::select! {
                () = greet(stream, peer, &listening) => {}
                () = account.asked_to_leave() => {
                    listening.shared.broker.metrics.connections_refused.inc();
                }
            }
        });
    }
}

/// Completes the TLS handshake, if the listener has a certificate, and serves the connection.
async fn greet(stream: TcpStream, peer: Peer, listening: &Listening) {
    // Small answers are sent at once; without the option the connection still works.
    let _ = stream.set_nodelay(true);
    let (own, metrics) = (&listening.own, &listening.shared.broker.metrics);
    // These are read before the configuration of TLS, so that no certificate counts as verified by a newer CA, and no
    // reload is missed.
    let reloaded = own.reloaded.subscribe();
    let ca = own.gate.load().client_ca;
    let Some(config) = own.tls.load_full() else {
        return serve(stream, peer, None, reloaded, listening).await;
    };
    let Ok(counted) = listening.admission.handshake(&peer.account) else {
        metrics.connections_refused.inc();
        return;
    };
    let handshake = InTurn::new(
        TlsAcceptor::from(config).accept(Greeting::new(stream)),
        &listening.handshakes,
    );
    let shaken = tokio::time::timeout(UNTIL_PROVEN, handshake).await;
    drop(counted);
    match shaken {
        Ok(Ok(mut stream)) => {
            stream.get_mut().0.is_shaken();
            let certificate = certified(stream.get_ref().1, ca.as_ref());
            serve(stream, peer, certificate, reloaded, listening).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(peer = %peer.address.ip(), %error, "TLS handshake failed");
        }
        Err(_) => _ = metrics.connections_refused.inc(),
    }
}

async fn serve<S>(
    stream: S,
    peer: Peer,
    certificate: Option<Certified>,
    mut reloaded: watch::Receiver<()>,
    listening: &Listening,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Peer { address, account } = peer;
    let (shared, own) = (listening.shared.clone(), listening.own.clone());
    let certificate = Arc::new(certificate);
    let mut stop = shared.stop.clone();
    let service = {
        let (account, certificate, own) = (account.clone(), certificate.clone(), own.clone());
        service_fn(move |request: Request<Incoming>| {
            let gate = own.gate.load();
            let now = shared.broker.clock.now();
            let certificate = certificate.as_ref().as_ref();
            let is_admitted = gate.admits(certificate, request.headers(), now);
            if is_admitted {
                account.becomes_known();
            }
            let question = Question {
                broker: shared.broker.clone(),
                stores: own.stores.clone(),
                is_admitted,
                gateway: Gateway {
                    regions: own.gateway_regions.clone(),
                    is_certified: gate.certifies(certificate, now),
                    address: address.ip().to_canonical(),
                },
                readiness: shared.is_ready(),
                memory: own.memory.clone(),
            };
            async move { Ok::<_, Infallible>(s3_proxy::serve(question, request).await) }
        })
    };
    let is_outdated = || {
        let certificate = certificate.as_ref().as_ref();
        certificate.is_some_and(|certificate| own.gate.load().is_outdated(certificate))
    };
    let builder = builder();
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let unproven = tokio::time::sleep(UNTIL_PROVEN);
    tokio::pin!(unproven);
    let age = tokio::time::sleep(MAX_AGE);
    tokio::pin!(age);
    loop {
        tokio::select! {
            // A failed connection of a proxy needs no handling: it asks again.
            _ = connection.as_mut() => return,
            () = unproven.as_mut(), if !unproven.is_elapsed() => {
                if !account.is_proven() {
                    return;
                }
            }
            // The proxy connects again, and shows its present certificate, before a question of it is refused.
            Ok(()) = reloaded.changed() => {
                if is_outdated() {
                    break;
                }
            }
            () = age.as_mut() => break,
            () = stopped(&mut stop) => break,
        }
    }
    connection.as_mut().graceful_shutdown();
    // Questions that are still in progress then are aborted.
    let _ = tokio::time::timeout(GOODBYE, connection).await;
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(1 << 20)
        .max_send_buf_size(65_536)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Waits until the daemon begins to shut down, or has already ended.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await; // an error means that the sender is gone
}
