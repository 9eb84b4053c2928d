//! Reports to the store that this node is alive and which change it has reached, for the other nodes that share the
//! store.

use std::time::Duration;

use super::FollowContext;
use crate::master_key::MasterKey;
use crate::store::Node;

/// The interval between reports while nothing changes.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Remembers when this node last reported, by the monotonic clock.
#[derive(Default)]
pub(super) struct Reports {
    sent_at: Option<Duration>,
}

impl Reports {
    /// Sends a report if the last one is two seconds old, and at once if the node `has_moved` along the feed. Does
    /// nothing if the store is not shared.
    pub(super) async fn send_if_due(&mut self, context: &FollowContext, has_moved: bool) {
        let broker = &context.broker;
        let now = broker.clock.monotonic();
        let is_due = self
            .sent_at
            .is_none_or(|at| now.saturating_sub(at) >= REPORT_EVERY);
        if !broker.store.is_shared() || !(is_due || has_moved) {
            return;
        }
        let master_keys = broker
            .master_key
            .load()
            .as_deref()
            .map(MasterKey::listed_ids)
            .unwrap_or_default();
        let node = Node {
            confirmed: broker.feed.sequence(),
            master_keys,
            directory: context.serving.digest(),
            ..context.node.clone()
        };
        if let Err(error) = broker.store.report(&node).await {
            tracing::debug!(%error, "this broker could not report its state to the store; it tries again when \
                it reads the change feed the next time");
        }
        self.sent_at = Some(now);
    }
}
