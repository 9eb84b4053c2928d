//! A cache of the metadata in discovery documents that is needed for signing people in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::MAX_AGE;
use super::fetch::{FetchError, Fetcher};
use super::metadata::Metadata;
use crate::directory::OidcProvider;

/// A document that is older than this is fetched again before somebody signs in.
const REFRESH_AFTER: Duration = Duration::from_secs(300);
/// The minimum time between two requests to a provider that did not answer.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The maximum number of providers whose metadata is cached.
const MAX_PROVIDERS: usize = 1_000;

/// The cached metadata of the providers at which people sign in.
#[derive(Default)]
pub(super) struct MetadataCache {
    entries: Mutex<HashMap<Box<str>, Arc<Entry>>>,
}

struct Entry {
    provider: Arc<OidcProvider>,
    /// Locked while a request is in flight, for which other callers wait.
    known: tokio::sync::Mutex<Known>,
}

/// The cached metadata of a provider. Times are those of the monotonic clock.
#[derive(Default)]
struct Known {
    metadata: Option<(Arc<Metadata>, Duration)>,
    failed_at: Option<Duration>,
}

impl MetadataCache {
    /// Returns the metadata of a provider, from the cache or from the provider. While the provider
    /// does not answer, its last answer is used until it is older than [`MAX_AGE`].
    pub(super) async fn get(
        &self,
        fetcher: &Fetcher,
        provider: &Arc<OidcProvider>,
        now: Duration,
    ) -> Result<Arc<Metadata>, FetchError> {
        let entry = self.entry(provider);
        let mut known = entry.known.lock().await;
        let age = |at: Duration| now.saturating_sub(at);
        if let Some((metadata, at)) = &known.metadata
            && age(*at) < REFRESH_AFTER
        {
            return Ok(metadata.clone());
        }
        let asked_lately = known.failed_at.is_some_and(|at| age(at) < ASK_AGAIN_AFTER);
        let fetched = match asked_lately {
            true => Err(FetchError::FailedLately),
            false => fetcher.metadata(provider).await,
        };
        match fetched {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                known.metadata = Some((metadata.clone(), now));
                known.failed_at = None;
                Ok(metadata)
            }
            Err(error) => {
                if !asked_lately {
                    known.failed_at = Some(now);
                    tracing::warn!(provider = %provider.url, %error, "the metadata of an identity provider could not be \
                         fetched; the broker uses the last metadata until it is 24 \
                         hours old, and asks again when somebody signs in; without it, nobody can sign in there");
                }
                let usable = known
                    .metadata
                    .as_ref()
                    .filter(|(_, at)| age(*at) <= MAX_AGE);
                usable.map(|(metadata, _)| metadata.clone()).ok_or(error)
            }
        }
    }

    fn entry(&self, provider: &Arc<OidcProvider>) -> Arc<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get(&provider.arn) {
            Some(entry) if entry.provider.asks_like(provider) => return entry.clone(),
            None if entries.len() >= MAX_PROVIDERS => entries.clear(),
            _ => {}
        }
        let entry = Arc::new(Entry {
            provider: provider.clone(),
            known: tokio::sync::Mutex::default(),
        });
        entries.insert(provider.arn.clone(), entry.clone());
        entry
    }
}
