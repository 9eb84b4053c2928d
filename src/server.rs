//! [`Config`], clock and entropy to a running daemon: two listeners, reloads, and an orderly end.

mod connection;
mod operator;
mod reload;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::audit::Audit;
use crate::authn::Tokens;
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::directory::Directory;
use crate::entropy::Entropy;
use crate::keyring::Keyring;
use crate::keyring_file::{self, KeyringFileError};
use crate::metrics::Metrics;
use crate::ops::Sts;
use crate::sessions::Sessions;
use crate::sigv4::Rules;
use crate::tls::{self, TlsError};

use reload::Stamps;
pub use reload::{DirectoryLoadError, load_directory};

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory file or its master key.
    #[error(transparent)]
    Directory(#[from] DirectoryLoadError),
    /// The keyring file.
    #[error(transparent)]
    Keyring(#[from] KeyringFileError),
    /// Certificate or private key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The audit log.
    #[error("[audit]: {0}")]
    Audit(std::io::Error),
    /// Redis's address or certificate.
    #[error("[sessions.redis]: {0}")]
    Redis(#[from] ::redis::RedisError),
    /// An address that cannot be listened on.
    #[error("{key} {address}: {source}; name another address, or port 0 for any free one")]
    Listen {
        /// `[listen] address`
        key: &'static str,
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What the daemon is made of before it listens.
pub struct Parts {
    /// Who and what there is.
    pub directory: Directory,
    /// The keys of session tokens.
    pub keyring: Keyring,
}

/// A running daemon.
pub struct Running {
    /// Where the service listens.
    pub address: SocketAddr,
    /// Where the operators' endpoints listen.
    pub operator: SocketAddr,
    /// The toolbox, for the process that embeds a broker.
    pub sts: Arc<Sts>,
    limits: Limits,
    stop: watch::Sender<bool>,
    slots: Arc<Semaphore>,
    tasks: Vec<JoinHandle<()>>,
}

/// What every connection shares.
struct Shared {
    sts: Arc<Sts>,
    limits: Limits,
    reflection: bool,
    tls: ArcSwapOption<ServerConfig>,
    stop: watch::Receiver<bool>,
}

/// Starts a daemon from files.
///
/// # Errors
/// Whatever is wrong, by name; nothing then listens.
pub async fn start(config: Config, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Running, StartError> {
    // Before they are read: a file that changes in between is read again.
    let seen = Stamps::of(&config);
    let directory = load_directory(&config.directory, config.master_key.as_deref())?;
    let keyring = keyring_file::load(&config.keyring)?;
    run(config, Parts { directory, keyring }, clock, entropy, Some(seen)).await
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
    run(config, parts, clock, entropy, None).await
}

async fn run(
    config: Config,
    parts: Parts,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    watch: Option<Stamps>,
) -> Result<Running, StartError> {
    let limits = config.limits;
    let metrics = Arc::new(Metrics::new());
    let certificate = config.tls.as_ref().map(|(c, k)| tls::server_config(c, k)).transpose()?;
    let sessions = match &config.redis {
        Some(options) => Sessions::in_redis(options, metrics.clone())?,
        None => Sessions::in_memory(config.max_records, metrics.clone()),
    };
    let service = bind("[listen] address", config.listen).await?;
    let operators = bind("[operator] address", config.operator).await?;
    let audit = Audit::open(&config.audit, metrics.clone()).map_err(StartError::Audit)?;
    let sts = Arc::new(Sts {
        directory: ArcSwap::from_pointee(parts.directory),
        tokens: Tokens::new(parts.keyring, config.opened_tokens),
        sessions,
        audit,
        clock,
        entropy,
        metrics,
        region: config.regions.first().cloned().unwrap_or_default(),
        rules: Rules { regions: config.regions.clone(), service: "sts", skew: config.skew },
    });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shared = Arc::new(Shared {
        sts: sts.clone(),
        limits: config.limits,
        reflection: config.reflection,
        tls: ArcSwapOption::from(certificate),
        stop: stopped,
    });
    let slots = Arc::new(Semaphore::new(config.limits.connections));
    let local = |listener: &TcpListener, key, address| {
        listener.local_addr().map_err(|source| StartError::Listen { key, address, source })
    };
    let address = local(&service, "[listen] address", config.listen)?;
    let operator = local(&operators, "[operator] address", config.operator)?;
    let mut tasks = vec![
        tokio::spawn(connection::accept(service, shared.clone(), slots.clone())),
        tokio::spawn(operator::accept(operators, shared.clone())),
        tokio::spawn(probe(shared.clone())),
    ];
    if let Some(seen) = watch {
        tasks.push(tokio::spawn(reload::watch(config, shared, seen)));
    }
    Ok(Running { address, operator, sts, limits, stop, slots, tasks })
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
        let sts = self.sts.clone();
        // It joins a thread that syncs a file.
        let _ = tokio::task::spawn_blocking(move || sts.audit.close()).await; // the thread's panic was reported
    }
}

/// Asks a Redis that went away again, once a second, so that readiness tells the truth without
/// traffic.
async fn probe(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tick.tick().await;
        shared.sts.sessions.probe().await;
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { key, address, source })
}

impl Shared {
    fn is_ready(&self) -> Result<(), &'static str> {
        if *self.stop.borrow() {
            return Err("shutting down");
        }
        if !self.sts.audit.is_up() {
            return Err("the audit log cannot be written");
        }
        Ok(())
    }
}
