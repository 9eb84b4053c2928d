//! [`Config`], clock and entropy to a running daemon: two listeners, reloads, and an orderly end.

mod body;
mod budgets;
pub mod certificate;
mod clock;
mod connection;
mod cors;
mod departures;
mod descriptors;
mod directory_file;
mod dispatch;
mod follow;
mod frames;
mod front;
mod handshake;
mod memory;
mod operator;
pub mod proxies;
mod reload;
pub mod service_manager;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use moka::sync::Cache;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::admission::{Admission, Bounds};
use crate::audit::{self, Audit, Surroundings, Target};
use crate::base::clock::{Clock, Timestamp};
use crate::base::digest::hex;
use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::base::host_names::{HostName, HostNames};
use crate::broker::Broker;
use crate::budgets::Budgets;
use crate::clock_mark::ClockMarkError;
use crate::commands::{self, CommandContext};
use crate::config::{self, Config, Limits, Listener, Names};
use crate::directory::Directory;
use crate::feed::{Feed, Standing};
use crate::keyring_file::{self, KeyringFileError};
use crate::master_key::{MasterKey, MasterKeyError};
use crate::metrics::Metrics;
use crate::proof::sigv4::{ANY_REGION, Rules};
use crate::providers::Providers;
use crate::revocations::Revocations;
use crate::session::keyring::Keyring;
use crate::sessions::{self, Sessions};
use crate::single_use::SingleUse;
use crate::store::{
    Access, DirectoryEntries, Entrance, KeyUse, Node, Place, SqliteLock, Store, StoreError,
    Watermark, WatermarkError,
};
use crate::tls::{self, TlsError};
use crate::tokens::Tokens;

use clock::Timekeeper;
pub use descriptors::raise as raise_descriptor_limit;
use directory_file::Taker;
pub use directory_file::{Compiled, DirectoryFile, TakeError};
use reload::Stamps;
pub use reload::{DirectoryLoadError, own_provider};

