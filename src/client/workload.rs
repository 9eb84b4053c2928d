//! AssumeRoleForWorkload: credentials that a node hands out to a workload.

use std::sync::Arc;

use super::{AssumedRole, Client, ClientError};
use crate::api::sts::v1 as pb;
use crate::api::sts::v1::assume_role_for_workload_request as one_of;
use crate::base::secret::Secret;

/// The workload that gets the credentials. `sts.proto` describes the kinds, and has the bounds of
/// each field.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "`sts.proto` describes the fields")]
pub enum Workload {
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
        /// The projected service-account token that the pod shows.
        token: Arc<Secret<String>>,
    },
    Process {
        uid: Option<u32>,
        unit: Option<String>,
        name: Option<String>,
    },
}

/// The parameters of AssumeRoleForWorkload. `sts.proto` has the bounds of each field.
#[derive(Debug, Clone)]
pub struct AssumeRoleForWorkload {
    /// The workload that gets the credentials.
    pub workload: Workload,
    /// The role's ARN. Only a process needs it: the directory has the role of other workloads.
    pub role_arn: Option<String>,
    /// The name of the session. Only a process needs it.
    pub role_session_name: Option<String>,
    /// The duration of the session in seconds, from 900 to 129600; 3600 by default.
    pub duration_seconds: Option<i32>,
    /// Keys and values of session tags. Must be empty for a pod.
    pub tags: Vec<(String, String)>,
}

impl AssumeRoleForWorkload {
    /// Makes a request with only the workload.
    pub fn new(workload: Workload) -> Self {
        Self {
            workload,
            role_arn: None,
            role_session_name: None,
            duration_seconds: None,
            tags: Vec::new(),
        }
    }
}

/// The answer to AssumeRoleForWorkload: the session, and the ARN of its role.
#[derive(Debug, Clone)]
pub struct WorkloadRole {
    /// The session, with its credentials.
    pub role: AssumedRole,
    /// The role's ARN, `arn:aws:iam::ACCOUNT:role/PATH/NAME`.
    pub role_arn: String,
}

impl Client {
    /// Calls AssumeRoleForWorkload: credentials for a workload on the node that calls.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn assume_role_for_workload(
        &self,
        request: &AssumeRoleForWorkload,
    ) -> Result<WorkloadRole, ClientError> {
        let tag = |(key, value): &(String, String)| pb::Tag {
            key: key.clone(),
            value: value.clone(),
        };
        let message = pb::AssumeRoleForWorkloadRequest {
            workload: Some(request.workload.message()),
            role_arn: request.role_arn.clone(),
            role_session_name: request.role_session_name.clone(),
            duration_seconds: request.duration_seconds,
            tags: request.tags.iter().map(tag).collect(),
        };
        let answer = self.grpc.clone().assume_role_for_workload(message).await;
        let answer = answer.map_err(|s| self.failed(&s))?.into_inner();
        let size = answer.packed_policy_size;
        Ok(WorkloadRole {
            role: self.assumed(
                answer.credentials,
                answer.assumed_role_user,
                size,
                String::new(),
            )?,
            role_arn: answer.role_arn,
        })
    }
}

impl Workload {
    fn message(&self) -> one_of::Workload {
        match self {
            Self::Instance { instance_id } => one_of::Workload::Instance(pb::InstanceWorkload {
                instance_id: instance_id.clone(),
            }),
            Self::Task {
                cluster,
                family,
                task_id,
            } => one_of::Workload::Task(pb::TaskWorkload {
                cluster: cluster.clone(),
                family: family.clone(),
                task_id: task_id.clone(),
            }),
            Self::Pod { cluster, token } => one_of::Workload::Pod(pb::PodWorkload {
                cluster: cluster.clone(),
                web_identity_token: token.expose().clone(),
            }),
            Self::Process { uid, unit, name } => one_of::Workload::Process(pb::ProcessWorkload {
                uid: *uid,
                unit: unit.clone(),
                name: name.clone(),
            }),
        }
    }
}
