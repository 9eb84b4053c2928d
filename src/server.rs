//! Turns a [`Config`], a clock and a source of random bytes into a running daemon: its listeners, background
//! tasks, reloads, and a graceful shutdown.

mod assembly;
mod body;
mod budgets;
pub mod certificate;
mod clock;
mod connection;
mod cors;
mod descriptors;
mod dispatch;
mod error;
mod frames;
mod front;
mod handshake;
mod listeners;
mod memory;
mod operator;
mod parts;
pub mod proxies;
mod reload;
mod s3_key;
mod s3_listener;
mod s3_parts;
mod saml_metadata;
mod shared;
mod tasks;
mod wire;
mod workers;

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::metrics::family::Family;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::admission::Admission;
use crate::base::clock::{Clock, Timestamp};
use crate::base::entropy::Entropy;
use crate::broker::Broker;
use crate::config::{Config, Limits};
use crate::follow;
use crate::store::SqliteLock;
use crate::upkeep;

use assembly::Assembled;
use clock::Timekeeper;
pub use error::StartError;
pub use listeners::host_names;
use parts::{FilesRead, NodeName};
pub use parts::{Parts, entrance, load_store};
use reload::Stamps;
use shared::Shared;
use tasks::Urgent;
use workers::Workers;

pub struct Running {
    /// The address of the service. If the configured port is 0, the port is the one that the system chose; this holds
    /// for the other addresses, too.
    pub address: SocketAddr,
    /// The address of the operators' listener: `/healthz`, `/readyz` and `/metrics`.
    pub operator: SocketAddr,
    /// The address of the listener for proxies in front of object stores; `None` if `[s3]` is not configured.
    pub s3: Option<SocketAddr>,
    /// The broker's state, for a process that embeds a broker.
    pub broker: Arc<Broker>,
    #[cfg_attr(
        not(any(test, feature = "internals")),
        allow(dead_code, reason = "tests look at the counts")
    )]
    /// Counts the connections, the calls and their memory, and limits them.
    pub admission: Arc<Admission>,
    limits: Limits,
    stop: watch::Sender<bool>,
    slots: Arc<Semaphore>,
    tasks: Vec<JoinHandle<()>>,
    urgent: Urgent,
    workers: Arc<Workers>,
    shared: Arc<Shared>,
    _lock: Option<SqliteLock>,
}

/// Reads the files of `[s3]` as a daemon does when it starts. Returns when the listener's certificate expires; `None`
/// if there is no certificate, or its dates cannot be read.
///
/// # Errors
/// [`StartError::S3`] with the file that cannot be used.
pub fn check_object_stores(s3: &crate::config::S3) -> Result<Option<Timestamp>, StartError> {
    let events = crate::s3::DataEvents::default();
    let parts = s3_parts::S3Parts::new(s3, events, &Family::default())?;
    Ok(parts.certificate.get())
}

