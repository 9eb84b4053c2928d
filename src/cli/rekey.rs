//! `brevet rekey`: the secrets of the store under a new master key.
//!
//! The key file is written before the store at each step, and no key leaves it but by `--forget`:
//! wherever a run is cut off, every secret opens, and the next run goes on.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::store::{master_key, opened};
use super::{ConfigArgument, Failure, clock, journal, operator, print};
use crate::audit::LocalLog;
use crate::base::clock::{Clock, SystemClock};
use crate::base::entropy::SystemEntropy;
use crate::commands::{self, CommandContext};
use crate::config::Config;
use crate::master_key::MasterKey;
use crate::server;
use crate::store::{Broker, Place, SqliteLock, Store};

/// How long a broker of this host is waited for until it reports the new key.
const REPORT_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After so long a broker on a SQLite store has read the new file: it looks once a second.
const READ_WITHIN: Duration = Duration::from_millis(1_500);

const EXAMPLES: &str = "\
Examples:
  brevet rekey --config /var/lib/brevet/brevet.toml
      With one broker.
  brevet rekey --config /var/lib/brevet/brevet.toml --publish
      With several: then copy master.key to each of them, then `brevet rekey`.
  brevet rekey --config /var/lib/brevet/brevet.toml --forget
      Once no backup is needed any more that was made before.";

/// Seal the secrets in the store under a new master key
///
/// Works with the broker running. The old key stays in the file and opens what older backups hold,
/// until `brevet rekey --forget`. With several brokers the new key must be on all of them first:
/// `brevet rekey --publish`, copy master.key to each, then `brevet rekey`; it refuses while a broker
/// that is connected to the store does not have the key. A run that was cut off is gone on with.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct RekeyArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Only put the new key in the file, for copying it to the other brokers first
    #[arg(long, conflicts_with = "forget")]
    publish: bool,
    /// Take the retired keys out of the file: backups from before the last `rekey` need them
    #[arg(long)]
    forget: bool,
}

pub(super) fn run(arguments: &RekeyArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    if config.directory.is_some() {
        return Err("[directory] file: secrets in a file are sealed by `brevet seal`; rekey is for the store".into());
    }
    let (path, key) = master_key(&config)?;
    let (runtime, store) = opened(&config, Some(&key))?;
    let run = Run {
        config: &config,
        log: journal::of(&config),
        path,
        runtime,
        store,
    };
    match (arguments.publish, arguments.forget) {
        (true, _) => run.publish(key),
        (_, true) => run.forget(key),
        _ => run.rekey(key),
    }
}

struct Run<'a> {
    config: &'a Config,
    log: LocalLog,
    path: &'a Path,
    runtime: tokio::runtime::Runtime,
    store: Store,
}

