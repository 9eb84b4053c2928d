//! The memory of connections: each takes some even if it is idle, and all of them together must leave enough
//! for the rest of the broker.

use std::path::{Path, PathBuf};

/// How many bytes a connection can take besides its requests: its task, the buffers of TLS and of its
/// protocol, and a full table of HTTP/2 headers.
const CONNECTION_BYTES: u64 = 65_536;
/// The divisor for the part of the memory that connections may take: a quarter.
const PART: u64 = 4;

/// Reduces a limit on connections to the number for which a quarter of the memory is enough, but not below 16.
pub(super) fn fitting(connections: usize) -> usize {
    let Some(limit) = limit() else {
        return connections;
    };
    let fitting = within(limit);
    if fitting < connections {
        tracing::info!(
            connections,
            memory_mib = limit >> 20,
            fitting,
            "the broker accepts fewer connections than [limits] connections: as many as fit into a quarter of the \
             memory, at 64 KiB each"
        );
    }
    fitting.min(connections)
}

fn within(limit: u64) -> usize {
    usize::try_from((limit / PART / CONNECTION_BYTES).max(16)).unwrap_or(usize::MAX)
}

/// How many bytes of memory this process may use: as many as the machine has, or fewer if its control group or one
/// above it has a limit. `None` if the system does not say.
fn limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = of_groups(&groups, Path::new("/sys/fs/cgroup"));
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total(&text));
    group.into_iter().chain(machine).min()
}

/// `MemTotal` in the text of `/proc/meminfo` (proc(5)), in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1_024)
}

/// The lowest limit in bytes among the control groups in `/proc/self/cgroup` and the groups above them (cgroups(7)). In
/// a container, the path of a group may differ from its path outside; then only the root group is found.
fn of_groups(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (
            fields.next(),
            fields.next().unwrap_or_default(),
            fields.next(),
        );
        let (mount, file) = match (id, controllers) {
            (Some("0"), "") => (root.to_owned(), "memory.max"),
            (_, named) if named.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let path = PathBuf::from(path.unwrap_or_default().trim_start_matches('/'));
        // Without a limit the file contains `max`, or an impossibly large number.
        let read = |group: &Path| {
            std::fs::read_to_string(mount.join(group).join(file))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        path.ancestors().filter_map(read).collect::<Vec<u64>>()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn op_07_connections_leave_memory_for_the_broker() {
        assert_eq!(
            [64 << 20, 512 << 20, 1 << 30, 8 << 30].map(within),
            [256, 2_048, 4_096, 32_768]
        );
        assert_eq!(fitting(1), 1);
        assert_eq!(
            total("MemFree: 1 kB\nMemTotal:       2048 kB\n"),
            Some(2 << 20)
        );
    }

    #[test]
    fn op_07_the_least_limit_of_all_groups_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("a/memory.max", "536870912\n");
        write("a/b/memory.max", "max\n");
        assert_eq!(of_groups("0::/a/b\n", dir.path()), Some(512 << 20));
        assert_eq!(of_groups("0::/\n", dir.path()), None);
        // A container whose group has another path outside.
        write("memory.max", "268435456\n");
        assert_eq!(of_groups("0::/../x\n", dir.path()), Some(256 << 20));
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/a/memory.limit_in_bytes", "104857600\n");
        assert_eq!(
            of_groups("5:cpu,cpuacct:/a\n4:memory:/a/c\n", dir.path()),
            Some(100 << 20)
        );
        assert_eq!(of_groups("", dir.path()), None);
    }
}
