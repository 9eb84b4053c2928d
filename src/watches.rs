//! Counts and limits the open streams of revocations, in total and for each caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The maximum number of streams of one caller. A node needs one stream for each 100 sessions that it holds, and
/// another one while it replaces a stream.
const MAX_OF_CALLER: usize = 32;
/// The maximum number of streams of all callers together.
const MAX: usize = 10_000;

/// The number of open streams of each caller, by a digest of the caller.
#[derive(Default)]
pub struct Watches(Mutex<HashMap<[u8; 16], usize>>);

/// An open stream, which counts until it is dropped.
pub struct Watch {
    watches: Arc<Watches>,
    caller: [u8; 16],
}

impl Watches {
    /// Counts a new stream of a caller. `None` if the caller, or all callers together, have too many.
    pub fn open(self: &Arc<Self>, caller: [u8; 16]) -> Option<Watch> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= MAX {
            return None;
        }
        let own = open.entry(caller).or_default();
        if *own >= MAX_OF_CALLER {
            return None;
        }
        *own += 1;
        Some(Watch {
            watches: self.clone(),
            caller,
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let open = &self.watches.0;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.caller) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_bounded_for_each_caller_and_given_back() {
        let watches = Arc::new(Watches::default());
        let mut held: Vec<Watch> = (0..MAX_OF_CALLER)
            .map(|_| watches.open([1; 16]).unwrap())
            .collect();
        assert!(watches.open([1; 16]).is_none());
        assert!(watches.open([2; 16]).is_some());
        held.pop();
        assert!(watches.open([1; 16]).is_some());
        drop(held);
        assert!(watches.0.lock().unwrap().is_empty());
    }
}
