//! The change feed, followed: what another node or a command changed takes effect here within a second.
//! Revocations come first, and do not depend on anything else.

mod announce;
mod applied;
mod audit;
mod catch_up;
mod error;
mod load;
mod report;
mod revoked;
mod step;
mod watermark;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::broker::Broker;
use crate::directory_file::Serving;
use crate::store::Node;
use error::FollowError;
use report::Reports;
use step::Follower;

pub use announce::announce;
pub use audit::write_down_what_ended;
pub use load::load;
pub use watermark::save_watermark;

/// How often the head is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So many changes at once are one line of the audit; the feed has each of them.
const MAX_AUDITED: usize = 256;

/// What a node that follows the feed works with.
pub struct FollowContext {
    /// What is kept up to date.
    pub broker: Arc<Broker>,
    /// How this node is known among those that share its store.
    pub node: Node,
    /// The directory file that is in force here.
    pub serving: Arc<Serving>,
    /// Where it is written down how far the store had come; none: it is not.
    pub watermark: Option<PathBuf>,
    /// Where work is done that is not urgent.
    pub ordinary: Handle,
}

/// Follows until the daemon is gone.
pub async fn follow(context: Arc<FollowContext>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let broker = &context.broker;
    let (reached, latest) = watch::channel(broker.feed.place());
    let _saving = AbortOnDrop(
        context
            .ordinary
            .spawn(watermark::save_each(context.clone(), latest)),
    );
    let mut follower = Follower::new(context.clone());
    let mut reports = Reports::default();
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = broker.feed.nudged() => {}
        }
        let before = broker.feed.sequence();
        let had_failed = broker.feed.fault().is_some();
        let stepped = follower.step().await;
        note(broker, had_failed, stepped);
        let has_moved = broker.feed.sequence() != before;
        if has_moved {
            show_place(broker);
        }
        reports.send_if_due(&context, has_moved).await;
        if has_moved {
            reached.send_replace(broker.feed.place());
        }
    }
}

/// Notes whether the feed was confirmed, for the metrics, the log and everybody who asks whether this node
/// may be trusted.
fn note(broker: &Broker, had_failed: bool, stepped: Result<(), FollowError>) {
    match stepped {
        Ok(()) => {
            broker.metrics.feed_up.set(1);
            if had_failed && broker.feed.fault().is_none() {
                tracing::info!(
                    sequence = broker.feed.sequence(),
                    "the change feed is confirmed again"
                );
            }
        }
        Err(error) => {
            broker.metrics.feed_up.set(0);
            if error.is_tampering() {
                if broker.feed.distrust(error.to_string()) {
                    tracing::error!(%error, "the store is not as brokers left it; nobody is accepted");
                }
            } else if broker.feed.fail(error.to_string()) {
                tracing::warn!(%error, "the change feed is not confirmed");
            }
        }
    }
}

/// How far the feed was followed, for the metrics.
pub fn show_place(broker: &Broker) {
    let (sequence, chain) = broker.feed.place();
    broker.metrics.feed_sequence.set(sequence);
    let digest = chain
        .get(..12)
        .and_then(|digits| i64::from_str_radix(digits, 16).ok());
    broker.metrics.feed_digest.set(digest.unwrap_or_default());
}

/// A task that ends with whoever began it.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
