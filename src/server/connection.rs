//! The service's connections: how many there are, whose they are, and TLS.

mod run;
mod served;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::handshake::{Greeting, InTurn};
use super::proxies::{self, Client};
use crate::admission;
use run::run;
pub(super) use served::MAX_HEADER_BYTES;

/// How long a new connection waits for the one that makes room for it.
const ROOM: Duration = Duration::from_millis(100);
/// How long the accept loop rests when the system has no file descriptors left.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);
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
