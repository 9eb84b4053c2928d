//! Reads the agent's TOML file into a checked [`AgentConfig`]. Unknown keys are refused, bounds are checked, errors
//! name the key and the rule, and secrets are paths to files. Opens no socket.

mod container;
mod document;
mod imds;
mod listener;
mod own_tags;
mod pod_identity;
mod principal;
mod unix_socket;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::wanted::{WorkloadId, WorkloadWanted};
use crate::base::arn::RoleArn;
use crate::base::names::{self, RoleSessionName, Tag};
use crate::client::{Credentials, Endpoint};
use crate::files::{self, Audience, FileError};
use document::{Audit, Broker, Document, Identity, Imds, Tags};
use own_tags::OwnTags;

pub use container::{ContainerConfig, WorkloadConfig};
pub use imds::ImdsConfig;
pub use listener::ListenerConfig;
#[cfg(test)]
use listener::OFF_LOOPBACK_SENTENCE;
pub use pod_identity::PodIdentityConfig;
pub use principal::ImdsPrincipal;
pub use unix_socket::UnixSocketConfig;

const MAX_FILE_BYTES: u64 = 1 << 20;
/// The maximum duration of a session in seconds: 36 hours.
const LONGEST: u32 = 129_600;
/// The default address of `/healthz` and `/metrics`.
const OPERATOR: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7491);

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file, or a file that it names, cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not TOML, or a key is unknown, misplaced, missing or of the wrong type.
    #[error("{path}: {error}")]
    Syntax {
        path: PathBuf,
        /// The parser's error, with the line and column of the mistake.
        error: Box<toml::de::Error>,
    },
    /// A key is missing, or its value breaks a rule.
    #[error("{key}: {rule}")]
    Value {
        /// The section and the key, such as `[imds] role_arn`.
        key: &'static str,
        /// The rule that the value breaks, and what to write instead.
        rule: String,
    },
}

impl ConfigError {
    /// Adds the name of the entry to an error in one of several sections that have the same key.
    fn of_entry(self, name: &str) -> Self {
        match self {
            Self::Value { key, rule } => {
                let rule = format!("{rule} (in the entry with the name `{name}`)");
                Self::Value { key, rule }
            }
            other => other,
        }
    }
}

/// The agent's configuration, checked. Relative paths are resolved.
#[derive(Debug)]
pub struct AgentConfig {
    pub broker: BrokerConfig,
    pub identity: AgentIdentity,
    /// The address of the operators' listener, which serves `/healthz`, `/readyz` and `/metrics`.
    pub operator: SocketAddr,
    pub audit: AuditTarget,
    /// The sealed file in which sessions outlive a restart; without it, they are lost.
    pub cache: Option<CacheConfig>,
    /// The instance metadata service; `None` if it is not offered.
    pub imds: Option<ImdsConfig>,
    /// The container endpoint in the form of Amazon ECS; `None` if it is not offered.
    pub container: Option<ContainerConfig>,
    /// The container endpoint in the form of EKS Pod Identity; `None` if it is not offered.
    pub pod_identity: Option<PodIdentityConfig>,
    /// The Unix socket; `None` if it is not offered.
    pub unix_socket: Option<UnixSocketConfig>,
}

/// The section `[broker]`: which broker the agent calls.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `https://HOST:PORT`, or `http://` on loopback.
    pub endpoint: String,
    /// The region for which calls are signed.
    pub region: String,
    /// The file with the CA that signed the broker's certificate, in PEM; by default the system's CAs are used.
    pub ca_file: Option<PathBuf>,
}

/// How the agent proves to the broker who it is. The files are read again before each call to the broker.
#[derive(Debug, Clone)]
pub enum AgentIdentity {
    /// An access key that is not in a file; only in development mode.
    Given(Credentials),
    /// A long-term access key, in a file that only its owner can read.
    AccessKey { file: PathBuf },
    /// A client certificate with its chain, and its private key, in PEM.
    Certificate {
        certificate: PathBuf,
        private_key: PathBuf,
    },
    /// A token of an OpenID Connect provider, such as a projected service-account token, and the role that it is
    /// exchanged for.
    WebIdentity {
        token_file: PathBuf,
        role_arn: String,
        role_session_name: String,
    },
}

