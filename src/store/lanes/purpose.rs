//! What connections are for, and what follows from that: how many there are, and who waits how long.

use std::time::Duration;

use crate::store::{DEADLINE, SCAN_DEADLINE};

/// How many connections answer look-ups of the request path.
const READERS: usize = 4;
/// How many callers wait for a connection of the request path.
pub(super) const MAX_WAITING: usize = 64;
/// How many wait for any other connection: no caller brings so many about.
const MAX_WAITING_INSIDE: usize = 1_024;
/// How long a revocation waits for those before it.
const REVOCATION_WAIT: Duration = Duration::from_secs(5);
/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::parts::store) enum Purpose {
    /// Following the change feed, and this node's report.
    Feed,
    /// Writing revocations, and asking which nodes have them.
    Revocation,
    /// Look-ups that a caller waits for.
    Read,
    /// Writes that a caller waits for.
    Write,
    /// Loading, sweeping, and what commands beside a broker do.
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

    /// The label of its metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Revocation => "revocation",
            Self::Read => "read",
            Self::Write => "write",
            Self::Background => "background",
        }
    }

    /// Whether callers bring the work about, as many of them as they like.
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
