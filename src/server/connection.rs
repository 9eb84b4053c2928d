//! Accepts the connections of the service within their limits, finds their clients behind proxies, and sets up TLS.

mod run;
mod served;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::handshake::{Greeting, InTurn};
use super::proxies::{self, Client};
use super::workers::Workers;
use crate::admission::{self, Admission};
use crate::proof::certificate::{Certified, ClientCertificate};
use run::run;

/// How long a new connection waits for a slot, if all slots are taken, until another connection is closed in its
/// favour. The thread of that connection closes it once it has served what others were waiting for.
const ROOM: Duration = Duration::from_millis(500);
/// How long the accept loop pauses after a failure, for example without free file descriptors.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);
/// Accepts connections until the daemon stops.
pub(super) async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    workers: Arc<Workers>,
    slots: Arc<Semaphore>,
) {
    let mut stop = shared.stop.clone();
    let mut warned: Option<Instant> = None;
    let mut warn = |text: &str| {
        if warned.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
            warned = Some(Instant::now());
            tracing::warn!("{text}");
        }
    };
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // No file descriptors are left, or the peer has gone; trying again at once does not help.
                    warn(&format!(
                        "a connection could not be accepted: {error}; if too many files are open, raise the limit \
                         (`ulimit -n`, `LimitNOFILE=`)"
                    ));
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => return,
        };
        // A trusted proxy connects for many clients, so their calls are counted and not its connections.
        let source = (!shared.listener.is_trusted(peer.ip())).then(|| peer.ip());
        let Ok(account) = shared.admission.connect(source) else {
            shared.broker.metrics.connections_refused.inc();
            warn(&format!(
                "the source address {} has reached its limit of connections; the broker closes its new connections",
                peer.ip()
            ));
            continue;
        };
        let Some(slot) = slot(&slots, &shared.admission).await else {
            shared.broker.metrics.connections_refused.inc();
            warn("the limit of connections is reached; the broker closes new connections");
            continue;
        };
        let shared = shared.clone();
        workers.serve(stream, move |stream| async move {
            // Given back once all of the connection is gone.
            let _slot = slot;
            serve(stream, peer, shared, account).await;
        });
    }
}

/// Takes a slot for a new connection. If no slot is free, another connection may be closed to free one. `None` if there
/// is still none.
pub(super) async fn slot(
    slots: &Arc<Semaphore>,
    admission: &Admission,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(slot) = slots.clone().try_acquire_owned() {
        return Some(slot);
    }
    if !admission.make_room() {
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
) {
    // Small answers are sent at once; without the option the connection still works.
    let _ = stream.set_nodelay(true);
    let connections = &shared.broker.metrics.connections;
    connections.inc();
    if let Some(client) = client(&mut stream, peer, &shared).await {
        // With the PROXY protocol the connection belongs to a single client.
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
    // Read before the configuration, so that no certificate counts as verified by a newer CA.
    let ca = shared.client_ca.load_full();
    let Some(config) = shared.tls.load_full() else {
        return run(stream, client, shared, account, None).await;
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
            let certificate = certified(stream.get_ref().1, ca.as_deref());
            run(
                stream,
                Client {
                    secure_transport: true,
                    ..client
                },
                shared,
                account,
                certificate,
            )
            .await;
        }
        Ok(Err(error)) => tracing::debug!(peer = %client.ip, %error, "TLS handshake failed"),
        Err(_) => _ = shared.broker.metrics.connections_refused.inc(),
    }
}

/// The certificate with which the client connected, if it sent one that can be read. `ca` is the digest of the CA file
/// by which the handshake has verified it.
pub(super) fn certified(connection: &ServerConnection, ca: Option<&[u8; 32]>) -> Option<Certified> {
    let leaf = connection.peer_certificates()?.first()?;
    let label = b"EXPORTER-Brevet-client-certificate";
    let secret = connection.export_keying_material([0; 32], label, None);
    let certificate = ClientCertificate::read(leaf, &secret.ok()?)?;
    Some(Certified::new(certificate, *ca?))
}

/// The client of a connection. `None` if the peer is a proxy that must name its client with the PROXY protocol and did
/// not.
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
            tracing::debug!(%peer, %error, "closed a connection without a valid PROXY header")
        }
        Err(_) => {}
    }
    shared.broker.metrics.connections_refused.inc();
    None
}

/// Waits until the daemon begins to shut down, or has already ended.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await; // an error means that the sender is gone
}
