//! [`Broker`]: the toolbox that every operation shares. It knows what there is to work with, and no
//! request.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use moka::sync::Cache;
use tokio::runtime::Handle;

use crate::audit::Audit;
use crate::base::clock::HighWaterClock;
use crate::base::entropy::Entropy;
use crate::base::host_names::HostNames;
use crate::budgets::Budgets;
use crate::directory::Directory;
use crate::error::Error;
use crate::federation::providers::Providers;
use crate::feed::{Feed, Standing};
use crate::master_key::MasterKey;
use crate::metrics::{Metrics, Throttled};
use crate::proof::sigv4::Rules;
use crate::revocations::Revocations;
use crate::sessions::Sessions;
use crate::single_use::SingleUse;
use crate::store::{KeyUse, Store};
use crate::tokens::Tokens;

/// The toolbox that every operation shares.
pub struct Broker {
    /// Who and what there is.
    pub directory: ArcSwap<Directory>,
    /// The keys of session tokens.
    pub tokens: Tokens,
    /// Session policies that were found to be sound, by SHA-256.
    pub sound_policies: Cache<[u8; 32], ()>,
    /// How much each may ask for.
    pub budgets: Budgets,
    /// Who vouches in web identity tokens: a URL; none: nobody.
    pub issuer: Option<String>,
    /// The keys of OpenID Connect providers.
    pub providers: Arc<Providers>,
    /// What is on record about live sessions.
    pub sessions: Sessions,
    /// What secrets of the directory are sealed with.
    pub master_key: ArcSwapOption<MasterKey>,
    /// Whether the directory can be changed here; else it is a file.
    pub directory_is_in_the_store: bool,
    /// What must not be lost.
    pub store: Store,
    /// When long-term keys were last used.
    pub key_use: KeyUse,
    /// Signatures that were used, where each may be used once.
    pub single_use: Option<SingleUse>,
    /// What was revoked.
    pub revocations: Revocations,
    /// How much of the store's changes is in force here.
    pub feed: Feed,
    /// Where urgent calls are served: on a thread that no other call takes time from.
    pub urgent: Handle,
    /// What is written down.
    pub audit: Audit,
    /// The time, which never goes back.
    pub clock: Arc<HighWaterClock>,
    /// Source of random bytes; a seeded twin in tests.
    pub entropy: Arc<dyn Entropy>,
    /// What monitoring reads.
    pub metrics: Arc<Metrics>,
    /// What a signature must keep to.
    pub rules: Rules,
    /// What clients call this broker: a signed request for another host is refused.
    pub names: ArcSwap<HostNames>,
    /// The first of the regions.
    pub region: String,
}

impl Broker {
    /// Nothing is accepted where it is not known what was revoked.
    ///
    /// # Errors
    /// [`Error::ServiceUnavailable`] while the store does not say what was revoked, or is not to be
    /// believed.
    pub fn must_know_what_is_revoked(&self) -> Result<(), Error> {
        match self.feed.standing(self.clock.monotonic()) {
            Standing::Fresh | Standing::Stale(_) => Ok(()),
            Standing::Cut(_) => Err(Error::ServiceUnavailable(
                "what was revoked is not known here; the store",
            )),
            Standing::Distrusted => Err(Error::ServiceUnavailable(
                "the store is not as brokers left it; it",
            )),
        }
    }

    /// Nothing is issued or changed where the clock cannot be right: it would be dated wrongly. What
    /// only takes away goes on.
    ///
    /// # Errors
    /// [`Error::ServiceUnavailable`] while the clock is behind what it said before.
    pub fn must_know_the_time(&self) -> Result<(), Error> {
        match self.clock.is_behind() {
            None => Ok(()),
            Some(_) => Err(Error::ServiceUnavailable("the right time")),
        }
    }

    /// The refusal of a call beyond a limit, counted under the limit's name.
    pub fn throttled(&self, limit: &'static str) -> Error {
        self.metrics
            .throttled
            .get_or_create(&Throttled { budget: limit })
            .inc();
        Error::Throttling
    }
}
