//! `brevet restore`: replaces the store by a backup of it, or accepts a store that was restored by other means.

mod accept;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::store::master_key;
use super::{ConfigArgument, Failure, clock, journal, operator, print, report, runtime};
use crate::base::clock::Timestamp;
use crate::base::entropy::SystemEntropy;
use crate::commands::{self, Actor, Secrets};
use crate::config::Config;
use crate::files;
use crate::master_key::MasterKey;
use crate::server;
use crate::store::{self, Head, Place, Prepared, StoreError, Watermark};

use accept::{accept, ended, remember_time, say_what_is_taken};

const RESTORE_EXAMPLES: &str = "\
Examples:
  brevet restore --config /var/lib/brevet/brevet.toml /backup/store.db
  brevet restore --config brevet.toml /backup/store.db --master-key /backup/master.key
      Restores a backup from before a `brevet rekey --forget`, and adds its key to the key file.
  brevet restore --config /var/lib/brevet/brevet.toml --accept
      Accepts a PostgreSQL store that `pg_restore` has restored.";

/// Replace the store with a backup, and end every session that was issued before now
///
/// First decrypts every secret of the backup and loads all of it, unless --accept is given, and replaces nothing if
/// this broker could not serve the backup. The replaced store is kept beside the new one, under a name that the command
/// prints. The backup does not contain the revocations and used codes of the time after it was made, so every session
/// from before the restore ends, and MFA codes and assertions from before are refused. A store or a backup with rows
/// that no broker wrote is refused, and the command prints these rows; --accept accepts them as they are.
#[derive(Debug, Args)]
#[command(after_long_help = RESTORE_EXAMPLES)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The backup file to restore
    #[arg(required_unless_present = "accept")]
    file: Option<PathBuf>,
    /// Accept the store, or the backup, as it is, although something other than a broker restored or changed it
    #[arg(long)]
    accept: bool,
    /// A master key file that opens the backup; its keys are added to [directory] master_key
    #[arg(long, value_name = "FILE", requires = "file")]
    master_key: Option<PathBuf>,
    /// Allow a backup of another store than the current one, or a backup with another history (a backup of a
    /// copy of this store, or from before a restore)
    #[arg(long, requires = "file")]
    another_store: bool,
}

pub(super) fn restore(arguments: &RestoreArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    match (&arguments.file, &config.store) {
        (Some(file), Place::Sqlite(place)) => {
            let (file, place) = (std::path::absolute(file)?, place.clone());
            let parameters =
                json!({"file": file, "store": place, "anotherStore": arguments.another_store});
            journal::recorded(&journal::of(&config), "RestoreStore", parameters, || {
                let head = Restore {
                    arguments,
                    config: &config,
                    file,
                    place,
                }
                .run()?;
                let came_of_it = json!({"storeId": head.store_id, "sequenceNumber": head.sequence});
                Ok(((), came_of_it))
            })
        }
        (Some(_), _) => Err(
            "[store] url names a PostgreSQL store, but `brevet restore FILE` restores SQLite stores only: restore the \
             database with `pg_restore`, then run `brevet restore --accept`"
                .into(),
        ),
        (None, _) => journal::note(&journal::of(&config), "AcceptStore", json!({}), || {
            accept(&config)
        }),
    }
}

/// One run of `brevet restore FILE`.
struct Restore<'a> {
    arguments: &'a RestoreArguments,
    config: &'a Config,
    /// The file with the backup.
    file: PathBuf,
    /// The store's file, which the backup replaces.
    place: PathBuf,
}

