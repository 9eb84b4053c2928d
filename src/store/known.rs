//! The version of each thing as this process last saw it, so that no change is based on a row of an
//! earlier state: its MAC would be right.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;

use super::Store;

/// Versions by a hash of kind and id: 16 bytes a thing.
#[derive(Default)]
pub(super) struct Versions {
    hasher: RandomState,
    all: HashMap<u64, i64>,
}

/// What this process knows of a thing.
pub(super) struct Known {
    /// The change that wrote it last; none: it was not there.
    pub version: Option<i64>,
    /// As of this change: later ones are not known.
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
    /// Takes up the versions of all things as of a change.
    pub(super) fn know(&self, versions: Versions, place: i64) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((versions, place));
    }

    /// Takes up what changes did up to one of them: for each thing its version, or that it is gone.
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

    /// What is known of a thing; none where everything was never looked at.
    pub(super) fn known(&self, kind: &str, id: &str) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (versions, place) = known.as_ref()?;
        Some(Known {
            version: versions.find(kind, id),
            place: *place,
        })
    }
}
