//! A container endpoint for one program, with one role and one token, on a free port of 127.0.0.1.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::audit::Audit;
use super::config::AuditTarget;
use super::connections;
use super::container::{Container, Workload};
use super::handouts::Handouts;
use super::hosts::Hosts;
use super::imds::Parts;
use super::listener;
use super::metrics::Metrics;
use super::run::StartError;
use super::source::Source;
use super::wanted::Wanted;
use super::workload_token::WorkloadToken;
use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::base::host_names::HostName;
use crate::base::secret::Secret;

/// The path of the page with the credentials.
const PATH: &str = "/credentials";

/// A running endpoint, which stops when this value is dropped.
pub struct OwnEndpoint {
    /// The value for AWS_CONTAINER_CREDENTIALS_FULL_URI. It contains an address and a port, which old SDKs need.
    pub full_uri: String,
    /// The value for AWS_CONTAINER_AUTHORIZATION_TOKEN.
    pub token: Secret<String>,
    /// A copy of the listening socket that every started program inherits. As long as one of these programs runs,
    /// nobody else can listen on the port, even if this process was killed. Otherwise another user could listen there,
    /// and receive the token or hand out other credentials.
    _inherited: OwnedFd,
    _tasks: JoinSet<()>,
}

/// Starts an endpoint that hands out the sessions of a source, and keeps them fresh.
///
/// # Errors
/// The endpoint cannot listen on a port of 127.0.0.1, or the operating system gives no random bytes.
pub async fn start(
    source: Arc<dyn Source>,
    wanted: Wanted,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<OwnEndpoint, StartError> {
    let token = WorkloadToken::generate(&*entropy)?;
    let text = token.text().unwrap_or_default();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (listener, address) = super::run::listen("exec", any).await?;
    let inherited = rustix::io::dup(&listener).map_err(|source| StartError::Listen {
        key: "exec",
        address,
        source: source.into(),
    })?;
    let metrics = Arc::new(Metrics::new());
    // The broker's own audit log has the session; there is nobody else to hand it to here.
    let audit = Audit::open(&AuditTarget::Discard, metrics.clone())?;
    let parts = Parts {
        clock: clock.clone(),
        entropy: entropy.clone(),
        audit: Arc::new(audit),
        metrics: metrics.clone(),
    };
    let handouts = Arc::new(Handouts::new(source, clock, entropy, metrics));
    let workload = Workload::new("exec", token, handouts.pin(wanted));
    let workloads = HashMap::from([(PATH.to_owned(), workload)]);
    let face = Arc::new(Container::new(workloads, parts));
    let hosts = Hosts::new([(HostName::Address(address.ip()), Some(address.port()))]);
    let mut tasks = JoinSet::new();
    let most = connections::most_of_each(1);
    tasks.spawn(listener::serve(listener, most, hosts, face));
    tasks.spawn(async move { handouts.keep_fresh().await });
    Ok(OwnEndpoint {
        full_uri: format!("http://{address}{PATH}"),
        token: Secret::new(text),
        _inherited: inherited,
        _tasks: tasks,
    })
}
