//! The parts of a daemon that are read from files or loaded from the store when it starts.

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
use crate::follow::{self, FollowError};
use crate::keyring_file;
use crate::master_key::MasterKey;
use crate::revocations::Revocations;
use crate::session::keyring::Keyring;
use crate::store::{Access, DirectoryEntries, Entrance, Head, Node, Place, SqliteLock, Store};

/// The parts that a daemon reads from files, before it loads the store.
pub struct Parts {
    pub store: Store,
    /// The master key, which seals the secrets in the store.
    pub master_key: Option<Arc<MasterKey>>,
    /// The directory from a file; `None` if the directory is in the store.
    pub directory: Option<Directory>,
    /// The keys of session tokens and web identity tokens.
    pub keyring: Keyring,
    pub lock: Option<SqliteLock>,
}

impl Parts {
    /// Reads the files of a configuration, opens its store, and records its directory file there.
    ///
    /// # Errors
    /// [`StartError`] with the setting, the file or the store that cannot be used.
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
        let (file, early) = Self::read_directory(config, entropy)?;
        let keyring = keyring_file::load(&config.keyring)?;
        let lock = match &config.store {
            Place::Sqlite(path) => Some(SqliteLock::take(path)?),
            Place::Postgres { .. } | Place::Memory => None,
        };
        // With a directory file, a missing store is made. With the directory in the store, a missing store
        // means that it was lost.
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
                "[directory] master_key is not set, so the broker does not notice if somebody with write access to \
                 the database undoes revocations"
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

    /// Reads the directory file, if there is one. If this node has no watermark file, as on a first start, the file is
    /// also compiled at once, so that its errors are found before a store is created. Otherwise it is compiled only
    /// after the store was opened, with the ids that the store keeps.
    fn read_directory(
        config: &Config,
        entropy: &dyn Entropy,
    ) -> Result<(Option<DirectoryFile>, Option<Compiled>), StartError> {
        let Some(path) = &config.directory else {
            return Ok((None, None));
        };
        let file =
            DirectoryFile::read(path, config.master_key.as_deref(), config.issuer.as_deref())?;
        let is_known = config.watermark.as_deref().is_some_and(Path::exists);
        let early = match is_known {
            true => None,
            false => Some(file.compile(&DirectoryEntries::default(), entropy)?),
        };
        Ok((Some(file), early))
    }

    /// The entry of this node in the store's list of nodes, which the other brokers on the store read.
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

/// The names by which this broker is known to the others on its store.
pub(super) struct NodeName {
    /// A random id of this process, so that a broker counts as another node after a restart.
    pub(super) node: String,
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

/// The state of the files that were read when the daemon started.
pub(super) struct FilesRead {
    /// The stamps of the files, taken before the files were read, so that a later change is noticed.
    pub(super) seen: Stamps,
    pub(super) serves: Serves,
    /// The number of the last change before the revocations that ended the sessions of entries removed from the
    /// directory file; `None` if no entry was removed.
    pub(super) ended_after: Option<i64>,
}

impl FilesRead {
    /// Splits the value into the stamps of the files to watch, the directory file that this node serves, and
    /// [`Self::ended_after`].
    pub(super) fn split(read: Option<Self>) -> (Option<Stamps>, Serves, Option<i64>) {
        match read {
            Some(read) => (Some(read.seen), read.serves, read.ended_after),
            None => (None, Serves::default(), None),
        }
    }

    /// Records the directory file in the store. The sessions of entries that were removed from the file end.
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
                "entries were removed from the directory file since it was last read; their sessions have ended"
            );
        }
        self.serves = Serves {
            digest: taken.digest,
            left: taken.left,
        };
        Ok(taken.directory)
    }
}

/// The state that a daemon loads from the store when it starts.
pub(super) struct Loaded {
    /// The last change of the feed, read before anything else, so that later changes are applied on top of what was
    /// loaded.
    pub(super) head: Head,
    pub(super) revocations: Revocations,
    pub(super) directory: Directory,
    /// Whether the directory is in the store, and can be changed.
    pub(super) directory_is_in_the_store: bool,
    pub(super) took: Duration,
}

impl Loaded {
    /// Loads the store. If the directory comes from a file, it is taken from `parts`.
    ///
    /// # Errors
    /// [`StartError::Store`] or [`StartError::Rows`] for the first row or query that fails; [`StartError::Rows`] also
    /// if the directory is in the store and there is no master key.
    pub(super) async fn load(
        parts: &mut Parts,
        config: &Config,
        clock: &HighWaterClock,
        entropy: &dyn Entropy,
    ) -> Result<Self, StartError> {
        // The head is read first, so that changes during the load are applied afterwards.
        let loading = tokio::time::Instant::now();
        let head = parts.store.head().await?;
        parts.store.reached(head.sequence, &head.chain);
        // The clock must not be before the last change of the feed, even if the file with the latest seen
        // time is missing or says otherwise.
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
            (None, None) => {
                return Err(StartError::Rows(
                    "[directory] master_key is not set".to_owned(),
                ));
            }
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

/// Replaces the ARNs of principals in the trust policies and bucket policies of an earlier version by unique ids. The
/// resulting changes follow `head` in the feed, so the daemon applies them like the changes of other nodes.
async fn bind_principals(context: CommandContext<'_>, directory: &Directory) {
    match commands::bind_stored(context, directory).await {
        Ok(0) => {}
        Ok(policies) => tracing::info!(
            policies,
            "policies of an earlier version named principals by ARN; they now name unique ids"
        ),
        Err(error) => {
            tracing::warn!(%error, "the ARNs of principals in policies of an earlier version could not be replaced \
                with unique ids; the broker tries again when it starts the next time")
        }
    }
}

/// The parameters for opening the store of a configuration.
pub fn entrance<'a>(config: &'a Config, master_key: Option<&'a MasterKey>) -> Entrance<'a> {
    Entrance {
        place: &config.store,
        master_key,
        watermark: config.watermark.as_deref(),
    }
}

/// Loads the directory of a store as a broker does when it starts, and opens every row and every secret.
///
/// # Errors
/// [`StartError::Store`] if an operation of the store fails, and [`StartError::Rows`] if its content cannot be
/// verified, or for the first row that cannot be loaded.
pub async fn load_store(
    store: &Store,
    master_key: &Arc<MasterKey>,
) -> Result<Directory, StartError> {
    follow::load(store, master_key)
        .await
        .map(|(directory, _)| directory)
        .map_err(|error| match error {
            FollowError::Store(error) if !error.is_tampering() => StartError::Store(error),
            error => StartError::Rows(error.to_string()),
        })
}
