//! Counts the recorded sessions that a revocation ends, and waits until other brokers have it in
//! force.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::arn::IamArn;
use crate::base::clock::Timestamp;
use crate::broker::Broker;
use crate::ops::admin::session_view;
use crate::revocations::{Mark, RevocationKey, Revocations};
use crate::sessions::SessionRecord;
use crate::store::Node;

/// How long the answer to RevokeSessions waits for other brokers to confirm the revocation.
const SPREAD: Duration = Duration::from_secs(2);
/// The time limit for counting records, so that a large store does not delay a revocation.
const COUNTING: Duration = Duration::from_millis(500);
/// The pause between two reads of the other brokers' progress from the store.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The number of records to which a revocation applies.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// How many of the examined records the revocation applies to.
    pub hit: usize,
    /// Whether some records were not examined, so that the real number may be higher.
    pub more: bool,
}

/// A new revocation mark, with the earlier mark on the same key.
pub(in crate::parts::ops::admin) struct Hit {
    pub(super) key: RevocationKey,
    pub(super) mark: Mark,
    pub(super) before: Mark,
}

impl Hit {
    /// Counts the account's recorded sessions that only this mark ends: no earlier mark had ended them. Stops after
    /// [`COUNTING`]. `None` if the records cannot be read.
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
            // No record is kept: there may be many, and they may be large.
            false
        };
        let keyring = broker.tokens.keyring();
        let more =
            match tokio::time::timeout(COUNTING, broker.sessions.list(&keyring, "", 1, now, look))
                .await
            {
                // A record that cannot be read may be one of them.
                Ok(Ok(listed)) => !listed.marker.is_empty() || listed.unreadable > 0,
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
        let (this, others): (Vec<RevocationKey>, Vec<RevocationKey>) =
            keys.iter().partition(|key| **key == self.key);
        !this.is_empty()
            && self.mark.refuses(under, at)
            && !self.before.refuses(under, at)
            && !revocations.is_revoked(&others, under, at)
    }
}

/// Waits until the change is in force on every broker that responds. Returns how many brokers may
/// accept sessions, and which of them have not confirmed the change. The function does not wait for
/// a broker that does not respond, but lists it as one that has not confirmed. `None` if the store
/// did not say which brokers there are.
pub(super) async fn spread(broker: &Broker, sequence: i64) -> Option<(usize, Vec<Node>)> {
    let mut seen = (!broker.store.is_shared()).then(|| (1, Vec::new()));
    let look = async {
        loop {
            // Until this node has the change in force, sessions that it issues would end with the
            // older ones.
            let counted = broker.feed.sequence() >= sequence;
            if counted && !broker.store.is_shared() {
                return;
            }
            // If the store does not answer, the previous result remains; it counts nobody as
            // confirmed too early.
            if broker.store.is_shared()
                && let Ok(nodes) = broker.store.nodes_after(Instant::now()).await
            {
                let connected = nodes.len().max(1);
                let pending: Vec<_> = nodes
                    .into_iter()
                    .filter(|n| n.node.confirmed < sequence)
                    .collect();
                let awaited = pending.iter().any(|n| !n.is_silent);
                seen = Some((connected, pending.into_iter().map(|n| n.node).collect()));
                if counted && !awaited {
                    return;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    // Brokers that are still missing are listed in the answer.
    let _ = tokio::time::timeout(SPREAD, look).await;
    seen
}
