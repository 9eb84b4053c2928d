//! The purposes of connections, with the number of connections and the longest wait of each.

use std::time::Duration;

use crate::store::{DEADLINE, SCAN_DEADLINE};

/// The number of connections that answer the queries of calls.
const READERS: usize = 4;
/// The maximum number of calls that wait for a connection of [`Purpose::Read`] or [`Purpose::Write`].
pub(super) const MAX_WAITING: usize = 64;
/// The maximum number of tasks that wait for a connection of any other purpose. Calls alone cannot fill these queues.
const MAX_WAITING_INSIDE: usize = 1_024;
/// How long a revocation waits for a connection while earlier revocations are written.
const REVOCATION_WAIT: Duration = Duration::from_secs(5);
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::parts::store) enum Purpose {
    /// Following the change feed, and reporting this node.
    Feed,
    /// Writing revocations, and asking which nodes have applied them.
    Revocation,
    /// Queries that answer a call.
    Read,
    Write,
    /// Loading all rows, sweeping, and the commands that run beside a broker.
    Background,
}

impl Purpose {
    pub const ALL: [Self; 5] = [
        Self::Feed,
        Self::Revocation,
        Self::Read,
        Self::Write,
        Self::Background,
    ];

    /// The label of the purpose in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Revocation => "revocation",
            Self::Read => "read",
            Self::Write => "write",
            Self::Background => "background",
        }
    }

    /// Whether the work is caused by calls, so that only the queue limits its amount.
    pub fn is_of_requests(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    pub fn connections(self) -> usize {
        if self == Self::Read { READERS } else { 1 }
    }

    pub fn max_waiting(self) -> usize {
        if self.is_of_requests() {
            MAX_WAITING
        } else {
            MAX_WAITING_INSIDE
        }
    }

    pub fn longest_wait(self) -> Duration {
        match self {
            Self::Feed | Self::Read | Self::Write => DEADLINE,
            Self::Revocation => REVOCATION_WAIT,
            Self::Background => SCAN_DEADLINE,
        }
    }
}
