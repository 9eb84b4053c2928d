//! Assembles a broker from its configuration and what was loaded.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use moka::sync::Cache;
use tokio::runtime::Handle;

use super::StartError;
use super::parts::{Loaded, Parts};
use crate::audit::{self, Audit, Surroundings, Target};
use crate::base::clock::HighWaterClock;
use crate::base::entropy::Entropy;
use crate::base::host_names::HostNames;
use crate::broker::Broker;
use crate::budgets::Budgets;
use crate::config::Config;
use crate::federation::providers::Providers;
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::proof::sigv4::{ANY_REGION, Rules};
use crate::sessions::Sessions;
use crate::single_use::SingleUse;
use crate::store::KeyUse;
use crate::tokens::Tokens;

/// The broker's own region if the configuration only has `*`.
const DEFAULT_REGION: &str = "us-east-1";
/// How many session policies the cache of valid ones holds.
const SOUND_POLICIES: u64 = 10_000;

/// Opens the session records, in Redis or in memory.
///
/// # Errors
/// [`StartError::Redis`] if the address or the CA of Redis cannot be used.
pub(super) fn sessions(config: &Config, metrics: &Arc<Metrics>) -> Result<Sessions, StartError> {
    Ok(match &config.redis {
        Some(options) => Sessions::in_redis(options, metrics.clone())?,
        None => Sessions::in_memory(config.session_records, metrics.clone()),
    })
}

/// Everything that a broker is assembled from.
pub(super) struct Materials<'a> {
    pub(super) config: &'a Config,
    pub(super) parts: Parts,
    pub(super) loaded: Loaded,
    pub(super) sessions: Sessions,
    pub(super) names: HostNames,
    /// The address of the service.
    pub(super) address: SocketAddr,
    pub(super) clock: Arc<HighWaterClock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) urgent: Handle,
}

impl Materials<'_> {
    /// Assembles the broker, and opens its audit log.
    ///
    /// # Errors
    /// [`StartError::Audit`] if the audit log cannot be opened, [`StartError::Outbound`] if TLS to identity
    /// providers cannot be set up.
    pub(super) fn broker(self) -> Result<Broker, StartError> {
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
            urgent: self.urgent,
            directory: ArcSwap::from_pointee(loaded.directory),
            master_key: ArcSwapOption::from(parts.master_key),
            directory_is_in_the_store: loaded.directory_is_in_the_store,
            store: parts
                .store
                .counting_in(self.metrics.clone())
                .keeping_changes_for(config.keep_changes),
            key_use: KeyUse::default(),
            single_use: config.single_use_signatures.then(SingleUse::default),
            revocations: loaded.revocations,
            feed: Feed::new(
                loaded.head.sequence,
                &loaded.head.chain,
                self.clock.monotonic(),
                config.refuse_after,
            ),
            providers: Arc::new(Providers::new(config.reach, self.clock.clone())?),
            sound_policies: Cache::new(SOUND_POLICIES),
            budgets: Budgets::new(config.budgets),
            issuer: config
                .issuer
                .as_ref()
                .map(|issuer| issuer.replace("{address}", &address)),
            service_provider: Arc::new(config.service_provider.listening_at(&address)),
            tokens,
            sessions: self.sessions,
            audit,
            clock: self.clock,
            entropy: self.entropy,
            metrics: self.metrics,
            region,
            names: ArcSwap::from_pointee(self.names),
            rules: Rules {
                regions: config.regions.clone(),
                skew: config.skew,
                presigned_actions: config.presigned_actions.clone(),
            },
        })
    }
}
