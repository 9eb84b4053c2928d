//! From a configuration to a running agent.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::audit::Audit;
use super::config::{AgentConfig, ImdsConfig};
use super::handouts::{Handouts, Slot};
use super::imds::{Imds, Parts};
use super::imds_identity::{self, IdentityKeyError};
use super::listener;
use super::metrics::Metrics;
use super::operator::Operator;
use super::source::Source;
use super::wanted::Wanted;
use super::world::{ImdsWorld, World, url};
use crate::base::arn::{account_of, name_of};
use crate::base::clock::Clock;
use crate::base::entropy::{Entropy, NoEntropy};
use crate::base::host_names::{HostName, HostNames};
use crate::client::AssumeRole;
use crate::files::FileError;

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{key} {address}: {source}")]
    Listen {
        /// The key of the configuration.
        key: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    IdentityKey(#[from] IdentityKeyError),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// A running agent. Dropping it ends it.
pub struct Running {
    tasks: Vec<JoinHandle<()>>,
    pub world: World,
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What the listeners of an agent are made of.
struct Assembly {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: Arc<Metrics>,
    audit: Arc<Audit>,
    handouts: Arc<Handouts>,
    pinned: Vec<Arc<Slot>>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts an agent; when this returns, everything listens.
///
/// # Errors
/// See [`StartError`]. Nothing listens then.
pub async fn start(
    config: AgentConfig,
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Running, StartError> {
    let metrics = Arc::new(Metrics::new());
    let audit = Arc::new(Audit::open(&config.audit, clock.clone(), metrics.clone())?);
    let handouts = Handouts::new(source, clock.clone(), entropy.clone(), metrics.clone());
    let mut assembly = Assembly {
        clock,
        entropy,
        metrics,
        audit,
        handouts: Arc::new(handouts),
        pinned: Vec::new(),
        tasks: Vec::new(),
    };
    let imds = match &config.imds {
        Some(config) => Some(assembly.imds(config).await?),
        None => None,
    };
    let operator = assembly.operator(config.operator).await?;
    let handouts = assembly.handouts.clone();
    assembly
        .tasks
        .push(tokio::spawn(async move { handouts.keep_fresh().await }));
    Ok(Running {
        tasks: std::mem::take(&mut assembly.tasks),
        world: World {
            imds,
            ops_endpoint: url(operator),
        },
    })
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

    async fn imds(&mut self, config: &ImdsConfig) -> Result<ImdsWorld, StartError> {
        let address = config.listener.address;
        let (listener, address) = listen("[imds] address", address).await?;
        let request = AssumeRole {
            duration_seconds: i32::try_from(config.duration_seconds).ok(),
            ..AssumeRole::new(&config.role_arn, &config.role_session_name)
        };
        let slot = self.handouts.pin(Wanted::Role(Box::new(request)));
        let identity = imds_identity::pages(config, self.clock.now())?;
        let face = Imds::new(config, slot.clone(), self.parts(), identity)?;
        self.pinned.push(slot);
        let hosts = config.listener.hosts.clone();
        let serve = listener::serve(listener, hosts, Arc::new(face));
        self.tasks.push(tokio::spawn(serve));
        Ok(ImdsWorld {
            endpoint: url(address),
            role: name_of(&config.role_arn).to_owned(),
            v1: config.v1,
            account_id: account_of(&config.role_arn).to_owned(),
        })
    }

    async fn operator(&mut self, address: SocketAddr) -> Result<SocketAddr, StartError> {
        let (listener, address) = listen("[operator] address", address).await?;
        let face = Operator {
            pinned: self.pinned.clone(),
            metrics: self.metrics.clone(),
        };
        // Probes of an orchestrator call the operators' endpoints by addresses that nobody can know here.
        let hosts = match address.ip().to_canonical().is_loopback() {
            true => HostNames::new([
                HostName::Address(address.ip().to_canonical()),
                HostName::Domain("localhost".into()),
            ]),
            false => HostNames::any(),
        };
        let serve = listener::serve(listener, hosts, Arc::new(face));
        self.tasks.push(tokio::spawn(serve));
        Ok(address)
    }
}

/// Listens, and says on which address.
async fn listen(
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
