//! Identifies the process at the other end of a Unix socket: its user and group as the kernel reports them, and its
//! program and systemd unit from /proc.
//!
//! The kernel records the process id when a process connects. By the time /proc is read, that process may have ended,
//! and its id may belong to another process. Two checks exclude this. The process must have started before a moment at
//! which the listener had no waiting connections, and therefore before the connection was made. And after /proc was
//! read, the process must still have the same start time; another process with its id has a later one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::unix::UCred;

use crate::base::clock::{Clock, SystemClock};

/// The unit of start times in /proc: USER_HZ is 100 on every architecture that this program is built for.
const TICK_MILLIS: u64 = 10;
const TICK: Duration = Duration::from_millis(TICK_MILLIS);

/// The process at the other end of a connection, as far as it could be identified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
    pub program: Result<Program, Unknown>,
}

/// The process that connected, with the file that it runs and its systemd unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// The file that the process runs; `None` if this agent is not allowed to see it.
    pub executable: Option<Executable>,
    /// The systemd unit to which the process belongs; `None` outside of units.
    pub unit: Option<String>,
}

/// The file that a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// The path as the process sees it. A process with its own mounts can give any file this path.
    pub path: PathBuf,
    /// The device and the inode of the file, which no process can choose.
    pub file: (u64, u64),
}

impl Executable {
    /// Finds the file to which a link in /proc leads. `None` if this agent is not allowed to see it.
    fn of(link: &Path) -> Option<Self> {
        Some(Self {
            path: fs::read_link(link).ok()?,
            file: file(link)?,
        })
    }
}

/// The device and the inode of a file, as this agent sees it.
fn file(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Why nothing is known about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The process has ended, or is in a namespace that this agent does not see.
    Gone,
    /// The process may have started after the connection was made. The same process can be identified if it connects
    /// again.
    TooNew,
}

/// The conditions of an entry. Each is `None` if it does not matter; at least one of `uid`, `gid` and `unit` is
/// set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub executable: Option<PathBuf>,
    pub unit: Option<String>,
}

impl Who {
    /// Whether a peer meets the conditions.
    ///
    /// # Errors
    /// [`Unknown`] if the process could not be identified, and the conditions need more than its user and group.
    pub fn fits(&self, peer: &Peer) -> Result<bool, Unknown> {
        if self.uid.is_some_and(|uid| uid != peer.uid)
            || self.gid.is_some_and(|gid| gid != peer.gid)
        {
            return Ok(false);
        }
        if self.executable.is_none() && self.unit.is_none() {
            return Ok(true);
        }
        let Program { executable, unit } = peer.program.as_ref().map_err(|unknown| *unknown)?;
        // The path alone would not do: a process with mounts of its own can give any file this path.
        let runs = |wanted: &PathBuf| {
            executable
                .as_ref()
                .is_some_and(|runs| runs.path == *wanted && Some(runs.file) == file(wanted))
        };
        Ok(self.executable.as_ref().is_none_or(runs)
            && self
                .unit
                .as_ref()
                .is_none_or(|wanted| Some(wanted) == unit.as_ref()))
    }

    /// The name, in the audit log, of the most specific condition that was compared, such as `peer-unit`.
    pub fn proof(&self) -> &'static str {
        match (&self.unit, &self.executable) {
            (Some(_), _) => "peer-unit",
            (None, Some(_)) => "peer-executable",
            (None, None) if self.uid.is_some() => "peer-uid",
            (None, None) => "peer-gid",
        }
    }
}

/// The time since the machine started, by the clock that /proc uses for start times.
pub fn since_boot() -> Duration {
    // No injected clock: what it is compared with is the kernel's.
    SystemClock.monotonic()
}

/// Identifies the process that connected. `idle_at` is a time, by [`since_boot`], that is before the connection
/// was made.
pub fn peer(credentials: &UCred, idle_at: Duration) -> Peer {
    Peer {
        uid: credentials.uid(),
        gid: credentials.gid(),
        program: program(credentials.pid(), idle_at),
    }
}

fn program(pid: Option<i32>, idle_at: Duration) -> Result<Program, Unknown> {
    // An id of another namespace is 0.
    let pid = pid.filter(|pid| *pid > 0).ok_or(Unknown::Gone)?;
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let started_at = || {
        let stat = fs::read_to_string(folder.join("stat")).ok();
        stat.as_deref().and_then(started_at).ok_or(Unknown::Gone)
    };
    let before = started_at()?;
    if before + TICK > idle_at {
        return Err(Unknown::TooNew);
    }
    let executable = Executable::of(&folder.join("exe"));
    let groups = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    if started_at()? != before {
        return Err(Unknown::Gone);
    }
    Ok(Program {
        executable,
        unit: unit(&groups),
    })
}

/// Reads from proc_pid_stat(5) when a process started, counted from the start of the machine: field 22, rounded down to
/// ticks. The name of the program, in parentheses, may contain anything. `None` for a zombie, which has ended but was
/// not waited for, and for a text of another form.
fn started_at(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    if ["Z", "X", "x"].contains(&fields.next()?) {
        return None;
    }
    // The state is field 3.
    let ticks: u64 = fields.nth(18)?.parse().ok()?;
    Some(Duration::from_millis(ticks.checked_mul(TICK_MILLIS)?))
}

