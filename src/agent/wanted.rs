//! Describes the session that an endpoint asks for: which role, and for which workload. Equal descriptions share one
//! session.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::base::arn::name_of;
use crate::base::digest::sha256;
use crate::base::secret::Secret;
use crate::client::{AssumeRole, AssumeRoleForWorkload, Workload};

/// The default duration of a session in seconds.
const DEFAULT_SECONDS: i32 = 3_600;
const LONGEST_SECONDS: i32 = 129_600;

/// The description of a session. The agent holds one session for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A session of a role for a program that `brevet exec` runs, by AssumeRole.
    Role(Box<AssumeRole>),
    /// A session for a workload on this node, by AssumeRoleForWorkload.
    Workload(Box<WorkloadWanted>),
}

/// The description of a session that AssumeRoleForWorkload issues for a workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkloadWanted {
    pub workload: WorkloadId,
    /// The role. Required for a process; for other workloads, the directory has the role, and the broker refuses any
    /// other one.
    pub role_arn: Option<String>,
    /// The name of the session. Required for a process.
    pub role_session_name: Option<String>,
    /// The duration in seconds, from 900 to 129600; 3600 by default.
    pub duration_seconds: Option<i32>,
    pub tags: Vec<(String, String)>,
}

/// The identity of a workload. `sts.proto` describes the kinds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WorkloadId {
    Instance {
        instance_id: String,
    },
    Task {
        cluster: String,
        family: String,
        task_id: String,
    },
    Pod {
        cluster: String,
        token: PodToken,
    },
    /// A program or a container, identified by its entry in the configuration.
    Process {
        uid: Option<u32>,
        unit: Option<String>,
        name: String,
    },
}

/// The token that a pod shows. Tokens are compared by their digests. Another token counts as another workload,
/// even if it belongs to the same pod, because only the broker can tell whether it is valid.
#[derive(Debug, Clone)]
pub struct PodToken {
    token: Arc<Secret<String>>,
    digest: [u8; 32],
}

impl PodToken {
    pub fn new(token: String) -> Self {
        Self {
            digest: sha256(token.as_bytes()),
            token: Arc::new(Secret::new(token)),
        }
    }

    /// The SHA-256 of the token, by which tokens are compared.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl Wanted {
    /// A text by which the session is found again after a restart of the agent. Only equal descriptions have the same
    /// text. `None` if the session must not outlive the agent: a pod's, because only the pod's token proves who it is,
    /// and that of a program of `brevet exec`.
    pub fn lasting_id(&self) -> Option<String> {
        let Self::Workload(wanted) = self else {
            return None;
        };
        let workload = match &wanted.workload {
            WorkloadId::Instance { instance_id } => json!({"instance": instance_id}),
            WorkloadId::Task {
                cluster,
                family,
                task_id,
            } => json!({"cluster": cluster, "family": family, "task": task_id}),
            WorkloadId::Process { uid, unit, name } => {
                json!({"uid": uid, "unit": unit, "name": name})
            }
            WorkloadId::Pod { .. } => return None,
        };
        let id = json!([
            workload,
            wanted.role_arn,
            wanted.role_session_name,
            wanted.duration_seconds,
            wanted.tags,
        ]);
        Some(id.to_string())
    }

    /// The longest time for which a session of this description can be valid.
    pub fn longest_life(&self) -> Duration {
        let seconds = match self {
            // The command says how long, and the broker allows at most 36 hours.
            Self::Role(_) => LONGEST_SECONDS,
            Self::Workload(wanted) => wanted.duration_seconds.unwrap_or(DEFAULT_SECONDS),
        };
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }
}

impl PartialEq for PodToken {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for PodToken {}

impl Hash for PodToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl WorkloadWanted {
    /// The request by which the broker is asked for the session.
    pub fn request(&self) -> AssumeRoleForWorkload {
        let workload = match self.workload.clone() {
            WorkloadId::Instance { instance_id } => Workload::Instance { instance_id },
            WorkloadId::Task {
                cluster,
                family,
                task_id,
            } => Workload::Task {
                cluster,
                family,
                task_id,
            },
            WorkloadId::Pod { cluster, token } => Workload::Pod {
                cluster,
                token: token.token,
            },
            WorkloadId::Process { uid, unit, name } => Workload::Process {
                uid,
                unit,
                name: Some(name),
            },
        };
        AssumeRoleForWorkload {
            workload,
            role_arn: self.role_arn.clone(),
            role_session_name: self.role_session_name.clone(),
            duration_seconds: self.duration_seconds,
            tags: self.tags.clone(),
        }
    }
}

/// Describes the session for the log, without tokens.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(request) => {
                let (role, session) = (name_of(&request.role_arn), &request.role_session_name);
                write!(f, "role {role} as {session}")
            }
            Self::Workload(wanted) => {
                match &wanted.workload {
                    WorkloadId::Instance { instance_id } => write!(f, "instance {instance_id}")?,
                    WorkloadId::Task {
                        cluster, task_id, ..
                    } => write!(f, "task {cluster}/{task_id}")?,
                    WorkloadId::Pod { cluster, .. } => write!(f, "a pod of {cluster}")?,
                    WorkloadId::Process { name, .. } => write!(f, "workload {name}")?,
                }
                match &wanted.role_arn {
                    Some(role) => write!(f, ", role {}", name_of(role)),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(token: &str) -> Wanted {
        Wanted::Workload(Box::new(WorkloadWanted {
            workload: WorkloadId::Pod {
                cluster: "c".into(),
                token: PodToken::new(token.into()),
            },
            role_arn: None,
            role_session_name: None,
            duration_seconds: None,
            tags: Vec::new(),
        }))
    }

    #[test]
    fn another_token_is_another_workload_and_none_is_printed() {
        assert_eq!(pod("canary-1"), pod("canary-1"));
        assert_ne!(pod("canary-1"), pod("canary-2"));
        let shown = format!("{} {:?}", pod("canary-1"), pod("canary-1"));
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn only_equal_wishes_have_the_same_lasting_id() {
        let process = |role: &str, name: &str, seconds: Option<i32>| {
            Wanted::Workload(Box::new(WorkloadWanted {
                workload: WorkloadId::Process {
                    uid: Some(7),
                    unit: None,
                    name: "web".into(),
                },
                role_arn: Some(role.into()),
                role_session_name: Some(name.into()),
                duration_seconds: seconds,
                tags: Vec::new(),
            }))
        };
        let role = "arn:aws:iam::111122223333:role/App";
        let one = process(role, "web", Some(3_600));
        assert_eq!(one.lasting_id(), one.clone().lasting_id());
        assert!(one.lasting_id().is_some());
        for other in [
            process("arn:aws:iam::444455556666:role/App", "web", Some(3_600)),
            process(role, "mailer", Some(3_600)),
            process(role, "web", Some(7_200)),
        ] {
            assert_eq!(other.to_string(), one.to_string(), "the log says the same");
            assert_ne!(other.lasting_id(), one.lasting_id(), "{other:?}");
        }
        assert_eq!(pod("canary-1").lasting_id(), None);
    }
}
