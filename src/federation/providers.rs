//! The keys of OpenID Connect providers: fetched once, kept, refreshed before they are old, and
//! served while the provider is away, up to a stated age. OpenID Connect Discovery 1.0.
//!
//! Nobody's login waits because somebody else shows unknown key ids: a provider is asked by one
//! request at a time, and for unknown ids at most once in [`ASK_EVERY`].

mod fetch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::directory::OidcProvider;
use crate::proof::jwt::{Key, KeySet};

use fetch::Fetcher;
pub use fetch::Reach;

/// How old keys may be before they are fetched again, while the provider is in use.
pub const REFRESH_AFTER: Duration = Duration::from_secs(300);
/// How old keys may be at all: a provider that has been away for so long vouches for nobody.
pub const MAX_AGE: Duration = Duration::from_secs(86_400);
/// The least between two attempts for the sake of unknown key ids, or after a failure.
pub const ASK_EVERY: Duration = Duration::from_secs(30);
/// A provider that nobody showed a token of for so long is refreshed when somebody does.
const IN_USE: Duration = Duration::from_secs(3_600);
/// The most providers whose keys are kept.
const MAX_PROVIDERS: usize = 10_000;

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The provider has no such key.
    #[error("the provider has no such key")]
    Unknown,
    /// The provider cannot be asked now.
    #[error("the provider cannot be asked now")]
    Unreachable,
}

/// What is known of the keys of all providers that were asked for.
pub struct Providers {
    entries: Mutex<HashMap<Box<str>, Arc<Entry>>>,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
}

struct Entry {
    provider: Arc<OidcProvider>,
    known: Mutex<Known>,
    /// Held while the provider is asked.
    asking: tokio::sync::Mutex<()>,
}

/// Times are on the monotonic clock.
#[derive(Default)]
struct Known {
    keys: Option<(Arc<KeySet>, Duration)>,
    asked_at: Option<Duration>,
    /// Whether it answered then.
    away: bool,
    used_at: Duration,
}

impl Providers {
    /// With nothing known.
    ///
    /// # Errors
    /// When there is no TLS to ask by.
    pub fn new(reach: Reach, clock: Arc<dyn Clock>) -> Result<Self, rustls::Error> {
        Ok(Self {
            entries: Mutex::default(),
            fetcher: Fetcher::new(reach)?,
            clock,
        })
    }

    /// Asks a provider for its discovery document and its keys, whatever is known of them: how many it has.
    ///
    /// # Errors
    /// Why they cannot be had.
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

    /// A provider's key of that id.
    ///
    /// # Errors
    /// [`KeyError`]
    pub async fn key(&self, provider: &Arc<OidcProvider>, id: &str) -> Result<Key, KeyError> {
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
                // The provider is away, as far as is known.
                Some(key) if new || asked_lately => return Ok(key),
                key => (key, usable.is_none(), asked_lately),
            }
        };
        if let Some(key) = old {
            // Nobody asked for a while: what was retired meanwhile must not pass. One request finds out.
            let Ok(_asking) = entry.asking.try_lock() else {
                return Ok(key);
            };
            self.ask(&entry).await;
            return entry.usable(now, id);
        }
        match (cold, asked_lately) {
            // It was asked: this key was not among its keys, or it did not answer.
            (false, true) => return entry.usable(now, id),
            (true, true) if entry.asking.try_lock().is_ok() => return Err(KeyError::Unreachable),
            _ => {}
        }
        if cold {
            // Nothing is known: whoever comes waits for the one who asks.
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

    /// Fetches what is in use and not new any more, each provider by itself. To be called now and
    /// then.
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
            // One that was declared anew is asked anew.
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
                tracing::warn!(provider = %entry.provider.url, %error, "an identity provider's keys cannot be had");
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

    fn usable(&self, now: Duration, id: &str) -> Result<Key, KeyError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &known.keys {
            Some((keys, at)) if now.saturating_sub(*at) <= MAX_AGE => match keys.get(id) {
                Some(key) => Ok(key.clone()),
                // It may be a new one: whoever shows it may try again.
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
