//! How much of the change feed this node has taken in, and how long ago it last made sure that
//! there is no more. Knows no store.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// A node that has not confirmed the feed's head for so long is not ready.
pub const NOT_READY_AFTER: Duration = Duration::from_secs(10);

/// This node's place in the change feed.
pub struct Feed {
    sequence: AtomicI64,
    /// The last change that is in force, and the digest of it and of all before it.
    place: Mutex<(i64, String)>,
    /// Milliseconds of the monotonic clock.
    confirmed_at: AtomicU64,
    refuse_after: Duration,
    fault: Mutex<Option<String>>,
    /// Whether the fault is that the database holds what no broker wrote.
    is_distrusted: AtomicBool,
    nudge: Notify,
}

/// How far a node may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It knows what is revoked.
    Fresh,
    /// It has not confirmed it for so long: not ready, and sessions go on.
    Stale(Duration),
    /// For longer than the bound: nothing is accepted.
    Cut(Duration),
    /// The database holds what no broker wrote: nothing is accepted.
    Distrusted,
}

impl Feed {
    /// At the change that the snapshot was loaded with and the digest of the feed up to it, confirmed just
    /// now.
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

    /// Everything up to this change, whose digest is `chain`, is in force here. `monotonic` is when the head
    /// was asked for, not when the answer came.
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

    /// The database holds what no broker wrote: nothing is accepted until the head is confirmed again. True
    /// when that is news.
    pub fn distrust(&self, why: String) -> bool {
        self.is_distrusted.store(true, Ordering::Release);
        self.fail(why)
    }

    /// The last change that is in force here, and the digest of it and of all before it.
    pub fn place(&self) -> (i64, String) {
        self.place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Why the head could not be confirmed. True when that is news.
    pub fn fail(&self, why: String) -> bool {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let news = fault.as_ref() != Some(&why);
        *fault = Some(why);
        news
    }

    /// Why the head could not be confirmed last time.
    pub fn fault(&self) -> Option<String> {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Says that there is a change to take, so that it is not waited for.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Until somebody says so.
    pub async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// How long ago it was last made sure that there is no more than is in force here.
    pub fn age(&self, monotonic: Duration) -> Duration {
        monotonic.saturating_sub(Duration::from_millis(
            self.confirmed_at.load(Ordering::Acquire),
        ))
    }

    /// The last change that is in force here.
    pub fn sequence(&self) -> i64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// How far this node may be trusted at an instant of the monotonic clock.
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
