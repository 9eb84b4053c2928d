//! Deletes expired rows, and records when access keys were last used.

use std::time::Duration;

use super::SaveTime;
use super::key_ages::KeyWatch;
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::sign_in;

/// How often expired rows are deleted, and the last use of access keys is recorded.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long the wall clock must have kept pace with the monotonic clock before the time of the wall clock decides which
/// changes are old enough to be deleted.
const STEADY_FOR: Duration = Duration::from_secs(3_600);
/// How far the wall clock may run ahead of the monotonic clock and still count as keeping pace with it.
const UNSTEADY: Duration = Duration::from_secs(60);

/// The time of the last sweep, and since when the clock has been steady enough to delete old changes by it.
pub(super) struct Sweeps {
    swept_at: Duration,
    /// Since when the wall clock has kept pace: the time of the monotonic clock, and of the wall clock.
    steady_since: (Duration, Timestamp),
    key_watch: KeyWatch,
    save_time: SaveTime,
}

impl Sweeps {
    pub(super) fn new(broker: &Broker, save_time: SaveTime) -> Self {
        Self {
            swept_at: Duration::ZERO,
            steady_since: (broker.clock.monotonic(), broker.clock.now()),
            key_watch: KeyWatch::default(),
            save_time,
        }
    }

    pub(super) async fn sweep_if_due(&mut self, broker: &Broker, now: Duration) {
        if now.saturating_sub(self.swept_at) < SWEEP_EVERY {
            return;
        }
        self.swept_at = now;
        note_key_use(broker).await;
        // What has expired by a time is deleted only once that time is on the disk. A node that starts
        // with an earlier time still needs the revocations that had not expired by then.
        let save_time = self.save_time.clone();
        let saved = tokio::task::spawn_blocking(move || save_time()).await;
        if !matches!(saved, Ok(Ok(()))) {
            tracing::debug!(
                "the latest time that this broker has seen could not be saved; expired rows are not deleted until the \
                 time can be saved"
            );
            return;
        }
        let history = self.history_before(broker.clock.now(), now);
        if self.is_steady(now) && broker.must_know_the_time().is_ok() {
            self.key_watch.look_if_due(broker, now).await;
        }
        broker.revocations.sweep(broker.clock.now());
        if let Some(single_use) = &broker.single_use {
            single_use.sweep(now);
        }
        // Before revocations are dropped from the store, so that each has been compared with them.
        if let Err(error) = sign_in::sweep::sweep(broker).await {
            tracing::debug!(%error, "the stored sign-ins could not be compared with the revocations; the next sweep \
                tries again");
        }
        if let Err(error) = broker.store.sweep(broker.clock.now(), history).await {
            tracing::debug!(%error, "expired rows could not be deleted from the store; the next sweep tries again");
        }
    }

    /// Whether the wall clock has kept pace for at least [`STEADY_FOR`].
    fn is_steady(&self, now: Duration) -> bool {
        now.saturating_sub(self.steady_since.0) >= STEADY_FOR
    }

    /// The time that counts as now when old changes are deleted. Until the clock has kept pace for [`STEADY_FOR`], it
    /// is far in the past, so that no changes are deleted after the clock has jumped ahead.
    fn history_before(&mut self, time: Timestamp, now: Duration) -> Timestamp {
        let (since, at) = self.steady_since;
        if time.since(at.plus(now.saturating_sub(since))) > UNSTEADY {
            self.steady_since = (now, time);
        }
        if self.is_steady(now) {
            time
        } else {
            Timestamp::from_millis(i64::MIN / 2)
        }
    }
}

/// Records in the store when long-term access keys and passwords were last used. If that fails, an
/// error is logged and the next call tries again.
pub async fn note_key_use(broker: &Broker) {
    let used = broker.key_use.take();
    if let Err(error) = broker.store.note_key_use(&used).await {
        tracing::debug!(%error, "the last use of access keys and passwords could not be recorded in the store");
        broker.key_use.put_back(used);
    }
}