impl Restore<'_> {
    /// Reads the master keys of the configuration and those that `--master-key` gives.
    fn master_key(&self) -> Result<Option<MasterKey>, Failure> {
        let own = self
            .config
            .master_key
            .as_deref()
            .map(MasterKey::load)
            .transpose()?;
        let more = self
            .arguments
            .master_key
            .as_deref()
            .map(MasterKey::load)
            .transpose()?;
        Ok(match (own, more) {
            (Some(own), Some(more)) => Some(own.with_keys_of(more)?),
            (own, more) => own.or(more),
        })
    }

    /// Checks everything, then replaces the store.
    ///
    /// # Errors
    /// [`Failure`] if a broker could not serve the backup or the backup is not one of this store, in which case nothing
    /// is replaced; also if a file cannot be read or written.
    fn run(self) -> Result<Head, Failure> {
        let runtime = runtime()?;
        let now = clock::now(self.config)?;
        let key = self.master_key()?;
        let prepared = runtime
            .block_on(store::prepare(
                &self.file,
                &self.place,
                key.as_ref(),
                now,
                &SystemEntropy::new(),
            ))
            .map_err(|error| report::with_free_space(error.into(), &[&self.place]))?;
        let seen = runtime.block_on(self.same_store(&prepared))?;
        let added = self.secrets(&runtime, &prepared, now)?;
        self.keep_keys_revoked(&runtime, &prepared, now)?;
        let kept = files::name_for_replaced(&self.place, now);
        if self.place.exists() {
            print::note(format_args!(
                "The current store is kept as {}.",
                kept.display()
            ));
        }
        let shown = self
            .arguments
            .accept
            .then(|| runtime.block_on(say_what_is_taken(prepared.store(), now)))
            .transpose()?;
        let placed = runtime
            .block_on(prepared.put_in_place(shown.as_ref(), seen, kept, now))
            .map_err(|error| report::with_free_space(error.into(), &[&self.place]))?;
        if let Some(path) = &self.config.watermark {
            let saved = Watermark::of(&placed.head).save(path);
            saved.map_err(|error| {
                format!(
                    "the store was replaced, but the watermark file could not be written: {error}. Once it can be written, \
                     run `brevet restore --accept`"
                )
            })?;
        }
        remember_time(self.config, now)?;
        ended(&placed.head);
        if let Some(kept) = placed.kept {
            print::note("To go back to the store that was replaced, stop the broker and run:");
            let config = self.arguments.config.config.display();
            print::note(format_args!(
                "  brevet restore --config {config} {} --another-store",
                kept.display()
            ));
        }
        if let Some(path) = added {
            print::note(format_args!(
                "Copy {} to the other brokers, if there are any.",
                path.display()
            ));
        }
        Ok(placed.head)
    }

    /// Adds to the backup the revocations of signing keys that the present store has, so that a restore does not undo
    /// them. If that is impossible, says that revoked keys must be revoked again.
    fn keep_keys_revoked(
        &self,
        runtime: &tokio::runtime::Runtime,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match runtime.block_on(store::revoked_keys(&self.place)) {
            Some(ids) if ids.is_empty() => print::note(
                "The current store records no revoked signing key. If you have ever revoked one, revoke it again with \
                 `brevet keyring revoke`.",
            ),
            // A backup that must be accepted cannot be written to before it is.
            Some(_) if self.arguments.accept => print::note(
                "If signing keys were revoked after the backup was made, revoke them again with `brevet keyring revoke`.",
            ),
            Some(ids) => {
                let ids = ids.iter().map(String::as_str);
                let who = operator();
                runtime.block_on(commands::revoke_signing_keys(
                    prepared.store(),
                    &who,
                    ids.clone(),
                    now,
                ))?;
                let ids: Vec<&str> = ids.collect();
                print::note(format_args!(
                    "These signing keys were revoked in the current store, and are now revoked in the restored store \
                     too: {}.",
                    ids.join(", ")
                ));
            }
            None => print::note(
                "There is no current store, or it cannot be read, so its revoked signing keys are \
                 unknown. If signing keys were \
                 revoked after the backup was made, revoke them again with `brevet keyring revoke`.",
            ),
        }
        Ok(())
    }

    /// Checks that the backup is one of this store, and returns the number of the last change that this
    /// node has seen of it (0 if it has seen none).
    ///
    /// # Errors
    /// [`Failure`] if the backup is of another store or history, and `--another-store` was not given.
    async fn same_store(&self, prepared: &Prepared) -> Result<i64, Failure> {
        // A watermark that cannot be read is ignored: all sessions end in either case.
        let known = self
            .config
            .watermark
            .as_deref()
            .and_then(|path| Watermark::load(path).ok().flatten());
        let in_place = store::look_at(&self.place, prepared.store()).await;
        let head = prepared.head();
        let other = [
            in_place.as_ref().map(|h| &h.store_id),
            known.as_ref().map(|w| &w.store_id),
        ];
        let other = other.into_iter().flatten().find(|id| **id != head.store_id);
        if let Some(other) = other.filter(|_| !self.arguments.another_store) {
            return Err(format!(
                "{}: is a backup of the store {}, but the store here is {other}, with other users, roles and revocations. \
                 Nothing was replaced; choose a backup of this store, or add --another-store if this is intended",
                self.file.display(),
                head.store_id
            )
            .into());
        }
        if !self.arguments.another_store {
            self.same_history(prepared, in_place.as_ref(), known.as_ref())
                .await?;
        }
        let seen = [
            in_place
                .filter(|h| h.store_id == head.store_id)
                .map(|h| h.sequence),
            known
                .filter(|w| w.store_id == head.store_id)
                .map(|w| w.sequence),
        ];
        Ok(seen.into_iter().flatten().max().unwrap_or_default())
    }

    /// Checks that the backup and the present store have the same history, and prints the change with which the backup
    /// ends.
    ///
    /// # Errors
    /// [`Failure`] if the backup ends with a change that the present store does not have.
    async fn same_history(
        &self,
        prepared: &Prepared,
        in_place: Option<&Head>,
        known: Option<&Watermark>,
    ) -> Result<(), Failure> {
        let head = prepared.head();
        let known = known
            .filter(|w| w.store_id == head.store_id)
            .and_then(|w| Some((w.sequence, w.chain.as_deref()?)));
        let last = prepared.last_change().await;
        let last = last.map_or_else(
            || format!("change {}", head.sequence),
            |change| {
                let at = Timestamp::from_millis(change.changed_at);
                let by = author(&change.actor);
                format!(
                    "change {} of {at}, {}, by {by}",
                    change.sequence, change.action
                )
            },
        );
        match prepared.is_of_the_same_history(in_place, known).await {
            Some(true) => print::note(format_args!("The backup ends with {last}.")),
            Some(false) => {
                return Err(format!(
                    "{}: is a backup of this store, but with other changes: it ends with {last}, which the current \
                     store does not contain. Either the backup was made from a copy of the store, or the store has \
                     been restored since the backup. If you restored this backup, changes that were made elsewhere \
                     would apply here. Nothing was replaced; choose another backup, or add --another-store if this is \
                     intended",
                    self.file.display()
                )
                .into());
            }
            None => print::note(format_args!(
                "The backup ends with {last}. This machine has no record of that change, so check yourself that it \
                 belongs to this store."
            )),
        }
        Ok(())
    }

    /// Opens every secret of the backup and loads the backup completely, as a broker would, unless `--accept` was
    /// given. Adds the keys of `--master-key` to the master key file. Returns the path of the master key file if keys
    /// were added to it.
    ///
    /// # Errors
    /// A secret cannot be opened, a broker could not serve the backup, or a master key file cannot be read or written.
    fn secrets(
        &self,
        runtime: &tokio::runtime::Runtime,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<Option<PathBuf>, Failure> {
        if self.config.directory.is_some() {
            return Ok(None); // the directory is a file: there are no secrets in the store
        }
        let (path, own) = master_key(self.config)?;
        let mut key = MasterKey::load(path)?;
        if let Some(more) = &self.arguments.master_key {
            key = key.with_keys_of(MasterKey::load(more)?)?;
        }
        let unfit = |error: String| {
            format!(
                "{}: {error}. Nothing was replaced; choose another backup",
                self.file.display()
            )
        };
        let refused = |error: StoreError| match error {
            StoreError::Tampered(what) => format!(
                "{}: {what}: something other than a broker changed this backup. Nothing was replaced; choose another \
                 backup, or add --accept to accept this one as it is",
                self.file.display()
            ),
            error => unfit(error.to_string()),
        };
        if !self.arguments.accept {
            let found = match runtime.block_on(commands::open_all(prepared.store(), &key)) {
                Ok(found) => found,
                Err(StoreError::Key(id)) => return Err(unreadable(&self.file, path, &id).into()),
                Err(error) => return Err(refused(error).into()),
            };
            if !found.all_open() {
                return Err(unopened(&self.file, path, &found).into());
            }
            runtime
                .block_on(prepared.store().verify(now))
                .map_err(refused)?;
        }
        let takes_more = key.ids().any(|id| !own.holds(id));
        let key = std::sync::Arc::new(key);
        if !self.arguments.accept {
            runtime
                .block_on(server::load_store(prepared.store(), &key))
                .map_err(|e| unfit(e.to_string()))?;
        }
        if !takes_more {
            return Ok(None);
        }
        let kept = files::name_for_replaced(path, now);
        files::keep(path, &kept)?;
        key.save(path)?;
        print::note(format_args!(
            "{} now also contains the master keys of this backup, which are used for decryption only; the previous \
             file is kept as {}.",
            path.display(),
            kept.display()
        ));
        Ok(Some(path.to_owned()))
    }
}

