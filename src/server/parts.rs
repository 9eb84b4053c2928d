//! What a daemon is made of: read from files, then loaded from the store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::reload::Stamps;
use crate::base::clock::{HighWaterClock, Timestamp};
use crate::base::digest::hex;
use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::commands::{self, CommandContext};
use crate::config::Config;
use crate::directory::Directory;
use crate::directory_file::{Compiled, DirectoryFile, Serves, Taker};
use crate::follow;
use crate::keyring_file;
use crate::master_key::MasterKey;
use crate::revocations::Revocations;
use crate::session::keyring::Keyring;
use crate::store::{Access, DirectoryEntries, Entrance, Head, Node, Place, SqliteLock, Store};

/// What the daemon is made of before it listens.
pub struct Parts {
    /// What must not be lost.
    pub store: Store,
    /// What secrets in it are sealed with.
    pub master_key: Option<Arc<MasterKey>>,
    /// A directory that is not in the store.
    pub directory: Option<Directory>,
    /// The keys of session tokens.
    pub keyring: Keyring,
    /// Of a SQLite file.
    pub lock: Option<SqliteLock>,
}

impl Parts {
    /// Reads what a configuration names, opens its store, and takes its directory file in.
    ///
    /// # Errors
    /// Whatever is wrong, by name.
    pub(super) async fn open(
        config: &Config,
        seen: Stamps,
        own: &NodeName,
        clock: &HighWaterClock,
        entropy: &dyn Entropy,
    ) -> Result<(Self, FilesRead), StartError> {
        let master_key = config
            .master_key
            .as_deref()
            .map(MasterKey::load)
            .transpose()?
            .map(Arc::new);
        let read = |path| {
            DirectoryFile::read(path, config.master_key.as_deref(), config.issuer.as_deref())
        };
        let file = config.directory.as_deref().map(read).transpose()?;
        // Whatever is wrong with it is found before there is a store. Where this node has seen one, the
        // file is compiled with the ids that the store keeps, and not twice.
        let is_known = config.watermark.as_deref().is_some_and(Path::exists);
        let early = file
            .as_ref()
            .filter(|_| !is_known)
            .map(|file| file.compile(&DirectoryEntries::default(), entropy))
            .transpose()?;
        let keyring = keyring_file::load(&config.keyring)?;
        let lock = match &config.store {
            Place::Sqlite(path) => Some(SqliteLock::take(path)?),
            Place::Postgres { .. } | Place::Memory => None,
        };
        // Where roles are in a file, the store begins by itself, once; where they are in the store, an
        // empty one would be a loss.
        let access = if file.is_some() {
            Access::Create
        } else {
            Access::Serve
        };
        let now = clock.now();
        let store = entrance(config, master_key.as_deref())
            .open(access, now, entropy)
            .await?;
        if master_key.is_none() {
            tracing::warn!(
                "[directory] master_key is not set: whoever can write to the database can take revocations back without notice"
            );
        }
        let mut read = FilesRead {
            seen,
            serves: Serves::default(),
            ended_after: None,
        };
        let directory = match &file {
            Some(file) => {
                let taker = Taker {
                    store: &store,
                    entropy,
                    now,
                    node: &own.node,
                    host: &own.host,
                };
                Some(read.take(file, early, taker).await?)
            }
            None => None,
        };
        let parts = Self {
            store,
            master_key,
            directory,
            keyring,
            lock,
        };
        Ok((parts, read))
    }

    /// How this node is known among those that share its store.
    pub(super) fn node(
        &self,
        config: &Config,
        own: NodeName,
        head: &Head,
        serves: &Serves,
    ) -> Node {
        Node {
            node: own.node,
            host: own.host,
            directory: serves.digest.clone(),
            confirmed: head.sequence,
            refuse_after_seconds: i64::try_from(config.refuse_after.as_secs()).unwrap_or(i64::MAX),
            master_keys: self
                .master_key
                .as_deref()
                .map(MasterKey::listed_ids)
                .unwrap_or_default(),
            cluster_id: self.keyring.cluster_id().to_owned(),
        }
    }
}

/// What a broker is called among those on its store.
pub(super) struct NodeName {
    /// Made up at its start.
    pub(super) node: String,
    /// Its host's name.
    pub(super) host: String,
}

impl NodeName {
    pub(super) fn new(entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let node = hex(&entropy::bytes::<8>(entropy)?);
        Ok(Self { node, host })
    }
}

