//! `brevet move`: moves the store to another database, with everything in it.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::store::{master_key, unopened};
use super::{ConfigArgument, Failure, clock, journal, print, runtime};
use crate::base::entropy::SystemEntropy;
use crate::commands;
use crate::config::{self, Config};
use crate::master_key::MasterKey;
use crate::server;
use crate::store::{self, Access, Broker, Place, SqliteLock, Store, StoreError, WatermarkError};

const EXAMPLES: &str = "\
Examples:
  brevet move --config brevet.toml --to postgres://brevet@db/brevet --password-file db.pass
      Moves the store from SQLite to PostgreSQL, with the broker stopped.
  brevet move --config brevet.toml --to /var/lib/brevet/store.db
      Moves it back.";

/// Move the store to another database, with all its revocations and used MFA codes
///
/// Every broker of the store must be stopped. Copies all rows to an empty database in one transaction
/// and compares both. The old store is kept and marked as moved, so that no broker and no command uses
/// it by mistake. Sessions stay valid. After an interruption, run the same command again; brokers can never use both
/// stores at the same time.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct MoveArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The new database, which must be empty: postgres://USER@HOST/DATABASE, or a SQLite file to make
    #[arg(long, value_name = "URL|FILE")]
    to: String,
    /// A private file with the PostgreSQL user's password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// A PEM file with the CA that signed the PostgreSQL server's certificate, if it is your own
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

pub(super) fn run(arguments: &MoveArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let to = config::store_at(
        &arguments.to,
        arguments.password_file.as_deref(),
        arguments.ca_file.as_deref(),
    );
    let to = to.map_err(|error| format!("--to: {error}"))?;
    let is_same = match (&config.store, &to) {
        (Place::Sqlite(from), Place::Sqlite(to)) => {
            std::path::absolute(from)? == std::path::absolute(to)?
        }
        (Place::Postgres { url: from, .. }, Place::Postgres { url: to, .. }) => from == to,
        _ => false,
    };
    if is_same {
        return Err(format!(
            "--to {}: the store is already in this database; give another database",
            arguments.to
        )
        .into());
    }
    let parameters = json!({"from": config.store.to_string(), "to": to.to_string()});
    journal::recorded(&journal::of(&config), "MoveStore", parameters, || {
        let tables = runtime()?.block_on(relocate(&config, &to))?;
        let rows: i64 = tables.iter().map(|(_, rows)| rows).sum();
        Ok(((), json!({"rows": rows})))
    })?;
    print::note(format_args!(
        "{} is kept and marked as moved, so that nothing uses it by mistake.",
        config.store
    ));
    say_section(arguments, &to)?;
    print::note(
        "Then run `brevet check`, and start the brokers. Keep the watermark file as it is.",
    );
    if let Place::Sqlite(path) = &config.store {
        print::note(
            "To go back to the old store (only before a broker has used the new one), run this with the old \
             configuration:",
        );
        print::note(format_args!(
            "  brevet restore --config {} {}",
            arguments.config.config.display(),
            path.display()
        ));
    }
    Ok(())
}

/// Prints the section `[store]` for the configuration of every broker.
fn say_section(arguments: &MoveArguments, to: &Place) -> Result<(), Failure> {
    print::note("Next: change the configuration of every broker to");
    print::note("  [store]");
    match to {
        Place::Postgres { url, .. } => {
            let url = if arguments.to.contains("://") {
                &arguments.to
            } else {
                url
            };
            print::note(format_args!("  url = {}", toml::Value::from(url.as_str())));
            for (key, file) in [
                ("password_file", &arguments.password_file),
                ("ca_file", &arguments.ca_file),
            ] {
                if let Some(file) = file {
                    let file = std::path::absolute(file)?;
                    print::note(format_args!(
                        "  {key} = {}",
                        toml::Value::from(file.to_string_lossy().as_ref())
                    ));
                }
            }
        }
        Place::Sqlite(path) => {
            let path = std::path::absolute(path)?;
            print::note(format_args!(
                "  file = {}",
                toml::Value::from(path.to_string_lossy().as_ref())
            ));
        }
        Place::Memory => {}
    }
    Ok(())
}

async fn relocate(config: &Config, to: &Place) -> Result<Vec<(String, i64)>, Failure> {
    let (now, entropy) = (clock::now(config)?, SystemEntropy::new());
    let mut locks = Vec::new();
    for place in [&config.store, to] {
        if let Place::Sqlite(path) = place {
            locks.push(SqliteLock::take(path)?);
        }
    }
    if let Place::Sqlite(path) = &config.store
        && !path.exists()
    {
        return Err(store::StoreError::Missing(path.clone()).into());
    }
    let key = config
        .master_key
        .as_deref()
        .map(MasterKey::load)
        .transpose()?;
    let opened = server::entrance(config, key.as_ref())
        .open(Access::Use, now, &entropy)
        .await;
    let from = match opened {
        Ok(store) => {
            // Rows that no broker wrote are not moved.
            store.verify(now).await?;
            store
        }
        // An earlier run was interrupted at its last step.
        Err(WatermarkError::Store(StoreError::Moved(_))) => {
            Store::open(&config.store, Access::Move, key.as_ref(), now, &entropy).await?
        }
        Err(error) => return Err(error.into()),
    };
    let target = Store::open(to, Access::Move, key.as_ref(), now, &entropy).await?;
    for store in [&from, &target] {
        must_be_unused(store).await?;
    }
    // A secret that cannot be opened is not moved. A store that is already marked was checked before.
    if config.directory.is_none() && from.head().await.is_ok() {
        let (path, key) = master_key(config)?;
        let found = commands::open_all(&from, &key).await?;
        if !found.all_open() {
            return Err(unopened(&found, path).into());
        }
    }
    let relocation = store::relocate(&from, &target).await?;
    for (table, rows) in &relocation.tables {
        print::note(format_args!(
            "{table:<16} {rows:>10} rows, the same in both stores"
        ));
    }
    print::note(format_args!(
        "The store {} is at change {}.",
        relocation.head.store_id, relocation.head.sequence
    ));
    let tables = relocation.tables.clone();
    relocation.complete(&target, &to.to_string()).await?;
    from.close().await;
    target.close().await;
    Ok(tables)
}

/// Refuses a store that a broker uses.
///
/// # Errors
/// A text that names the brokers that use the store, or the error of the store if it does not answer.
async fn must_be_unused(store: &Store) -> Result<(), Failure> {
    let brokers = store.brokers().await?;
    // A broker that has not reported for a while counts too: it may come back.
    let names: Vec<String> = brokers.iter().map(Broker::name).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(format!(
        "these brokers use the store: {}; nothing was changed\n  next: stop every broker; a broker that was killed no \
         longer counts after [store] refuse_after_seconds",
        names.join(", ")
    )
    .into())
}