/// Describes the author of a change: by the ARN of the principal, or by the account that ran a command.
fn author(actor: &str) -> String {
    let name = serde_json::from_str::<Actor>(actor)
        .ok()
        .and_then(|actor| actor.arn.or(actor.user_name));
    print::visible(name.as_deref().unwrap_or(actor))
}

/// The error about a backup whose rows cannot be checked because a master key is missing. It names the files
/// that hold the key.
fn unreadable(file: &Path, master_key: &Path, id: &str) -> String {
    let mut text = format!(
        "{}: the rows of this backup cannot be checked, since their MACs were made with the master key {id}, which is \
        not in {}",
        file.display(),
        master_key.display()
    );
    let holders = holders(master_key, id);
    for holder in &holders {
        text.push_str(&format!(
            "\n  this key is in {}: add --master-key {0}",
            holder.display()
        ));
    }
    let next = match holders.is_empty() {
        true => FIND_KEY,
        false => ADD_KEY,
    };
    format!("{text}\nNothing was replaced.\n  next: {next}")
}

/// The advice for a backup whose key file is missing.
const FIND_KEY: &str = "find the master key file that was in use when the backup was made (on another broker, or where you \
    keep key files apart from the backups), and add --master-key FILE";

/// The advice for a backup whose key file was found.
const ADD_KEY: &str = "run the same command again with a --master-key above";

