//! OpenID Connect providers: their signing keys, and their endpoints for signing people in. The keys are fetched once,
//! cached, refreshed before they get old, and used while the provider is unreachable, up to a maximum age. OpenID
//! Connect Discovery 1.0.
//!
//! Unknown key ids shown by one caller must not delay the logins of others: at most one request to a provider is in
//! flight, and unknown ids cause at most one request in [`ASK_EVERY`].

mod endpoints;
mod exchange;
mod fetch;
mod metadata;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::directory::{OidcProvider, SignInClient};
use crate::proof::jwt::{KeySet, VerifyingKey};

use endpoints::MetadataCache;
pub use exchange::{Code, ExchangeError, Tokens};
use fetch::Fetcher;
pub use fetch::Reach;
pub use metadata::Metadata;

/// Keys that are older than this are fetched again while the provider is in use.
pub const REFRESH_AFTER: Duration = Duration::from_secs(300);
/// The maximum age of keys. The tokens of a provider that has been unreachable for this long are
/// refused.
pub const MAX_AGE: Duration = Duration::from_secs(86_400);
/// The minimum time between two requests that are caused by unknown key ids or follow a failure.
pub const ASK_EVERY: Duration = Duration::from_secs(30);
/// If nobody has shown a token of a provider for this long, its keys are not refreshed until somebody does.
const IN_USE: Duration = Duration::from_secs(3_600);
/// The maximum number of providers whose keys are cached.
const MAX_PROVIDERS: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The provider has no key with this id.
    #[error("the provider has no key with the `kid` of the token")]
    Unknown,
    /// The provider did not answer, was asked too recently to be asked again, is being asked by another call, or has no
    /// place in the cache.
    #[error("the provider's keys cannot be fetched at the moment")]
    Unreachable,
}

/// A cache of the keys and endpoints of the providers that were in use.
pub struct Providers {
    entries: Mutex<HashMap<Box<str>, Arc<Entry>>>,
    metadata: MetadataCache,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
}

struct Entry {
    provider: Arc<OidcProvider>,
    known: Mutex<Known>,
    /// Locked while a request to the provider is in flight.
    asking: tokio::sync::Mutex<()>,
}

/// The cached state of a provider. Times are those of the monotonic clock.
#[derive(Default)]
struct Known {
    keys: Option<(Arc<KeySet>, Duration)>,
    asked_at: Option<Duration>,
    /// Whether the last request to the provider failed.
    away: bool,
    used_at: Duration,
}

impl Providers {
    /// Creates an empty cache.
    ///
    /// # Errors
    /// [`rustls::Error`] if TLS cannot be set up.
    pub fn new(reach: Reach, clock: Arc<dyn Clock>) -> Result<Self, rustls::Error> {
        Ok(Self {
            entries: Mutex::default(),
            metadata: MetadataCache::default(),
            fetcher: Fetcher::new(reach)?,
            clock,
        })
    }

    /// Fetches a provider's discovery document and keys without using the cache, for a check, unless the directory
    /// declares the keys. Returns the number of keys.
    ///
    /// # Errors
    /// A message that says why they could not be fetched.
    pub async fn examine(&self, provider: &OidcProvider) -> Result<usize, String> {
        match &provider.keys {
            Some(keys) => Ok(keys.count()),
            None => self
                .fetcher
                .keys(provider)
                .await
                .map(|keys| keys.count())
                .map_err(|error| error.to_string()),
        }
    }

    /// Returns the endpoints of a provider, for signing people in.
    ///
    /// # Errors
    /// A message that says why they could not be fetched.
    pub async fn metadata(&self, provider: &Arc<OidcProvider>) -> Result<Arc<Metadata>, String> {
        let now = self.clock.monotonic();
        let metadata = self.metadata.get(&self.fetcher, provider, now).await;
        metadata.map_err(|error| error.to_string())
    }

    /// Exchanges an authorization code for tokens, authenticated as this client of the provider.
    ///
    /// # Errors
    /// [`ExchangeError`] if the provider refuses the code or this client, cannot be reached, or answers with something
    /// else; or if the broker lacks the client secret, or knows no method of authentication that the provider accepts.
    pub async fn exchange(
        &self,
        provider: &OidcProvider,
        metadata: &Metadata,
        client: &SignInClient,
        code: &Code<'_>,
    ) -> Result<Tokens, ExchangeError> {
        exchange::exchange(&self.fetcher, provider, metadata, client, code).await
    }

