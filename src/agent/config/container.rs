//! `[container]`: the container endpoint in the form of Amazon ECS.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::document::{Container, ContainerWorkload};
use super::listener::{ListenerConfig, listener, listeners};
use super::own_tags::OwnTags;
use super::{ConfigError, LONGEST, ranged, session_of, tags, value};
use crate::agent::wanted::{Wanted, WorkloadId, WorkloadWanted};

/// The maximum number of `[[container.workload]]` entries.
const MAX_WORKLOADS: usize = 1_000;

#[derive(Debug)]
pub struct ContainerConfig {
    /// The listeners, one for each address.
    pub listeners: Vec<ListenerConfig>,
    pub workloads: Vec<WorkloadConfig>,
}

/// A workload that may ask for credentials.
#[derive(Debug)]
pub struct WorkloadConfig {
    /// The last part of the path at which the workload asks: 1 to 64 letters, digits, `.`, `_` and `-`, the first of
    /// them not `.`.
    pub name: String,
    /// The file with the workload's token, which is made if it does not exist. Without a file, the agent makes a
    /// token that only the file of `--world` contains.
    pub token_file: Option<PathBuf>,
    /// The description of the session whose credentials the workload gets.
    pub wanted: Wanted,
}

pub(super) fn container(
    section: Container,
    own_tags: &OwnTags,
    base: &Path,
) -> Result<ContainerConfig, ConfigError> {
    let default = SocketAddr::from(([169, 254, 170, 2], 80));
    if section.workloads.is_empty() || section.workloads.len() > MAX_WORKLOADS {
        let rule = format!(
            "must be given 1 to {MAX_WORKLOADS} times, but is given {} times: one section for each workload",
            section.workloads.len()
        );
        return Err(value("[[container.workload]]", rule));
    }
    let mut names = HashSet::new();
    let workloads = section.workloads.into_iter().map(|entry| {
        let name = entry.name.clone();
        workload(entry, own_tags, base).map_err(|error| error.of_entry(&name))
    });
    let workloads = workloads.collect::<Result<Vec<_>, _>>()?;
    for workload in &workloads {
        if !names.insert(workload.name.as_str()) {
            let rule = format!(
                "`{}` is the name of two workloads; give each workload a name of its own",
                workload.name
            );
            return Err(value("[[container.workload]] name", rule));
        }
    }
    Ok(ContainerConfig {
        listeners: listeners(
            ["[container] address", "[container] hosts"],
            section.address.unwrap_or_else(|| default.into()),
            &section.hosts,
            section.off_loopback.as_deref(),
        )?,
        workloads,
    })
}

/// The container endpoint of the development mode: it has one workload, whose token only the file of `--world`
/// contains.
///
/// # Errors
/// The role or the address breaks a rule.
pub(super) fn for_development(
    address: SocketAddr,
    role_arn: &str,
    session_name: &str,
) -> Result<ContainerConfig, ConfigError> {
    let keys = ["--role", "--role", "--role"];
    let session = session_of(keys, session_name, role_arn, None, None)?;
    Ok(ContainerConfig {
        listeners: vec![listener(["--listen", "--listen"], address, &[], None)?],
        workloads: vec![WorkloadConfig {
            name: "demo".to_owned(),
            token_file: None,
            wanted: Wanted::Workload(Box::new(session)),
        }],
    })
}

fn workload(
    entry: ContainerWorkload,
    own_tags: &OwnTags,
    base: &Path,
) -> Result<WorkloadConfig, ConfigError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !(1..=64).contains(&entry.name.len())
        || !entry.name.bytes().all(legal)
        || entry.name.starts_with('.')
    {
        let rule = format!(
            "`{}` must have 1 to 64 letters, digits, `.`, `_` and `-`, and not begin with `.`",
            entry.name
        );
        return Err(value("[[container.workload]] name", rule));
    }
    Ok(WorkloadConfig {
        token_file: Some(base.join(&entry.token_file)),
        wanted: wanted(&entry, own_tags)?,
        name: entry.name,
    })
}

/// Describes the session for an entry. An entry with a task gets the task's role in the broker's directory; any other
/// entry names its role.
fn wanted(entry: &ContainerWorkload, own_tags: &OwnTags) -> Result<Wanted, ConfigError> {
    const ROLE: &str = "[[container.workload]] role_arn";
    const TAGS: &str = "[[container.workload]] tags";
    let duration_key = "[[container.workload]] duration_seconds";
    match (&entry.role_arn, &entry.cluster, &entry.family) {
        (Some(role_arn), None, None) if entry.task_id.is_none() => {
            let session = session_of(
                [
                    ROLE,
                    "[[container.workload]] role_session_name",
                    duration_key,
                ],
                &entry.name,
                role_arn,
                entry.role_session_name.clone(),
                entry.duration_seconds,
            )?;
            Ok(Wanted::Workload(Box::new(WorkloadWanted {
                tags: own_tags.beside(TAGS, entry.tags.clone(), None)?,
                ..session
            })))
        }
        (None, Some(cluster), Some(family)) => {
            let duration = ranged(duration_key, entry.duration_seconds, 3_600, 3_600..=LONGEST)?;
            Ok(Wanted::Workload(Box::new(WorkloadWanted {
                workload: WorkloadId::Task {
                    cluster: cluster.clone(),
                    family: family.clone(),
                    task_id: entry.task_id.clone().unwrap_or_else(|| entry.name.clone()),
                },
                role_arn: None,
                role_session_name: entry.role_session_name.clone(),
                duration_seconds: i32::try_from(duration).ok(),
                tags: tags(TAGS, entry.tags.clone())?,
            })))
        }
        _ => {
            let rule = "must be set if `cluster`, `family` and `task_id` are not; otherwise `cluster` and `family` \
                must both be set and `role_arn` must not, since the broker's TaskAssociations name the role";
            Err(value(ROLE, rule))
        }
    }
}
