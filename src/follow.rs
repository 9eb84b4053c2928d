//! Follows the change feed, so that a change by another node or a command takes effect here, in most cases within a
//! second. Revocations are applied first, even if other changes cannot be applied.

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
pub use error::FollowError;
use report::Reports;
use step::Follower;

pub use announce::announce;
pub use audit::write_down_what_ended;
pub use load::load;
pub use watermark::save_watermark;

/// The interval at which the store is asked for the head of the feed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The maximum number of changes that are written to the audit log one by one when they arrive
/// together. The others are only in the feed, and one line of the log says so.
const MAX_AUDITED: usize = 256;

/// Everything that a node needs to follow the feed.
pub struct FollowContext {
    /// The broker whose directory and revocations are kept up to date.
    pub broker: Arc<Broker>,
    /// What this node reports about itself to the other nodes that share its store.
    pub node: Node,
    /// The directory file that is in force here.
    pub serving: Arc<Serving>,
    /// The file that records the last change this node has seen. `None` if it is not recorded.
    pub watermark: Option<PathBuf>,
    /// The runtime for work that is not urgent, such as loading the whole store.
    pub ordinary: Handle,
}

/// Follows the feed until the daemon ends.
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

/// Records whether a step along the feed succeeded: in the metrics, in the log, and in the feed
/// itself, which decides whether this node still accepts sessions.
fn note(broker: &Broker, had_failed: bool, stepped: Result<(), FollowError>) {
    match stepped {
        Ok(()) => {
            broker.metrics.feed_up.set(1);
            if had_failed && broker.feed.fault().is_none() {
                tracing::info!(
                    sequence = broker.feed.sequence(),
                    "this broker follows the change feed of the store again"
                );
            }
        }
        Err(error) => {
            broker.metrics.feed_up.set(0);
            if error.is_tampering() {
                if broker.feed.distrust(error.to_string()) {
                    tracing::error!(%error, "the content of the store cannot be trusted; this broker now refuses all requests");
                }
            } else if broker.feed.fail(error.to_string()) {
                tracing::warn!(%error, "this broker cannot follow the change feed of the store; it keeps trying, and refuses all \
                     requests after refuse_after_seconds");
            }
        }
    }
}

/// Sets the metrics that say which change this node has reached: the number of the change and the
/// first 12 hexadecimal digits of the digest.
pub fn show_place(broker: &Broker) {
    let (sequence, chain) = broker.feed.place();
    broker.metrics.feed_sequence.set(sequence);
    let digest = chain
        .get(..12)
        .and_then(|digits| i64::from_str_radix(digits, 16).ok());
    broker.metrics.feed_digest.set(digest.unwrap_or_default());
}

/// A task that is aborted when this value is dropped.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