/// What was read from files at the start.
pub(super) struct FilesRead {
    /// How they looked.
    pub(super) seen: Stamps,
    pub(super) serves: Serves,
    /// The last change before those that ended what went from the directory file; none: nothing went.
    pub(super) ended_after: Option<i64>,
}

impl FilesRead {
    /// What is watched, what is served, and the change after which something ended.
    pub(super) fn split(read: Option<Self>) -> (Option<Stamps>, Serves, Option<i64>) {
        match read {
            Some(read) => (Some(read.seen), read.serves, read.ended_after),
            None => (None, Serves::default(), None),
        }
    }

    /// Takes the directory file in: what went from it since it was last read ends.
    async fn take(
        &mut self,
        file: &DirectoryFile,
        early: Option<Compiled>,
        taker: Taker<'_>,
    ) -> Result<Directory, StartError> {
        let taken = taker.take(file, early, None).await?;
        if !taken.ended.is_empty() {
            self.ended_after = Some(taken.after);
            tracing::info!(
                ended = taken.ended.len(),
                "keys, users, roles and providers went from the directory since it was last read, and their \
                 sessions have ended"
            );
        }
        self.serves = Serves {
            digest: taken.digest,
            left: taken.left,
        };
        Ok(taken.directory)
    }
}

/// What the store says when a daemon starts.
pub(super) struct Loaded {
    /// The last change before anything was read.
    pub(super) head: Head,
    pub(super) revocations: Revocations,
    pub(super) directory: Directory,
    /// Whether the directory can be changed; else it came from elsewhere.
    pub(super) directory_is_in_the_store: bool,
    /// How long reading took.
    pub(super) took: Duration,
}

impl Loaded {
    /// Reads the store. A directory that is not in it comes from the parts.
    ///
    /// # Errors
    /// The first thing that cannot be loaded.
    pub(super) async fn load(
        parts: &mut Parts,
        config: &Config,
        clock: &HighWaterClock,
        entropy: &dyn Entropy,
    ) -> Result<Self, StartError> {
        // First the head: what changes while the rest is read is taken again.
        let loading = tokio::time::Instant::now();
        let head = parts.store.head().await?;
        parts.store.reached(head.sequence, &head.chain);
        // The feed says when it was last changed: no clock of a broker is before that, whatever the
        // mark beside the watermark says, or if it is missing.
        let last = parts.store.feed_after(head.sequence - 1, 1).await?;
        if let Some(change) = last.first() {
            clock.raise(Timestamp::from_millis(change.changed_at));
        }
        let revocations = Revocations::default();
        parts
            .store
            .load_revocations(&revocations, clock.now())
            .await?;
        let directory_is_in_the_store = parts.directory.is_none();
        let directory = match (parts.directory.take(), &parts.master_key) {
            (Some(directory), _) => directory,
            (None, Some(key)) => {
                let directory = load_store(&parts.store, key).await?;
                let context = CommandContext {
                    store: &parts.store,
                    master_key: key,
                    entropy,
                    now: clock.now(),
                    issuer: config.issuer.as_deref(),
                };
                bind_principals(context, &directory).await;
                directory
            }
            (None, None) => return Err(StartError::Rows("there is no master key".to_owned())),
        };
        Ok(Self {
            head,
            revocations,
            directory,
            directory_is_in_the_store,
            took: loading.elapsed(),
        })
    }
}

/// Trust policies of an earlier version name principals by ARN: from now on by unique id. What this
/// changes is taken with the other changes after the head.
async fn bind_principals(context: CommandContext<'_>, directory: &Directory) {
    match commands::bind_stored(context, directory).await {
        Ok(0) => {}
        Ok(roles) => tracing::info!(
            roles,
            "trust policies that named principals by ARN name unique ids now"
        ),
        Err(error) => {
            tracing::warn!(%error, "trust policies of an earlier version still name principals by ARN")
        }
    }
}

/// The way into the store of a configuration.
pub fn entrance<'a>(config: &'a Config, master_key: Option<&'a MasterKey>) -> Entrance<'a> {
    Entrance {
        place: &config.store,
        master_key,
        watermark: config.watermark.as_deref(),
    }
}

/// Loads the directory of a store as a broker does: every row, and every secret in them.
///
/// # Errors
/// The first row that cannot be loaded.
pub async fn load_store(
    store: &Store,
    master_key: &Arc<MasterKey>,
) -> Result<Directory, StartError> {
    follow::load(store, master_key)
        .await
        .map(|(directory, _)| directory)
        .map_err(|e| StartError::Rows(e.to_string()))
}
