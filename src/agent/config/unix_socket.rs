//! `[unix_socket]`: credentials for local programs, which the agent identifies by what the kernel
//! reports about the process at the other end of the socket.

use std::path::{Path, PathBuf};

use super::document::{Program, UnixSocket};
use super::own_tags::OwnTags;
use super::{ConfigError, session_of, value};
use crate::agent::peer::Who;
use crate::agent::wanted::{Wanted, WorkloadId, WorkloadWanted};

/// The maximum number of `[[unix_socket.program]]` entries.
const MAX_PROGRAMS: usize = 1_000;
/// The maximum length of a socket's path in bytes: unix(7) has 108 bytes, of which the last is the
/// terminating zero.
const LONGEST_PATH: usize = 107;
/// The maximum length of an entry's name in characters: `ProcessWorkload` of `sts.proto`.
const LONGEST_NAME: usize = 256;
/// The default mode of the socket: everybody may connect, since the entries decide who gets
/// credentials.
const MODE: u32 = 0o666;

#[derive(Debug)]
pub struct UnixSocketConfig {
    pub path: PathBuf,
    /// The mode of the socket, which says who may connect: connecting needs write permission.
    pub mode: u32,
    pub programs: Vec<ProgramConfig>,
}

/// An entry: which program gets which role.
#[derive(Debug)]
pub struct ProgramConfig {
    pub name: String,
    pub who: Who,
    pub role_arn: String,
    /// The description of the session whose credentials the program gets.
    pub wanted: Wanted,
}

pub(super) fn unix_socket(
    section: UnixSocket,
    own_tags: &OwnTags,
    base: &Path,
) -> Result<UnixSocketConfig, ConfigError> {
    let path = base.join(section.path);
    if path.as_os_str().len() > LONGEST_PATH {
        let rule = format!(
            "`{}` must have at most {LONGEST_PATH} bytes, but has {}",
            path.display(),
            path.as_os_str().len()
        );
        return Err(value("[unix_socket] path", rule));
    }
    let mode = match section.mode {
        None => MODE,
        Some(text) => u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| (3..=4).contains(&text.len()) && *mode <= 0o777)
            .ok_or_else(|| {
                value(
                    "[unix_socket] mode",
                    format!("`{text}` must be a mode of 3 or 4 octal digits and at most 0777, such as \"0660\""),
                )
            })?,
    };
    if section.programs.is_empty() || section.programs.len() > MAX_PROGRAMS {
        let rule = format!(
            "must be given 1 to {MAX_PROGRAMS} times, but is given {} times: one section for each program",
            section.programs.len()
        );
        return Err(value("[[unix_socket.program]]", rule));
    }
    let programs = section.programs.into_iter();
    let programs = programs.map(|entry| {
        let name = entry.name.clone();
        program(entry, own_tags).map_err(|error| error.of_entry(&name))
    });
    Ok(UnixSocketConfig {
        path,
        mode,
        programs: programs.collect::<Result<_, _>>()?,
    })
}

/// The socket of the development mode, which serves programs of the user who runs the agent.
///
/// # Errors
/// The role breaks a rule.
pub(super) fn for_development(
    role_arn: &str,
    session_name: &str,
) -> Result<UnixSocketConfig, ConfigError> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let keys = ["--role", "--role", "--role"];
    let session = session_of(keys, session_name, role_arn, None, None)?;
    Ok(UnixSocketConfig {
        path: folder.join(format!("brevet-agent-{}.sock", std::process::id())),
        mode: 0o600,
        programs: vec![ProgramConfig {
            name: "demo".to_owned(),
            who: Who {
                uid: Some(rustix::process::getuid().as_raw()),
                ..Who::default()
            },
            role_arn: role_arn.to_owned(),
            wanted: Wanted::Workload(Box::new(session)),
        }],
    })
}

fn program(entry: Program, own_tags: &OwnTags) -> Result<ProgramConfig, ConfigError> {
    const EXECUTABLE: &str = "[[unix_socket.program]] executable";
    if let Some(executable) = &entry.executable
        && !executable.is_absolute()
    {
        let rule = format!("{} must be an absolute path", executable.display());
        return Err(value(EXECUTABLE, rule));
    }
    if entry.uid.is_none() && entry.gid.is_none() && entry.unit.is_none() {
        let rule = match entry.executable {
            Some(_) => {
                "does not identify a program alone, since other users of this machine may run the same file. Set \
                uid, gid or unit as well"
            }
            None => {
                "is not set, and neither are uid, gid and unit: set at least one of uid, gid and unit to identify \
                the program"
            }
        };
        return Err(value(EXECUTABLE, rule));
    }
    if !(1..=LONGEST_NAME).contains(&entry.name.chars().count()) {
        let rule = format!("must have 1 to {LONGEST_NAME} characters");
        return Err(value("[[unix_socket.program]] name", rule));
    }
    if let Some(unit) = &entry.unit
        && !(unit.ends_with(".service") || unit.ends_with(".scope"))
    {
        let rule = format!(
            "`{unit}` must be the name of a service or scope unit, and end in `.service` or `.scope`"
        );
        return Err(value("[[unix_socket.program]] unit", rule));
    }
    let session = session_of(
        [
            "[[unix_socket.program]] role_arn",
            "[[unix_socket.program]] role_session_name",
            "[[unix_socket.program]] duration_seconds",
        ],
        &entry.name,
        &entry.role_arn,
        entry.role_session_name,
        entry.duration_seconds,
    )?;
    Ok(ProgramConfig {
        wanted: Wanted::Workload(Box::new(WorkloadWanted {
            workload: WorkloadId::Process {
                uid: entry.uid,
                unit: entry.unit.clone(),
                name: entry.name.clone(),
            },
            tags: own_tags.beside(
                "[[unix_socket.program]] tags",
                entry.tags,
                entry.unit.as_deref(),
            )?,
            ..session
        })),
        who: Who {
            uid: entry.uid,
            gid: entry.gid,
            executable: entry.executable,
            unit: entry.unit,
        },
        role_arn: entry.role_arn,
        name: entry.name,
    })
}