    /// Returns the provider's key with this id, from the cache or from the provider.
    ///
    /// # Errors
    /// [`KeyError`] if the provider does not have the key, or cannot be asked for it now.
    pub async fn key(
        &self,
        provider: &Arc<OidcProvider>,
        id: &str,
    ) -> Result<VerifyingKey, KeyError> {
        if let Some(keys) = &provider.keys {
            return keys.get(id).cloned().ok_or(KeyError::Unknown);
        }
        let entry = self.entry(provider).ok_or(KeyError::Unreachable)?;
        let now = self.clock.monotonic();
        let (old, cold, asked_lately) = {
            let mut known = entry.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.used_at = now;
            let usable = known
                .keys
                .as_ref()
                .filter(|(_, at)| now.saturating_sub(*at) <= MAX_AGE);
            let key = usable.and_then(|(keys, _)| keys.get(id)).cloned();
            let new = usable.is_some_and(|(_, at)| now.saturating_sub(*at) <= 2 * REFRESH_AFTER);
            let asked_lately = known
                .asked_at
                .is_some_and(|at| now.saturating_sub(at) < ASK_EVERY);
            match key {
                // The keys are recent enough, or the provider was just asked and did not answer.
                Some(key) if new || asked_lately => return Ok(key),
                key => (key, usable.is_none(), asked_lately),
            }
        };
        if let Some(key) = old {
            // The keys have not been refreshed for a while, and a retired key must not be accepted,
            // so one request checks.
            let Ok(_asking) = entry.asking.try_lock() else {
                return Ok(key);
            };
            self.ask(&entry).await;
            return entry.usable(now, id);
        }
        match (cold, asked_lately) {
            // The provider was asked recently: it does not have this key, or it did not answer.
            (false, true) => return entry.usable(now, id),
            (true, true) if entry.asking.try_lock().is_ok() => return Err(KeyError::Unreachable),
            _ => {}
        }
        if cold {
            // No keys yet: all callers wait for the one request in flight.
            let _asking = entry.asking.lock().await;
            if entry.is_cold(now) {
                self.ask(&entry).await;
            }
        } else {
            let Ok(_asking) = entry.asking.try_lock() else {
                return Err(KeyError::Unreachable);
            };
            self.ask(&entry).await;
        }
        entry.usable(now, id)
    }

    /// Refreshes the keys of providers in use that are no longer recent, each in its own task, and drops the keys that
    /// nobody has used for [`MAX_AGE`]. Must be called periodically.
    pub fn refresh(self: &Arc<Self>) {
        let now = self.clock.monotonic();
        let due: Vec<Arc<Entry>> = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            entries.retain(|_, entry| now.saturating_sub(entry.used_at()) <= MAX_AGE);
            entries
                .values()
                .filter(|entry| entry.is_due(now))
                .cloned()
                .collect()
        };
        for entry in due {
            let this = self.clone();
            tokio::spawn(async move {
                if let Ok(_asking) = entry.asking.try_lock() {
                    this.ask(&entry).await;
                }
            });
        }
    }

    fn entry(&self, provider: &Arc<OidcProvider>) -> Option<Arc<Entry>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get(&provider.arn) {
            // A provider whose declaration has changed is asked again.
            Some(entry) if entry.provider.asks_like(provider) => return Some(entry.clone()),
            None if entries.len() >= MAX_PROVIDERS => return None,
            _ => {}
        }
        let entry = Arc::new(Entry {
            provider: provider.clone(),
            known: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        });
        entries.insert(provider.arn.clone(), entry.clone());
        Some(entry)
    }

    async fn ask(&self, entry: &Entry) {
        let fetched = self.fetcher.keys(&entry.provider).await;
        let now = self.clock.monotonic();
        let mut known = entry.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.asked_at = Some(now);
        known.away = fetched.is_err();
        match fetched {
            Ok(keys) => known.keys = Some((Arc::new(keys), now)),
            Err(error) => {
                tracing::warn!(provider = %entry.provider.url, %error, "the keys of an identity provider could not be fetched; \
                     the broker uses the last keys until they are 24 hours \
                     old, and asks again; without such keys, it refuses the tokens of this provider");
            }
        }
    }
}

impl Entry {
    fn used_at(&self) -> Duration {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .used_at
    }

    fn usable(&self, now: Duration, id: &str) -> Result<VerifyingKey, KeyError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &known.keys {
            Some((keys, at)) if now.saturating_sub(*at) <= MAX_AGE => match keys.get(id) {
                Some(key) => Ok(key.clone()),
                // The key may be new, so the caller may try again.
                None if known.away => Err(KeyError::Unreachable),
                None => Err(KeyError::Unknown),
            },
            _ => Err(KeyError::Unreachable),
        }
    }

    fn is_cold(&self, now: Duration) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .keys
            .as_ref()
            .is_none_or(|(_, at)| now.saturating_sub(*at) > MAX_AGE)
            && known
                .asked_at
                .is_none_or(|at| now.saturating_sub(at) >= ASK_EVERY)
    }

    fn is_due(&self, now: Duration) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_sub(known.used_at) <= IN_USE
            && known
                .keys
                .as_ref()
                .is_some_and(|(_, at)| now.saturating_sub(*at) > REFRESH_AFTER)
            && known
                .asked_at
                .is_none_or(|at| now.saturating_sub(at) >= ASK_EVERY)
    }
}
