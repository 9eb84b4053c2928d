//! A session that renews itself.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::{AssumeRole, Client, ClientError, Credentials};
use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy, SystemEntropy};

/// The least that is left of credentials that are handed out while they cannot be refreshed.
const MARGIN: Duration = Duration::from_secs(60);
/// How long after a failed refresh the next one is tried, while the old credentials are good.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// A session that renews itself: `get` answers from memory, and when half of the credentials' life
/// is over (give or take a tenth, so that a fleet does not come back all at once) one caller
/// fetches new ones.
#[derive(Clone)]
pub struct RoleCredentials(Arc<Refreshing>);

struct Refreshing {
    client: Client,
    request: AssumeRole,
    entropy: Arc<dyn Entropy>,
    current: RwLock<Option<Held>>,
    /// One fetch at a time; the others wait for it, or go on with what there is.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Held {
    credentials: Credentials,
    refresh_at: Timestamp,
}

/// What to do with credentials in hand.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// They are good, and young.
    Use,
    /// They are good; somebody should fetch new ones.
    Refresh,
    /// They are not to be used any more.
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

/// Half of the life, give or take a tenth of it; `chance` is any number.
fn refresh_at(received_at: Timestamp, expires_at: Timestamp, chance: u16) -> Timestamp {
    let life = expires_at.since(received_at);
    received_at
        .plus(life * 2 / 5)
        .plus(life / 5 * u32::from(chance) / u32::from(u16::MAX))
}

impl RoleCredentials {
    /// Fetches nothing yet.
    pub fn new(client: Client, request: AssumeRole) -> Self {
        Self(Arc::new(Refreshing {
            client,
            request,
            entropy: Arc::new(SystemEntropy::new()),
            current: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
        }))
    }

    /// Credentials with at least a minute left. While the broker cannot be reached the old ones go
    /// on until then.
    ///
    /// # Errors
    /// When there are none that are good, and none can be fetched.
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
                let chance = entropy::bytes::<2>(&*inner.entropy).map_or(0, u16::from_be_bytes);
                let refresh_at = refresh_at(received_at, expires_at, chance);
                self.hold(Held {
                    credentials: role.credentials.clone(),
                    refresh_at,
                });
                Ok(role.credentials)
            }
            Err(error) => match (self.judge(held.as_ref()), held.as_ref()) {
                ((Next::Refresh, _), Some(held)) => {
                    tracing::warn!(%error, "credentials could not be refreshed; the old ones go on");
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
