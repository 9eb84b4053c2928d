//! `brevet rekey`: seals the secrets of the store under a new master key.
//!
//! A new key is written to the key file before anything in the store is sealed under it. Only `--forget` removes keys
//! from the file, once nothing in the store needs them. So every secret can be opened wherever a run was interrupted,
//! and the next run continues.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::store::{master_key, opened, unopened};
use super::{ConfigArgument, Failure, clock, journal, operator, print};
use crate::audit::LocalLog;
use crate::base::clock::{Clock, SystemClock};
use crate::base::entropy::SystemEntropy;
use crate::commands::{self, CommandContext};
use crate::config::Config;
use crate::master_key::MasterKey;
use crate::server;
use crate::store::{Broker, Place, SqliteLock, Store};

/// How long to wait for a broker on this host to report that it has the new key.
const REPORT_WITHIN: Duration = Duration::from_secs(10);
/// The interval between reads of what the brokers report.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long it takes at most until a broker on a SQLite store has read the new key file, which it does
/// once a second.
const READ_WITHIN: Duration = Duration::from_millis(1_500);

const EXAMPLES: &str = "\
Examples:
  brevet rekey --config /var/lib/brevet/brevet.toml
      With one broker: makes a new key and seals everything under it.
  brevet rekey --config /var/lib/brevet/brevet.toml --publish
      With several brokers: makes a new key. Copy master.key to each of them, then run `brevet rekey`.
  brevet rekey --config /var/lib/brevet/brevet.toml --forget
      Removes old keys, once no backup from before the last `rekey` is needed any more.";

/// Seal the secrets in the store under a new master key
///
/// The broker may be running. The old key stays in the file, since older backups need it, until
/// `brevet rekey --forget`. With several brokers, the new key must be on all of them first: run
/// `brevet rekey --publish`, copy master.key to each, then run `brevet rekey`, which refuses while a
/// connected broker does not have the key. After an interruption, run the same command again.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct RekeyArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Only add the new key to the file, so that you can copy the file to the other brokers first
    #[arg(long, conflicts_with = "forget")]
    publish: bool,
    /// Remove retired keys from the file; backups from before the last `rekey` cannot be opened without
    /// them
    #[arg(long)]
    forget: bool,
}

