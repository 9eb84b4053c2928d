//! Counts the live sessions of each principal or account, by the minute in which they end.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use crate::base::clock::Timestamp;

/// The number of unexpired sessions of each principal or account.
pub(super) struct Sessions {
    most: u64,
    live: Mutex<HashMap<Box<str>, Live>>,
}

/// The number of sessions for each minute in which some end.
#[derive(Default)]
struct Live {
    ends: VecDeque<(i64, u64)>,
    count: u64,
}

impl Sessions {
    pub fn new(most: NonZeroU32) -> Self {
        Self {
            most: most.get().into(),
            live: Mutex::default(),
        }
    }

    /// Counts one more session and returns true, unless there are too many already.
    pub fn add(&self, who: &str, now: Timestamp, end: Timestamp) -> bool {
        let mut all = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let live = match all.get_mut(who) {
            Some(live) => live,
            None => all.entry(who.into()).or_default(),
        };
        live.forget(now);
        if live.count >= self.most {
            return false;
        }
        live.add(end);
        true
    }

    /// Forgets principals and accounts without live sessions.
    pub fn sweep(&self, now: Timestamp) {
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, live| {
                live.forget(now);
                live.count > 0
            });
    }
}

impl Live {
    fn forget(&mut self, now: Timestamp) {
        while let Some((minute, count)) = self.ends.front().copied() {
            if (minute + 1) * 60 > now.seconds() {
                return;
            }
            self.ends.pop_front();
            self.count = self.count.saturating_sub(count);
        }
    }

    fn add(&mut self, end: Timestamp) {
        let minute = end.seconds().div_euclid(60);
        let at = self.ends.partition_point(|(m, _)| *m < minute);
        match self.ends.get_mut(at) {
            Some((m, count)) if *m == minute => *count += 1,
            _ => self.ends.insert(at, (minute, 1)),
        }
        self.count += 1;
    }
}
