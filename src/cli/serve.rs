//! `brevet serve`.

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
use crate::server::{self, Running, service_manager};
use crate::store::Place;
use crate::tls;

const SERVE_EXAMPLES: &str = "\
Examples:
  brevet serve --dev
      A demo account on 127.0.0.1:7480, and what to paste to use it.
  brevet serve --config /var/lib/brevet/brevet.toml
      For real.
  brevet serve --dev --listen 127.0.0.1:0 --world world.json
      On any free port, for a test; the file says which.";

/// Run the broker
///
/// Serves AWS STS (Query) and gRPC on one port and the operators' endpoints on another, until SIGTERM
/// or Ctrl-C. SIGHUP reads the directory file, the keyring and the certificate again and opens the
/// audit log anew. With --dev it needs no files: keys are made up, nothing is kept.
#[derive(Debug, Args)]
#[command(after_long_help = SERVE_EXAMPLES)]
pub(super) struct ServeArguments {
    /// The configuration
    #[arg(
        long,
        env = "BREVET_CONFIG",
        value_name = "FILE",
        required_unless_present = "dev",
        conflicts_with = "dev"
    )]
    config: Option<PathBuf>,
    /// Try it: made-up keys, a demo account, nothing kept, loopback alone
    #[arg(long)]
    dev: bool,
    /// With --dev: write what the demo holds to this file, mode 0600, once everything listens
    #[arg(long, value_name = "FILE", requires = "dev")]
    world: Option<PathBuf>,
    /// With --dev: a directory file instead of the demo account; `-` for standard input
    #[arg(long, value_name = "FILE", requires = "dev")]
    directory: Option<PathBuf>,
    /// With --dev: the address to listen on, port 0 for any free one [default: 127.0.0.1:7480]
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
    server::raise_descriptor_limit();
    super::runtime()?.block_on(async {
        // Before anything listens: a signal that comes early must not kill calls in progress.
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

/// What an operator looks for in the log of a start.
struct About {
    /// Files that are written.
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
            // What keeps it from being read keeps the broker from starting, and is told there.
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
            version = version::text(),
            store = self.store,
            cluster = %running.broker.tokens.with_keyring(|keyring| keyring.cluster_id().to_owned()),
            audit = self.audit,
            certificate = self.certificate,
            "brevet listens"
        );
    }
}

/// SIGTERM or SIGINT.
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
