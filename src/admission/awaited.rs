//! Calls whose bodies have not come yet, by the source that sent them. They are the cheapest way to
//! hold what others need, so they give way: when there is no room, the oldest of whoever holds most is
//! answered that there is none. A newcomer therefore always finds room among those who only wait.

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

/// What one source holds of calls whose bodies are awaited.
#[derive(Default)]
struct Held {
    /// The oldest first.
    calls: BTreeMap<u64, Weak<Call>>,
    bytes: usize,
}

impl Awaited {
    /// A call of a source, which holds so many bytes, begins to wait. Under what number it is known.
    pub(super) fn begin(&mut self, source: Source, call: &Arc<Call>, bytes: usize) -> u64 {
        self.next += 1;
        let (number, call) = (self.next, Arc::downgrade(call));
        self.change(source, |held| {
            held.calls.insert(number, call);
            held.bytes += bytes;
        });
        number
    }

    /// One of its calls holds so many bytes more.
    pub(super) fn grow(&mut self, source: Source, bytes: usize) {
        self.change(source, |held| held.bytes += bytes);
    }

    /// The call of that number, which holds so many bytes, waits no longer.
    pub(super) fn end(&mut self, source: Source, number: u64, bytes: usize) {
        self.change(source, |held| {
            held.calls.remove(&number);
            held.bytes = held.bytes.saturating_sub(bytes);
        });
    }

    /// Whose call should give way to one of `newcomer` that needs so many bytes: the oldest of the source
    /// that holds most of what is short. None: nobody holds more than the newcomer would.
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
        // One that cannot be had any more is just going.
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
