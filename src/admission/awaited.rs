//! Calls that wait for their bodies, grouped by source. Waiting costs a client nothing, so waiting calls give way
//! first: if there is no capacity for a new call, the oldest waiting call of the source that uses most is ended with an
//! overload error. A new call can therefore take the place of one that only waits, unless no other source uses more
//! than its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use super::{Call, Shed};
use crate::budgets::Source;

#[derive(Default)]
pub(super) struct Awaited {
    next: u64,
    sources: HashMap<Source, Held>,
    by_calls: BTreeSet<(usize, Source)>,
    by_bytes: BTreeSet<(usize, Source)>,
}

/// The waiting calls of one source, and the bytes that they use.
#[derive(Default)]
struct Held {
    /// The calls by number, oldest first.
    calls: BTreeMap<u64, Weak<Call>>,
    bytes: usize,
}

impl Awaited {
    /// Adds a call of a source, which uses `bytes`. Returns the call's number.
    pub(super) fn begin(&mut self, source: Source, call: &Arc<Call>, bytes: usize) -> u64 {
        self.next += 1;
        let (number, call) = (self.next, Arc::downgrade(call));
        self.change(source, |held| {
            held.calls.insert(number, call);
            held.bytes += bytes;
        });
        number
    }

    /// Records that one of the source's calls uses `bytes` more.
    pub(super) fn grow(&mut self, source: Source, bytes: usize) {
        self.change(source, |held| held.bytes += bytes);
    }

    /// Removes a call, which uses `bytes`.
    pub(super) fn end(&mut self, source: Source, number: u64, bytes: usize) {
        self.change(source, |held| {
            held.calls.remove(&number);
            held.bytes = held.bytes.saturating_sub(bytes);
        });
    }

    /// Returns the call that should give way to a call of `newcomer` that needs `bytes`: the oldest call of the source
    /// that uses most of the resource `short_of`. Returns `None` if no source uses more of it than the newcomer does:
    /// for memory with `bytes` added, for calls without the new call.
    pub(super) fn first_to_go(
        &self,
        short_of: Shed,
        newcomer: Source,
        bytes: usize,
    ) -> Option<Arc<Call>> {
        let own = self.sources.get(&newcomer);
        let (most, own) = match short_of {
            Shed::Memory => (
                self.by_bytes.last(),
                own.map_or(0, |held| held.bytes) + bytes,
            ),
            _ => (self.by_calls.last(), own.map_or(0, |held| held.calls.len())),
        };
        let (most, source) = most?;
        if *most <= own {
            return None;
        }
        // A call that can no longer be upgraded is just being dropped.
        self.sources
            .get(source)?
            .calls
            .values()
            .find_map(Weak::upgrade)
    }

    fn change(&mut self, source: Source, change: impl FnOnce(&mut Held)) {
        let held = self.sources.entry(source).or_default();
        let before = (held.calls.len(), held.bytes);
        change(held);
        let (calls, bytes) = (held.calls.len(), held.bytes);
        self.by_calls.remove(&(before.0, source));
        self.by_bytes.remove(&(before.1, source));
        if calls == 0 {
            self.sources.remove(&source);
        } else {
            self.by_calls.insert((calls, source));
            self.by_bytes.insert((bytes, source));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.by_calls.is_empty() && self.by_bytes.is_empty()
    }
}
