//! The workload that gets the credentials, and the role that the directory assigns to it.

use serde::Serialize;

use crate::authn::web_identity;
use crate::base::arn::RoleArn;
use crate::base::field::{self, FieldError};
use crate::base::names::{Tag, is_label};
use crate::base::secret::Secret;
use crate::error::Error;
use crate::evaluator::strangers;
use crate::federation::kubernetes::ServiceAccount;
use crate::ops::context::Context;
use crate::ops::node::Node;
use crate::ops::sts::session_input::trimmed;
use crate::proof::jwt;
use crate::trust::ServicePrincipal;

/// The maximum length of the names of clusters and task families, in characters.
const MAX_NAME: usize = 100;
/// The maximum length of the ids of instances and tasks, in characters.
const MAX_ID: usize = 40;
/// The maximum length of a role session's name in STS, in characters.
const MAX_SESSION_NAME: usize = 64;

/// The workload as the caller describes it, before any check.
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
        token: String,
    },
    Process {
        uid: Option<u32>,
        unit: Option<String>,
        name: Option<String>,
    },
}

/// A workload whose description has been checked.
pub(super) enum Parsed {
    Instance {
        id: String,
    },
    Task {
        cluster: String,
        family: String,
        id: String,
    },
    Pod {
        cluster: String,
        token: Secret<String>,
    },
    Process {
        uid: Option<u32>,
        unit: Option<String>,
        name: Option<String>,
    },
}

/// The facts from a pod's verified token: its service account, the identity provider and the
/// audience.
pub(super) struct Pod {
    account: ServiceAccount,
    provider_arn: String,
    audience: String,
}

/// The role of a workload, and the principal that assumes it.
pub(super) enum Role {
    /// The node assumes the role for a process, with its own identity.
    OfNode(RoleArn),
    /// An AWS service assumes the role, because trust policies that were imported from AWS name
    /// that service.
    OfService {
        arn: RoleArn,
        service: ServicePrincipal,
    },
}

impl Role {
    pub(super) fn arn(&self) -> &RoleArn {
        match self {
            Self::OfNode(arn) | Self::OfService { arn, .. } => arn,
        }
    }
}

/// A workload whose role and session name are determined, from the directory and the workload's
/// token.
pub(super) struct Identified {
    pub(super) role: Role,
    /// The name of the workload's session if the request has none.
    pub(super) session_name: String,
    /// The transitive session tags that come from the workload's token.
    pub(super) tags: Vec<Tag>,
    /// The workload's name in the record and the token of its session.
    pub(super) name: String,
}