/// The error about a backup whose secrets cannot be opened. It names the files that hold the missing keys.
fn unopened(file: &Path, master_key: &Path, found: &Secrets) -> String {
    let mut text = format!(
        "{}: {} of the {} secrets in the backup cannot be decrypted",
        file.display(),
        closed(found),
        found.count()
    );
    let mut has_all_keys = true;
    for (id, number) in &found.missing {
        text.push_str(&format!(
            "\n  {number} are sealed under the master key {id}, which is not in {}",
            master_key.display()
        ));
        let holders = holders(master_key, id);
        has_all_keys &= !holders.is_empty();
        for holder in holders {
            text.push_str(&format!(
                "\n    this key is in {}: add --master-key {0}",
                holder.display()
            ));
        }
    }
    for name in &found.broken {
        text.push_str(&format!(
            "\n  {name}: was altered, or copied from another entry"
        ));
    }
    let next = match (found.broken_count, has_all_keys) {
        (0, true) => ADD_KEY,
        (0, false) => FIND_KEY,
        _ => "choose another backup: this one was altered",
    };
    format!("{text}\nNothing was replaced.\n  next: {next}")
}

fn closed(found: &Secrets) -> usize {
    found.missing.values().sum::<usize>() + found.broken_count
}

/// Finds the master key files, whatever their names, that are in the folder of `master_key` and hold the key
/// `id`.
fn holders(master_key: &Path, id: &str) -> Vec<PathBuf> {
    /// The maximum number of files in the folder that are read.
    const LOOKED_AT: usize = 1_000;
    let Ok(entries) = files::folder(master_key).read_dir() else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .take(LOOKED_AT)
        .map(|entry| entry.path())
        .filter(|path| {
            path.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.len() < 4_096)
        })
        .filter(|path| MasterKey::load(path).is_ok_and(|key| key.holds(id)))
        .collect();
    found.sort();
    found
}
