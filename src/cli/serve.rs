//! `brevet serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, LogArguments, demo, print, report, version};
use crate::audit::Target;
use crate::base::clock::{Clock, SystemClock};
use crate::base::entropy::SystemEntropy;
use crate::budgets::BudgetLimits;
use crate::commands::{self, CommandContext};
use crate::config::{Config, Limits, Listener, Names};
use crate::directory::unique_ids;
use crate::files;
use crate::master_key::MasterKey;
use crate::proof::sigv4::{ANY_REGION, MAX_SKEW};
use crate::providers::Reach;
use crate::server::{self, Parts, Running, StartError, service_manager};
use crate::session::keyring::Keyring;
use crate::session::signing_key::Algorithm;
use crate::sessions::{self, Mode, RedisOptions};
use crate::store::{Access, KEEP_CHANGES, Place, Store};
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
            None => develop(&arguments).await?,
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

async fn develop(arguments: &ServeArguments) -> Result<(Running, About), Failure> {
    let listen = arguments
        .listen
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7480)));
    if !listen.ip().is_loopback() {
        return Err(format!(
            "--listen {listen}: development mode listens on loopback alone; `brevet init` makes a real configuration"
        )
        .into());
    }
    // Beside the service, unless any port will do.
    let operator = SocketAddr::new(
        listen.ip(),
        if listen.port() == 0 {
            0
        } else {
            listen.port().wrapping_add(1)
        },
    );
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy::new()));
    let mut declaration = match &arguments.directory {
        Some(path) => demo::read(path)?,
        None => demo::declaration(&*entropy)?,
    };
    // Nothing is kept: ids that the file leaves out are made at each start.
    unique_ids::fill(&mut declaration, |_, _| None, &*entropy)?;
    let compiled = demo::compile(declaration.clone()).map_err(|error| match &arguments.directory {
        Some(path) => format!(
            "{}: {}",
            path.display(),
            error.to_string().trim_start_matches("directory: ")
        )
        .into(),
        None => error,
    });
    let (compiled, demo) = compiled?;
    let master_key = MasterKey::ephemeral(&*entropy)?;
    let store = Store::open(
        &Place::Memory,
        Access::Create,
        Some(&master_key),
        clock.now(),
        &*entropy,
    )
    .await?;
    let context = CommandContext {
        store: &store,
        master_key: &master_key,
        entropy: &*entropy,
        now: clock.now(),
        issuer: None,
    };
    let imported = match commands::plan(context, declaration, false).await {
        Ok(plan) => plan.apply(context, &super::operator()).await.map(|_| ()),
        Err(error) => Err(error),
    };
    let directory = match imported {
        Ok(()) => None,
        Err(error) => {
            print::note(format_args!(
                "the directory is read-only: as an import it would be refused ({error})"
            ));
            Some(compiled)
        }
    };
    let keyring = Keyring::generate(&*entropy, clock.now())?;
    if let Some(url) = &arguments.redis {
        sessions::check_redis_url(url, false, false).map_err(|rule| format!("--redis: {rule}"))?;
    }
    let redis = arguments.redis.as_ref().map(|url| RedisOptions {
        mode: Mode::Single,
        urls: vec![url.clone()],
        username: None,
        password: None,
        ca: None,
    });
    let config = Config {
        listen,
        tls: None,
        operator,
        listener: Listener {
            names: Names::Any,
            ..Listener::default()
        },
        regions: vec!["us-east-1".to_owned(), ANY_REGION.to_owned()],
        skew: MAX_SKEW,
        presigned_actions: Vec::new(),
        single_use_signatures: false,
        reflection: true,
        directory: None,
        master_key: None,
        store: Place::Memory,
        watermark: None,
        refuse_after: Duration::from_secs(900),
        keep_changes: KEEP_CHANGES,
        keyring: Default::default(),
        audit: arguments
            .audit
            .clone()
            .map_or(Target::Discard, |path| Target::File { path, sync: true }),
        session_records: Default::default(),
        opened_tokens: Default::default(),
        redis,
        limits: Limits {
            shutdown_grace: Duration::from_secs(5),
            ..Limits::default()
        },
        issuer: Some("http://{address}".to_owned()),
        reach: Reach {
            private: false,
            http_on_loopback: true,
        },
        budgets: BudgetLimits::OFF,
    };
    let about = About::of(&config);
    let more_keys = keyring.to_bytes()?;
    let (later, chance) = (clock.now(), entropy.clone());
    let parts = Parts {
        store,
        master_key: Some(Arc::new(master_key)),
        directory,
        keyring,
        lock: None,
    };
    let started = server::start_with(config, parts, clock, entropy).await;
    let running = started.map_err(|error| match error {
        StartError::Listen {
            address, source, ..
        } => format!(
            "{address}: {source}; name another address with --listen, or port 0 for any free one"
        )
        .into(),
        error => Failure::from(error),
    })?;
    // An RSA key takes a while to make: nobody waits for it.
    let broker = running.broker.clone();
    tokio::task::spawn_blocking(move || {
        let keyring = Keyring::parse(&more_keys)
            .and_then(|k| k.with_signing_keys(&[Algorithm::RS256], &*chance, later));
        match keyring {
            Ok(keyring) => broker.tokens.replace(keyring),
            Err(error) => tracing::warn!(%error, "there is no RS256 key"),
        }
    });
    let world = demo.world(running.address, running.operator);
    if let Some(path) = &arguments.world {
        files::write_private(path, serde_json::to_string_pretty(&world)?.as_bytes())?;
    }
    demo::greet(&world);
    Ok((running, about))
}