pub(super) fn run(arguments: &RekeyArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    if config.directory.is_some() {
        return Err("[directory] file: the secrets are in that file, not in the store; use `brevet seal` for them".into());
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
                "{} already contains a new key that is published and not yet in use.",
                self.path.display()
            ));
        }
        print::note(
            "Copy the file to every broker; each broker notices the new file within a second. Then run `brevet rekey`.",
        );
        Ok(())
    }

    fn with_fresh(&self, key: MasterKey) -> Result<MasterKey, Failure> {
        let key = key.with_fresh(self.path, &SystemEntropy::new())?;
        key.save(self.path)?;
        let id = key.next_id().unwrap_or_default();
        print::note(format_args!(
            "{} now contains the new key {id}; no secret is sealed under this key yet.",
            self.path.display()
        ));
        Ok(key)
    }

    fn rekey(&self, mut key: MasterKey) -> Result<(), Failure> {
        let found = self
            .runtime
            .block_on(commands::open_all(&self.store, &key))?;
        if !found.all_open() {
            return Err(unopened(&found, self.path).into());
        }
        // After an interrupted run, or with a restored backup, the file already has the key to seal with.
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
                    "these brokers on other hosts would not get the new key: {}; nothing was changed\n  next: run \
                     `brevet rekey --publish`, copy {} to each of them, and run `brevet rekey` again",
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
                // A broker on this machine must have read the new file before it meets a secret sealed under it.
                std::thread::sleep(READ_WITHIN);
            }
            self.reseal(&key)
        })
    }

    fn say_what_it_does(&self, key: &MasterKey, goes_on: bool, brokers: &[Broker]) {
        if goes_on {
            print::note(format_args!(
                "Some secrets are still sealed under older keys than {}. This run seals them under {0} and makes no \
                 new key; for a new key, run the command again afterwards.",
                key.id()
            ));
        }
        print::note(format_args!(
            "Restoring an earlier backup requires the key under which it was sealed. {} keeps that key until `brevet \
             rekey --forget`.",
            self.path.display()
        ));
        if let Place::Sqlite(place) = &self.config.store {
            let runs = matches!(
                SqliteLock::take(place),
                Err(crate::store::StoreError::InUse(_))
            );
            let what = if runs {
                "A broker is running; it notices the new key file by itself."
            } else {
                "No broker is running."
            };
            print::note(what);
            return;
        }
        for broker in brokers {
            let what = match broker.is_connected {
                true => "is connected",
                false => {
                    "has not reported for more than ten seconds; copy the new key file to its machine before it \
                     starts again"
                }
            };
            print::note(format_args!("{} {what}.", print::visible(&broker.name())));
        }
    }

    /// Waits until every connected broker reports that it has the published key.
    ///
    /// # Errors
    /// A broker did not report it within [`REPORT_WITHIN`], or the store cannot be read.
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
                "{error}\n  next: run `brevet rekey` again; {} still holds every key, so nothing is lost",
                self.path.display()
            )
        })?;
        // The MACs of the rows are made with the master key as well.
        self.renew(key)?;
        let retired = key.retired_ids();
        print::note(format_args!(
            "{} now sealed under the key {}.",
            match resealed {
                1 => "1 secret is".to_owned(),
                _ => format!("{resealed} secrets are"),
            },
            key.id()
        ));
        print::note(format_args!(
            "{} keeps the retired keys {} for older backups. To return to the previous state, restore such a backup \
            with this key file.",
            self.path.display(),
            retired.join(", ")
        ));
        print::note("Copy the file to the other brokers, if there are any.");
        Ok((
            (),
            json!({"keyId": key.id(), "retiredKeyIds": retired, "secrets": resealed}),
        ))
    }

    /// Computes the MACs of all rows again under the sealing key, and writes the watermark.
    fn renew(&self, key: &MasterKey) -> Result<(), Failure> {
        let renewed = self.runtime.block_on(self.store.renew());
        renewed
            .map_err(|error| format!("{error}\n  next: run this command again; nothing is lost"))?;
        let left = self
            .runtime
            .block_on(server::entrance(self.config, Some(key)).leave(&self.store));
        left.map_err(|error| {
            format!(
                "the watermark file could not be updated: {error}\n  next: run this command again; nothing is lost"
            )
        })?;
        Ok(())
    }

    fn forget(&self, key: MasterKey) -> Result<(), Failure> {
        let retired = key.retired_ids();
        if retired.is_empty() {
            print::note(format_args!(
                "{} holds no retired key; nothing was changed.",
                self.path.display()
            ));
            return Ok(());
        }
        let found = self
            .runtime
            .block_on(commands::open_all(&self.store, &key))?;
        if !found.all_open() {
            return Err(unopened(&found, self.path).into());
        }
        let kept: usize = found
            .opened
            .iter()
            .filter(|(id, _)| retired.contains(id))
            .map(|(_, n)| n)
            .sum();
        // Secrets in the first format do not name the key that opens them.
        let unnamed = found.opened.get("").copied().unwrap_or_default();
        if kept + unnamed > 0 {
            let number = found.sealed_otherwise(key.id());
            return Err(format!(
                "{number} secrets in the store are not sealed under the key {}; nothing was changed\n  next: run \
                 `brevet rekey`, which seals them under this key, and then `brevet rekey --forget`",
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
                "these brokers seal with another key than {1}: {0}; nothing was changed\n  next: copy {2} to each of \
                 them, wait for a few seconds, and run `brevet rekey --forget` again",
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
                    "{} no longer holds the retired keys {}.",
                    self.path.display(),
                    retired.join(", ")
                ));
                print::note(
                    "To restore a backup from before the last `brevet rekey`, you need an earlier copy of the key \
                     file.",
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
                "{} (an earlier version, which does not report its keys)",
                b.name()
            ),
            false => b.name(),
        })
        .collect();
    Err(format!(
        "these brokers do not have the key {key}: {}; no secret was sealed under it\n  next: copy {} to each of them; \
         a broker reports the new key within a few seconds. Then run `brevet rekey` again",
        names.join(", "),
        path.display()
    )
    .into())
}
