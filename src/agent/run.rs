//! Starts an agent from its configuration.

mod faces;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::audit::Audit;
use super::cache::{Cache, CacheError, Kept};
use super::config::{AgentConfig, CacheConfig, ImdsConfig, ImdsPrincipal, ListenerConfig};
use super::connections;
use super::handouts::{Handouts, Slot};
use super::hosts::{self, Hosts};
use super::imds::{Imds, Parts};
use super::imds_identity::{self, IdentityKeyError};
use super::listener::{self, Face};
use super::metrics::Metrics;
use super::operator::Operator;
use super::source::BrokerSource;
use super::unix_socket::SocketFile;
use super::wanted::{Wanted, WorkloadId, WorkloadWanted};
use super::watch::{self, Watch};
use super::workload_token::TokenError;
use super::world::{ImdsWorld, World, url};
use crate::base::arn::{account_of, name_of};
use crate::base::clock::Clock;
use crate::base::entropy::{Entropy, NoEntropy};
use crate::files::FileError;

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{key} {address}: {source}{}", hint(.source, Some(.address)))]
    Listen {
        /// The key of the configuration that holds the address; `exec` for the endpoint of one program, which has no
        /// key.
        key: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error("[unix_socket] path {path}: {source}{}", hint(.source, None))]
    Socket { path: PathBuf, source: io::Error },
    /// Two workloads have the same token, so that either could get the credentials of the other.
    #[error(
        "[[container.workload]] token_file: the workloads `{}` and `{}` have the same token. Give each of them a \
         file of its own; if they have two files, remove one and start the agent again, which writes a new token",
        .names[0], .names[1]
    )]
    SameToken {
        /// The names of the two workloads.
        names: [String; 2],
    },
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    IdentityKey(#[from] IdentityKeyError),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// Says what to do if the agent cannot listen on an address.
fn hint(source: &io::Error, address: Option<&SocketAddr>) -> String {
    match (source.kind(), address) {
        (io::ErrorKind::AddrInUse, Some(_)) => {
            "; another program listens there: stop that program, or configure another address".to_owned()
        }
        (io::ErrorKind::AddrInUse, None) => {
            "; another program listens there, or the file there is not a socket that a stopped agent of this user left: \
             stop that program or remove the file, or configure another path"
                .to_owned()
        }
        (io::ErrorKind::AddrNotAvailable, Some(address)) => {
            let ip = address.ip();
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            format!(
                "; this machine does not have the address {ip}: add it with `ip address add {ip}/{bits} dev lo`"
            )
        }
        (io::ErrorKind::PermissionDenied, Some(address)) if address.port() < 1_024 => {
            "; a port below 1024 needs the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        (io::ErrorKind::PermissionDenied, None) => {
            "; the agent's user must be allowed to create files in the folder, and to connect to a socket that is \
             there: change the permissions, or configure another path"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// A running agent. Dropping it ends it.
pub struct Running {
    tasks: Vec<JoinHandle<()>>,
    _socket: Option<SocketFile>,
    pub world: World,
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The parts that the listeners need, and the tasks that were started so far.
struct Assembly {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
    handouts: Arc<Handouts>,
    pinned: Vec<Arc<Slot>>,
    tasks: Vec<JoinHandle<()>>,
    /// The maximum number of connections of each listener.
    most: usize,
}

/// Starts an agent. All its listeners accept connections when this returns.
///
/// # Errors
/// See [`StartError`]. In that case no listener is left open.
pub async fn start(
    config: AgentConfig,
    source: Arc<BrokerSource>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Running, StartError> {
    let metrics = Arc::new(Metrics::new());
    let audit = Arc::new(Audit::open(&config.audit, metrics.clone())?);
    let handouts = Handouts::new(
        source.clone(),
        clock.clone(),
        entropy.clone(),
        metrics.clone(),
    );
    let mut assembly = Assembly {
        clock,
        entropy,
        metrics,
        audit,
        handouts: Arc::new(handouts),
        pinned: Vec::new(),
        tasks: Vec::new(),
        most: connections::most_of_each(config.listeners()),
    };
    let imds = match &config.imds {
        Some(config) => Some(assembly.imds(config).await?),
        None => None,
    };
    let ecs = match &config.container {
        Some(config) => Some(assembly.container(config).await?),
        None => None,
    };
    let pod_identity = match &config.pod_identity {
        Some(config) => Some(assembly.pod_identity(config).await?),
        None => None,
    };
    let (socket, credential_process) = match &config.unix_socket {
        Some(config) => {
            let (socket, world) = assembly.unix_socket(config)?;
            (Some(socket), world)
        }
        None => (None, None),
    };
    let seen = assembly.restore(config.cache.as_ref(), &config.owner())?;
    let operator = assembly.operator(config.operator).await?;
    let handouts = assembly.handouts.clone();
    let watch = Watch {
        handouts: handouts.clone(),
        source,
        clock: assembly.clock.clone(),
        entropy: assembly.entropy.clone(),
        metrics: assembly.metrics.clone(),
        seen,
        state: watch::State::default(),
    };
    assembly.tasks.push(tokio::spawn(Arc::new(watch).run()));
    assembly
        .tasks
        .push(tokio::spawn(async move { handouts.keep_fresh().await }));
    Ok(Running {
        tasks: std::mem::take(&mut assembly.tasks),
        _socket: socket,
        world: World {
            imds,
            ecs,
            pod_identity,
            credential_process,
            ops_endpoint: url(operator),
        },
    })
}

impl Drop for Assembly {
    fn drop(&mut self) {
        // A start that fails leaves no listener open. After one that succeeds, the tasks are not here any more.
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Assembly {
    fn parts(&self) -> Parts {
        Parts {
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            audit: self.audit.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Starts the listeners of a section for one face. Returns the actual address of the first one.
    async fn serve<F: Face>(
        &mut self,
        key: &'static str,
        listeners: &[ListenerConfig],
        face: Arc<F>,
    ) -> Result<Option<SocketAddr>, StartError> {
        let mut first = None;
        for config in listeners {
            let (listener, address) = listen(key, config.address).await?;
            first.get_or_insert(address);
            let hosts = config.hosts(address.port());
            let serve = listener::serve(listener, self.most, hosts, face.clone());
            self.tasks.push(tokio::spawn(serve));
        }
        Ok(first)
    }

    async fn imds(&mut self, config: &ImdsConfig) -> Result<ImdsWorld, StartError> {
        let wanted = WorkloadWanted {
            workload: match config.principal {
                ImdsPrincipal::Node => WorkloadId::Process {
                    uid: None,
                    unit: None,
                    name: config.meta_data.instance_id().to_owned(),
                },
                ImdsPrincipal::Ec2 => WorkloadId::Instance {
                    instance_id: config.meta_data.instance_id().to_owned(),
                },
            },
            role_arn: Some(config.role_arn.clone()),
            role_session_name: Some(config.role_session_name.clone()),
            duration_seconds: i32::try_from(config.duration_seconds).ok(),
            tags: config.tags.clone(),
        };
        let slot = self.handouts.pin(Wanted::Workload(Box::new(wanted)));
        let identity = imds_identity::pages(config, self.clock.now())?;
        let face = Imds::new(config, slot.clone(), self.parts(), identity)?;
        self.pinned.push(slot);
        let key = "[imds] address";
        let first = self.serve(key, &config.listeners, Arc::new(face)).await?;
        Ok(ImdsWorld {
            endpoint: first.map(url).unwrap_or_default(),
            role: name_of(&config.role_arn).to_owned(),
            v1: config.v1,
            account_id: account_of(&config.role_arn).to_owned(),
        })
    }

    /// Restores the sessions in the sealed file, and keeps the file up to date from now on. Returns the number of the
    /// last change of the broker's feed that the file takes into account; the number is negative if there is none.
    fn restore(
        &mut self,
        config: Option<&CacheConfig>,
        owner: &str,
    ) -> Result<Arc<AtomicI64>, StartError> {
        let Some(config) = config else {
            return Ok(Arc::new(AtomicI64::new(-1)));
        };
        let cache = Cache::open(config, owner, self.entropy.clone())?;
        let kept = cache.read()?;
        for session in &kept.sessions {
            self.handouts.restore(session);
        }
        let seen = Arc::new(AtomicI64::new(kept.sequence_number.unwrap_or(-1)));
        let keep = keep(cache, self.handouts.clone(), seen.clone());
        self.tasks.push(tokio::spawn(keep));
        Ok(seen)
    }

    async fn operator(&mut self, address: SocketAddr) -> Result<SocketAddr, StartError> {
        let (listener, address) = listen("[operator] address", address).await?;
        let face = Operator {
            pinned: self.pinned.clone(),
            metrics: self.metrics.clone(),
        };
        // Probes of an orchestrator call the operators' endpoints by addresses that nobody can know here, and people by
        // the port of a tunnel. There are no credentials here.
        let hosts = match address.ip().to_canonical().is_loopback() {
            true => Hosts::new(hosts::of_address(address.ip()).map(|name| (name, None))),
            false => Hosts::any(),
        };
        let serve = listener::serve(listener, self.most, hosts, Arc::new(face));
        self.tasks.push(tokio::spawn(serve));
        Ok(address)
    }
}

/// Writes the sealed file each time the sessions change.
async fn keep(cache: Cache, handouts: Arc<Handouts>, seen: Arc<AtomicI64>) {
    let mut changed = handouts.changes();
    // The sender lives as long as the sessions, which this task holds.
    while changed.changed().await.is_ok() {
        let kept = Kept {
            sequence_number: Some(seen.load(Ordering::Relaxed)).filter(|seen| *seen >= 0),
            sessions: handouts.kept(),
        };
        if let Err(error) = cache.write(&kept) {
            tracing::warn!(%error, "the session file could not be written; if the agent restarts now, it loses the \
                sessions");
        }
    }
}

/// Starts to listen on an address. Returns the socket and its actual address.
pub(super) async fn listen(
    key: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen {
        key,
        address,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_used_comes_with_what_to_do() {
        let message = |kind: io::ErrorKind, address: &str| {
            let error = StartError::Listen {
                key: "[imds] address",
                address: address.parse().unwrap(),
                source: kind.into(),
            };
            error.to_string()
        };
        let absent = message(io::ErrorKind::AddrNotAvailable, "169.254.169.254:80");
        assert!(
            absent.starts_with("[imds] address 169.254.169.254:80: "),
            "{absent}"
        );
        assert!(
            absent.ends_with("`ip address add 169.254.169.254/32 dev lo`"),
            "{absent}"
        );
        let absent = message(io::ErrorKind::AddrNotAvailable, "[fd00:ec2::254]:80");
        assert!(absent.ends_with("fd00:ec2::254/128 dev lo`"), "{absent}");
        assert!(message(io::ErrorKind::AddrInUse, "127.0.0.1:7490").contains("another program"));
        assert!(message(io::ErrorKind::PermissionDenied, "127.0.0.1:80").contains("CAP_NET_BIND"));
        let other = message(io::ErrorKind::PermissionDenied, "127.0.0.1:7490");
        assert!(!other.contains("CAP_NET_BIND"), "{other}");
    }
}