/// Finds the systemd unit in proc_pid_cgroup(5): below the slices, the first part of the path in the unified
/// hierarchy. Deeper parts may have been made by the unit's own processes. `None` outside of units.
fn unit(groups: &str) -> Option<String> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let unit = path.split('/').find(|part| !part.ends_with(".slice"))?;
    let is_unit = [".service", ".scope"]
        .iter()
        .any(|kind| unit.ends_with(kind));
    is_unit.then(|| unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(executable: &str, unit: Option<&str>) -> Peer {
        Peer {
            uid: 1000,
            gid: 100,
            program: Ok(Program {
                executable: Some(Executable {
                    path: executable.into(),
                    file: file(Path::new(executable)).unwrap_or_default(),
                }),
                unit: unit.map(str::to_owned),
            }),
        }
    }

    #[test]
    fn everything_that_an_entry_names_must_be_so() {
        let reporter = is("/bin/true", Some("reporter.service"));
        let who = |uid: Option<u32>,
                   gid: Option<u32>,
                   executable: Option<&str>,
                   unit: Option<&str>| Who {
            uid,
            gid,
            executable: executable.map(PathBuf::from),
            unit: unit.map(str::to_owned),
        };
        for fitting in [
            who(Some(1000), None, None, None),
            who(None, Some(100), None, None),
            who(
                Some(1000),
                Some(100),
                Some("/bin/true"),
                Some("reporter.service"),
            ),
            who(None, None, None, Some("reporter.service")),
        ] {
            assert_eq!(fitting.fits(&reporter), Ok(true), "{fitting:?}");
        }
        for other in [
            who(Some(0), None, None, None),
            who(Some(1000), Some(101), None, None),
            who(Some(1000), None, Some("/bin/false"), None),
            who(Some(1000), None, Some("/bin/true"), Some("other.service")),
        ] {
            assert_eq!(other.fits(&reporter), Ok(false), "{other:?}");
        }
        let of_unit = who(Some(1000), None, None, Some("reporter.service"));
        assert_eq!(of_unit.fits(&is("/bin/true", None)), Ok(false));
        // Another file, to which the process gave this path by a mount of its own.
        let mut disguised = is("/bin/true", None);
        if let Ok(Program {
            executable: Some(executable),
            ..
        }) = &mut disguised.program
        {
            executable.file = file(Path::new("/bin/false")).unwrap();
        }
        let by_path = who(Some(1000), None, Some("/bin/true"), None);
        assert_eq!(by_path.fits(&is("/bin/true", None)), Ok(true));
        assert_eq!(by_path.fits(&disguised), Ok(false));
    }

    #[test]
    fn a_program_of_which_nothing_is_known_fits_only_what_the_kernel_vouches_for() {
        for unknown in [Unknown::Gone, Unknown::TooNew] {
            let peer = Peer {
                program: Err(unknown),
                ..is("/x", None)
            };
            let by_uid = Who {
                uid: Some(1000),
                ..Who::default()
            };
            assert_eq!(by_uid.fits(&peer), Ok(true));
            let by_unit = Who {
                unit: Some("x.service".into()),
                ..by_uid.clone()
            };
            assert_eq!(by_unit.fits(&peer), Err(unknown));
            let of_another = Who {
                uid: Some(1),
                ..by_unit
            };
            assert_eq!(of_another.fits(&peer), Ok(false));
        }
    }

    #[test]
    fn the_unit_is_the_one_that_systemd_made() {
        for (groups, expected) in [
            (
                "0::/system.slice/reporter.service\n",
                Some("reporter.service"),
            ),
            (
                "0::/system.slice/system-app.slice/app@1.service\n",
                Some("app@1.service"),
            ),
            // A process of one unit made a group that is called like another.
            (
                "0::/system.slice/evil.service/payments.service\n",
                Some("evil.service"),
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n",
                Some("user@1000.service"),
            ),
            (
                "0::/user.slice/user-1000.slice/session-3.scope\n",
                Some("session-3.scope"),
            ),
            (
                "12:cpu:/system.slice/old.service\n0::/system.slice/new.service\n",
                Some("new.service"),
            ),
            ("12:cpu:/system.slice/old.service\n", None),
            ("0::/../../system.slice/reporter.service\n", None),
            ("0::/kubepods/pod1/abc\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit(groups).as_deref(), expected, "{groups}");
        }
    }

    #[test]
    fn the_start_is_read_behind_whatever_the_program_is_called() {
        let stat = |name: &str, state: &str, start: &str| {
            format!(
                "42 ({name}) {state} 1 42 42 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 1 0 {start} 1 2 3"
            )
        };
        let expected = Some(Duration::from_millis(12_340));
        assert_eq!(started_at(&stat("brevet", "S", "1234")), expected);
        assert_eq!(started_at(&stat("a) S 1 (b", "R", "1234")), expected);
        for bad in [
            &stat("x", "Z", "1234"),
            &stat("x", "S", "-1"),
            "",
            "42 (x) S 1",
            "42",
        ] {
            assert_eq!(started_at(bad), None, "{bad}");
        }
    }

    #[test]
    fn ag_05_a_process_that_may_have_taken_over_an_id_is_not_known() {
        let own = i32::try_from(std::process::id()).unwrap();
        let now = since_boot() + Duration::from_secs(1);
        let known = program(Some(own), now).unwrap();
        assert_eq!(
            known.executable.map(|runs| runs.path),
            std::env::current_exe().ok()
        );
        // It started after the listener was idle: it may not be the process that connected.
        assert_eq!(program(Some(own), Duration::ZERO), Err(Unknown::TooNew));
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(program(Some(pid), since_boot() + Duration::from_secs(1)).is_ok());
        child.kill().unwrap();
        // Ended, and not waited for yet; then gone.
        while program(Some(pid), since_boot() + Duration::from_secs(1)).is_ok() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(program(Some(pid), since_boot()), Err(Unknown::Gone));
        for none in [None, Some(0), Some(-1)] {
            assert_eq!(program(none, now), Err(Unknown::Gone));
        }
    }
}
