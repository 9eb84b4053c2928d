//! File descriptors: each connection takes one, and none may take those that the broker itself needs.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What is kept for listeners, the audit log, the store's connections (SQLite opens three files for
/// each), Redis, identity providers, the operators' connections, and files that are read again.
const RESERVED: u64 = 128;

/// Takes as many descriptors as this process may have: the soft limit is 1,024 on most systems, for
/// programs that cannot do with more.
pub fn raise() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of file descriptors cannot be raised");
    }
}

/// How many of so many connections fit.
pub(super) fn fitting(connections: usize) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fitting = usize::try_from(beside_reserved(descriptors)).unwrap_or(usize::MAX);
    if fitting < connections {
        tracing::warn!(
            connections,
            descriptors,
            fitting,
            "[limits] connections is more than this process has file descriptors for: raise `ulimit -n`"
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
