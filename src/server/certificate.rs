//! Reports the expiry of the certificates of `[tls]` and `[s3]` as metrics, and warns of it in the log two weeks ahead.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Shared;
use crate::base::clock::Timestamp;
use crate::metrics::Unlabelled;

/// How long before its expiry the log warns of a certificate: two weeks.
pub const WARN_BEFORE: Duration = Duration::from_secs(14 * 86_400);
/// How often the expiry is checked.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The shortest time between two warnings about the same certificate.
const WARN_EVERY: Duration = Duration::from_secs(86_400);
/// The value of [`Ends`] if the expiry is unknown: there is no certificate, or its dates cannot be read.
const UNKNOWN: i64 = i64::MAX;

/// When the certificate of a listener expires.
pub(super) struct Ends {
    /// In seconds since 1970.
    at: AtomicI64,
    metric: Family<Unlabelled, Gauge>,
}

impl Ends {
    /// Records the validity of a listener's first certificate, and shows it in `metric`.
    pub(super) fn new(
        validity: Option<(Timestamp, Timestamp)>,
        metric: &Family<Unlabelled, Gauge>,
    ) -> Self {
        let ends = Self {
            at: AtomicI64::new(UNKNOWN),
            metric: metric.clone(),
        };
        ends.set(validity);
        ends
    }

    /// Records the validity of a new certificate.
    pub(super) fn set(&self, validity: Option<(Timestamp, Timestamp)>) {
        let seconds = validity.map_or(UNKNOWN, |(_, until)| until.seconds());
        self.at.store(seconds, Ordering::Relaxed);
        if seconds != UNKNOWN {
            self.metric.get_or_create(&[]).set(seconds);
        }
    }

    /// When the certificate in use expires; `None` if there is none, or its dates cannot be read.
    pub(super) fn get(&self) -> Option<Timestamp> {
        Some(self.at.load(Ordering::Relaxed))
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
    let within = match left.as_secs() / 86_400 {
        0 => "in less than a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    };
    (left <= WARN_BEFORE).then(|| {
        format!("the certificate expires at {ends_at}, {within}; replace it (the broker notices the new file)")
    })
}

/// Warns of the expiry of each listener's certificate in the log, until the daemon ends.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let mut warned: [Option<(Timestamp, Duration)>; 2] = [None; 2];
    loop {
        tick.tick().await;
        let s3 = shared.s3.as_ref().map(|s3| &s3.certificate);
        let listeners = [("[tls]", Some(&shared.certificate)), ("[s3]", s3)];
        let passed = shared.broker.clock.monotonic();
        for ((section, ends), warned) in listeners.into_iter().zip(&mut warned) {
            let Some(ends_at) = ends.and_then(Ends::get) else {
                continue;
            };
            let lately = |(of, at): (Timestamp, Duration)| {
                of == ends_at && passed.saturating_sub(at) < WARN_EVERY
            };
            if warned.is_some_and(lately) {
                continue;
            }
            if let Some(text) = warning(ends_at, shared.broker.clock.now()) {
                tracing::warn!("{section} certificate: {text}");
                *warned = Some((ends_at, passed));
            }
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
        assert!(
            at("20260629T235959Z")
                .unwrap()
                .contains("in less than a day")
        );
        assert!(
            at("20260630T000000Z")
                .unwrap()
                .contains("expired at 2026-06-30T00:00:00Z")
        );
    }
}
