//! Assembles a broker, and the other parts of its daemon, from the configuration and the loaded files and store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use moka::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::StartError;
use super::clock::Timekeeper;
use super::listeners::{Listeners, host_names};
use super::parts::{FilesRead, Loaded, NodeName, Parts};
use super::reload::Stamps;
use super::s3_parts::S3Parts;
use super::tasks::Urgent;
use super::workers::{self, Workers};
use crate::audit::{self, Audit, Surroundings, Target};
use crate::base::clock::HighWaterClock;
use crate::base::entropy::Entropy;
use crate::base::host_names::HostNames;
use crate::broker::Broker;
use crate::budgets::Budgets;
use crate::config::Config;
use crate::directory_file::Serves;
use crate::federation::providers::Providers;
use crate::feed::Feed;
use crate::hashing::Hashing;
use crate::metrics::Metrics;
use crate::password::hash::Cost;
use crate::proof::sigv4::{ANY_REGION, Rules};
use crate::sessions::Sessions;
use crate::sign_ins::SignIns;
use crate::single_use::SingleUse;
use crate::store::{KeyUse, Node, SqliteLock, Watermark};
use crate::tls::{self, Identity};
use crate::tokens::Tokens;

/// The broker's own region if the configuration only has `*`.
const DEFAULT_REGION: &str = "us-east-1";
/// The maximum number of session policies in the cache of valid session policies.
const SOUND_POLICIES: u64 = 10_000;

/// Opens the session records, in Redis or in memory.
///
/// # Errors
/// [`StartError::Redis`] if the address or the CA of Redis cannot be used.
fn sessions(config: &Config, metrics: &Arc<Metrics>) -> Result<Sessions, StartError> {
    Ok(match &config.redis {
        Some(options) => Sessions::in_redis(options, metrics.clone())?,
        None => Sessions::in_memory(config.session_records, metrics.clone()),
    })
}

/// A broker that accepts no connections yet, and the other parts of its daemon.
pub(super) struct Assembled {
    pub(super) broker: Arc<Broker>,
    /// The certificate of the service; `None` without TLS.
    pub(super) identity: Option<Identity>,
    /// The listener for proxies in front of object stores, if there are stores.
    pub(super) s3: Option<Arc<S3Parts>>,
    pub(super) node: Node,
    pub(super) serves: Serves,
    /// The state of the watched files when they were read; `None` if no file was read.
    pub(super) watch: Option<Stamps>,
    /// The number of the last change before the revocations that ended the sessions of entries removed from the
    /// directory file; `None` if no entry was removed.
    pub(super) ended_after: Option<i64>,
    pub(super) listeners: Listeners,
    pub(super) urgent: Urgent,
    pub(super) workers: Workers,
    pub(super) loaded_in: Duration,
    pub(super) lock: Option<SqliteLock>,
}

impl Assembled {
    /// Loads the store, updates the watermark with the newest change that this node has seen, and binds the listeners.
    pub(super) async fn of(
        config: &Config,
        mut parts: Parts,
        timekeeper: &Timekeeper,
        entropy: Arc<dyn Entropy>,
        read: Option<FilesRead>,
        own: NodeName,
    ) -> Result<Self, StartError> {
        let clock = timekeeper.clock();
        let metrics = Arc::new(Metrics::new());
        let files = config.tls.as_ref();
        let ca = config.client_ca.as_deref();
        let identity = files.map(|(c, k)| tls::load(c, k, ca.into())).transpose()?;
        let s3 = config.s3.as_ref();
        let s3 = s3
            .map(|s3| S3Parts::new(s3, config.data_events, &metrics.s3_certificate_expiration))
            .transpose()?;
        let names = host_names(config, identity.as_ref().map_or(&[], |i| &i.names))?;
        let sessions = sessions(config, &metrics)?;
        let loaded = Loaded::load(&mut parts, config, &clock, &*entropy).await?;
        if let Some(path) = &config.watermark {
            Watermark::of(&loaded.head).save(path)?;
        }
        timekeeper.save()?;
        let (watch, serves, ended_after) = FilesRead::split(read);
        let node = parts.node(config, own, &loaded.head, &serves);
        let listeners = Listeners::bind(config)?;
        let (urgent, workers) = (Urgent::start()?, Workers::start()?);
        let loaded_in = loaded.took;
        let lock = parts.lock.take();
        let materials = Materials {
            config,
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
        Ok(Self {
            broker: Arc::new(materials.broker()?),
            identity,
            s3: s3.map(Arc::new),
            node,
            serves,
            watch,
            ended_after,
            listeners,
            urgent,
            workers,
            loaded_in,
            lock,
        })
    }
}

/// The inputs from which a broker is assembled.
struct Materials<'a> {
    config: &'a Config,
    parts: Parts,
    loaded: Loaded,
    sessions: Sessions,
    names: HostNames,
    address: SocketAddr,
    clock: Arc<HighWaterClock>,
    entropy: Arc<dyn Entropy>,
    metrics: Arc<Metrics>,
    urgent: Handle,
}

