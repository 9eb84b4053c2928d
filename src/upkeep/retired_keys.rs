//! Records in the store which signing keys a rotation has removed from the keyring, so that no broker uses them again
//! because of an older keyring file.

use std::time::Duration;

use crate::broker::Broker;
use crate::commands::{self, Actor};

/// The pause after an attempt to record retired keys has failed.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Decides when retired keys are recorded, and tries again after a failure.
#[derive(Default)]
pub(super) struct RetiredKeys {
    /// When the last attempt failed, by the monotonic clock.
    failed_at: Option<Duration>,
}

impl RetiredKeys {
    pub(super) async fn note_if_new(&mut self, broker: &Broker, now: Duration) {
        let is_early = |at: Duration| now.saturating_sub(at) < RETRY_AFTER;
        let retired = broker.tokens.with_keyring(|keyring| keyring.retired());
        if retired.is_empty() || self.failed_at.is_some_and(is_early) {
            return;
        }
        let known = broker.revocations.signing_keys();
        let news: Vec<String> = retired.difference(&known).cloned().collect();
        if news.is_empty() {
            return;
        }
        let actor = Actor::operator("the broker that read the keyring");
        let time = broker.clock.now();
        match commands::retire_signing_keys(&broker.store, &actor, news.clone(), time).await {
            Ok(_) => {
                self.failed_at = None;
                tracing::info!(
                    keys = news.join(", "),
                    "this broker now refuses the signing keys that the keyring lists as retired"
                );
                for id in &news {
                    broker.revocations.revoke_signing_key(id);
                }
                broker.feed.nudge();
            }
            Err(error) => {
                self.failed_at = Some(now);
                tracing::warn!(%error, "the retired signing keys could not be recorded in the store; the broker tries again");
            }
        }
    }
}
