//! Reports the expiry of the broker's certificate as a metric, and warns of it in the log two weeks ahead.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::Shared;
use crate::base::clock::Timestamp;
use crate::metrics::Metrics;

/// How long before its expiry the log warns of a certificate: two weeks.
pub const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);
/// How often the expiry is checked.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The shortest time between two warnings about the same certificate.
const WARN_EVERY: Duration = Duration::from_secs(86_400);
/// The value of [`Ends`] if the expiry is unknown: there is no certificate, or its dates cannot be read.
const UNKNOWN: i64 = i64::MAX;

/// When the certificate in use expires, in seconds since 1970.
pub(super) struct Ends(AtomicI64);

impl Ends {
    pub(super) fn new(validity: Option<(Timestamp, Timestamp)>, metrics: &Metrics) -> Self {
        let ends = Self(AtomicI64::new(UNKNOWN));
        ends.set(validity, metrics);
        ends
    }

    /// Records the validity of a new certificate.
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

/// The warning about a certificate that has expired or soon will; `None` if it is valid for longer than
/// [`WARN_BEFORE`].
pub fn warning(ends_at: Timestamp, now: Timestamp) -> Option<String> {
    if now >= ends_at {
        return Some(format!(
            "the certificate expired at {ends_at}, so clients refuse this broker; replace it"
        ));
    }
    let left = ends_at.since(now);
    let days = left.as_secs() / 86_400;
    (left <= WARN_BEFORE).then(|| {
        format!("the certificate expires at {ends_at}, in {days} days; replace it (the broker notices the new file)")
    })
}

/// Warns of the certificate's expiry in the log, until the daemon ends.
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
            tracing::warn!("[tls] certificate: {text}");
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
                .contains("expired at 2026-06-30T00:00:00Z")
        );
    }
}