/// The sealed file of sessions, and the file with its key.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    pub file: PathBuf,
    pub key_file: PathBuf,
}

/// Where the agent writes its audit lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    File(PathBuf),
    Stdout,
    /// Nothing is written, in development mode.
    Discard,
}

impl AgentConfig {
    /// Reads and checks a configuration file. Relative paths in the file are resolved against the folder of the file.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or breaks a rule; see [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = files::read(path, Audience::Everyone, MAX_FILE_BYTES)?;
        let text = std::str::from_utf8(bytes.expose())
            .map_err(|_| value("configuration", "must be UTF-8"))?;
        let document: Document = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            error: Box::new(error),
        })?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::from_document(document, &base)
    }

    /// The configuration for a broker in development mode: the instance metadata service, the container endpoint and
    /// the Unix socket hand out one role.
    ///
    /// # Errors
    /// The endpoint, the role or the address breaks a rule; see [`ConfigError`].
    pub fn for_development(
        endpoint: Endpoint,
        keys: Credentials,
        role_arn: &str,
        listen: SocketAddr,
        audit: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        // Errors in these two name the options of the command and not the keys of a file.
        role("--role", role_arn)?;
        listener::listener(["--listen", "--listen"], listen, &[], None)?;
        let imds = Imds::new(role_arn, listen);
        let imds = imds::imds(imds, &OwnTags::NONE, &endpoint.region, Path::new(""))?;
        // With the same name of the session, all three hand out the same session.
        let session_name = imds.role_session_name.clone();
        // The next ports, or any free ones if the service takes any free one.
        let next = |by: u16| match listen.port() {
            0 => SocketAddr::new(listen.ip(), 0),
            port => SocketAddr::new(listen.ip(), port.wrapping_add(by)),
        };
        Ok(Self {
            container: Some(container::for_development(
                next(2),
                role_arn,
                &session_name,
            )?),
            pod_identity: None,
            unix_socket: Some(unix_socket::for_development(role_arn, &session_name)?),
            imds: Some(imds),
            broker: BrokerConfig {
                endpoint: endpoint.url,
                region: endpoint.region,
                ca_file: None,
            },
            identity: AgentIdentity::Given(keys),
            operator: next(1),
            audit: audit.map_or(AuditTarget::Discard, AuditTarget::File),
            cache: None,
        })
    }

    /// The number of listeners, including the operators' listener. They share the file descriptors of the process.
    pub fn listeners(&self) -> usize {
        let imds = self.imds.as_ref().map_or(0, |imds| imds.listeners.len());
        let container = self.container.as_ref().map_or(0, |c| c.listeners.len());
        let pods = self.pod_identity.as_ref().map_or(0, |p| p.listeners.len());
        // The operators' one is always there.
        1 + imds + container + pods + usize::from(self.unix_socket.is_some())
    }

    /// A text that names the broker and the identity with which the agent calls it. Cached sessions can be used
    /// only by an agent with the same text.
    pub fn owner(&self) -> String {
        let identity = match &self.identity {
            AgentIdentity::Given(keys) => json!({"key": keys.access_key_id}),
            AgentIdentity::AccessKey { file } => json!({"key_file": file}),
            AgentIdentity::Certificate { certificate, .. } => json!({"certificate": certificate}),
            AgentIdentity::WebIdentity {
                role_arn,
                role_session_name,
                ..
            } => json!({"role": role_arn, "session": role_session_name}),
        };
        json!([self.broker.endpoint, identity]).to_string()
    }

    fn from_document(document: Document, base: &Path) -> Result<Self, ConfigError> {
        let broker = document.broker.ok_or_else(|| {
            value(
                "[broker] endpoint",
                "is missing: set it to the URL of the broker, such as \"https://sts.example.com:7480\"",
            )
        })?;
        let broker = self::broker(broker, base)?;
        let own_tags = OwnTags::new(document.session_tags.unwrap_or_default())?;
        Ok(Self {
            identity: identity(document.identity.unwrap_or_default(), base)?,
            operator: document.operator.map_or(OPERATOR, |o| o.address),
            audit: audit(document.audit, base)?,
            cache: document.cache.map(|cache| CacheConfig {
                file: base.join(cache.file),
                key_file: base.join(cache.key_file),
            }),
            imds: document
                .imds
                .map(|section| imds::imds(section, &own_tags, &broker.region, base))
                .transpose()?,
            container: document
                .container
                .map(|section| container::container(section, &own_tags, base))
                .transpose()?,
            pod_identity: document
                .pod_identity
                .map(|section| pod_identity::pod_identity(section, base))
                .transpose()?,
            unix_socket: document
                .unix_socket
                .map(|section| unix_socket::unix_socket(section, &own_tags, base))
                .transpose()?,
            broker,
        })
    }
}

