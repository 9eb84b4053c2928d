//! `brevet agent`: runs the agent, from a configuration or beside a broker in development mode.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, note};
use crate::agent::config::AgentConfig;
use crate::agent::run::{self, Running};
use crate::agent::source::BrokerSource;
use crate::base::clock::{Clock, HighWaterClock, SystemClock};
use crate::base::entropy::SystemEntropy;
use crate::client::{Client, Credentials, Endpoint};
use crate::files;
use crate::log::LogArguments;
use crate::process;
use crate::service_manager;

const EXAMPLES: &str = "\
Examples:
  brevet agent --dev
      Hands out the role `Demo` of a `brevet serve --dev` on 127.0.0.1:7490, with the key that it printed.
  brevet agent --config /var/lib/brevet-agent/agent.toml
      Runs the agent of a configuration, for production.
  brevet agent --dev --listen 127.0.0.1:0 --world world.json
      Listens on free ports, for a test; world.json has the addresses.";

/// The log mentions a wall clock that is further than this behind the latest time that it has shown.
const CLOCK_MAY_LAG: Duration = Duration::from_secs(60);

/// Run the agent, which gives programs on this machine the credentials of a role
///
/// The agent serves the endpoints from which AWS SDKs get credentials, such as the instance metadata service, until
/// SIGTERM or Ctrl-C. The agent gets the credentials from the broker, renews them before they expire, and hands them
/// out from memory.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct AgentArguments {
    /// The agent's configuration file
    #[arg(
        long,
        env = "BREVET_AGENT_CONFIG",
        value_name = "FILE",
        required_unless_present = "dev",
        conflicts_with = "dev"
    )]
    config: Option<PathBuf>,
    /// Development mode: hand out the demo role of `brevet serve --dev`; first paste the `export` lines that it prints
    #[arg(long)]
    dev: bool,
    /// Write the addresses and tokens of the agent's endpoints to this file (mode 0600) once all of them listen
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// With --dev: the address of the instance metadata service; port 0 takes any free port [default:
    /// 127.0.0.1:7490]
    #[arg(long, value_name = "ADDR", requires = "dev")]
    listen: Option<SocketAddr>,
    /// With --dev: the role to hand out
    #[arg(long, value_name = "NAME", requires = "dev", default_value = "Demo")]
    role: String,
    /// With --dev: write the audit log to this file
    #[arg(long, value_name = "FILE", requires = "dev")]
    audit: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) log: LogArguments,
}

/// Runs the agent until a signal ends it.
///
/// # Errors
/// The configuration cannot be used, the broker in development mode does not answer, a listener cannot be opened, or a
/// file cannot be written or removed.
pub fn run(arguments: &AgentArguments) -> Result<(), Failure> {
    process::raise_descriptor_limit();
    // One thread answers faster than two that wake each other, and nothing here computes for long.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (mut term, mut interrupt) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        // Whoever waits for the file must not read what an earlier agent has left there.
        let world = arguments.world.as_deref();
        world.map_or(Ok(()), removed)?;
        let running = start(arguments).await?;
        if let Some(path) = world {
            files::write_private(path, &serde_json::to_vec_pretty(&running.world)?)?;
        }
        if rustix::process::geteuid().is_root() {
            tracing::warn!("the agent runs as root, although it needs at most the capabilities CAP_NET_BIND_SERVICE \
                and, to see the executables of other users, CAP_SYS_PTRACE; run it as a user of its own \
                (docs/how-to/sidecar.md)");
        }
        tracing::info!(
            imds = running.world.imds.as_ref().map(|imds| imds.endpoint.as_str()),
            operator = running.world.ops_endpoint,
            "the agent listens"
        );
        if let (true, Some(imds)) = (arguments.dev, &running.world.imds) {
            note(&format!(
                "To give the programs in another shell credentials of the role {}, run there:\n\n  unset \
                 AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN\n  export \
                 AWS_EC2_METADATA_SERVICE_ENDPOINT={}\n",
                imds.role, imds.endpoint
            ));
        }
        service_manager::notify("READY=1\nSTATUS=listens for workloads");
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
        service_manager::notify("STOPPING=1");
        world.map_or(Ok(()), removed)
    })
}

/// Removes the file that `--world` names: at the start, one that an earlier run left; at the end, the agent's own.
fn removed(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!(
            "--world {}: the file cannot be removed: {error}",
            path.display()
        )
        .into()),
        _ => Ok(()),
    }
}

async fn start(arguments: &AgentArguments) -> Result<Running, Failure> {
    let clock = HighWaterClock::new(Arc::new(SystemClock), None, CLOCK_MAY_LAG);
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let config = match &arguments.config {
        Some(path) => AgentConfig::load(path)?,
        None => development(arguments).await?,
    };
    let source = BrokerSource::new(
        config.broker.clone(),
        config.identity.clone(),
        clock.clone(),
    );
    let entropy = Arc::new(SystemEntropy::new());
    Ok(run::start(config, Arc::new(source), clock, entropy).await?)
}

/// Makes the configuration for a broker in development mode, from the environment variables that the broker
/// prints.
async fn development(arguments: &AgentArguments) -> Result<AgentConfig, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(id), Some(secret)) = (
        variable("AWS_ACCESS_KEY_ID"),
        variable("AWS_SECRET_ACCESS_KEY"),
    ) else {
        let rule = "--dev: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set; paste into this shell the lines \
        that `brevet serve --dev` printed";
        return Err(rule.into());
    };
    let endpoint = [
        "BREVET_ENDPOINT",
        "AWS_ENDPOINT_URL_STS",
        "AWS_ENDPOINT_URL",
    ]
    .into_iter()
    .find_map(variable)
    .unwrap_or_else(|| "http://127.0.0.1:7480".to_owned());
    let region = variable("AWS_REGION")
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .unwrap_or_else(|| "us-east-1".to_owned());
    let keys = Credentials::new(&id, &secret, variable("AWS_SESSION_TOKEN").as_deref());
    let broker = Endpoint {
        url: endpoint,
        region,
        ca_pem: None,
    };
    let caller = Client::new(&broker, keys.clone())?
        .get_caller_identity()
        .await?;
    let role_arn = format!("arn:aws:iam::{}:role/{}", caller.account, arguments.role);
    let listen = arguments
        .listen
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7490)));
    let audit = arguments.audit.clone();
    Ok(AgentConfig::for_development(
        broker, keys, &role_arn, listen, audit,
    )?)
}
