//! All rows of the store are checked again and again, so that what no broker wrote is found.

use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Broker;
use crate::store::StoreError;

/// How often all rows of the store are checked at the most.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// And for how many times as long as a check takes there is none: it may cost half a percent of a core.
const CHECK_SHARE: u32 = 200;
/// The same while something is wrong: it is looked often whether it was put right.
const SUSPICIOUS_SHARE: u32 = 10;
/// After so long without a check that came to an end, the log says so; and again after as long.
const UNCHECKED_AFTER: Duration = Duration::from_secs(900);

/// When rows were checked, by the monotonic clock.
pub(super) struct Checks {
    /// When the last check ended, whatever came of it.
    ended_at: Duration,
    /// When a check last came to a result.
    answered_at: Duration,
    /// When the log last said that none does.
    warned_at: Duration,
    /// How long there is none after the last one.
    pause: Duration,
}

impl Checks {
    /// The store was checked just now, by loading it: `loaded_in` is how long that took.
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
            // Whoever follows the feed says so, and accepts nobody.
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

    /// Says that a check came to no result, if none has for long.
    fn warn(&mut self, error: &StoreError, now: Duration) {
        let silent = now.saturating_sub(self.answered_at);
        if silent.min(now.saturating_sub(self.warned_at)) >= UNCHECKED_AFTER {
            self.warned_at = now;
            tracing::warn!(
                %error, seconds = silent.as_secs(),
                "no check of all rows of the store has come to an end for so long: whether they are as brokers \
                 wrote them is not known"
            );
        } else {
            tracing::debug!(%error, "the store was not checked; the next check tries again");
        }
    }
}