fn broker(section: Broker, base: &Path) -> Result<BrokerConfig, ConfigError> {
    const ENDPOINT: &str = "[broker] endpoint";
    let endpoint = Endpoint {
        url: section.endpoint,
        region: section.region.unwrap_or_else(|| "us-east-1".to_owned()),
        ca_pem: None,
    };
    let scheme = endpoint.url.split("://").next().unwrap_or_default();
    if !["https", "http"].contains(&scheme) || endpoint.url.parse::<http::Uri>().is_err() {
        let rule = format!(
            "`{}` must be https://HOST:PORT, or http://HOST:PORT if the broker runs on this \
        machine",
            endpoint.url
        );
        return Err(value(ENDPOINT, rule));
    }
    if endpoint.is_in_clear() {
        let rule = format!(
            "`{}` would send credentials unencrypted to another machine; use https://",
            endpoint.url
        );
        return Err(value(ENDPOINT, rule));
    }
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=64).contains(&endpoint.region.len()) || !endpoint.region.bytes().all(legal) {
        let rule = "must be 1 to 64 lower-case letters, digits and `-`, such as \"us-east-1\"";
        return Err(value("[broker] region", rule));
    }
    Ok(BrokerConfig {
        endpoint: endpoint.url,
        region: endpoint.region,
        ca_file: section.ca_file.map(|path| base.join(path)),
    })
}

fn identity(section: Identity, base: &Path) -> Result<AgentIdentity, ConfigError> {
    let at = |path: PathBuf| base.join(path);
    let is_web_identity = section.web_identity_token_file.is_some();
    if !is_web_identity && (section.role_arn.is_some() || section.role_session_name.is_some()) {
        let rule = "must be left out without web_identity_token_file, and so must role_session_name: both say how the \
        agent assumes a role with the token in that file";
        return Err(value("[identity] role_arn", rule));
    }
    match (
        section.access_key_file,
        section.certificate,
        section.private_key,
        section.web_identity_token_file,
    ) {
        (Some(file), None, None, None) => Ok(AgentIdentity::AccessKey { file: at(file) }),
        (None, Some(certificate), Some(private_key), None) => Ok(AgentIdentity::Certificate {
            certificate: at(certificate),
            private_key: at(private_key),
        }),
        (None, None, None, Some(token_file)) => {
            let role_arn = section.role_arn.ok_or_else(|| {
                let rule =
                    "is missing: set it to the ARN of this node's role, which the agent assumes with the token in \
                    web_identity_token_file";
                value("[identity] role_arn", rule)
            })?;
            Ok(AgentIdentity::WebIdentity {
                token_file: at(token_file),
                role_arn: role("[identity] role_arn", &role_arn)?,
                role_session_name: session_name(
                    "[identity] role_session_name",
                    section.role_session_name,
                    "brevet-agent",
                )?,
            })
        }
        _ => {
            let rule = "must have exactly one of `access_key_file`, `certificate` with `private_key`, and \
                        `web_identity_token_file` with `role_arn`";
            Err(value("[identity]", rule))
        }
    }
}

