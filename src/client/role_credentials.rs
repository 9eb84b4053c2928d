//! Keeps credentials of a role in memory, and refreshes them before they expire.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::{AssumeRole, Client, ClientError, Credentials};
use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy, SystemEntropy};

/// Credentials that expire sooner than this are not handed out.
const MARGIN: Duration = Duration::from_secs(60);
/// The pause after a failed refresh, while the old credentials are still handed out.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Credentials of a role in memory, for any number of callers. [`RoleCredentials::get`] returns them. When 40
/// to 60 % of their lifetime is over (at random, so that a fleet does not refresh at the same time), one
/// caller fetches new ones.
#[derive(Clone)]
pub struct RoleCredentials(Arc<Refreshing>);

struct Refreshing {
    client: Client,
    request: AssumeRole,
    entropy: Arc<dyn Entropy>,
    current: RwLock<Option<Held>>,
    /// Locked by the caller that fetches. The others wait for it, or use the old credentials.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Held {
    credentials: Credentials,
    refresh_at: Timestamp,
}

/// How to proceed, depending on the age of the credentials in memory.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The credentials are good: use them.
    Use,
    /// The credentials can be used, but it is time to fetch new ones.
    Refresh,
    /// There are no credentials, or they must not be used any more: wait for new ones.
    Wait,
}

fn next(now: Timestamp, refresh_at: Timestamp, expires_at: Timestamp) -> Next {
    if now.plus(MARGIN) >= expires_at {
        Next::Wait
    } else if now >= refresh_at {
        Next::Refresh
    } else {
        Next::Use
    }
}

/// When 40 to 60 % of the lifetime is over; `random` chooses the point between.
fn refresh_at(received_at: Timestamp, expires_at: Timestamp, random: u16) -> Timestamp {
    let life = expires_at.since(received_at);
    received_at
        .plus(life * 2 / 5)
        .plus(life / 5 * u32::from(random) / u32::from(u16::MAX))
}

impl RoleCredentials {
    /// Makes an empty cache; the first [`RoleCredentials::get`] fetches.
    pub fn new(client: Client, request: AssumeRole) -> Self {
        Self(Arc::new(Refreshing {
            client,
            request,
            entropy: Arc::new(SystemEntropy::new()),
            current: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
        }))
    }

    /// Returns credentials that are valid for at least another minute. If a refresh fails, the old credentials are
    /// returned as long as they are valid for another minute.
    ///
    /// # Errors
    /// The error of AssumeRole, if there are no old credentials that can still be used, and [`ClientError::Incomplete`]
    /// if the answer of AssumeRole does not say when the credentials expire.
    pub async fn get(&self) -> Result<Credentials, ClientError> {
        let inner = &self.0;
        let held = self.held();
        let _turn = match self.judge(held.as_ref()) {
            (Next::Use, Some(held)) => return Ok(held.credentials.clone()),
            (Next::Refresh, Some(held)) => match inner.fetching.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(held.credentials.clone()),
            },
            _ => inner.fetching.lock().await,
        };
        // Another caller may have fetched while this one waited.
        let held = self.held();
        if let (Next::Use, Some(held)) = self.judge(held.as_ref()) {
            return Ok(held.credentials.clone());
        }
        match inner.client.assume_role(&inner.request).await {
            Ok(role) => {
                let (received_at, expires_at) = role
                    .credentials
                    .life
                    .ok_or(ClientError::Incomplete("expiration"))?;
                let random = entropy::bytes::<2>(&*inner.entropy).map_or(0, u16::from_be_bytes);
                let refresh_at = refresh_at(received_at, expires_at, random);
                self.hold(Held {
                    credentials: role.credentials.clone(),
                    refresh_at,
                });
                Ok(role.credentials)
            }
            Err(error) => match (self.judge(held.as_ref()), held.as_ref()) {
                ((Next::Refresh, _), Some(held)) => {
                    tracing::warn!(%error, "the credentials could not be refreshed; the old ones are used until they \
                        expire");
                    let refresh_at = inner.client.clock.now().plus(RETRY_AFTER);
                    self.hold(Held {
                        refresh_at,
                        ..held.clone()
                    });
                    Ok(held.credentials.clone())
                }
                _ => Err(error),
            },
        }
    }

    fn held(&self) -> Option<Held> {
        self.0
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn hold(&self, held: Held) {
        *self
            .0
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(held);
    }

    fn judge<'a>(&self, held: Option<&'a Held>) -> (Next, Option<&'a Held>) {
        let verdict = held.and_then(|h| {
            h.credentials
                .expires_at()
                .map(|end| next(self.0.client.clock.now(), h.refresh_at, end))
        });
        (verdict.unwrap_or(Next::Wait), held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refreshed_ahead_of_expiry_with_jitter() {
        let (start, end) = (Timestamp::from_seconds(0), Timestamp::from_seconds(3_600));
        assert_eq!(refresh_at(start, end, 0).seconds(), 1_440);
        assert_eq!(refresh_at(start, end, u16::MAX).seconds(), 2_160);
        let at = Timestamp::from_seconds;
        assert_eq!(next(at(1_000), at(1_440), end), Next::Use);
        assert_eq!(next(at(1_440), at(1_440), end), Next::Refresh);
        assert_eq!(next(at(3_539), at(1_440), end), Next::Refresh);
        assert_eq!(next(at(3_540), at(1_440), end), Next::Wait);
    }
}