/// Starts a daemon from the files that a configuration names, and watches them for changes.
///
/// # Errors
/// [`StartError`] that says why the daemon cannot start, such as a setting or a file that cannot be used. No port is
/// open then.
pub async fn start(
    config: Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Running, StartError> {
    // Taken before the files are read, so that a file that changes meanwhile is read again.
    let seen = Stamps::of(&config);
    let timekeeper = Timekeeper::start(&config, clock)?;
    let own = NodeName::new(&*entropy)?;
    let (parts, read) = Parts::open(&config, seen, &own, &timekeeper.clock(), &*entropy).await?;
    run(config, parts, timekeeper, entropy, Some(read), own).await
}

/// Starts a daemon from parts in memory, without watching any files.
///
/// # Errors
/// [`StartError`] with the setting that cannot be used. No port is open then.
pub async fn start_with(
    config: Config,
    parts: Parts,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Running, StartError> {
    let timekeeper = Timekeeper::start(&config, clock)?;
    let own = NodeName::new(&*entropy)?;
    run(config, parts, timekeeper, entropy, None, own).await
}

async fn run(
    config: Config,
    parts: Parts,
    timekeeper: Timekeeper,
    entropy: Arc<dyn Entropy>,
    read: Option<FilesRead>,
    own: NodeName,
) -> Result<Running, StartError> {
    let assembled = Assembled::of(&config, parts, &timekeeper, entropy, read, own).await?;
    let broker = assembled.broker;
    report_what_was_loaded(&broker, assembled.ended_after).await?;
    let (stop, stopped) = watch::channel(false);
    let shared = Shared::new(
        &config,
        broker.clone(),
        assembled.identity,
        timekeeper,
        assembled.node,
        assembled.serves,
        stopped,
    );
    let shared = Arc::new(Shared {
        s3: assembled.s3,
        ..shared
    });
    let slots = Arc::new(Semaphore::new(shared.limits.connections));
    // Done before anybody learns that the daemon listens, since an unhandled SIGHUP would end the process.
    let hangup = assembled
        .watch
        .is_some()
        .then(|| signal(SignalKind::hangup()));
    let hangup = hangup.transpose().map_err(StartError::Signal)?;
    if broker.store.is_shared() {
        // Done before any session is accepted: a revocation on another broker must wait for this one, too.
        broker.store.report(&shared.node).await?;
    }
    let (listeners, urgent) = (assembled.listeners, assembled.urgent);
    let workers = Arc::new(assembled.workers);
    let (address, operator, s3) = (listeners.address, listeners.operator, listeners.proxy);
    let loaded_in = assembled.loaded_in;
    let mut tasks = tasks::spawn(
        &shared,
        listeners,
        slots.clone(),
        &urgent,
        &workers,
        loaded_in,
    );
    if let (Some(seen), Some(hangup)) = (assembled.watch, hangup) {
        let reloads = reload::watch(config, shared.clone(), seen, hangup);
        tasks.push(tokio::spawn(reloads));
    }
    Ok(Running {
        address,
        operator,
        s3,
        broker,
        admission: shared.admission.clone(),
        limits: shared.limits,
        stop,
        slots,
        tasks,
        urgent,
        workers,
        shared,
        _lock: assembled.lock,
    })
}

/// Reports the loaded directory and revocations in the metrics, the log and the audit log. `ended_after` is the number
/// of the last change before the revocations that ended the sessions of entries removed from the directory file.
async fn report_what_was_loaded(
    broker: &Broker,
    ended_after: Option<i64>,
) -> Result<(), StartError> {
    follow::show_place(broker);
    follow::announce(broker, &broker.directory.load());
    if let Some(after) = ended_after {
        follow::write_down_what_ended(broker, after).await?;
    }
    Ok(())
}

impl Running {
    /// Stops accepting connections, waits for calls in progress within the grace period, and closes the audit
    /// log. The wait ends early when `hurry` completes.
    pub async fn shutdown(self, hurry: impl Future<Output = ()>) {
        let _ = self.stop.send(true); // fails if every receiver has ended already
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        tokio::select! {
            _ = self.slots.acquire_many(all) => {}
            () = tokio::time::sleep(self.limits.shutdown_grace) => tracing::warn!("the grace period is over ([limits] shutdown_grace_seconds); aborting the calls in progress"),
            () = hurry => tracing::warn!("received a second signal; aborting the calls in progress"),
        }
        for task in &self.tasks {
            task.abort();
        }
        upkeep::note_key_use(&self.broker).await;
        if self.broker.store.is_shared() {
            // If this fails, the other brokers notice within seconds that this one is gone.
            let _ = self.broker.store.leave(&self.shared.node).await;
        }
        self.broker.store.close().await;
        drop(self.urgent);
        let shared = self.shared.clone();
        // These wait for files to be synced.
        let closing = tokio::task::spawn_blocking(move || {
            let (broker, watermark) = (&shared.broker, shared.watermark.as_deref());
            follow::save_watermark(broker, watermark, broker.feed.place());
            shared.timekeeper.save_or_say();
            shared.broker.audit.close();
        });
        let _ = closing.await; // the thread's panic was reported
        drop(self.workers);
    }
}