/// The broker's own region where the configuration takes any and names none.
const DEFAULT_REGION: &str = "us-east-1";
/// How many connections wait to be accepted at the most; the system may allow fewer. With fewer a flood
/// makes others wait for a second and more, until they ask again.
const BACKLOG: u32 = 4_096;
/// How many session policies are remembered as sound.
const SOUND_POLICIES: u64 = 10_000;

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory file or its master key.
    #[error(transparent)]
    Directory(#[from] DirectoryLoadError),
    /// What the directory file has cannot be taken in.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is not what this node knew.
    #[error("[store] watermark: {0}")]
    Watermark(WatermarkError),
    /// The highest time that this node has seen.
    #[error("[store] watermark: {0}")]
    ClockMark(#[from] ClockMarkError),
    /// What the store holds cannot be loaded.
    #[error("the directory in the store cannot be loaded: {0}")]
    Rows(String),
    /// The master key.
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// No chance.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// No thread for what is urgent.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// The keyring file.
    #[error(transparent)]
    Keyring(#[from] KeyringFileError),
    /// Certificate or private key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody knows what clients call this broker.
    #[error("[listen] names: {0}")]
    Names(String),
    /// No TLS to ask identity providers by.
    #[error("tls: {0}")]
    Outbound(#[from] rustls::Error),
    /// The audit log.
    #[error("[audit]: {0}")]
    Audit(std::io::Error),
    /// Redis's address or certificate.
    #[error("[sessions.redis]: {0}")]
    Redis(#[from] ::redis::RedisError),
    /// SIGHUP cannot be received.
    #[error("SIGHUP cannot be received: {0}")]
    Signal(std::io::Error),
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

impl From<WatermarkError> for StartError {
    fn from(error: WatermarkError) -> Self {
        match error {
            WatermarkError::Store(error) => Self::Store(error),
            other => Self::Watermark(other),
        }
    }
}

/// What the daemon is made of before it listens.
pub struct Parts {
    /// What must not be lost.
    pub store: Store,
    /// What secrets in it are sealed with.
    pub master_key: Option<Arc<MasterKey>>,
    /// A directory that is not in the store.
    pub directory: Option<Directory>,
    /// The keys of session tokens.
    pub keyring: Keyring,
    /// Of a SQLite file.
    pub lock: Option<SqliteLock>,
}

/// A running daemon.
pub struct Running {
    /// Where the service listens.
    pub address: SocketAddr,
    /// Where the operators' endpoints listen.
    pub operator: SocketAddr,
    /// The toolbox, for the process that embeds a broker.
    pub broker: Arc<Broker>,
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

/// A thread for what must not wait for calls: following the change feed, and revoking.
struct Urgent(Option<Runtime>);

impl Urgent {
    fn start() -> Result<Self, StartError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(1)
            .thread_name("brevet-urgent")
            .enable_all()
            .build();
        runtime
            .map(|runtime| Self(Some(runtime)))
            .map_err(StartError::Thread)
    }

    fn handle(&self) -> Handle {
        self.0
            .as_ref()
            .map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for it is not allowed where others are served.
            runtime.shutdown_background();
        }
    }
}

/// What every connection shares.
struct Shared {
    broker: Arc<Broker>,
    admission: Arc<Admission>,
    limits: Limits,
    listener: Listener,
    reflection: bool,
    tls: ArcSwapOption<ServerConfig>,
    certificate: certificate::Ends,
    /// Places for TLS handshakes that are worked on.
    handshakes: Arc<Semaphore>,
    watermark: Option<PathBuf>,
    timekeeper: Timekeeper,
    node: Node,
    serves: ArcSwap<Serves>,
    /// When it was last asked whether other brokers have another directory file.
    asked_for_others: ArcSwap<Duration>,
    /// Where calls are served, and work is done that is not urgent.
    ordinary: Handle,
    stop: watch::Receiver<bool>,
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
    let master_key = config
        .master_key
        .as_deref()
        .map(MasterKey::load)
        .transpose()?
        .map(Arc::new);
    let read =
        |path| DirectoryFile::read(path, config.master_key.as_deref(), config.issuer.as_deref());
    let file = config.directory.as_deref().map(read).transpose()?;
    // Whatever is wrong with it is found before there is a store.
    let early = file
        .as_ref()
        .map(|file| file.compile(&DirectoryEntries::default(), &*entropy))
        .transpose()?;
    let keyring = keyring_file::load(&config.keyring)?;
    let lock = match &config.store {
        Place::Sqlite(path) => Some(SqliteLock::take(path)?),
        Place::Postgres { .. } | Place::Memory => None,
    };
    // Where roles are in a file, the store begins by itself, once; where they are in the store, an
    // empty one would be a loss.
    let access = if file.is_some() {
        Access::Create
    } else {
        Access::Serve
    };
    let now = timekeeper.clock().now();
    let store = entrance(&config, master_key.as_deref())
        .open(access, now, &*entropy)
        .await?;
    if master_key.is_none() {
        tracing::warn!(
            "[directory] master_key is not set: whoever can write to the database can take revocations back without notice"
        );
    }
    let identity = Identity::new(&*entropy)?;
    let mut read = FilesRead {
        seen,
        serves: Serves::default(),
        ended_after: None,
    };
    let directory = match &file {
        Some(file) => {
            let taker = Taker {
                store: &store,
                entropy: &*entropy,
                now,
                node: &identity.node,
                host: &identity.host,
            };
            let taken = taker.take(file, early, None).await?;
            if !taken.ended.is_empty() {
                read.ended_after = Some(taken.after);
                tracing::info!(
                    ended = taken.ended.len(),
                    "keys, users, roles and providers went from the directory since it was last read, and their \
                     sessions have ended"
                );
            }
            read.serves = Serves {
                digest: taken.digest,
                left: taken.left,
            };
            Some(taken.directory)
        }
        None => None,
    };
    run(
        config,
        Parts {
            store,
            master_key,
            directory,
            keyring,
            lock,
        },
        timekeeper,
        entropy,
        Some(read),
        identity,
    )
    .await
}

/// What a broker is called among those on its store.
struct Identity {
    /// Made up at its start.
    node: String,
    /// Its host's name.
    host: String,
}

impl Identity {
    fn new(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let node = hex(&entropy::bytes::<8>(entropy)?);
        Ok(Self { node, host })
    }
}

/// What was read from files at the start.
struct FilesRead {
    /// How they looked.
    seen: Stamps,
    serves: Serves,
    /// The last change before those that ended what went from the directory file; none: nothing went.
    ended_after: Option<i64>,
}

/// Which directory file a broker serves.
#[derive(Default)]
struct Serves {
    /// A digest of the names of its entries; empty: the directory is no file.
    digest: String,
    /// How many entries it does not have that another broker's file has. They end with that one.
    left: usize,
}

/// How often it is asked whether another broker's directory file still has what this one's does not have.
const ASK_FOR_OTHERS_EVERY: Duration = Duration::from_secs(10);

impl Shared {
    /// Notes which directory file is in force here, and says so if it lacks what others have.
    fn serves(&self, digest: String, left: usize) {
        warn_of_what_is_left(left);
        self.serves.store(Arc::new(Serves { digest, left }));
    }

    /// Whether entries that were left because another broker's file has them may have ended by now: no
    /// broker has another file any more.
    async fn may_end_what_was_left(&self) -> bool {
        let serves = self.serves.load_full();
        let now = self.broker.clock.monotonic();
        if serves.left == 0
            || now.saturating_sub(**self.asked_for_others.load()) < ASK_FOR_OTHERS_EVERY
        {
            return false;
        }
        self.asked_for_others.store(Arc::new(now));
        let store = &self.broker.store;
        match store
            .has_other_directories(&self.node.node, &serves.digest)
            .await
        {
            Ok(others) => !others,
            Err(error) => {
                tracing::debug!(%error, "it is not known whether other brokers have another directory file");
                false
            }
        }
    }
}

fn warn_of_what_is_left(left: usize) {
    if left > 0 {
        tracing::warn!(
            entries = left,
            "another broker on this store has a directory file with entries that are not in this one; what went from \
             this file has not ended until that broker has the same file, or has stopped"
        );
    }
}

/// What is wrong with a node whose signing key was revoked, and what to do.
const WITHOUT_SIGNING_KEY: &str = "the keyring's current key was revoked, so that no session can be issued; take the keyring \
                                   file that `brevet keyring revoke` or `brevet keyring rotate` has written since then";

/// Puts in force what the store says of signing keys.
fn bind_revoked_keys(broker: &Broker) {
    if broker.tokens.revoke(&broker.revocations.signing_keys()) {
        say_without_signing_key(broker);
    }
}

/// Says so in the log, if no session can be issued.
fn say_without_signing_key(broker: &Broker) {
    if !broker.tokens.can_sign() {
        tracing::error!("{WITHOUT_SIGNING_KEY}");
    }
}

/// The way into the store of a configuration.
pub fn entrance<'a>(config: &'a Config, master_key: Option<&'a MasterKey>) -> Entrance<'a> {
    Entrance {
        place: &config.store,
        master_key,
        watermark: config.watermark.as_deref(),
    }
}

/// What clients may call a broker of this configuration, whose certificate names these hosts.
///
/// # Errors
/// When nobody knows.
pub fn host_names(config: &Config, certificate: &[HostName]) -> Result<HostNames, StartError> {
    let names = match &config.listener.names {
        Names::Any => HostNames::any(),
        Names::Listed(names) => names.clone(),
        Names::Derived => {
            let ip = config.listen.ip().to_canonical();
            let local: &[&str] = if ip.is_loopback() {
                &["localhost", "127.0.0.1", "::1"]
            } else {
                &[]
            };
            let own = (!ip.is_unspecified()).then_some(HostName::Address(ip));
            let local = local.iter().filter_map(|name| HostName::parse(name));
            HostNames::new(
                own.into_iter()
                    .chain(local)
                    .chain(certificate.iter().cloned()),
            )
        }
    };
    if names.is_empty() {
        return Err(StartError::Names(config::names_are_needed(config.listen)));
    }
    Ok(names)
}

/// Loads the directory of a store as a broker does: every row, and every secret in them.
///
/// # Errors
/// The first row that cannot be loaded.
pub async fn load_store(
    store: &Store,
    master_key: &Arc<MasterKey>,
) -> Result<Directory, StartError> {
    follow::load(store, master_key)
        .await
        .map(|(directory, _)| directory)
        .map_err(|e| StartError::Rows(e.to_string()))
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
    let identity = Identity::new(&*entropy)?;
    run(config, parts, timekeeper, entropy, None, identity).await
}

async fn run(
    config: Config,
    parts: Parts,
    timekeeper: Timekeeper,
    entropy: Arc<dyn Entropy>,
    read: Option<FilesRead>,
    own: Identity,
) -> Result<Running, StartError> {
    let clock = timekeeper.clock();
    let limits = Limits {
        connections: memory::fitting(descriptors::fitting(config.limits.connections)),
        ..config.limits
    };
    let metrics = Arc::new(Metrics::new());
    let identity = config
        .tls
        .as_ref()
        .map(|(c, k)| tls::load(c, k))
        .transpose()?;
    let names = host_names(&config, identity.as_ref().map_or(&[], |i| &i.names))?;
    let sessions = match &config.redis {
        Some(options) => Sessions::in_redis(options, metrics.clone())?,
        None => Sessions::in_memory(config.session_records, metrics.clone()),
    };
    // First the head: what changes while the rest is read is taken again.
    let loading = tokio::time::Instant::now();
    let head = parts.store.head().await?;
    parts.store.reached(head.sequence, &head.chain);
    // The feed says when it was last changed: no clock of a broker is before that, whatever the mark
    // beside the watermark says, or if it is missing.
    let last = parts.store.feed_after(head.sequence - 1, 1).await?;
    if let Some(change) = last.first() {
        clock.raise(Timestamp::from_millis(change.changed_at));
    }
    let revocations = Revocations::default();
    parts
        .store
        .load_revocations(&revocations, clock.now())
        .await?;
    let tokens = Tokens::new(parts.keyring, config.opened_tokens);
    tokens.revoke(&revocations.signing_keys());
    let directory_is_in_the_store = parts.directory.is_none();
    let directory = match (parts.directory, &parts.master_key) {
        (Some(directory), _) => directory,
        (None, Some(key)) => {
            let (directory, _) = follow::load(&parts.store, key)
                .await
                .map_err(|e| StartError::Rows(e.to_string()))?;
            let issuer = config.issuer.as_deref();
            let context = CommandContext {
                store: &parts.store,
                master_key: key,
                entropy: &*entropy,
                now: clock.now(),
                issuer,
            };
            // What this changes is taken with the other changes after `head`.
            match commands::bind_stored(context, &directory).await {
                Ok(0) => {}
                Ok(roles) => tracing::info!(
                    roles,
                    "trust policies that named principals by ARN name unique ids now"
                ),
                Err(error) => {
                    tracing::warn!(%error, "trust policies of an earlier version still name principals by ARN")
                }
            }
            directory
        }
        (None, None) => return Err(StartError::Rows("there is no master key".to_owned())),
    };
    let loaded_in = loading.elapsed();
    if let Some(path) = &config.watermark {
        Watermark::of(&head).save(path)?;
    }
    timekeeper.save()?;
    let (watch, serves, ended_after) = match read {
        Some(read) => (Some(read.seen), read.serves, read.ended_after),
        None => (None, Serves::default(), None),
    };
    warn_of_what_is_left(serves.left);
    let node = Node {
        node: own.node,
        host: own.host,
        directory: serves.digest.clone(),
        confirmed: head.sequence,
        refuse_after_seconds: i64::try_from(config.refuse_after.as_secs()).unwrap_or(i64::MAX),
        master_keys: parts
            .master_key
            .as_deref()
            .map(reported_keys)
            .unwrap_or_default(),
        cluster_id: tokens.with_keyring(|keyring| keyring.cluster_id().to_owned()),
    };
    let feed = Feed::new(
        head.sequence,
        &head.chain,
        clock.monotonic(),
        config.refuse_after,
    );
    let service = bind("[listen] address", config.listen)?;
    let operators = bind("[operator] address", config.operator)?;
    let issuer = match (config.issuer.clone(), service.local_addr()) {
        (Some(issuer), Ok(address)) => Some(issuer.replace("{address}", &address.to_string())),
        (issuer, _) => issuer,
    };
    let region = config
        .regions
        .iter()
        .find(|r| *r != ANY_REGION)
        .map_or(DEFAULT_REGION, String::as_str)
        .to_owned();
    let surroundings = Surroundings {
        clock: clock.clone(),
        entropy: entropy.clone(),
        metrics: metrics.clone(),
        region: region.clone(),
        head: config
            .watermark
            .as_deref()
            .filter(|_| config.audit != Target::Discard)
            .map(audit::head::beside),
    };
    let audit = Audit::open(&config.audit, surroundings).map_err(StartError::Audit)?;
    let urgent = Urgent::start()?;
    let broker = Arc::new(Broker {
        urgent: urgent.handle(),
        directory: ArcSwap::from_pointee(directory),
        master_key: ArcSwapOption::from(parts.master_key),
        directory_is_in_the_store,
        store: parts
            .store
            .counting_in(metrics.clone())
            .keeping_changes_for(config.keep_changes),
        key_use: KeyUse::default(),
        single_use: config.single_use_signatures.then(SingleUse::default),
        revocations,
        feed,
        providers: Arc::new(Providers::new(config.reach, clock.clone())?),
        sound_policies: Cache::new(SOUND_POLICIES),
        budgets: Budgets::new(config.budgets),
        issuer,
        tokens,
        sessions,
        audit,
        clock,
        entropy,
        metrics,
        region,
        names: ArcSwap::from_pointee(names),
        rules: Rules {
            regions: config.regions.clone(),
            skew: config.skew,
            presigned_actions: config.presigned_actions.clone(),
        },
    });
    follow::show_place(&broker);
    follow::announce(&broker, &broker.directory.load());
    if let Some(after) = ended_after {
        follow::write_down_what_ended(&broker, after).await?;
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shared = Arc::new(Shared {
        broker: broker.clone(),
        admission: Admission::new(Bounds {
            connections: limits.connections,
            calls: limits.calls,
            bytes: limits.request_memory_bytes,
        }),
        limits,
        listener: config.listener.clone(),
        reflection: config.reflection,
        certificate: certificate::Ends::new(
            identity.as_ref().and_then(|i| i.validity),
            &broker.metrics,
        ),
        tls: ArcSwapOption::from(identity.map(|i| i.config)),
        handshakes: handshake::places(),
        watermark: config.watermark.clone(),
        timekeeper,
        node,
        serves: ArcSwap::from_pointee(serves),
        asked_for_others: ArcSwap::from_pointee(Duration::ZERO),
        ordinary: Handle::current(),
        stop: stopped,
    });
    let slots = Arc::new(Semaphore::new(limits.connections));
    let local = |listener: &TcpListener, key, address| {
        listener.local_addr().map_err(|source| StartError::Listen {
            key,
            address,
            source,
        })
    };
    let address = local(&service, "[listen] address", config.listen)?;
    let operator = local(&operators, "[operator] address", config.operator)?;
    // Before anybody is told that it listens: a SIGHUP that nobody receives ends the process.
    let watch = watch.map(|seen| signal(SignalKind::hangup()).map(|hangup| (seen, hangup)));
    let watch = watch.transpose().map_err(StartError::Signal)?;
    if broker.store.is_shared() {
        // Before it accepts a session: a revocation elsewhere must know that this node may hold it.
        broker.store.report(&shared.node).await?;
    }
    let mut tasks = vec![
        tokio::spawn(connection::accept(service, shared.clone(), slots.clone())),
        tokio::spawn(operator::accept(operators, shared.clone())),
        tokio::spawn(probe(shared.clone())),
        tokio::spawn(clock::watch(shared.clone())),
        tokio::spawn(certificate::watch(shared.clone())),
        urgent.handle().spawn(follow::follow(shared.clone())),
        tokio::spawn(follow::tend(shared.clone(), loaded_in)),
        tokio::spawn(budgets::look_after(shared.clone())),
        tokio::spawn(budgets::exchange(shared.clone())),
        tokio::spawn(refresh_providers(broker.clone())),
    ];
    if let Some((seen, hangup)) = watch {
        tasks.push(tokio::spawn(reload::watch(
            config,
            shared.clone(),
            seen,
            hangup,
        )));
    }
    let admission = shared.admission.clone();
    Ok(Running {
        address,
        operator,
        broker,
        admission,
        limits,
        stop,
        slots,
        tasks,
        urgent,
        shared,
        _lock: parts.lock,
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
        follow::note_key_use(&self.broker).await;
        if self.broker.store.is_shared() {
            // If it cannot be said, the others notice within seconds.
            let _ = self.broker.store.leave(&self.shared.node).await;
        }
        self.broker.store.close().await;
        drop(self.urgent);
        let shared = self.shared.clone();
        // They wait for files to be synced.
        let closing = tokio::task::spawn_blocking(move || {
            follow::save_watermark(&shared, shared.broker.feed.place());
            shared.timekeeper.save_or_say();
            shared.broker.audit.close();
        });
        let _ = closing.await; // the thread's panic was reported
    }
}

/// The ids of a broker's master keys, as it reports them.
fn reported_keys(key: &MasterKey) -> String {
    key.ids().collect::<Vec<_>>().join(",")
}

/// Looks after Redis once a second, so that readiness tells the truth without traffic.
async fn probe(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tick.tick().await;
        let keyring = shared.broker.tokens.keyring();
        shared
            .broker
            .sessions
            .probe(&keyring, shared.broker.clock.now())
            .await;
    }
}

/// Keys of providers in use are new before they are old.
async fn refresh_providers(broker: Arc<Broker>) {
    let mut tick = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        tick.tick().await;
        broker.providers.refresh();
    }
}

fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let listener = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    });
    listener.map_err(|source| StartError::Listen {
        key,
        address,
        source,
    })
}

impl Shared {
    fn is_ready(&self) -> Result<(), String> {
        if *self.stop.borrow() {
            return Err("shutting down".to_owned());
        }
        if !self.broker.audit.is_up() {
            return Err("the audit log cannot be written".to_owned());
        }
        if let Some(lag) = self.broker.clock.is_behind() {
            return Err(clock::why(&self.broker.clock, lag));
        }
        if !self.broker.tokens.can_sign() {
            return Err(WITHOUT_SIGNING_KEY.to_owned());
        }
        if let sessions::Standing::Unfit(why) = self.broker.sessions.standing() {
            return Err(format!("redis must not be used as it is: {why}"));
        }
        let age = match self.broker.feed.standing(self.broker.clock.monotonic()) {
            Standing::Fresh => return Ok(()),
            Standing::Stale(age) | Standing::Cut(age) => age.as_secs(),
            Standing::Distrusted => {
                return Err(self
                    .broker
                    .feed
                    .fault()
                    .unwrap_or_else(|| "the store is not as brokers left it".to_owned()));
            }
        };
        let why = self
            .broker
            .feed
            .fault()
            .unwrap_or_else(|| "no answer yet".to_owned());
        Err(format!(
            "the change feed has not been confirmed for {age} s: {why}"
        ))
    }
}
