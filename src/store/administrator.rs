//! Remembers one administrator between transactions. Every change must leave at least one administrator, and the memory
//! saves a search through the directory for each change.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Store;
use crate::base::clock::Timestamp;
use crate::directory::Administrator;
use crate::directory::resource::Name;

/// The shortest time between a search that found no administrator and the next search.
const PAUSE: Duration = Duration::from_secs(60);

/// A principal who may administer the directory in its state after the change [`Self::at`].
#[derive(Debug, Clone)]
pub struct KnownAdministrator {
    pub who: Administrator,
    /// The entries on which the permissions of the administrator depend.
    pub depends_on: Arc<HashSet<Name>>,
    /// The number of the last change for which the permissions were found or confirmed.
    pub at: i64,
}

/// The administrator that this process remembers, and the time of its last search that found none.
#[derive(Default)]
pub(super) struct Memory {
    known: Option<KnownAdministrator>,
    /// When a search last found no administrator.
    looked_at: Option<Timestamp>,
}

impl Store {
    /// The administrator that was last remembered; `None` if none is known.
    pub fn known_administrator(&self) -> Option<KnownAdministrator> {
        let memory = self.administrators.lock();
        let memory = memory.unwrap_or_else(PoisonError::into_inner);
        memory.known.clone()
    }

    /// Remembers an administrator who may still administer the directory after the last committed
    /// change.
    pub fn remember_administrator(&self, known: KnownAdministrator) {
        let memory = self.administrators.lock();
        let mut memory = memory.unwrap_or_else(PoisonError::into_inner);
        memory.known = Some(known);
        memory.looked_at = None;
    }

    /// Records that a search at this time found no administrator.
    pub fn found_no_administrator(&self, now: Timestamp) {
        let memory = self.administrators.lock();
        let mut memory = memory.unwrap_or_else(PoisonError::into_inner);
        memory.known = None;
        memory.looked_at = Some(now);
    }

    /// Whether a search for an administrator may begin. This is not the case for a minute after a search that found
    /// nobody.
    pub fn may_look_for_administrators(&self, now: Timestamp) -> bool {
        let memory = self.administrators.lock();
        let memory = memory.unwrap_or_else(PoisonError::into_inner);
        let pause = i64::try_from(PAUSE.as_secs()).unwrap_or(i64::MAX);
        memory.looked_at.is_none_or(|at| {
            let since = now.seconds().saturating_sub(at.seconds());
            !(0..pause).contains(&since)
        })
    }
}
