//! [`Broker`]: the state that all operations share, apart from any single request.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use moka::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::audit::Audit;
use crate::base::clock::HighWaterClock;
use crate::base::entropy::Entropy;
use crate::base::host_names::HostNames;
use crate::budgets::Budgets;
use crate::directory::Directory;
use crate::error::Error;
use crate::federation::providers::Providers;
use crate::federation::saml::ServiceProvider;
use crate::feed::{Feed, Standing};
use crate::hashing::Hashing;
use crate::key_ages::KeyAges;
use crate::master_key::MasterKey;
use crate::metrics::{Metrics, Throttled};
use crate::password::block_list::BlockList;
use crate::proof::sigv4::Rules;
use crate::revocations::Revocations;
use crate::sessions::Sessions;
use crate::sign_ins::SignIns;
use crate::single_use::SingleUse;
use crate::store::{KeyUse, Store};
use crate::tokens::Tokens;
use crate::watches::Watches;

/// The state that all operations share.
pub struct Broker {
    /// The current snapshot of the directory, which is replaced as a whole when something changes.
    pub directory: ArcSwap<Directory>,
    /// The keyring, and a cache of opened session tokens.
    pub tokens: Tokens,
    /// The SHA-256 digests of session policies that were found to be valid.
    pub sound_policies: Cache<[u8; 32], ()>,
    /// Counts how much of their budgets callers have used.
    pub budgets: Budgets,
    /// The issuer of web identity tokens, as a URL; `None` if this broker issues none.
    pub issuer: Option<String>,
    /// Whether object stores may use the API of OpenStack's Keystone, for which the broker must keep the
    /// tokens of all sessions.
    pub keystone: bool,
    /// The claims that roles may have at the top level of web identity tokens.
    pub lifted_claims: Vec<String>,
    /// The audiences and URLs that SAML assertions must name, and the clock leeway.
    pub service_provider: Arc<ServiceProvider>,
    /// Limits how many SAML responses are verified at once, because their senders are not
    /// authenticated yet.
    pub verifications: Semaphore,
    /// Limits how many policy simulations are computed at once.
    pub simulations: Semaphore,
    /// A semaphore with one permit, for the call that changes the directory. The call holds it
    /// until its change is in force here.
    pub changes: Semaphore,
    /// The signing keys of OpenID Connect providers, with which their tokens are verified.
    pub providers: Arc<Providers>,
    /// The records of live sessions, for listing them. No decision depends on these.
    pub sessions: Sessions,
    /// The key that seals the secrets of the directory.
    pub master_key: ArcSwapOption<MasterKey>,
    /// Whether the directory can be changed through the API. Otherwise it is managed in a file.
    pub directory_is_in_the_store: bool,
    /// The SQL store with everything that must not be lost.
    pub store: Store,
    /// Records when each long-term key and password was last used.
    pub key_use: KeyUse,
    /// How old and how long unused an access key may become.
    pub key_ages: KeyAges,
    /// The passwords that nobody may choose; `None` if the configuration names no list.
    pub blocked_passwords: Option<BlockList>,
    /// Computes the hashes of passwords, and limits how many are computed at once.
    pub hashing: Hashing,
    /// The signatures that were used already; `None` if a signature may be used more than once.
    pub single_use: Option<SingleUse>,
    /// The revocations that are in force on this node, against which every session is checked.
    pub revocations: Revocations,
    /// The position of this node in the store's change feed: which changes are in force here.
    pub feed: Feed,
    /// Limits on how many streams of revocations are open.
    pub watches: Arc<Watches>,
    /// The runtime for urgent calls. It has a separate thread, so that other calls cannot delay urgent ones.
    pub urgent: Handle,
    /// The audit log, in which each call is recorded before it is answered.
    pub audit: Audit,
    /// The clock, which never goes back.
    pub clock: Arc<HighWaterClock>,
    /// The source of random bytes; tests use one with a seed.
    pub entropy: Arc<dyn Entropy>,
    /// The counters and gauges that are exposed to monitoring.
    pub metrics: Arc<Metrics>,
    /// The accepted regions, the permitted difference of clocks, and the actions that may be
    /// presigned.
    pub rules: Rules,
    /// The names by which clients call this broker. A request signed for another host is refused.
    pub names: ArcSwap<HostNames>,
    /// The broker's own region, which is the first of the configured regions.
    pub region: String,
    /// How people sign in, and the device flows that are open here; `None` if they cannot.
    pub sign_ins: Option<SignIns>,
}

impl Broker {
    /// Checks that this node knows what is revoked, without which nothing may be accepted.
    ///
    /// # Errors
    /// [`Error::ServiceUnavailable`] while the store has not answered for too long, or cannot be trusted.
    pub fn must_know_what_is_revoked(&self) -> Result<(), Error> {
        match self.feed.standing(self.clock.monotonic()) {
            Standing::Fresh | Standing::Stale(_) => Ok(()),
            Standing::Cut(_) => Err(Error::ServiceUnavailable("the list of revocations")),
            Standing::Distrusted => Err(Error::ServiceUnavailable(
                "the store, whose content cannot be verified,",
            )),
        }
    }

    /// Checks that the clock is plausible, without which nothing may be issued or changed, because
    /// it would be dated wrongly. Calls that only revoke something are not checked.
    ///
    /// # Errors
    /// [`Error::ServiceUnavailable`] while the wall clock is too far behind the time seen before.
    pub fn must_know_the_time(&self) -> Result<(), Error> {
        match self.clock.is_behind() {
            None => Ok(()),
            Some(_) => Err(Error::ServiceUnavailable("the correct time")),
        }
    }

    /// Makes the refusal of a call that exceeds a limit, and counts it under the limit's name.
    pub fn throttled(&self, limit: &'static str) -> Error {
        self.metrics
            .throttled
            .get_or_create(&Throttled { budget: limit })
            .inc();
        Error::Throttling
    }
}
