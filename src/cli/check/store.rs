//! Checks of the store, of the directory with every secret in it, and of the other brokers on the store.

use std::sync::Arc;

use super::Look;
use super::line::{explained, failed, ok, warning};
use crate::base::arn::name_of;
use crate::base::entropy::SystemEntropy;
use crate::cli::second_factor;
use crate::directory::Directory;
use crate::directory_file::DirectoryFile;
use crate::master_key::MasterKey;
use crate::server::{self, StartError};
use crate::session::keyring::Keyring;
use crate::store::{Access, DirectoryEntries, Store, StoreError, WatermarkError};
use crate::upkeep;

/// The maximum number of entries missing from the directory file that are named; the others are only
/// counted.
const MAX_GONE: usize = 5;

/// Why something cannot be used, and what to do about it.
type Advised = (String, &'static str);

const FIX_DATABASE: &str = "check the log of PostgreSQL, or the file system of the SQLite store";
const FIX_FILE: &str =
    "correct the file, or restore the master key file with which its secrets were sealed";
const FIX_ROWS: &str =
    "restore the master key file, or restore the store from a backup (`brevet restore FILE`)";

impl Look<'_> {
    pub(super) async fn store(&mut self, key: Option<&MasterKey>) -> Option<Store> {
        let store = self.opened(key).await?;
        let config = self.config;
        match store.head().await {
            Ok(head) => {
                let says = format!(
                    "{}: {}, change {}",
                    config.store, head.store_id, head.sequence
                );
                self.lines.push(ok("store", says));
            }
            Err(error) => {
                self.lines.push(failed("store", error, FIX_DATABASE));
                return None;
            }
        }
        match store.unsafe_settings().await {
            Ok(off) if !off.is_empty() => self.lines.push(warning(
                "durability",
                format!(
                    "these settings of PostgreSQL are off: {}; if the database's machine crashes, acknowledged \
                    changes and revocations may be lost",
                    off.join(", ")
                ),
                "switch these settings on in postgresql.conf",
            )),
            Ok(_) => {}
            Err(error) => {
                let says = format!("the database's settings cannot be read: {error}");
                self.lines
                    .push(warning("durability", says, "check the database's log"));
            }
        }
        self.lines.push(match store.verify(self.now).await {
            Ok(()) if store.is_unsealed() => ok(
                "integrity",
                "the rows have no MACs, so a change by something other than a broker cannot be noticed",
            ),
            Ok(()) => ok("integrity", "every row is unchanged since a broker wrote it"),
            Err(error) => {
                let fix = match &error {
                    StoreError::Unavailable(_) | StoreError::Disconnected(_) => {
                        "check the log of PostgreSQL, or the file system of the SQLite store"
                    }
                    _ => {
                        "read docs/explanation/integrity.md; to use the store as it is, run `brevet restore --accept`"
                    }
                };
                failed("integrity", error, fix)
            }
        });
        Some(store)
    }

    /// Opens the store. If that fails, adds a line that says why and returns `None`; a store that the broker makes at
    /// its first start is not a failure.
    async fn opened(&mut self, key: Option<&MasterKey>) -> Option<Store> {
        let config = self.config;
        let is_new = config
            .watermark
            .as_deref()
            .is_none_or(|path| !path.exists());
        let opened = server::entrance(config, key)
            .open(Access::Use, self.now, &SystemEntropy::new())
            .await;
        let error = match opened {
            Ok(store) => return Some(store),
            Err(error) => error,
        };
        self.lines.push(match error {
            WatermarkError::Store(StoreError::Missing(path))
                if config.directory.is_some() && is_new =>
            {
                let says = format!(
                    "{}: does not exist yet; the broker creates the store when it starts for the first time",
                    path.display()
                );
                ok("store", says)
            }
            WatermarkError::Store(error @ StoreError::Older { .. }) => {
                let says = format!(
                    "{}: {error}; the content of the store was not checked",
                    config.store
                );
                warning(
                    "store",
                    says,
                    "back up the store, then start the broker, which upgrades it",
                )
            }
            error => {
                let says = format!("{}: {error}", config.store);
                match error {
                    WatermarkError::Store(
                        StoreError::Unavailable(_) | StoreError::Disconnected(_),
                    ) => failed("store", says, "start the database, or correct [store]"),
                    WatermarkError::WentBack { .. }
                    | WatermarkError::Another { .. }
                    | WatermarkError::Unsealed => failed(
                        "store",
                        says,
                        "find out who restored or changed the store before you do anything else",
                    ),
                    // These errors say themselves what to do.
                    WatermarkError::Store(_)
                    | WatermarkError::File(_)
                    | WatermarkError::Missing(_)
                    | WatermarkError::Content(_) => explained("store", says),
                }
            }
        });
        None
    }

    /// Compiles a directory file with the ids that the store keeps for its entries. Nothing is written.
    ///
    /// # Errors
    /// What is wrong and what to do, if the file breaks a rule or the store cannot be read.
    async fn directory_file(
        &mut self,
        file: &DirectoryFile,
        store: Option<&Store>,
    ) -> Result<Directory, Advised> {
        let kept = match store {
            Some(store) => store
                .directory_entries()
                .await
                .map_err(|error| (error.to_string(), FIX_DATABASE))?,
            None => DirectoryEntries::default(),
        };
        let compiled = file
            .compile(&kept, &SystemEntropy::new())
            .map_err(|error| (error.to_string(), FIX_FILE))?;
        let gone: Vec<String> = compiled.gone(&kept).map(ToString::to_string).collect();
        if compiled.made > 0 && store.is_some() {
            self.lines.push(ok(
                "unique ids",
                format!(
                    "{} new entries have no unique id; the broker generates one for each when it reads the file",
                    compiled.made
                ),
            ));
        }
        if !gone.is_empty() {
            let named = gone.iter().take(MAX_GONE).cloned().collect::<Vec<_>>();
            let more = match gone.len().saturating_sub(MAX_GONE) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            self.lines.push(warning(
                "departures",
                format!(
                    "removed from the directory file: {}{more}; their sessions end when the broker reads the file",
                    named.join(", ")
                ),
                "to keep these entries, add them to the file again before the broker reads it",
            ));
        }
        Ok(compiled.directory)
    }

    /// Loads the directory as a broker does, and opens every secret in it. `None` if that is impossible; a line says
    /// why.
    pub(super) async fn directory(
        &mut self,
        store: Option<&Store>,
        key: Option<&Arc<MasterKey>>,
    ) -> Option<Directory> {
        let config = self.config;
        let (place, loaded) = self.loaded_directory(store, key).await?;
        let directory = match loaded {
            Ok(directory) => directory,
            Err((error, fix)) => {
                self.lines.push(failed("directory", error, fix));
                return None;
            }
        };
        self.content(&place, &directory);
        self.warnings.extend(directory.warnings());
        self.warnings.extend(second_factor::warnings(&directory));
        self.warnings
            .extend(directory.own_provider(config.issuer.as_deref()));
        if let (None, Some(store)) = (&config.directory, store) {
            self.key_ages(store, &directory).await;
        }
        Some(directory)
    }

    /// Loads the directory, and returns it with a text that says where it is. `None` if it is in the store, but
    /// the store or the master key cannot be used; an earlier line says so already.
    async fn loaded_directory(
        &mut self,
        store: Option<&Store>,
        key: Option<&Arc<MasterKey>>,
    ) -> Option<(String, Result<Directory, Advised>)> {
        let config = self.config;
        let Some(path) = &config.directory else {
            let loaded = server::load_store(store?, key?).await;
            let loaded = loaded.map_err(|error| match error {
                StartError::Store(error) => (error.to_string(), FIX_DATABASE),
                error => (error.to_string(), FIX_ROWS),
            });
            return Some(("in the store".to_owned(), loaded));
        };
        let file =
            DirectoryFile::read(path, config.master_key.as_deref(), config.issuer.as_deref());
        let loaded = match file {
            Ok(file) => self.directory_file(&file, store).await,
            Err(error) => Err((error.to_string(), FIX_FILE)),
        };
        Some((path.display().to_string(), loaded))
    }

    /// Adds a line that says how much is in the directory and whether its secrets are sealed, and one that
    /// names the AWS managed policies that have documents of Brevet's own.
    fn content(&mut self, place: &str, directory: &Directory) {
        let (users, roles, keys) = directory.counts();
        let says = format!(
            "{place}: {users} users, {roles} roles, {keys} access keys; every secret can be decrypted"
        );
        self.lines.push(match directory.clear_secrets() {
            0 => ok("directory", says),
            clear => warning(
                "directory",
                format!("{says}; {clear} secrets in the directory file are not sealed"),
                "run `brevet seal --config FILE` with this configuration",
            ),
        });
        let built_in = directory.built_in_policies_in_use();
        if !built_in.is_empty() {
            let names: Vec<&str> = built_in.iter().copied().map(name_of).collect();
            self.lines.push(ok(
                "policies",
                format!(
                    "these AWS managed policies have documents that Brevet's authors wrote, because AWS's documents \
                     were not imported: {}",
                    names.join(", ")
                ),
            ));
        }
    }

    /// Warns about the access keys that the broker will switch off within the days of notice in `[credentials]`.
    async fn key_ages(&mut self, store: &Store, directory: &Directory) {
        let ages = self.config.key_ages;
        if !ages.is_on() {
            return;
        }
        let until = self.now.plus(ages.notice);
        let ending = match upkeep::endings(store, directory, ages, until).await {
            Ok(ending) => ending,
            Err(error) => {
                return self.lines.push(failed("access keys", error, FIX_DATABASE));
            }
        };
        for ending in &ending {
            let when = match ending.end.at <= self.now {
                true => "is about to be switched off".to_owned(),
                false => format!("will be switched off at {}", ending.end.at),
            };
            self.warnings.push(format!(
                "access key {} of {} {when} ([credentials] {}): create another access key for the user before then",
                ending.access_key_id,
                ending.user_arn,
                ending.end.reason.setting()
            ));
        }
        let notice = ages.notice.as_secs() / 86_400;
        let says = format!("{} will be switched off within {notice} days", ending.len());
        self.lines.push(ok("access keys", says));
    }

    /// Checks that the connected brokers on a shared store belong to this cluster and have its master key.
    pub(super) async fn brokers(
        &mut self,
        store: Option<&Store>,
        keyring: Option<&Keyring>,
        key: Option<&MasterKey>,
    ) {
        let Some(store) = store.filter(|store| store.is_shared()) else {
            return;
        };
        let brokers = match store.brokers().await {
            Ok(brokers) => brokers,
            Err(error) => {
                return self
                    .lines
                    .push(failed("brokers", error, "check the database's log"));
            }
        };
        let connected: Vec<_> = brokers.iter().filter(|b| b.is_connected).collect();
        let foreign = |cluster: &str| {
            keyring.is_some_and(|k| !cluster.is_empty() && k.cluster_id() != cluster)
        };
        let strangers: Vec<String> = connected
            .iter()
            .filter(|b| foreign(&b.cluster_id))
            .map(|b| b.name())
            .collect();
        if !strangers.is_empty() {
            let says = format!(
                "these brokers use the keyring of another cluster: {}",
                strangers.join(", ")
            );
            let fix = "copy the keyring file from one broker to all others; brokers with different keyrings refuse \
                each other's sessions";
            return self.lines.push(failed("brokers", says, fix));
        }
        let lacks = |b: &&&crate::store::Broker| {
            key.is_some_and(|k| !b.master_keys.is_empty() && !b.has_master_key(k.id()))
        };
        let lacking: Vec<String> = connected.iter().filter(lacks).map(|b| b.name()).collect();
        self.lines.push(match lacking.is_empty() {
            true => ok(
                "brokers",
                format!(
                    "{} connected; {}",
                    connected.len(),
                    match keyring {
                        Some(_) => "none reports another cluster than this one",
                        None => "their cluster was not checked, since there is no keyring",
                    }
                ),
            ),
            false => failed(
                "brokers",
                format!(
                    "these brokers do not have the current master key of this machine: {}",
                    lacking.join(", ")
                ),
                "copy the master key file of this machine to each of these brokers; a running broker notices the new \
                 file",
            ),
        });
    }
}
