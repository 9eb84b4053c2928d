//! Listens for the end of sessions: the broker says within two seconds which of this node's sessions have ended before
//! their expiry, and the agent drops them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::handouts::Handouts;
use super::metrics::Metrics;
use super::refresh;
use super::source::{BrokerSource, FetchError};
use crate::base::clock::Clock;
use crate::base::entropy::{self, Entropy};
use crate::client::{ClientError, RevocationWatch, WatchedSession};

/// The most sessions of one stream (`relying.proto`).
const PER_STREAM: usize = 100;
/// A stream that says nothing for so long is dead: there is a heartbeat every 5 seconds.
const SILENCE: Duration = Duration::from_secs(12);
/// New sessions are collected for so long before they are watched.
const GATHER: Duration = Duration::from_millis(100);

/// Watches the sessions that an agent holds.
pub struct Watch {
    pub handouts: Arc<Handouts>,
    pub source: Arc<BrokerSource>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: Arc<Metrics>,
    /// The number of the last change of the broker's feed that was taken into account; negative if there is none.
    pub seen: Arc<AtomicI64>,
}

impl Watch {
    /// Watches until the agent ends. Each time that the agent holds other sessions, or a stream ends, new streams are
    /// opened for all of them. What ended in between is in their first messages.
    pub async fn run(self: Arc<Self>) {
        let mut changed = self.handouts.changes();
        let mut failures = 0;
        loop {
            changed.borrow_and_update();
            let sessions = self.handouts.watchable();
            if sessions.is_empty() {
                self.metrics.watch_up.set(0);
                // The sender lives as long as the sessions, which this task holds.
                let _ = changed.changed().await;
                continue;
            }
            let mut streams = JoinSet::new();
            for part in sessions.chunks(PER_STREAM) {
                let (watch, part) = (self.clone(), part.to_vec());
                streams.spawn(async move { watch.stream(&part).await });
            }
            let ended = tokio::select! {
                ended = streams.join_next() => ended,
                _ = changed.changed() => None,
            };
            match ended {
                None => tokio::time::sleep(GATHER).await,
                Some(Ok(Ok(()))) => failures = 0,
                Some(result) => {
                    failures = if self.metrics.watch_up.get() == 1 {
                        1
                    } else {
                        failures + 1
                    };
                    self.metrics.watch_up.set(0);
                    let error = match result {
                        Ok(Ok(())) => String::new(),
                        Ok(Err(error)) => error.to_string(),
                        Err(error) => error.to_string(),
                    };
                    let now = self.clock.now();
                    let random = entropy::bytes::<2>(&*self.entropy).map_or(0, u16::from_be_bytes);
                    let pause = refresh::retry_at(now, failures, true, random).since(now);
                    tracing::warn!(%error, ?pause, "the broker does not tell which sessions have ended");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = changed.changed() => {}
                    }
                }
            }
        }
    }

    /// Follows one stream to its end. `Ok` means that the broker ended it regularly.
    async fn stream(&self, sessions: &[WatchedSession]) -> Result<(), FetchError> {
        let after = Some(self.seen.load(Ordering::Relaxed)).filter(|seen| *seen >= 0);
        let client = self.source.client().await?;
        let mut stream: RevocationWatch = client.watch_revocations(sessions, after).await?;
        loop {
            let message = tokio::time::timeout(SILENCE, stream.next()).await;
            let message = message.map_err(|_| {
                FetchError::Client(ClientError::Unreachable {
                    url: self.source.url().to_owned(),
                    reason: "the stream of ended sessions has gone silent".to_owned(),
                })
            })?;
            let Some(seen) = message? else {
                return Ok(());
            };
            self.metrics.watch_up.set(1);
            self.seen.fetch_max(seen.sequence_number, Ordering::Relaxed);
            self.handouts.ended(&seen.ended_access_key_ids);
        }
    }
}
