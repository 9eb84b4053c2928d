//! File descriptors: each connection takes one, and some are reserved for the broker itself.

use super::workers;
use crate::process;

/// How many descriptors are reserved for listeners, the audit log, the store's connections (SQLite opens
/// three files for each), Redis, identity providers, the operators' connections, and files that are read
/// again.
const RESERVED: u64 = 128;
/// How many descriptors each worker takes: those with which its runtime waits for events, and a connection to
/// Redis.
const OF_A_WORKER: u64 = 8;

/// Reduces a limit on connections to the number for which this process has enough file descriptors.
pub(super) fn fitting(connections: usize) -> usize {
    let descriptors = process::descriptor_limit();
    let fitting =
        usize::try_from(beside_reserved(descriptors, workers::count())).unwrap_or(usize::MAX);
    if fitting < connections {
        tracing::warn!(
            connections,
            descriptors,
            fitting,
            "the broker accepts fewer connections than [limits] connections, since this process has too few file \
             descriptors; raise the limit (`ulimit -n`, `LimitNOFILE=`)"
        );
    }
    fitting.min(connections)
}

fn beside_reserved(descriptors: u64, workers: usize) -> u64 {
    let of_workers = u64::try_from(workers)
        .unwrap_or(u64::MAX)
        .saturating_mul(OF_A_WORKER);
    descriptors
        .saturating_sub(RESERVED)
        .saturating_sub(of_workers)
        .max(descriptors / 4)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tr_08_connections_leave_descriptors_for_the_broker() {
        assert_eq!(
            [1, 64, 256, 1_024, 20_000].map(|all| beside_reserved(all, 2)),
            [1, 16, 112, 880, 19_856]
        );
        assert!(fitting(usize::MAX) < usize::MAX);
        assert_eq!(fitting(1), 1);
    }
}
