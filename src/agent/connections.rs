//! The open connections of a listener. If there are too many, one of whoever has most is closed: clients connect
//! again, and a workload that only holds connections does not keep the others out.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::io;

use rustix::io::Errno;
use tokio::task::AbortHandle;

use crate::process;

/// The most connections of one listener.
const MOST: usize = 512;
/// File descriptors that are kept for the broker's connection, the audit log and files that are read again.
const RESERVED: u64 = 48;

/// The most connections of each listener, if there are `listeners` of them, by the file descriptors of this process.
pub fn most_of_each(listeners: usize) -> usize {
    shared(process::descriptor_limit(), listeners)
}

fn shared(descriptors: u64, listeners: usize) -> usize {
    let free = descriptors.saturating_sub(RESERVED).max(descriptors / 4);
    let free = usize::try_from(free).unwrap_or(usize::MAX);
    (free / listeners.max(1)).clamp(1, MOST)
}

/// Whether a connection could not be accepted for lack of file descriptors.
pub fn is_shortage(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The open connections, the oldest first, each with its owner: an address, or a user.
pub struct Connections<K> {
    most: usize,
    open: VecDeque<(K, AbortHandle)>,
}

impl<K: Copy + Eq + Hash> Connections<K> {
    /// At most `most` connections.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            open: VecDeque::new(),
        }
    }

    /// Makes room for one more connection.
    pub fn make_room(&mut self) {
        if self.open.len() < self.most {
            return;
        }
        self.open.retain(|(_, task)| !task.is_finished());
        if self.open.len() >= self.most {
            self.close_one();
        }
    }

    /// Closes the oldest connection of the owner that has most of them.
    pub fn close_one(&mut self) {
        let mut counts: HashMap<K, usize> = HashMap::new();
        for (owner, task) in &self.open {
            if !task.is_finished() {
                *counts.entry(*owner).or_default() += 1;
            }
        }
        let largest = counts.values().max().copied();
        // Of several with as many connections, the one with the oldest.
        let victim = self
            .open
            .iter()
            .position(|(owner, task)| !task.is_finished() && counts.get(owner).copied() == largest);
        if let Some((_, task)) = victim.and_then(|victim| self.open.remove(victim)) {
            task.abort();
        }
    }

    /// Remembers a connection.
    pub fn add(&mut self, owner: K, task: AbortHandle) {
        self.open.push_back((owner, task));
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
            let task = tokio::spawn(std::future::pending::<()>());
            connections.make_room();
            connections.add(owner, task.abort_handle());
            task
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
