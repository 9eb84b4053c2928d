//! Which directory file a broker serves, beside those of other brokers on its store.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;

/// Which directory file a broker serves.
#[derive(Default)]
pub(super) struct Serves {
    /// A digest of the names of its entries; empty: the directory is no file.
    pub(super) digest: String,
    /// How many entries it does not have that another broker's file has. They end with that one.
    pub(super) left: usize,
}

/// How often it is asked whether another broker's directory file still has what this one's does not have.
const ASK_FOR_OTHERS_EVERY: Duration = Duration::from_secs(10);

impl Shared {
    /// Notes which directory file is in force here, and says so if it lacks what others have.
    pub(super) fn serves(&self, digest: String, left: usize) {
        warn_of_what_is_left(left);
        self.serves.store(Arc::new(Serves { digest, left }));
    }

    /// Whether entries that were left because another broker's file has them may have ended by now: no
    /// broker has another file any more.
    pub(super) async fn may_end_what_was_left(&self) -> bool {
        let serves = self.serves.load_full();
        let now = self.broker.clock.monotonic();
        if serves.left == 0
            || now.saturating_sub(**self.asked_for_others.load()) < ASK_FOR_OTHERS_EVERY
        {
            return false;
        }
        self.asked_for_others.store(Arc::new(now));
        let store = &self.broker.store;
        match store
            .has_other_directories(&self.node.node, &serves.digest)
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

pub(super) fn warn_of_what_is_left(left: usize) {
    if left > 0 {
        tracing::warn!(
            entries = left,
            "another broker on this store has a directory file with entries that are not in this one; what went from \
             this file has not ended until that broker has the same file, or has stopped"
        );
    }
}
