//! What has expired is swept, and it is noted when keys were last used.

use std::time::Duration;

use super::SaveTime;
use crate::base::clock::Timestamp;
use crate::broker::Broker;

/// How often what has run out is swept, and key use noted.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// History is deleted only by a clock that has gone on with the time that passes for so long.
const STEADY_FOR: Duration = Duration::from_secs(3_600);
/// By so much a clock may run away from the time that passes.
const UNSTEADY: Duration = Duration::from_secs(60);

/// When it was last swept, and whether the clock is steady enough to delete history by it.
pub(super) struct Sweeps {
    swept_at: Duration,
    /// Since when the clock has gone on with the time that passes: by the monotonic clock, and by itself.
    steady_since: (Duration, Timestamp),
    save_time: SaveTime,
}

impl Sweeps {
    pub(super) fn new(broker: &Broker, save_time: SaveTime) -> Self {
        Self {
            swept_at: Duration::ZERO,
            steady_since: (broker.clock.monotonic(), broker.clock.now()),
            save_time,
        }
    }

    pub(super) async fn sweep_if_due(&mut self, broker: &Broker, now: Duration) {
        if now.saturating_sub(self.swept_at) < SWEEP_EVERY {
            return;
        }
        self.swept_at = now;
        note_key_use(broker).await;
        // What has run out by a time is forgotten only once that time is on the disk: a node that does not
        // remember the time must not have forgotten the revocations either.
        let save_time = self.save_time.clone();
        let saved = tokio::task::spawn_blocking(move || save_time()).await;
        if !matches!(saved, Ok(Ok(()))) {
            tracing::debug!("the highest time that was seen is not written; nothing is swept");
            return;
        }
        let history = self.history_before(broker.clock.now(), now);
        broker.revocations.sweep(broker.clock.now());
        if let Some(single_use) = &broker.single_use {
            single_use.sweep(now);
        }
        if let Err(error) = broker.store.sweep(broker.clock.now(), history).await {
            tracing::debug!(%error, "expired rows were not deleted from the store; the next sweep tries again");
        }
    }

    /// By which time the history of changes is deleted: a clock that is ahead for a minute must not delete
    /// any.
    fn history_before(&mut self, time: Timestamp, now: Duration) -> Timestamp {
        let (since, at) = self.steady_since;
        if time.since(at.plus(now.saturating_sub(since))) > UNSTEADY {
            self.steady_since = (now, time);
        }
        if now.saturating_sub(self.steady_since.0) >= STEADY_FOR {
            time
        } else {
            Timestamp::from_millis(i64::MIN / 2)
        }
    }
}

/// Writes down when long-term keys were last used.
pub async fn note_key_use(broker: &Broker) {
    let used = broker.key_use.take();
    if let Err(error) = broker.store.note_key_use(&used, &broker.region).await {
        tracing::debug!(%error, "the last use of access keys is lost");
    }
}