fn audit(section: Option<Audit>, base: &Path) -> Result<AuditTarget, ConfigError> {
    match section {
        None => Ok(AuditTarget::File(base.join("agent-audit.jsonl"))),
        Some(Audit {
            file: Some(path),
            stdout: None | Some(false),
        }) => Ok(AuditTarget::File(base.join(path))),
        Some(Audit {
            file: None,
            stdout: Some(true),
        }) => Ok(AuditTarget::Stdout),
        Some(_) => Err(value(
            "[audit]",
            "must have either `file` or `stdout = true`",
        )),
    }
}

/// Checks that a value is the ARN of a role.
fn role(key: &'static str, arn: &str) -> Result<String, ConfigError> {
    RoleArn::parse(key, arn)
        .map(|arn| arn.as_str().to_owned())
        .map_err(|error| value(key, error.rule))
}

/// Checks the session of a role for a workload on this node. `session` is the role session name; without one, the
/// workload's name is used. `keys` are the names of the keys of the role, the session name and the duration, for error
/// messages.
fn session_of(
    keys: [&'static str; 3],
    workload: &str,
    role_arn: &str,
    session: Option<String>,
    duration_seconds: Option<u32>,
) -> Result<WorkloadWanted, ConfigError> {
    let [role_key, name_key, duration_key] = keys;
    let duration = ranged(duration_key, duration_seconds, 3_600, 3_600..=LONGEST)?;
    Ok(WorkloadWanted {
        workload: WorkloadId::Process {
            uid: None,
            unit: None,
            name: workload.to_owned(),
        },
        role_arn: Some(role(role_key, role_arn)?),
        role_session_name: Some(session_name(name_key, session, workload)?),
        duration_seconds: i32::try_from(duration).ok(),
        tags: Vec::new(),
    })
}

/// Checks session tags by the rules of STS. `key` is the name of the configuration key, for errors.
fn tags(key: &'static str, tags: Tags) -> Result<Vec<(String, String)>, ConfigError> {
    for (name, text) in &tags {
        let broken = |part: &str, rule: &str| {
            value(
                key,
                format!("the {part} of the tag `{}` {rule}", name.escape_debug()),
            )
        };
        names::tag_key("Key", name).map_err(|error| broken("key", &error.rule))?;
        names::tag_value("Value", text).map_err(|error| broken("value", &error.rule))?;
    }
    let given = tags.into_iter().map(|(key, value)| Tag { key, value });
    match names::tags(given.collect()) {
        Ok(tags) => Ok(tags.into_iter().map(|tag| (tag.key, tag.value)).collect()),
        Err(error) => Err(value(key, error.rule)),
    }
}

/// Checks the name of a role session, or takes the default.
fn session_name(
    key: &'static str,
    name: Option<String>,
    default: &str,
) -> Result<String, ConfigError> {
    let name = name.unwrap_or_else(|| default.to_owned());
    match RoleSessionName::parse(key, &name) {
        Ok(_) => Ok(name),
        Err(error) => Err(value(key, error.rule)),
    }
}

fn ranged(
    key: &'static str,
    asked: Option<u32>,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, ConfigError> {
    let asked = asked.unwrap_or(default);
    if range.contains(&asked) {
        return Ok(asked);
    }
    let (start, end) = range.into_inner();
    Err(value(
        key,
        format!("must be from {start} to {end}, but is {asked}"),
    ))
}

fn value(key: &'static str, rule: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key,
        rule: rule.into(),
    }
}

#[cfg(test)]
mod tests;
