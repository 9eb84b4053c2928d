//! Development mode: a broker that needs no files, generates its keys, and loses all data when it ends.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{About, ServeArguments};
use crate::audit::Target;
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::base::entropy::{Entropy, SystemEntropy};
use crate::broker::Broker;
use crate::budgets::BudgetLimits;
use crate::cli::demo::Demo;
use crate::cli::{Failure, demo, directory_file, operator, print};
use crate::commands::{self, CommandContext};
use crate::config::{Config, Limits, Listener, Names};
use crate::directory::declaration::Declaration;
use crate::directory::{Directory, unique_ids};
use crate::federation::providers::Reach;
use crate::federation::saml::ServiceProvider;
use crate::files;
use crate::master_key::MasterKey;
use crate::proof::sigv4::ANY_REGION;
use crate::server::{self, Parts, Running, StartError};
use crate::session::keyring::Keyring;
use crate::session::signing_key::Algorithm;
use crate::sessions::{self, Mode, RedisOptions};
use crate::sign_ins::Settings;
use crate::store::{Access, Place, Store};

/// Starts a broker in development mode on loopback, and prints lines to paste into a shell.
pub(super) async fn start(arguments: &ServeArguments) -> Result<(Running, About), Failure> {
    let (listen, operator) = addresses(arguments)?;
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy::new()));
    let (declaration, compiled, demo) = declared(arguments, &*entropy)?;
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
    let directory = imported(context, declaration, compiled).await;
    let keyring = Keyring::generate(&*entropy, clock.now())?;
    let config = config(arguments, listen, operator)?;
    let about = About::of(&config);
    let more_keys = keyring.to_bytes()?;
    let now = clock.now();
    let parts = Parts {
        store,
        master_key: Some(Arc::new(master_key)),
        directory,
        keyring,
        lock: None,
    };
    let started = server::start_with(config, parts, clock, entropy.clone()).await;
    let running = started.map_err(|error| match error {
        StartError::Listen {
            address, source, ..
        } => format!(
            "{address}: {source}; give another address with --listen, or port 0 for any free one"
        )
        .into(),
        error => Failure::from(error),
    })?;
    add_rsa_key(running.broker.clone(), more_keys, entropy, now);
    let world = demo.world(running.address, running.operator);
    if let Some(path) = &arguments.world {
        files::write_private(path, serde_json::to_string_pretty(&world)?.as_bytes())?;
    }
    demo::greet(&world);
    Ok((running, about))
}

/// The addresses of the service and of the operators' endpoints.
///
/// # Errors
/// [`Failure`] if `--listen` is not a loopback address.
fn addresses(arguments: &ServeArguments) -> Result<(SocketAddr, SocketAddr), Failure> {
    let listen = arguments
        .listen
        .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7480)));
    if !listen.ip().is_loopback() {
        return Err(format!(
            "--listen {listen}: development mode listens on loopback only, such as 127.0.0.1:7480; `brevet init` makes a \
             configuration for other addresses"
        )
        .into());
    }
    // The next port, or any free one if the service takes any free one.
    let port = match listen.port() {
        0 => 0,
        port => port.wrapping_add(1),
    };
    Ok((listen, SocketAddr::new(listen.ip(), port)))
}

/// Reads the directory of `--directory`, or makes the demo account. Returns its declaration, the compiled
/// directory, and what is printed about it.
fn declared(
    arguments: &ServeArguments,
    entropy: &dyn Entropy,
) -> Result<(Declaration, Directory, Demo), Failure> {
    let mut declaration = match &arguments.directory {
        Some(path) => directory_file::read(path)?,
        None => demo::declaration(entropy)?,
    };
    // Nothing is kept, so ids that the file leaves out are made up at each start.
    unique_ids::fill(&mut declaration, |_, _| None, entropy)?;
    let passwords = demo::with_passwords(&mut declaration, entropy)?;
    let compiled = demo::compile(declaration.clone(), &passwords).map_err(|error| match &arguments
        .directory
    {
        Some(path) => format!(
            "{}: {}",
            path.display(),
            error.to_string().trim_start_matches("directory: ")
        )
        .into(),
        None => error,
    });
    let (compiled, demo) = compiled?;
    Ok((declaration, compiled, demo))
}

/// Imports the directory into the store. Returns `None` if that succeeds. If the import is refused, returns the
/// compiled directory, which the broker then serves read-only.
async fn imported(
    context: CommandContext<'_>,
    declaration: Declaration,
    compiled: Directory,
) -> Option<Directory> {
    let imported = match commands::plan(context, declaration, false).await {
        Ok(plan) => plan.apply(context, &operator()).await.map(|_| ()),
        Err(error) => Err(error),
    };
    let error = imported.err()?;
    print::note(format_args!(
        "this broker serves the directory file, but refuses all changes of the directory, since `brevet import` \
        would refuse the file: {error}"
    ));
    Some(compiled)
}

fn config(
    arguments: &ServeArguments,
    listen: SocketAddr,
    operator: SocketAddr,
) -> Result<Config, Failure> {
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
    Ok(Config {
        operator,
        listener: Listener {
            names: Names::Any,
            ..Listener::default()
        },
        regions: vec!["us-east-1".to_owned(), ANY_REGION.to_owned()],
        reflection: true,
        store: Place::Memory,
        watermark: None,
        audit: arguments
            .audit
            .clone()
            .map_or(Target::Discard, |path| Target::File { path, sync: true }),
        redis,
        limits: Limits {
            shutdown_grace: Duration::from_secs(5),
            ..Limits::default()
        },
        issuer: Some("http://{address}".to_owned()),
        keystone: true,
        service_provider: service_provider(),
        reach: Reach {
            private: false,
            http_on_loopback: true,
        },
        budgets: BudgetLimits::OFF,
        sign_in: Some(Settings {
            fixed_registration_key: true,
            ..Settings::at("http://{address}")
        }),
        ..Config::in_folder(Path::new(""), listen)
    })
}

/// The service provider for which assertions are accepted: this broker and AWS, so that an identity provider
/// that is set up for AWS can be tried.
fn service_provider() -> ServiceProvider {
    let mut here = ServiceProvider::at("http://{address}");
    here.audiences.push("urn:amazon:webservices".to_owned());
    here.recipients
        .push("https://signin.aws.amazon.com/saml".to_owned());
    here
}

/// Adds an RSA key to the keyring in the background, since making one takes a while.
fn add_rsa_key(
    broker: Arc<Broker>,
    keyring: Zeroizing<Vec<u8>>,
    entropy: Arc<SystemEntropy>,
    now: Timestamp,
) {
    tokio::task::spawn_blocking(move || {
        let keyring = Keyring::parse(&keyring)
            .and_then(|k| k.with_signing_keys(&[Algorithm::RS256], &*entropy, now));
        match keyring {
            Ok(keyring) => broker.tokens.replace(keyring),
            Err(error) => {
                tracing::warn!(%error, "the RS256 key could not be generated; the broker refuses to issue RS256 tokens")
            }
        }
    });
}
