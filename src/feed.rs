//! Tracks which change of the feed is the last in force on this node, and when the store last confirmed that there is
//! no later one. This module knows no store.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// A node that has not confirmed the head of the feed, its latest change, for this long is not ready.
pub const NOT_READY_AFTER: Duration = Duration::from_secs(10);

/// This node's position in the change feed.
pub struct Feed {
    sequence: AtomicI64,
    /// The last change in force, and the digest of it and all changes before it.
    place: Mutex<(i64, String)>,
    /// When the head was last confirmed, in milliseconds of the monotonic clock.
    confirmed_at: AtomicU64,
    refuse_after: Duration,
    fault: Mutex<Option<String>>,
    /// Whether nothing is accepted, because the content of the database cannot be verified.
    is_distrusted: AtomicBool,
    nudge: Notify,
}

/// How far a node's knowledge of revocations may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The head was confirmed recently, so the node knows what is revoked.
    Fresh,
    /// The head has not been confirmed for this long: the node is not ready, but still accepts
    /// sessions.
    Stale(Duration),
    /// The head has not been confirmed for longer than the configured bound: nothing is accepted.
    Cut(Duration),
    /// The content of the database cannot be verified, because something other than a broker wrote it, it is damaged,
    /// or this node lacks a master key: nothing is accepted. [`Feed::fault`] says which.
    Distrusted,
}

impl Feed {
    /// Creates a feed at the change up to which the snapshot was loaded. `chain` is the digest of the feed up to this
    /// change, and `monotonic` is when the head was confirmed. If no confirmation follows for `refuse_after`, nothing
    /// is accepted.
    pub fn new(sequence: i64, chain: &str, monotonic: Duration, refuse_after: Duration) -> Self {
        let feed = Self {
            sequence: AtomicI64::new(sequence),
            place: Mutex::default(),
            confirmed_at: AtomicU64::new(0),
            refuse_after,
            fault: Mutex::default(),
            is_distrusted: AtomicBool::new(false),
            nudge: Notify::new(),
        };
        feed.confirm(sequence, chain, monotonic);
        feed
    }

    /// Records that everything up to this change, whose digest is `chain`, is in force. `monotonic`
    /// is the time at which the head was requested, not when the answer came.
    pub fn confirm(&self, sequence: i64, chain: &str, monotonic: Duration) {
        {
            let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            place.0 = sequence;
            if place.1 != chain {
                chain.clone_into(&mut place.1);
            }
        }
        self.sequence.store(sequence, Ordering::Release);
        let at = u64::try_from(monotonic.as_millis()).unwrap_or(u64::MAX);
        self.confirmed_at.store(at, Ordering::Release);
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.is_distrusted.store(false, Ordering::Release);
    }

    /// Records that the content of the database cannot be verified. Nothing is accepted until the next
    /// [`Feed::confirm`]. Returns whether `why` is a new reason.
    pub fn distrust(&self, why: String) -> bool {
        self.is_distrusted.store(true, Ordering::Release);
        self.fail(why)
    }

    /// The last change in force, and the digest of it and all changes before it.
    pub fn place(&self) -> (i64, String) {
        self.place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Records why the head could not be confirmed. Returns whether `why` is a new reason.
    pub fn fail(&self, why: String) -> bool {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let news = fault.as_ref() != Some(&why);
        *fault = Some(why);
        news
    }

    /// Why the last attempt to confirm the head failed, for messages; `None` if it succeeded.
    pub fn fault(&self) -> Option<String> {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Wakes up the task that follows the feed, so that a change is read at once.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Waits until [`Feed::nudge`] is called.
    pub async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// How long ago the head was last confirmed. `monotonic` is the current monotonic time.
    pub fn age(&self, monotonic: Duration) -> Duration {
        monotonic.saturating_sub(Duration::from_millis(
            self.confirmed_at.load(Ordering::Acquire),
        ))
    }

    /// The number of the last change that is in force on this node.
    pub fn sequence(&self) -> i64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// How far this node can be trusted at this time of the monotonic clock.
    pub fn standing(&self, monotonic: Duration) -> Standing {
        let age = self.age(monotonic);
        if self.is_distrusted.load(Ordering::Acquire) {
            Standing::Distrusted
        } else if age > self.refuse_after {
            Standing::Cut(age)
        } else if age > NOT_READY_AFTER {
            Standing::Stale(age)
        } else {
            Standing::Fresh
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_fresh_then_stale_then_cut() {
        let seconds = Duration::from_secs;
        let feed = Feed::new(5, "aa", seconds(100), seconds(60));
        assert_eq!(feed.standing(seconds(110)), Standing::Fresh);
        assert_eq!(feed.standing(seconds(111)), Standing::Stale(seconds(11)));
        assert_eq!(feed.standing(seconds(160)), Standing::Stale(seconds(60)));
        assert_eq!(feed.standing(seconds(161)), Standing::Cut(seconds(61)));
        assert!(feed.fail("gone".into()) && !feed.fail("gone".into()));
        feed.confirm(6, "bb", seconds(161));
        assert_eq!(
            (feed.standing(seconds(161)), feed.sequence(), feed.fault()),
            (Standing::Fresh, 6, None)
        );
        assert_eq!(feed.place(), (6, "bb".to_owned()));
        assert!(feed.distrust("changed".into()) && !feed.distrust("changed".into()));
        assert_eq!(
            (feed.standing(seconds(161)), feed.fault()),
            (Standing::Distrusted, Some("changed".into()))
        );
        feed.confirm(6, "bb", seconds(161));
        assert_eq!(
            (feed.standing(seconds(161)), feed.fault()),
            (Standing::Fresh, None)
        );
    }
}
