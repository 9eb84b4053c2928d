//! The structure of the agent's configuration file. `config/agent.toml` describes every key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::principal::ImdsPrincipal;

/// Session tags, by their keys.
pub(super) type Tags = BTreeMap<String, String>;

/// The addresses of a section, written as one text or as an array of them.
#[derive(Debug)]
pub(super) struct Addresses(pub(super) Vec<SocketAddr>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) broker: Option<Broker>,
    pub(super) identity: Option<Identity>,
    pub(super) session_tags: Option<SessionTags>,
    pub(super) operator: Option<Operator>,
    pub(super) audit: Option<Audit>,
    pub(super) cache: Option<Cache>,
    pub(super) imds: Option<Imds>,
    pub(super) container: Option<Container>,
    pub(super) pod_identity: Option<PodIdentity>,
    pub(super) unix_socket: Option<UnixSocket>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Broker {
    pub(super) endpoint: String,
    pub(super) region: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub(super) access_key_file: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
    pub(super) web_identity_token_file: Option<PathBuf>,
    pub(super) role_arn: Option<String>,
    pub(super) role_session_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionTags {
    pub(super) node: Option<String>,
    #[serde(default)]
    pub(super) unit: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Operator {
    pub(super) address: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    pub(super) file: Option<PathBuf>,
    pub(super) stdout: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cache {
    pub(super) file: PathBuf,
    pub(super) key_file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Imds {
    pub(super) address: Option<Addresses>,
    pub(super) role_arn: String,
    pub(super) role_session_name: Option<String>,
    #[serde(default)]
    pub(super) principal: ImdsPrincipal,
    pub(super) duration_seconds: Option<u32>,
    #[serde(default)]
    pub(super) tags: Tags,
    #[serde(default)]
    pub(super) v1: bool,
    pub(super) token_hop_limit: Option<u32>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    pub(super) off_loopback: Option<String>,
    pub(super) instance_profile_arn: Option<String>,
    #[serde(default)]
    pub(super) meta_data: toml::Table,
    pub(super) identity_document_key: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Container {
    pub(super) address: Option<Addresses>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    pub(super) off_loopback: Option<String>,
    #[serde(default, rename = "workload")]
    pub(super) workloads: Vec<ContainerWorkload>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContainerWorkload {
    pub(super) name: String,
    pub(super) token_file: PathBuf,
    pub(super) role_arn: Option<String>,
    pub(super) role_session_name: Option<String>,
    pub(super) cluster: Option<String>,
    pub(super) family: Option<String>,
    pub(super) task_id: Option<String>,
    pub(super) duration_seconds: Option<u32>,
    #[serde(default)]
    pub(super) tags: Tags,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PodIdentity {
    pub(super) addresses: Option<Addresses>,
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    pub(super) off_loopback: Option<String>,
    pub(super) cluster: String,
    pub(super) duration_seconds: Option<u32>,
    pub(super) token_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnixSocket {
    pub(super) path: PathBuf,
    pub(super) mode: Option<String>,
    #[serde(default, rename = "program")]
    pub(super) programs: Vec<Program>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) executable: Option<PathBuf>,
    pub(super) unit: Option<String>,
    pub(super) role_arn: String,
    pub(super) role_session_name: Option<String>,
    pub(super) duration_seconds: Option<u32>,
    #[serde(default)]
    pub(super) tags: Tags,
}

impl Imds {
    /// A section `[imds]` with a role and an address, and the default for every other key.
    pub(super) fn new(role_arn: &str, address: SocketAddr) -> Self {
        Self {
            address: Some(address.into()),
            role_arn: role_arn.to_owned(),
            role_session_name: None,
            principal: ImdsPrincipal::Node,
            duration_seconds: None,
            tags: Tags::new(),
            v1: false,
            token_hop_limit: None,
            hosts: Vec::new(),
            off_loopback: None,
            instance_profile_arn: None,
            meta_data: toml::Table::new(),
            identity_document_key: None,
        }
    }
}

impl From<SocketAddr> for Addresses {
    fn from(address: SocketAddr) -> Self {
        Self(vec![address])
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parsed = match toml::Value::deserialize(deserializer)? {
            toml::Value::Array(many) => many.into_iter().map(toml::Value::try_into).collect(),
            one => one.try_into().map(|address| vec![address]),
        };
        parsed.map(Self).map_err(D::Error::custom)
    }
}
