//! `brevet serve`: runs the broker, from a configuration or in development mode.

mod develop;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, LogArguments, report, version};
use crate::audit::Target;
use crate::base::clock::SystemClock;
use crate::base::entropy::SystemEntropy;
use crate::config::Config;
use crate::process;
use crate::server::{self, Running};
use crate::service_manager;
use crate::store::Place;
use crate::tls;

const SERVE_EXAMPLES: &str = "\
Examples:
  brevet serve --dev
      Starts a demo account on 127.0.0.1:7480 and prints commands to paste.
  brevet serve --config /var/lib/brevet/brevet.toml
      Runs the broker of a configuration, for production.
  brevet serve --dev --listen 127.0.0.1:0 --world world.json
      Listens on free ports, for a test; world.json has the addresses.";

/// Run the broker
///
/// Serves AWS STS and IAM (Query) and gRPC on one port and the operators' endpoints on another, until SIGTERM
/// or Ctrl-C. On SIGHUP it reads the directory file, the keyring and the certificate again, and reopens
/// the audit log. With --dev it needs no files: it generates its keys, and stores nothing.
#[derive(Debug, Args)]
#[command(after_long_help = SERVE_EXAMPLES)]
pub(super) struct ServeArguments {
    /// The broker's configuration file
    #[arg(
        long,
        env = "BREVET_CONFIG",
        value_name = "FILE",
        required_unless_present = "dev",
        conflicts_with = "dev"
    )]
    config: Option<PathBuf>,
    /// Development mode: a demo account with generated keys, on loopback only; nothing is stored
    #[arg(long)]
    dev: bool,
    /// With --dev: write endpoints, users, roles and secrets to this file, mode 0600, once the broker
    /// listens
    #[arg(long, value_name = "FILE", requires = "dev")]
    world: Option<PathBuf>,
    /// With --dev: use this directory file instead of the demo account; `-` for standard input
    #[arg(long, value_name = "FILE", requires = "dev")]
    directory: Option<PathBuf>,
    /// With --dev: the address to listen on; port 0 takes any free port [default: 127.0.0.1:7480]
    #[arg(long, value_name = "ADDR", requires = "dev")]
    listen: Option<SocketAddr>,
    /// With --dev: keep session records in this Redis
    #[arg(long, value_name = "URL", requires = "dev")]
    redis: Option<String>,
    /// With --dev: write audit records to this file
    #[arg(long, value_name = "FILE", requires = "dev")]
    audit: Option<PathBuf>,
    #[command(flatten)]
    pub(super) log: LogArguments,
}

pub(super) fn run(arguments: ServeArguments) -> Result<(), Failure> {
    process::raise_descriptor_limit();
    super::runtime()?.block_on(async {
        // Handled before anything listens: an early signal must not kill calls in progress.
        let mut end = Ends {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        let (running, about) = match &arguments.config {
            Some(path) => {
                let config = Config::load(path)?;
                let about = About::of(&config);
                let files = about.files.clone();
                let running = server::start(
                    config,
                    Arc::new(SystemClock),
                    Arc::new(SystemEntropy::new()),
                )
                .await;
                let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
                (
                    running.map_err(|error| report::with_free_space(error.into(), &files))?,
                    about,
                )
            }
            None => develop::start(&arguments).await?,
        };
        about.log(&running);
        service_manager::notify(&format!("READY=1\nSTATUS=listens on {}", running.address));
        end.next().await;
        tracing::info!("shutting down");
        service_manager::notify("STOPPING=1");
        running.shutdown(end.next()).await;
        Ok(())
    })
}

/// The properties of a broker that the log names when the broker starts.
struct About {
    /// The files that the broker writes. Their file systems are checked for free space.
    files: Vec<PathBuf>,
    store: String,
    audit: String,
    certificate: String,
}

impl About {
    fn of(config: &Config) -> Self {
        let mut files: Vec<PathBuf> = config.watermark.clone().into_iter().collect();
        if let Place::Sqlite(path) = &config.store {
            files.push(path.clone());
        }
        if let Target::File { path, .. } = &config.audit {
            files.push(path.clone());
        }
        let audit = match &config.audit {
            Target::File { path, .. } => path.display().to_string(),
            Target::Stdout => "standard output".to_owned(),
            Target::Discard => "none".to_owned(),
        };
        let certificate = match &config.tls {
            None => "none: plaintext".to_owned(),
            // A certificate that cannot be read keeps the broker from starting, with an error of its own.
            Some((path, _)) => tls::not_after(path).map_or_else(
                |_| path.display().to_string(),
                |end| format!("{}, until {end}", path.display()),
            ),
        };
        Self {
            files,
            store: config.store.to_string(),
            audit,
            certificate,
        }
    }

    fn log(&self, running: &Running) {
        tracing::info!(
            address = %running.address,
            operator = %running.operator,
            s3 = running.s3.map(tracing::field::display),
            version = version::text(),
            store = self.store,
            cluster = %running.broker.tokens.with_keyring(|keyring| keyring.cluster_id().to_owned()),
            audit = self.audit,
            certificate = self.certificate,
            "brevet listens"
        );
    }
}

/// Waits for the signals that stop the broker: SIGTERM and SIGINT.
struct Ends {
    term: Signal,
    interrupt: Signal,
}

impl Ends {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
