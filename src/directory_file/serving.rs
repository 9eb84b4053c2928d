//! Tracks the directory file that a broker serves, and compares it with those of other brokers on the same
//! store.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::broker::Broker;
use crate::store::Node;

#[derive(Default)]
pub struct Serves {
    /// A digest of the names of the file's entries; empty if the directory is not a file.
    pub digest: String,
    /// How many entries that the store has recorded are missing from this file, while another broker uses another file.
    /// The sessions of these entries end when no broker uses another file any more.
    pub left: usize,
}

/// The interval at which the store is asked whether other brokers still have another directory file.
const ASK_FOR_OTHERS_EVERY: Duration = Duration::from_secs(10);

/// The directory file that is in use, which a reload may replace.
pub struct Serving {
    now: ArcSwap<Serves>,
    /// Why the store does not record the file's entries. `None` if it does.
    not_kept: ArcSwapOption<String>,
    /// When the store was last asked whether other brokers have another directory file.
    asked_for_others: ArcSwap<Duration>,
}

impl Serving {
    /// Starts to track the first directory file of this process, and warns if other brokers' files may have more
    /// entries.
    pub fn new(serves: Serves) -> Self {
        serves.warn_of_what_is_left();
        Self {
            now: ArcSwap::from_pointee(serves),
            not_kept: ArcSwapOption::empty(),
            asked_for_others: ArcSwap::from_pointee(Duration::ZERO),
        }
    }

    /// Records which directory file is in use from now on, and warns if other brokers' files may have more entries.
    pub fn set(&self, serves: Serves) {
        serves.warn_of_what_is_left();
        self.now.store(Arc::new(serves));
    }

    /// Sets why the store does not record the file's entries; `None` after the store has recorded them.
    pub fn is_not_kept(&self, why: Option<String>) {
        self.not_kept.store(why.map(Arc::new));
    }

    /// Why the store does not record the file's entries; `None` if it does. As long as there is a reason, removals from
    /// the file take effect, but new entries do not.
    pub fn why_not_kept(&self) -> Option<String> {
        self.not_kept.load_full().map(|why| (*why).clone())
    }

    /// A digest of the names of the file's entries; empty if the directory is not a file.
    pub fn digest(&self) -> String {
        self.now.load().digest.clone()
    }

    /// Whether the directory file must be recorded again to end the sessions of removed entries, because no other
    /// broker has another file any more. Asks the store at most every 10 seconds, and returns `false` in between and if
    /// the store does not answer.
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
                tracing::debug!(%error, "the broker could not check whether other brokers use another directory file");
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
                "the store has recorded entries that this broker's directory file does not have, and another broker \
                 uses another file, which may have them; the sessions of these entries end only when no connected \
                 broker uses another file any more"
            );
        }
    }
}
