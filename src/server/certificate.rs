//! When the broker's certificate ends: a metric, and a warning in the log in good time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::Shared;
use crate::base::clock::Timestamp;
use crate::metrics::Metrics;

/// So long before its end a certificate is warned of: two weeks.
pub const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often the same certificate is warned of.
const WARN_EVERY: Duration = Duration::from_secs(86_400);
/// In the place of a time: there is no certificate, or it cannot be read.
const UNKNOWN: i64 = i64::MAX;

/// When the certificate in use ends, in seconds since 1970.
pub(super) struct Ends(AtomicI64);

impl Ends {
    pub(super) fn new(validity: Option<(Timestamp, Timestamp)>, metrics: &Metrics) -> Self {
        let ends = Self(AtomicI64::new(UNKNOWN));
        ends.set(validity, metrics);
        ends
    }

    /// Another certificate is in use.
    pub(super) fn set(&self, validity: Option<(Timestamp, Timestamp)>, metrics: &Metrics) {
        let seconds = validity.map_or(UNKNOWN, |(_, until)| until.seconds());
        self.0.store(seconds, Ordering::Relaxed);
        if seconds != UNKNOWN {
            metrics
                .certificate_expiration
                .get_or_create(&[])
                .set(seconds);
        }
    }

    fn get(&self) -> Option<Timestamp> {
        Some(self.0.load(Ordering::Relaxed))
            .filter(|seconds| *seconds != UNKNOWN)
            .map(Timestamp::from_seconds)
    }
}

/// What is to be said of a certificate, if anything.
pub fn warning(ends_at: Timestamp, now: Timestamp) -> Option<String> {
    if now >= ends_at {
        return Some(format!(
            "the certificate ended at {ends_at}: clients refuse this broker; put a new one in its place"
        ));
    }
    let left = ends_at.since(now);
    let days = left.as_secs() / 86_400;
    (left <= WARN_BEFORE).then(|| {
        format!("the certificate ends at {ends_at}, in {days} days; put a new one in its place, it is read by itself")
    })
}

/// Looks at the certificate until the daemon is gone.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut warned: Option<(Timestamp, Duration)> = None;
    loop {
        tick.tick().await;
        let Some(ends_at) = shared.certificate.get() else {
            continue;
        };
        let passed = shared.broker.clock.monotonic();
        let lately = |(of, at): (Timestamp, Duration)| {
            of == ends_at && passed.saturating_sub(at) < WARN_EVERY
        };
        if warned.is_some_and(lately) {
            continue;
        }
        if let Some(text) = warning(ends_at, shared.broker.clock.now()) {
            tracing::warn!("{text}");
            warned = Some((ends_at, passed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_two_weeks_before_its_end() {
        let ends_at = Timestamp::from_amz("20260630T000000Z").unwrap();
        let at = |text: &str| warning(ends_at, Timestamp::from_amz(text).unwrap());
        assert_eq!(at("20260615T235959Z"), None);
        assert!(at("20260616T000000Z").unwrap().contains("in 14 days"));
        assert!(at("20260629T235959Z").unwrap().contains("in 0 days"));
        assert!(
            at("20260630T000000Z")
                .unwrap()
                .contains("ended at 2026-06-30T00:00:00Z")
        );
    }
}