impl Parsed {
    /// Checks the description. `given` says whether the request has a role and a session name: a
    /// process needs both.
    pub(super) fn parse(
        workload: Option<Workload>,
        given: (bool, bool),
        tags: &[Tag],
    ) -> Result<Self, Error> {
        let label = |field: &'static str, text: &str, most: usize| {
            let rule = format!("must be 1 to {most} letters, digits, `-` or `_`");
            is_label(text, most)
                .then_some(())
                .ok_or_else(|| FieldError::new(field, rule))
        };
        let workload = workload.ok_or_else(|| FieldError::new("Workload", "must not be null"))?;
        Ok(match workload {
            Workload::Instance { instance_id } => {
                let rest = instance_id.strip_prefix("i-").unwrap_or_default();
                let legal = rest.bytes().all(|b| b.is_ascii_alphanumeric());
                if !legal || !(1..=MAX_ID).contains(&rest.len()) {
                    let rule = "must be `i-` followed by 1 to 40 letters or digits";
                    return Err(FieldError::new("InstanceId", rule).into());
                }
                Self::Instance { id: instance_id }
            }
            Workload::Task {
                cluster,
                family,
                task_id,
            } => {
                label("Cluster", &cluster, MAX_NAME)?;
                label("Family", &family, MAX_NAME)?;
                label("TaskId", &task_id, MAX_ID)?;
                Self::Task {
                    cluster,
                    family,
                    id: task_id,
                }
            }
            Workload::Pod { cluster, token } => {
                label("Cluster", &cluster, MAX_NAME)?;
                let token = Secret::new(trimmed(token));
                field::length("WebIdentityToken", token.expose(), 4, jwt::MAX_CHARACTERS)?;
                if !tags.is_empty() {
                    let rule = "must be empty for a pod, whose tags come from its token";
                    return Err(FieldError::new("Tags", rule).into());
                }
                Self::Pod { cluster, token }
            }
            Workload::Process { uid, unit, name } => {
                for (field, text) in [("Unit", &unit), ("Name", &name)] {
                    if let Some(text) = text {
                        field::length(field, text, 1, 256)?;
                    }
                }
                for (field, is_given) in [("RoleArn", given.0), ("RoleSessionName", given.1)] {
                    if !is_given {
                        return Err(FieldError::new(field, "must not be null").into());
                    }
                }
                Self::Process { uid, unit, name }
            }
        })
    }

    /// Verifies the token of a pod as AssumeRoleWithWebIdentity does. Returns `None` for other workloads. The call may
    /// wait for the provider's keys, so it renews the state in `cx` afterwards.
    ///
    /// # Errors
    /// The same as for AssumeRoleWithWebIdentity, `IDPRejectedClaim` if the provider's tokens are accepted only once,
    /// and `InvalidIdentityToken` if the token is not bound to a pod.
    pub(super) async fn verify(&self, cx: &mut Context<'_>) -> Result<Option<Pod>, Error> {
        let Self::Pod { token, .. } = self else {
            return Ok(None);
        };
        let account = cx.caller().account();
        let asked = web_identity::identify(cx.broker, token.expose(), account, &cx.directory);
        // Boxed, because it is larger than everything that other calls need.
        let identity = Box::pin(asked)
            .await
            .map_err(|unproven| cx.unproven(&unproven))?;
        cx.renew()?;
        if identity.once.is_some() {
            let text = "The provider's tokens are single-use, but a pod must present its token again each time its \
                credentials are renewed";
            return Err(Error::IdpRejectedClaim(text.to_owned()));
        }
        let Some(account) = identity.service_account().filter(|a| a.pod.is_some()) else {
            let text = "The token is not a Kubernetes service-account token that is bound to a pod";
            return Err(Error::InvalidIdentityToken(text.to_owned()));
        };
        Ok(Some(Pod {
            account,
            provider_arn: identity.provider_arn.to_string(),
            audience: identity.audience.clone(),
        }))
    }

    /// Determines the workload's role and the name of its session.
    ///
    /// # Errors
    /// The reason for which the node may not get credentials for the workload.
    pub(super) fn identify(
        &self,
        node: &Node,
        pod: Option<&Pod>,
        cx: &Context<'_>,
        asked: Option<&RoleArn>,
    ) -> Result<Identified, &'static str> {
        match (self, pod) {
            (Self::Instance { id }, _) => instance(id, node, cx),
            (
                Self::Task {
                    cluster,
                    family,
                    id,
                },
                _,
            ) => task(cluster, family, id, node, cx),
            (Self::Pod { cluster, .. }, Some(pod)) => pod.identify(cluster, node, cx),
            (Self::Process { uid, unit, name }, _) => Ok(Identified {
                role: Role::OfNode(asked.ok_or("RoleArn is required for a process.")?.clone()),
                // A process always has a name of its session.
                session_name: "process".to_owned(),
                tags: Vec::new(),
                name: match (unit, uid, name) {
                    (Some(unit), _, _) => format!("unit {unit}"),
                    (None, Some(uid), _) => format!("uid {uid}"),
                    (None, None, Some(name)) => format!("workload {name}"),
                    (None, None, None) => "a program".to_owned(),
                },
            }),
            (Self::Pod { .. }, None) => Err("The request has no token of the pod."),
        }
    }

    /// Returns the workload's description for the audit record, with the details from a pod's
    /// token.
    pub(super) fn audited<'a>(&'a self, pod: Option<&'a Pod>) -> Audited<'a> {
        match self {
            Self::Instance { id } => Audited {
                r#type: "instance",
                instance_id: Some(id),
                ..Audited::default()
            },
            Self::Task {
                cluster,
                family,
                id,
            } => Audited {
                r#type: "task",
                cluster: Some(cluster),
                family: Some(family),
                task_id: Some(id),
                ..Audited::default()
            },
            Self::Pod { cluster, .. } => {
                let account = pod.map(|pod| &pod.account);
                let of_pod = account.and_then(|account| account.pod.as_ref());
                Audited {
                    r#type: "pod",
                    cluster: Some(cluster),
                    namespace: account.map(|a| a.namespace.as_str()),
                    service_account: account.map(|a| a.name.as_str()),
                    pod_name: of_pod.map(|(name, _)| name.as_str()),
                    pod_uid: of_pod.map(|(_, uid)| uid.as_str()),
                    node_name: account.and_then(|a| a.node.as_deref()),
                    ..Audited::default()
                }
            }
            Self::Process { uid, unit, name } => Audited {
                r#type: "process",
                uid: *uid,
                unit: unit.as_deref(),
                name: name.as_deref(),
                ..Audited::default()
            },
        }
    }
}

