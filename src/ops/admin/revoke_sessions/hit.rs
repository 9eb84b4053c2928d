//! What a revocation hits: the sessions on record that end by it, and how far it has spread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::arn::IamArn;
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::ops::admin::session_view;
use crate::revocations::{Key, Mark, Revocations};
use crate::sessions::SessionRecord;
use crate::store::Node;

/// How long an answer waits for the other brokers.
const SPREAD: Duration = Duration::from_secs(2);
/// How long records are counted: nobody who ends sessions waits for the whole of a large store.
const COUNTING: Duration = Duration::from_millis(500);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Records that were looked at.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// How many of them are hit.
    pub hit: usize,
    /// Whether there are more.
    pub more: bool,
}

/// A mark, and the one that was in force on the same thing before it.
pub(in crate::parts::ops::admin) struct Hit {
    pub(super) key: Key,
    pub(super) mark: Mark,
    pub(super) before: Mark,
}

impl Hit {
    /// Counts the account's sessions on record that end by the mark and had not ended before it, for
    /// as long as [`COUNTING`].
    pub(in crate::parts::ops::admin) async fn count(
        &self,
        broker: &Broker,
        account: &str,
        now: Timestamp,
    ) -> Option<Counted> {
        let hit = AtomicUsize::new(0);
        let look = |record: &SessionRecord| {
            let own = IamArn::parse(&record.principal_arn)
                .is_some_and(|arn| arn.account.as_str() == account);
            if own && self.hits(&broker.revocations, record) {
                hit.fetch_add(1, Ordering::Relaxed);
            }
            // None is kept: there may be many, and each may be large.
            false
        };
        let keyring = broker.tokens.keyring();
        let more =
            match tokio::time::timeout(COUNTING, broker.sessions.list(&keyring, "", 1, now, look))
                .await
            {
                Ok(Ok((_, marker))) => !marker.is_empty(),
                Ok(Err(_)) => return None,
                Err(_) => true,
            };
        Some(Counted {
            hit: hit.load(Ordering::Relaxed),
            more,
        })
    }

    fn hits(&self, revocations: &Revocations, record: &SessionRecord) -> bool {
        let (under, at) = (record.issued_under, record.issued_at);
        let Some(keys) = session_view::came_from(record) else {
            return false;
        };
        let (this, others): (Vec<Key>, Vec<Key>) = keys.iter().partition(|key| **key == self.key);
        !this.is_empty()
            && self.mark.refuses(under, at)
            && !self.before.refuses(under, at)
            && !revocations.is_revoked(&others, under, at)
    }
}

/// Waits for the change to be in force on every broker that is heard of. How many brokers may accept
/// sessions, and which of them the change has not reached: one that is not heard of is among these,
/// and is not waited for.
pub(super) async fn spread(broker: &Broker, sequence: i64) -> (usize, Vec<Node>) {
    let mut seen = (1, Vec::new());
    let look = async {
        loop {
            // Until this node counts it, sessions that it issues would end with those from before.
            let counted = broker.feed.sequence() >= sequence;
            if counted && !broker.store.is_shared() {
                return;
            }
            // Without an answer the last one stands: it is durable, and nobody is said to have it.
            if broker.store.is_shared()
                && let Ok(nodes) = broker.store.nodes_after(Instant::now()).await
            {
                let connected = nodes.len().max(1);
                let pending: Vec<_> = nodes
                    .into_iter()
                    .filter(|n| n.node.confirmed < sequence)
                    .collect();
                let awaited = pending.iter().any(|n| !n.is_silent);
                seen = (connected, pending.into_iter().map(|n| n.node).collect());
                if counted && !awaited {
                    return;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    // What is not there by then is in the answer.
    let _ = tokio::time::timeout(SPREAD, look).await;
    seen
}
