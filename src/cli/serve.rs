//! `brevet serve` and `brevet check`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, ServeArguments, demo};
use crate::audit::Target;
use crate::budgets::BudgetLimits;
use crate::clock::{Clock, SystemClock};
use crate::commands::{self, Desk};
use crate::config::{Config, Limits, Listener, Names};
use crate::entropy::SystemEntropy;
use crate::files;
use crate::keyring::Keyring;
use crate::keyring_file;
use crate::master_key::MasterKey;
use crate::providers::Reach;
use crate::server::{self, Parts, Running};
use crate::sessions::{Mode, RedisOptions};
use crate::sigv4::{ANY_REGION, MAX_SKEW};
use crate::store::{Access, Place, Store};
use crate::tls;
use crate::web_identity::Algorithm;

pub(super) fn run(arguments: ServeArguments) -> Result<(), Failure> {
    super::runtime()?.block_on(async {
        // Before anything listens: a signal that comes early must not kill calls in progress.
        let mut end = Ends { term: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
        let running = match &arguments.config {
            Some(path) => {
                server::start(Config::load(path)?, Arc::new(SystemClock), Arc::new(SystemEntropy::new())).await?
            }
            None => develop(&arguments).await?,
        };
        tracing::info!(address = %running.address, operator = %running.operator, "brevet listens");
        end.next().await;
        tracing::info!("shutting down");
        running.shutdown(end.next()).await;
        Ok(())
    })
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

async fn develop(arguments: &ServeArguments) -> Result<Running, Failure> {
    let listen = arguments.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7480)));
    if !listen.ip().is_loopback() {
        return Err(format!(
            "--listen {listen}: development mode listens on loopback alone; `brevet init` makes a real configuration"
        )
        .into());
    }
    // Beside the service, unless any port will do.
    let operator = SocketAddr::new(listen.ip(), if listen.port() == 0 { 0 } else { listen.port().wrapping_add(1) });
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy::new()));
    let declaration = match &arguments.directory {
        Some(path) => demo::read(path)?,
        None => demo::declaration(&*entropy)?,
    };
    let (compiled, demo) = demo::compile(declaration.clone())?;
    let master_key = MasterKey::ephemeral(&*entropy)?;
    let store = Store::open(&Place::Memory, Access::Create, clock.now(), &*entropy).await?;
    let desk = Desk { store: &store, master_key: &master_key, entropy: &*entropy, now: clock.now(), issuer: None };
    let imported = match commands::plan(desk, declaration, false).await {
        Ok(plan) => plan.apply(desk, &super::operator()).await.map(|_| ()),
        Err(error) => Err(error),
    };
    let directory = match imported {
        Ok(()) => None,
        Err(error) => {
            eprintln!("the directory is read-only: as an import it would be refused ({error})");
            Some(compiled)
        }
    };
    let keyring = Keyring::generate(&*entropy, clock.now())?;
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
        listener: Listener { names: Names::Any, ..Listener::default() },
        regions: vec!["us-east-1".to_owned(), ANY_REGION.to_owned()],
        skew: MAX_SKEW,
        presigned_actions: Vec::new(),
        reflection: true,
        directory: None,
        master_key: None,
        store: Place::Memory,
        watermark: None,
        refuse_after: Duration::from_secs(900),
        keyring: Default::default(),
        audit: arguments.audit.clone().map_or(Target::Discard, |path| Target::File { path, sync: true }),
        session_records: Default::default(),
        opened_tokens: Default::default(),
        redis,
        limits: Limits { shutdown_grace: Duration::from_secs(5), ..Limits::default() },
        issuer: Some("http://{address}".to_owned()),
        reach: Reach { private: false, http_on_loopback: true },
        budgets: BudgetLimits::OFF,
    };
    let more_keys = keyring.to_bytes()?;
    let (later, chance) = (clock.now(), entropy.clone());
    let parts = Parts { store, master_key: Some(Arc::new(master_key)), directory, keyring, lock: None };
    let running = server::start_with(config, parts, clock, entropy).await?;
    // An RSA key takes a while to make: nobody waits for it.
    let sts = running.sts.clone();
    tokio::task::spawn_blocking(move || {
        let keyring =
            Keyring::parse(&more_keys).and_then(|k| k.with_signing_keys(&[Algorithm::RS256], &*chance, later));
        match keyring {
            Ok(keyring) => sts.tokens.replace(keyring),
            Err(error) => tracing::warn!(%error, "there is no RS256 key"),
        }
    });
    let world = demo.world(running.address, running.operator);
    if let Some(path) = &arguments.world {
        files::write_private(path, serde_json::to_string_pretty(&world)?.as_bytes())?;
    }
    demo::greet(&world);
    Ok(running)
}

pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let keyring = keyring_file::load(&config.keyring)?;
    let identity = config.tls.as_ref().map(|(certificate, key)| tls::load(certificate, key)).transpose()?;
    let names = server::host_names(&config, identity.as_ref().map_or(&[], |i| &i.names))?;
    println!("configuration  {}", path.display());
    println!("names          {names}");
    if let Some(file) = &config.directory {
        let directory = server::load_directory(file, config.master_key.as_deref(), config.issuer.as_deref())?;
        let (users, roles, keys) = directory.counts();
        println!("directory      {}: {users} users, {roles} roles, {keys} access keys", file.display());
        if directory.clear_secrets() > 0 {
            println!(
                "               {} secrets stand in it in clear: `brevet seal --config {}` seals them",
                directory.clear_secrets(),
                path.display()
            );
        }
        super::warn(&directory.warnings());
    } else {
        let (store, directory) =
            super::runtime()?.block_on(server::look_at_store(&config, SystemClock.now(), &SystemEntropy::new()))?;
        let (users, roles, keys) = directory.counts();
        println!("store          {store}");
        println!("directory      in the store: {users} users, {roles} roles, {keys} access keys");
        super::warn(&directory.warnings());
        super::warn(&server::own_provider(&directory, config.issuer.as_deref()).into_iter().collect::<Vec<_>>());
    }
    println!(
        "keyring        {}: cluster {}, {} keys",
        config.keyring.display(),
        keyring.cluster_id(),
        keyring.listing().count()
    );
    println!("ok");
    Ok(())
}
