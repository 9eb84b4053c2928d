//! Checks all rows of the store periodically, to find rows that no broker wrote.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Broker;
use crate::store::StoreError;

/// The minimum pause between two checks of all rows of the store.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// The pause after a check, as a multiple of the time that the check took, so that checking costs at
/// most half a percent of a core.
const CHECK_SHARE: u32 = 200;
/// The multiple in place of [`CHECK_SHARE`] while the store has a fault: checks are then more frequent, so that the
/// broker soon notices a repair.
const SUSPICIOUS_SHARE: u32 = 10;
/// If no check has completed for this long, the log warns of it, and then again at this interval.
const UNCHECKED_AFTER: Duration = Duration::from_secs(900);

/// The times of checks by the monotonic clock, which decide when the next check is due.
pub(super) struct Checks {
    /// When the last check ended, with or without a result.
    ended_at: Duration,
    /// When a check last completed with a result, no matter whether it found faults.
    answered_at: Duration,
    /// When the log last warned that checks do not complete.
    warned_at: Duration,
    /// The pause between the last check and the next one.
    pause: Duration,
}

impl Checks {
    /// The state after a start. Loading the store, which took `loaded_in`, counts as the first check.
    pub(super) fn new(broker: &Broker, loaded_in: Duration) -> Self {
        let now = broker.clock.monotonic();
        Self {
            ended_at: now,
            answered_at: now,
            warned_at: now,
            pause: CHECK_EVERY.max(loaded_in * CHECK_SHARE),
        }
    }

    pub(super) async fn check_if_due(&mut self, broker: &Broker, now: Duration) {
        if now.saturating_sub(self.ended_at) >= self.pause {
            self.check(broker).await;
        }
        let unchecked = broker.clock.monotonic().saturating_sub(self.answered_at);
        broker
            .metrics
            .store_unverified_seconds
            .set(i64::try_from(unchecked.as_secs()).unwrap_or(i64::MAX));
    }

    async fn check(&mut self, broker: &Broker) {
        let started = Instant::now();
        match broker.store.verify(broker.clock.now()).await {
            Ok(()) => self.answered_at = broker.clock.monotonic(),
            // The task that follows the feed logs it and refuses all requests.
            Err(error) if error.is_tampering() => {
                self.answered_at = broker.clock.monotonic();
                broker.feed.nudge();
            }
            Err(error) => self.warn(&error, broker.clock.monotonic()),
        }
        let share = match broker.store.suspicion() {
            Some(_) => SUSPICIOUS_SHARE,
            None => CHECK_SHARE,
        };
        self.pause = CHECK_EVERY.max(started.elapsed() * share);
        self.ended_at = broker.clock.monotonic();
    }

    /// Warns that a check had no result, if none has had one for [`UNCHECKED_AFTER`].
    fn warn(&mut self, error: &StoreError, now: Duration) {
        let silent = now.saturating_sub(self.answered_at);
        if silent.min(now.saturating_sub(self.warned_at)) >= UNCHECKED_AFTER {
            self.warned_at = now;
            tracing::warn!(
                %error, seconds = silent.as_secs(),
                "the broker has not completed a check of all rows of the store for this many seconds; if something \
                 other than a broker changed the store, the broker may not notice"
            );
        } else {
            tracing::debug!(%error, "the store could not be checked; the next check tries again");
        }
    }
}
