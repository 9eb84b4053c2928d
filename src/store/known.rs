//! The version of each entry as this process last saw it. An old row that was put back into the database still has a
//! valid MAC. Therefore a change compares the version of a row with the known version before it relies on the row.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;

use super::Store;
use crate::base::hashed::Hashed;

/// The version of each entry, by a hash of its kind and id. The hash and the version take 16 bytes for each entry.
#[derive(Default)]
pub(super) struct Versions {
    hasher: RandomState,
    all: HashMap<u64, i64, Hashed>,
}

/// The version of an entry, as far as this process knows it.
pub(super) struct Known {
    /// The number of the change that last wrote the entry; `None` if the entry did not exist.
    pub version: Option<i64>,
    /// The number of the last change that is taken into account in [`Self::version`].
    pub place: i64,
}

impl Versions {
    pub fn put(&mut self, kind: &str, id: &str, version: i64) {
        self.all.insert(self.hasher.hash_one((kind, id)), version);
    }

    fn remove(&mut self, kind: &str, id: &str) {
        self.all.remove(&self.hasher.hash_one((kind, id)));
    }

    fn find(&self, kind: &str, id: &str) -> Option<i64> {
        self.all.get(&self.hasher.hash_one((kind, id))).copied()
    }
}

impl Store {
    /// Replaces the versions of all entries. `place` is the number of the last change that `versions` take into
    /// account.
    pub(super) fn know(&self, versions: Versions, place: i64) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((versions, place));
    }

    /// Updates the versions with the effects of all changes up to `place`. `things` has the kind and the id of each
    /// entry with its new version, or `None` for a deleted entry.
    pub(super) fn learn<'a>(
        &self,
        things: impl Iterator<Item = (&'a str, &'a str, Option<i64>)>,
        place: i64,
    ) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((versions, at)) = &mut *known else {
            return;
        };
        for (kind, id, version) in things {
            match version {
                Some(version) => versions.put(kind, id, version),
                None => versions.remove(kind, id),
            }
        }
        *at = place.max(*at);
    }

    /// The version of an entry; `None` if this process has not yet read all rows.
    pub(super) fn known(&self, kind: &str, id: &str) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (versions, place) = known.as_ref()?;
        Some(Known {
            version: versions.find(kind, id),
            place: *place,
        })
    }
}
