//! File descriptors: each connection takes one, and some are reserved for the broker itself.

use crate::process;

/// How many descriptors are reserved for listeners, the audit log, the store's connections (SQLite opens
/// three files for each), Redis, identity providers, the operators' connections, and files that are read
/// again.
const RESERVED: u64 = 128;

/// Reduces a limit on connections to the number for which this process has enough file descriptors.
pub(super) fn fitting(connections: usize) -> usize {
    let descriptors = process::descriptor_limit();
    let fitting = usize::try_from(beside_reserved(descriptors)).unwrap_or(usize::MAX);
    if fitting < connections {
        tracing::warn!(
            connections,
            descriptors,
            fitting,
            "the broker accepts fewer connections than [limits] connections, since this process has too few file \
             descriptors; raise `ulimit -n`"
        );
    }
    fitting.min(connections)
}

fn beside_reserved(descriptors: u64) -> u64 {
    descriptors
        .saturating_sub(RESERVED)
        .max(descriptors / 4)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tr_08_connections_leave_descriptors_for_the_broker() {
        assert_eq!(
            [1, 64, 256, 1_024, 20_000].map(beside_reserved),
            [1, 16, 128, 896, 19_872]
        );
        assert!(fitting(usize::MAX) < usize::MAX);
        assert_eq!(fitting(1), 1);
    }
}
