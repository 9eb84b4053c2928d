//! The open connections of a listener. If there are too many, the client with the most connections loses one of
//! them. A well-behaved client simply connects again, and a workload that only holds connections cannot keep the
//! others out.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use tokio::task::AbortHandle;

use crate::process;

/// The maximum number of connections of one listener.
const MOST: usize = 512;
/// File descriptors that are reserved for the broker's connection, the audit log and files that are read again.
const RESERVED: u64 = 48;

/// The maximum number of connections of each listener if there are `listeners` of them, so that this process has
/// enough file descriptors.
pub fn most_of_each(listeners: usize) -> usize {
    shared(process::descriptor_limit(), listeners)
}

fn shared(descriptors: u64, listeners: usize) -> usize {
    let free = descriptors.saturating_sub(RESERVED).max(descriptors / 4);
    let free = usize::try_from(free).unwrap_or(usize::MAX);
    (free / listeners.max(1)).clamp(1, MOST)
}

/// Whether a connection could not be accepted because there were no free file descriptors.
pub fn is_shortage(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Records when a connection was last answered. Time is counted in calls of [`Connections::close_late`], so that a
/// request need not read a clock.
pub struct Pulse {
    looks: Arc<AtomicU32>,
    opened: u32,
    /// The value of `looks` at the last answer, or [`Pulse::BUSY`].
    answered: AtomicU32,
}

impl Pulse {
    /// The value of `answered` while a request is being answered.
    const BUSY: u32 = u32::MAX;

    /// Records that a request has arrived. The connection is not idle until the answer.
    pub fn begins(&self) {
        self.answered.store(Self::BUSY, Ordering::Relaxed);
    }

    /// Records that the request was answered. From now on the connection is idle.
    pub fn answered(&self) {
        let now = self.looks.load(Ordering::Relaxed);
        self.answered.store(now, Ordering::Relaxed);
    }
}

struct Open<K> {
    owner: K,
    task: AbortHandle,
    pulse: Arc<Pulse>,
}

/// The open connections, oldest first, each with its owner: an address or a user.
pub struct Connections<K> {
    most: usize,
    open: VecDeque<Open<K>>,
    looks: Arc<AtomicU32>,
}

impl<K: Copy + Eq + Hash> Connections<K> {
    /// Creates an empty list of at most `most` connections.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            open: VecDeque::new(),
            looks: Arc::default(),
        }
    }

    /// Whether no connection is held, not even one that has ended unnoticed.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Closes the connections that have waited for a complete request for `idle` seconds, and those that are older
    /// than `age` seconds. Must be called once a second, since it counts the seconds by its calls.
    pub fn close_late(&mut self, idle: u32, age: u32) {
        let now = self.looks.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        self.open.retain(|connection| {
            let Pulse {
                opened, answered, ..
            } = &*connection.pulse;
            let answered = answered.load(Ordering::Relaxed);
            let is_idle = answered != Pulse::BUSY && now.wrapping_sub(answered) > idle;
            if is_idle || now.wrapping_sub(*opened) > age {
                connection.task.abort();
            }
            !connection.task.is_finished()
        });
    }

    /// Closes a connection if there is no room for another.
    pub fn make_room(&mut self) {
        if self.open.len() < self.most {
            return;
        }
        self.open.retain(|open| !open.task.is_finished());
        if self.open.len() >= self.most {
            self.close_one();
        }
    }

    /// Closes the oldest connection of the owner that has most of them.
    pub fn close_one(&mut self) {
        let mut counts: HashMap<K, usize> = HashMap::new();
        for open in &self.open {
            if !open.task.is_finished() {
                *counts.entry(open.owner).or_default() += 1;
            }
        }
        let largest = counts.values().max().copied();
        // Of several with as many connections, the one with the oldest.
        let victim = self.open.iter().position(|open| {
            !open.task.is_finished() && counts.get(&open.owner).copied() == largest
        });
        if let Some(open) = victim.and_then(|victim| self.open.remove(victim)) {
            open.task.abort();
        }
    }

    /// Serves a connection in a separate task, and lists it as open.
    pub fn spawn<F>(&mut self, owner: K, serve: impl FnOnce(Arc<Pulse>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let now = self.looks.load(Ordering::Relaxed);
        let pulse = Arc::new(Pulse {
            looks: self.looks.clone(),
            opened: now,
            answered: AtomicU32::new(now),
        });
        let task = tokio::spawn(serve(pulse.clone())).abort_handle();
        self.open.push_back(Open { owner, task, pulse });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_left_for_the_agent_itself() {
        for (descriptors, listeners, most) in [
            (1_024, 1, MOST),
            (1_024, 5, 195),
            (128, 2, 40),
            (64, 4, 4),
            (10, 4, 1),
            (u64::MAX, 5, MOST),
            (1_024, 0, MOST),
        ] {
            assert_eq!(
                shared(descriptors, listeners),
                most,
                "{descriptors} {listeners}"
            );
        }
    }

    #[tokio::test]
    async fn whoever_has_most_makes_room() {
        let mut connections = Connections::new(6);
        let mut open = |owner: u8| {
            connections.make_room();
            connections.spawn(owner, |_| std::future::pending());
            connections.open.back().unwrap().task.clone()
        };
        let quiet = open(1);
        let second = open(2);
        let first_of_flood = open(9);
        let flood: Vec<_> = (0..100).map(|_| open(9)).collect();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!quiet.is_finished() && !second.is_finished());
        assert!(first_of_flood.is_finished());
        let alive = flood.iter().filter(|task| !task.is_finished()).count();
        assert_eq!(alive, 4);
    }

    #[test]
    fn only_a_lack_of_descriptors_is_one() {
        let of = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        assert!(is_shortage(&of(Errno::MFILE)) && is_shortage(&of(Errno::NFILE)));
        assert!(!is_shortage(&of(Errno::CONNABORTED)));
    }
}