impl Materials<'_> {
    /// Assembles the broker, and opens its audit log.
    ///
    /// # Errors
    /// [`StartError::Audit`] if the audit log cannot be opened, [`StartError::Outbound`] if TLS to identity providers
    /// cannot be set up, and [`StartError::Entropy`] if there are no random bytes.
    fn broker(self) -> Result<Broker, StartError> {
        let (config, parts, loaded) = (self.config, self.parts, self.loaded);
        let region = config
            .regions
            .iter()
            .find(|r| *r != ANY_REGION)
            .map_or(DEFAULT_REGION, String::as_str)
            .to_owned();
        let surroundings = Surroundings {
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            metrics: self.metrics.clone(),
            region: region.clone(),
            head: config
                .watermark
                .as_deref()
                .filter(|_| config.audit != Target::Discard)
                .map(audit::head::beside),
        };
        let audit = Audit::open(&config.audit, surroundings).map_err(StartError::Audit)?;
        let tokens = Tokens::new(parts.keyring, config.opened_tokens);
        tokens.revoke(&loaded.revocations.signing_keys());
        let address = self.address.to_string();
        Ok(Broker {
            directory: ArcSwap::from_pointee(loaded.directory),
            master_key: ArcSwapOption::from(parts.master_key),
            directory_is_in_the_store: loaded.directory_is_in_the_store,
            store: parts
                .store
                .counting_in(self.metrics.clone())
                .urgent_on(&self.urgent)
                .keeping_changes_for(config.keep_changes),
            urgent: self.urgent,
            key_use: KeyUse::default(),
            key_ages: config.key_ages,
            blocked_passwords: config.blocked_passwords.clone(),
            hashing: Hashing::new(verifications(), Cost::DEFAULT, &*self.entropy)?,
            single_use: config.single_use_signatures.then(SingleUse::default),
            revocations: loaded.revocations,
            feed: Feed::new(
                loaded.head.sequence,
                &loaded.head.chain,
                self.clock.monotonic(),
                config.refuse_after,
            ),
            watches: Arc::default(),
            providers: Arc::new(Providers::new(config.reach, self.clock.clone())?),
            sound_policies: Cache::new(SOUND_POLICIES),
            budgets: Budgets::new(config.budgets),
            issuer: config
                .issuer
                .as_ref()
                .map(|issuer| issuer.replace("{address}", &address)),
            keystone: config.keystone,
            lifted_claims: config.lifted_claims.clone(),
            verifications: Semaphore::new(verifications()),
            simulations: Semaphore::new(1),
            changes: Semaphore::new(1),
            service_provider: Arc::new(config.service_provider.listening_at(&address)),
            tokens,
            sessions: self.sessions,
            audit,
            clock: self.clock,
            entropy: self.entropy,
            metrics: self.metrics,
            region,
            sign_ins: config
                .sign_in
                .as_ref()
                .map(|settings| SignIns::new(settings.listening_at(&address))),
            names: ArcSwap::from_pointee(self.names),
            rules: Rules {
                regions: config.regions.clone(),
                skew: config.skew,
                presigned_actions: config.presigned_actions.clone(),
            },
        })
    }
}

/// How many SAML responses are verified at the same time, and how many hashes of passwords are computed at the same
/// time: for each, half as many as there are processors, but at least one. Tokens of OpenID Connect providers are not
/// limited by this number.
fn verifications() -> usize {
    (workers::count() / 2).max(1)
}