/// Identifies the EC2 instance that the node runs on. Its role is that of the node's instance
/// profile.
fn instance(id: &str, node: &Node, cx: &Context<'_>) -> Result<Identified, &'static str> {
    let (account, region) = (node.account, cx.region());
    let name = node.instance_profile();
    let name = name.ok_or(
        "The node has no tag `brevet:instance-profile` with the name of its instance profile.",
    )?;
    let profile = cx.directory.instance_profile_named(account, name);
    let profile = profile.ok_or(
        "The directory has no instance profile with the name that the node's tag `brevet:instance-profile` contains.",
    )?;
    let role = profile.role.as_deref();
    let role = role.ok_or("The instance profile of the node has no role.")?;
    let role = role
        .split_once('/')
        .and_then(|(_, name)| cx.directory.role_named(account, name));
    let role =
        role.ok_or("The directory does not have the role of the node's instance profile.")?;
    Ok(Identified {
        role: Role::OfService {
            arn: role_arn(&role.arn)?,
            service: ServicePrincipal {
                name: strangers::INSTANCES,
                source_arn: format!("arn:aws:ec2:{region}:{account}:instance/{id}"),
            },
        },
        session_name: id.to_owned(),
        tags: Vec::new(),
        name: format!("instance {id}"),
    })
}

/// Identifies an ECS task. Its role comes from the directory's association for the task family.
fn task(
    cluster: &str,
    family: &str,
    id: &str,
    node: &Node,
    cx: &Context<'_>,
) -> Result<Identified, &'static str> {
    let (account, region) = (node.account, cx.region());
    let found = cx.directory.task_association(account, cluster, family);
    let found = found.ok_or(
        "The directory has no association (Brevet.TaskAssociations) for the cluster and family of \
        the task.",
    )?;
    Ok(Identified {
        role: Role::OfService {
            arn: role_arn(&found.role_arn)?,
            service: ServicePrincipal {
                name: strangers::TASKS,
                source_arn: format!("arn:aws:ecs:{region}:{account}:task/{cluster}/{id}"),
            },
        },
        session_name: if id.len() < 2 {
            format!("task-{id}")
        } else {
            id.to_owned()
        },
        tags: Vec::new(),
        name: format!("task {cluster}/{id}"),
    })
}

impl Pod {
    fn identify(
        &self,
        cluster: &str,
        node: &Node,
        cx: &Context<'_>,
    ) -> Result<Identified, &'static str> {
        let ServiceAccount {
            namespace,
            name,
            pod,
            node: on,
        } = &self.account;
        let (account, region) = (node.account, cx.region());
        let (pod_name, pod_uid) = pod
            .as_ref()
            .ok_or("The service-account token is not bound to a pod.")?;
        let on = on
            .as_deref()
            .ok_or(
                "The service-account token does not contain the name of the pod's node. By default, Kubernetes writes \
                this name into the tokens of pods since version 1.30.",
            )?;
        let found = cx
            .directory
            .pod_association(account, cluster, namespace, name);
        let found =
            found.ok_or("The directory has no association (Brevet.PodAssociations) for the pod's service account in \
                this cluster.")?;
        let tokens = found
            .tokens
            .as_ref()
            .ok_or("The association in the directory is for tasks and not for pods.")?;
        if *tokens.provider_arn != *self.provider_arn {
            return Err(
                "The provider that issued the service-account token is not the one that the association names in \
                ProviderArn.",
            );
        }
        if *tokens.audience != *self.audience {
            return Err(
                "The audience of the service-account token differs from the audience of the association.",
            );
        }
        if !node.is(cluster, &self.provider_arn, on) {
            return Err(
                "The caller is not known as the node on which the pod runs: a user needs the tag `brevet:node` with \
                the value CLUSTER/NODE, and a node with a service-account token needs one of the association's \
                provider that names this node.",
            );
        }
        let cluster_arn = format!("arn:aws:eks:{region}:{account}:cluster/{cluster}");
        // Amazon EKS User Guide, "Grant Pods access to AWS resources based on tags".
        let tags = [
            ("eks-cluster-arn", cluster_arn.as_str()),
            ("eks-cluster-name", cluster),
            ("kubernetes-namespace", namespace),
            ("kubernetes-service-account", name),
            ("kubernetes-pod-name", pod_name),
            ("kubernetes-pod-uid", pod_uid),
        ];
        let tags = tags.map(|(key, value)| Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        });
        let uid: String = pod_uid.chars().take(8).collect();
        let most = MAX_SESSION_NAME - uid.len() - 1;
        let readable: String = format!("eks-{cluster}-{pod_name}")
            .chars()
            .take(most)
            .collect();
        Ok(Identified {
            role: Role::OfService {
                arn: role_arn(&found.role_arn)?,
                service: ServicePrincipal {
                    name: strangers::PODS,
                    source_arn: cluster_arn,
                },
            },
            session_name: format!("{readable}-{uid}"),
            tags: tags.into(),
            name: format!("pod {pod_uid}"),
        })
    }
}

fn role_arn(arn: &str) -> Result<RoleArn, &'static str> {
    RoleArn::parse("RoleArn", arn)
        .map_err(|_| "The ARN of the workload's role in the directory is not the ARN of a role (`arn:aws:iam::ACCOUNT:role/NAME`, \
               at most 2048 characters).")
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Audited<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}
