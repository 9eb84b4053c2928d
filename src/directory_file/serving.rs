//! Which directory file a broker serves, beside those of other brokers on its store.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::broker::Broker;
use crate::store::Node;

/// Which directory file a broker serves.
#[derive(Default)]
pub struct Serves {
    /// A digest of the names of its entries; empty: the directory is no file.
    pub digest: String,
    /// How many entries it does not have that another broker's file has. They end with that one.
    pub left: usize,
}

/// How often it is asked whether another broker's directory file still has what this one's does not have.
const ASK_FOR_OTHERS_EVERY: Duration = Duration::from_secs(10);

/// The directory file that is in force here.
pub struct Serving {
    now: ArcSwap<Serves>,
    /// When it was last asked whether other brokers have another directory file.
    asked_for_others: ArcSwap<Duration>,
}

impl Serving {
    /// What is in force from the start.
    pub fn new(serves: Serves) -> Self {
        serves.warn_of_what_is_left();
        Self {
            now: ArcSwap::from_pointee(serves),
            asked_for_others: ArcSwap::from_pointee(Duration::ZERO),
        }
    }

    /// Notes which directory file is in force from now on, and says so if it lacks what others have.
    pub fn set(&self, serves: Serves) {
        serves.warn_of_what_is_left();
        self.now.store(Arc::new(serves));
    }

    /// A digest of the names of its entries; empty: the directory is no file.
    pub fn digest(&self) -> String {
        self.now.load().digest.clone()
    }

    /// Whether entries that were left because another broker's file has them may have ended by now: no
    /// broker has another file any more.
    pub async fn may_end_what_was_left(&self, broker: &Broker, node: &Node) -> bool {
        let serves = self.now.load_full();
        let now = broker.clock.monotonic();
        if serves.left == 0
            || now.saturating_sub(**self.asked_for_others.load()) < ASK_FOR_OTHERS_EVERY
        {
            return false;
        }
        self.asked_for_others.store(Arc::new(now));
        match broker
            .store
            .has_other_directories(&node.node, &serves.digest)
            .await
        {
            Ok(others) => !others,
            Err(error) => {
                tracing::debug!(%error, "it is not known whether other brokers have another directory file");
                false
            }
        }
    }
}

impl Serves {
    fn warn_of_what_is_left(&self) {
        if self.left > 0 {
            tracing::warn!(
                entries = self.left,
                "another broker on this store has a directory file with entries that are not in this one; what went from \
                 this file has not ended until that broker has the same file, or has stopped"
            );
        }
    }
}
