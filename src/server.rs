//! [`Config`], clock and entropy to a running daemon: two listeners, reloads, and an orderly end.

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
pub mod service_manager;
mod shared;
mod tasks;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::admission::Admission;
use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::broker::Broker;
use crate::config::{Config, Limits};
use crate::follow;
use crate::metrics::Metrics;
use crate::store::{SqliteLock, Watermark};
use crate::tls;
use crate::upkeep;

use assembly::Materials;
use clock::Timekeeper;
pub use descriptors::raise as raise_descriptor_limit;
pub use error::StartError;
use listeners::Listeners;
pub use listeners::host_names;
use parts::{FilesRead, Loaded, NodeName};
pub use parts::{Parts, entrance, load_store};
use reload::Stamps;
use shared::Shared;
use tasks::Urgent;

/// A running daemon.
pub struct Running {
    /// Where the service listens.
    pub address: SocketAddr,
    /// Where the operators' endpoints listen.
    pub operator: SocketAddr,
    /// The toolbox, for the process that embeds a broker.
    pub broker: Arc<Broker>,
    #[cfg_attr(
        not(any(test, feature = "internals")),
        allow(dead_code, reason = "tests look at who holds what")
    )]
    /// What its clients hold.
    pub admission: Arc<Admission>,
    limits: Limits,
    stop: watch::Sender<bool>,
    slots: Arc<Semaphore>,
    tasks: Vec<JoinHandle<()>>,
    urgent: Urgent,
    shared: Arc<Shared>,
    _lock: Option<SqliteLock>,
}

/// Starts a daemon from files.
///
/// # Errors
/// Whatever is wrong, by name; nothing then listens.
pub async fn start(
    config: Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Running, StartError> {
    // Before they are read: a file that changes in between is read again.
    let seen = Stamps::of(&config);
    let timekeeper = Timekeeper::start(&config, clock)?;
    let own = NodeName::new(&*entropy)?;
    let (parts, read) = Parts::open(&config, seen, &own, &timekeeper.clock(), &*entropy).await?;
    run(config, parts, timekeeper, entropy, Some(read), own).await
}

/// Starts a daemon from parts; no file is read again.
///
/// # Errors
/// Whatever is wrong, by name; nothing then listens.
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
    mut parts: Parts,
    timekeeper: Timekeeper,
    entropy: Arc<dyn Entropy>,
    read: Option<FilesRead>,
    own: NodeName,
) -> Result<Running, StartError> {
    let clock = timekeeper.clock();
    let metrics = Arc::new(Metrics::new());
    let files = config.tls.as_ref();
    let identity = files.map(|(c, k)| tls::load(c, k)).transpose()?;
    let names = host_names(&config, identity.as_ref().map_or(&[], |i| &i.names))?;
    let sessions = assembly::sessions(&config, &metrics)?;
    let loaded = Loaded::load(&mut parts, &config, &clock, &*entropy).await?;
    if let Some(path) = &config.watermark {
        Watermark::of(&loaded.head).save(path)?;
    }
    timekeeper.save()?;
    let (watch, serves, ended_after) = FilesRead::split(read);
    let node = parts.node(&config, own, &loaded.head, &serves);
    let listeners = Listeners::bind(&config)?;
    let urgent = Urgent::start()?;
    let loaded_in = loaded.took;
    let lock = parts.lock.take();
    let materials = Materials {
        config: &config,
        parts,
        loaded,
        sessions,
        names,
        address: listeners.address,
        clock,
        entropy,
        metrics,
        urgent: urgent.handle(),
    };
    let broker = Arc::new(materials.broker()?);
    follow::show_place(&broker);
    follow::announce(&broker, &broker.directory.load());
    if let Some(after) = ended_after {
        follow::write_down_what_ended(&broker, after).await?;
    }
    let (stop, stopped) = watch::channel(false);
    let shared = Arc::new(Shared::new(
        &config,
        broker.clone(),
        identity,
        timekeeper,
        node,
        serves,
        stopped,
    ));
    let slots = Arc::new(Semaphore::new(shared.limits.connections));
    // Before anybody is told that it listens: a SIGHUP that nobody receives ends the process.
    let hangup = watch.is_some().then(|| signal(SignalKind::hangup()));
    let hangup = hangup.transpose().map_err(StartError::Signal)?;
    if broker.store.is_shared() {
        // Before it accepts a session: a revocation elsewhere must know that this node may hold it.
        broker.store.report(&shared.node).await?;
    }
    let (address, operator) = (listeners.address, listeners.operator);
    let mut tasks = tasks::spawn(&shared, listeners, slots.clone(), &urgent, loaded_in);
    if let (Some(seen), Some(hangup)) = (watch, hangup) {
        let reloads = reload::watch(config, shared.clone(), seen, hangup);
        tasks.push(tokio::spawn(reloads));
    }
    Ok(Running {
        address,
        operator,
        broker,
        admission: shared.admission.clone(),
        limits: shared.limits,
        stop,
        slots,
        tasks,
        urgent,
        shared,
        _lock: lock,
    })
}

impl Running {
    /// Stops taking connections, lets calls in progress end within the grace, and closes the audit
    /// log. `hurry` cuts the grace short.
    pub async fn shutdown(self, hurry: impl Future<Output = ()>) {
        let _ = self.stop.send(true); // nobody listens any more: so much the better
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        tokio::select! {
            _ = self.slots.acquire_many(all) => {}
            () = tokio::time::sleep(self.limits.shutdown_grace) => tracing::warn!("calls in progress outlasted the grace and are cut off"),
            () = hurry => tracing::warn!("a second signal: calls in progress are cut off"),
        }
        for task in &self.tasks {
            task.abort();
        }
        upkeep::note_key_use(&self.broker).await;
        if self.broker.store.is_shared() {
            // If it cannot be said, the others notice within seconds.
            let _ = self.broker.store.leave(&self.shared.node).await;
        }
        self.broker.store.close().await;
        drop(self.urgent);
        let shared = self.shared.clone();
        // They wait for files to be synced.
        let closing = tokio::task::spawn_blocking(move || {
            let (broker, watermark) = (&shared.broker, shared.watermark.as_deref());
            follow::save_watermark(broker, watermark, broker.feed.place());
            shared.timekeeper.save_or_say();
            shared.broker.audit.close();
        });
        let _ = closing.await; // the thread's panic was reported
    }
}