impl Run<'_> {
    fn publish(&self, key: MasterKey) -> Result<(), Failure> {
        if key.next_id().is_none() {
            journal::recorded(
                &self.log,
                "PublishMasterKey",
                json!({"file": self.path}),
                || {
                    let key = self.with_fresh(key)?;
                    let came_of_it = json!({"keyId": key.next_id()});
                    Ok(((), came_of_it))
                },
            )?;
        } else {
            print::note(format_args!(
                "{} holds a published key already.",
                self.path.display()
            ));
        }
        print::note(
            "Copy it to every broker; each reads it by itself within a second. Then: brevet rekey",
        );
        Ok(())
    }

    fn with_fresh(&self, key: MasterKey) -> Result<MasterKey, Failure> {
        let key = key.with_fresh(self.path, &SystemEntropy::new())?;
        key.save(self.path)?;
        let id = key.next_id().unwrap_or_default();
        print::note(format_args!(
            "{} holds the new key {id}, which seals nothing yet.",
            self.path.display()
        ));
        Ok(key)
    }

    fn rekey(&self, mut key: MasterKey) -> Result<(), Failure> {
        let found = self
            .runtime
            .block_on(commands::open_all(&self.store, &key))?;
        if !found.all_open() {
            let missing: Vec<&str> = found.missing.keys().map(String::as_str).collect();
            let closed = found.missing.values().sum::<usize>() + found.broken_count;
            let keys = if missing.is_empty() {
                String::new()
            } else {
                format!(" (keys {})", missing.join(", "))
            };
            return Err(format!(
                "{closed} of the {} secrets in the store do not open under {}{keys}; nothing was changed. Bring back the key \
                 file that opens them",
                found.count(),
                self.path.display()
            )
            .into());
        }
        // A run that was cut off, or a restored backup: the file has the key that seals already.
        let goes_on = key.next_id().is_none() && found.sealed_otherwise(key.id()) > 0;
        let brokers = self.runtime.block_on(self.store.brokers())?;
        let connected: Vec<&Broker> = brokers.iter().filter(|b| b.is_connected).collect();
        self.say_what_it_does(&key, goes_on, &brokers);
        if key.next_id().is_none() && !goes_on {
            let here = rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned();
            let others: Vec<String> = connected
                .iter()
                .filter(|b| b.host != here)
                .map(|b| b.name())
                .collect();
            if !others.is_empty() {
                return Err(format!(
                    "{} would not have the new key. Nothing was changed.\n  next: brevet rekey --publish, copy {} to each of \
                     them, then brevet rekey",
                    others.join(", "),
                    self.path.display()
                )
                .into());
            }
        } else {
            let wanted = key.next_id().unwrap_or(key.id()).to_owned();
            let lacking: Vec<&Broker> = connected
                .iter()
                .copied()
                .filter(|b| !b.has_master_key(&wanted))
                .collect();
            refuse_if_any(&lacking, &wanted, self.path)?;
        }
        journal::recorded(&self.log, "RekeyStore", json!({"file": self.path}), || {
            if key.next_id().is_none() && !goes_on {
                key = self.with_fresh(key)?;
                self.wait_until_reported(&key)?;
            }
            let key = key.promoted();
            key.save(self.path)?;
            self.store.use_master_key(&key)?;
            if !self.store.is_shared() {
                // A broker beside us reads the new file before it meets a secret sealed under it.
                std::thread::sleep(READ_WITHIN);
            }
            self.reseal(&key)
        })
    }

    fn say_what_it_does(&self, key: &MasterKey, goes_on: bool, brokers: &[Broker]) {
        if goes_on {
            print::note(format_args!(
                "Some secrets are sealed under older keys than {}: they are sealed under it now. For another new key, run \
                 this again afterwards.",
                key.id()
            ));
        }
        print::note(format_args!(
            "Backups that were made before this need the key that sealed them. {} keeps it until `brevet rekey --forget`.",
            self.path.display()
        ));
        if let Place::Sqlite(place) = &self.config.store {
            let runs = matches!(
                SqliteLock::take(place),
                Err(crate::store::StoreError::InUse(_))
            );
            let what = if runs {
                "The running broker reads the file by itself."
            } else {
                "No broker is running."
            };
            print::note(what);
            return;
        }
        for broker in brokers {
            let what = match broker.is_connected {
                true => "is connected and goes on",
                false => {
                    "has not been heard of for more than ten seconds; when it comes back it needs this file"
                }
            };
            print::note(format_args!("{} {what}.", print::visible(&broker.name())));
        }
    }

    /// Waits until every broker that is connected has read the published key.
    fn wait_until_reported(&self, key: &MasterKey) -> Result<(), Failure> {
        let wanted = key.next_id().unwrap_or_default();
        let started = SystemClock.monotonic();
        loop {
            let brokers = self.runtime.block_on(self.store.brokers())?;
            let lacking: Vec<&Broker> = brokers
                .iter()
                .filter(|b| b.is_connected && !b.has_master_key(wanted))
                .collect();
            if lacking.is_empty() {
                return Ok(());
            }
            if SystemClock.monotonic().saturating_sub(started) > REPORT_WITHIN {
                return refuse_if_any(&lacking, wanted, self.path);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn reseal(&self, key: &MasterKey) -> Result<((), Value), Failure> {
        let issuer = self.config.issuer.as_deref();
        let entropy = SystemEntropy::new();
        let context = CommandContext {
            store: &self.store,
            master_key: key,
            entropy: &entropy,
            now: clock::now(self.config)?,
            issuer,
        };
        let resealed = self
            .runtime
            .block_on(commands::reseal(context, &operator()));
        let resealed = resealed.map_err(|error| {
            format!(
                "{error}\n  next: run `brevet rekey` again; {} holds every key, and nothing is lost",
                self.path.display()
            )
        })?;
        // The rows are written anew under it as well.
        self.renew(key)?;
        let retired = key.retired_ids();
        print::note(format_args!(
            "{resealed} secrets are sealed under the key {}.",
            key.id()
        ));
        print::note(format_args!(
            "{} keeps {} for older backups. To go back, restore one of them: it opens with this file.",
            self.path.display(),
            retired.join(", ")
        ));
        print::note("Copy the file to the other brokers, if there are any.");
        Ok((
            (),
            json!({"keyId": key.id(), "retiredKeyIds": retired, "secrets": resealed}),
        ))
    }

    /// Makes the MACs of all rows anew under the key that seals.
    fn renew(&self, key: &MasterKey) -> Result<(), Failure> {
        let renewed = self.runtime.block_on(self.store.renew());
        renewed
            .map_err(|error| format!("{error}\n  next: run this command again; nothing is lost"))?;
        self.runtime
            .block_on(server::entrance(self.config, Some(key)).leave(&self.store))?;
        Ok(())
    }

    fn forget(&self, key: MasterKey) -> Result<(), Failure> {
        let retired = key.retired_ids();
        if retired.is_empty() {
            print::note(format_args!(
                "{} holds no retired key.",
                self.path.display()
            ));
            return Ok(());
        }
        let found = self
            .runtime
            .block_on(commands::open_all(&self.store, &key))?;
        let kept: usize = found
            .opened
            .iter()
            .filter(|(id, _)| retired.contains(id))
            .map(|(_, n)| n)
            .sum();
        // Secrets of the first version do not say which key opens them.
        let unnamed = found.opened.get("").copied().unwrap_or_default();
        if kept + unnamed > 0 || !found.all_open() {
            let number = found.sealed_otherwise(key.id());
            return Err(format!(
                "{number} secrets in the store are not sealed under {}; nothing was changed.\n  next: brevet rekey, which \
                 seals them, then brevet rekey --forget",
                key.id()
            )
            .into());
        }
        let brokers = self.runtime.block_on(self.store.brokers())?;
        let behind = |b: &&Broker| {
            b.is_connected && b.master_keys.first().is_none_or(|first| first != key.id())
        };
        let behind: Vec<String> = brokers.iter().filter(behind).map(Broker::name).collect();
        if !behind.is_empty() {
            return Err(format!(
                "{} would still seal with another key than {}; nothing was changed.\n  next: copy {} there, wait for a few \
                 seconds, then brevet rekey --forget",
                behind.join(", "),
                key.id(),
                self.path.display()
            )
            .into());
        }
        journal::recorded(
            &self.log,
            "ForgetMasterKeys",
            json!({"file": self.path, "keyIds": retired}),
            || {
                // A broker that had the old file until a moment ago may have written rows under it.
                self.renew(&key)?;
                key.without_retired().save(self.path)?;
                print::note(format_args!(
                    "{} does not hold {} any more.",
                    self.path.display(),
                    retired.join(", ")
                ));
                print::note(
                    "Backups that were made before the last `brevet rekey` need a copy of the file from then.",
                );
                Ok(((), Value::Null))
            },
        )
    }
}

fn refuse_if_any(lacking: &[&Broker], key: &str, path: &Path) -> Result<(), Failure> {
    if lacking.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = lacking
        .iter()
        .map(|b| match b.master_keys.is_empty() {
            true => format!(
                "{} (of an earlier version, which does not say what it has)",
                b.name()
            ),
            false => b.name(),
        })
        .collect();
    Err(format!(
        "{} does not have the key {key}; no secret was sealed under it.\n  next: copy {} there; a broker reads it by itself \
         within a second and reports it within a few. Then: brevet rekey",
        names.join(", "),
        path.display()
    )
    .into())
}
