//! Reloads: on SIGHUP and when files change, reads the directory file, the master key, the keyring, the certificate and
//! the files of `[s3]` again. Each file is checked as a whole before it replaces the old state. An error is logged and
//! changes nothing, with one exception: entries that were removed from the directory file lose their access even if the
//! store cannot record the removal.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::Signal;

use super::Shared;
use crate::config::Config;
use crate::directory::Directory;
use crate::directory_file::{DirectoryFile, Serves, TakeError, Taker};
use crate::follow;
use crate::keyring_file;
use crate::master_key::MasterKey;
use crate::metrics::Reload;
use crate::revocations::Mark;
use crate::service_manager;
use crate::tls;

/// How often the files are checked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches the files for changes, and handles SIGHUP, until the daemon ends.
pub(super) async fn watch(
    config: Config,
    shared: Arc<Shared>,
    mut seen: Stamps,
    mut hangup: Signal,
) {
    let config = Arc::new(config);
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let asked = tokio::select! {
            _ = look.tick() => false,
            received = hangup.recv() => received.is_some(),
        };
        if asked {
            service_manager::reloading();
            shared.broker.audit.reopen();
        }
        let now = Stamps::of(&config);
        let due = Due {
            master_key: config.master_key.is_some() && (asked || seen.master_key != now.master_key),
            directory: config.directory.is_some()
                && (asked
                    || seen.directory != now.directory
                    || shared
                        .serving
                        .may_end_what_was_left(&shared.broker, &shared.node)
                        .await),
            keyring: asked || seen.keyring != now.keyring,
            certificate: config.tls.is_some() && (asked || seen.certificate != now.certificate),
            s3: config.s3.is_some() && (asked || seen.s3 != now.s3),
        };
        seen = now;
        if due.is_anything() {
            let (config, shared) = (config.clone(), shared.clone());
            // Reading and compiling a large directory takes long, and must not block calls.
            match tokio::task::spawn_blocking(move || due.reload(&config, &shared)).await {
                Ok(true) => seen.directory = None,
                Ok(false) => {}
                Err(_) => {
                    tracing::error!(
                        "a reload panicked, so some files may not have been read again; the broker goes on with what \
                         it has read before. Send SIGHUP to try again"
                    )
                }
            }
        }
        if asked {
            service_manager::notify("READY=1");
        }
    }
}

/// Which files must be read again, because they have changed or SIGHUP asked for it.
struct Due {
    master_key: bool,
    directory: bool,
    keyring: bool,
    certificate: bool,
    s3: bool,
}

impl Due {
    fn is_anything(&self) -> bool {
        self.master_key || self.directory || self.keyring || self.certificate || self.s3
    }

    /// Reads the files again. The master key is read first, since it opens secrets in the other files. Returns whether
    /// the directory file must be read once more although it has not changed, because the store could not be written.
    fn reload(&self, config: &Config, shared: &Shared) -> bool {
        let mut is_due_again = false;
        if self.master_key
            && let Some(path) = &config.master_key
        {
            report(shared, "master key", reload_master_key(path, shared));
        }
        if self.directory {
            let mut goes_on = GOES_ON;
            let loaded = reload_directory(config, shared, &mut goes_on);
            is_due_again = matches!(loaded, Err(TakeError::Store(_) | TakeError::Contended));
            let loaded = loaded.map_err(|e| e.to_string());
            report_with(shared, "directory", loaded, goes_on);
        }
        if self.keyring {
            report(shared, "keyring", reload_keyring(config, shared));
        }
        if self.certificate {
            report(shared, "certificate", reload_certificate(config, shared));
        }
        if self.s3
            && let (Some(s3), Some(own)) = (&config.s3, &shared.s3)
        {
            let result = own.reload(s3).map_err(|e| e.to_string());
            report(shared, "configuration of object stores", result);
        }
        is_due_again
    }
}

fn reload_master_key(path: &Path, shared: &Shared) -> Result<(), String> {
    let key = MasterKey::load(path).map_err(|e| e.to_string())?;
    let broker = &shared.broker;
    broker
        .store
        .use_master_key(&key)
        .map_err(|e| e.to_string())?;
    broker.master_key.store(Some(Arc::new(key)));
    Ok(())
}

/// Reads the directory file again. If the store cannot record the file, sets `goes_on` to what the broker does
/// meanwhile.
fn reload_directory(
    config: &Config,
    shared: &Shared,
    goes_on: &mut &'static str,
) -> Result<(), TakeError> {
    let Some(path) = &config.directory else {
        return Ok(());
    };
    let file = DirectoryFile::read(path, config.master_key.as_deref(), config.issuer.as_deref())?;
    let broker = &shared.broker;
    let taker = Taker {
        store: &broker.store,
        entropy: &*broker.entropy,
        now: broker.clock.now(),
        node: &shared.node.node,
        host: &shared.node.host,
    };
    // Sessions of removed entries stay ended, even if the entries come back.
    let old = broker.directory.load_full();
    let taken = match Handle::current().block_on(taker.take(&file, None, Some(&old))) {
        Err(TakeError::Store(error)) => {
            if end_what_went(shared, &taker, &file, &old) {
                *goes_on = GOES_ON_WITHOUT_WHAT_WENT;
            }
            shared.serving.is_not_kept(Some(error.to_string()));
            return Err(TakeError::Store(error));
        }
        taken => taken?,
    };
    shared.serving.is_not_kept(None);
    for (key, mark) in &taken.ended {
        broker.revocations.mark(key, *mark);
    }
    broker.feed.nudge();
    if !taken.ended.is_empty() {
        tracing::info!(
            ended = taken.ended.len(),
            "entries were removed from the directory file; their sessions have ended"
        );
    }
    shared.serving.set(Serves {
        digest: taken.digest,
        left: taken.left,
    });
    follow::announce(&shared.broker, &taken.directory);
    shared.broker.directory.store(Arc::new(taken.directory));
    Ok(())
}

/// Ends the access of entries that were removed from the directory file if the store cannot record the removal. This
/// applies on this broker alone, until the store records the removal or the broker stops. Returns whether it could be
/// done.
fn end_what_went(
    shared: &Shared,
    taker: &Taker<'_>,
    file: &DirectoryFile,
    old: &Directory,
) -> bool {
    let broker = &shared.broker;
    match Handle::current().block_on(taker.without_what_went(file, old)) {
        Ok((directory, gone)) => {
            let mark = Mark {
                before_sequence: broker.feed.sequence() + 1,
                before_seconds: 0,
                expires_at: Mark::outlives(broker.clock.now()),
            };
            for key in &gone {
                broker.revocations.mark(key, mark);
            }
            broker.directory.store(Arc::new(directory));
            if !gone.is_empty() {
                tracing::warn!(
                    ended = gone.len(),
                    "entries that were removed from the directory file have no access on this broker any more; other \
                     brokers do not know this yet, because the store could not record the removal"
                );
            }
            true
        }
        Err(error) => {
            tracing::error!(
                %error,
                "entries that were removed from the directory file keep their access for now, because the store cannot \
                 record the removal and this broker cannot apply the removal alone"
            );
            false
        }
    }
}

fn reload_certificate(config: &Config, shared: &Shared) -> Result<(), String> {
    let Some((certificate, key)) = &config.tls else {
        return Ok(());
    };
    let ca = config.client_ca.as_deref();
    let identity = tls::load(certificate, key, ca.into()).map_err(|e| e.to_string())?;
    let names = super::host_names(config, &identity.names).map_err(|e| e.to_string())?;
    shared.broker.names.store(Arc::new(names));
    shared.certificate.set(identity.validity);
    shared.tls.store(Some(identity.config));
    shared.client_ca.store(identity.client_ca.map(Arc::new));
    Ok(())
}

fn reload_keyring(config: &Config, shared: &Shared) -> Result<(), String> {
    let keyring = keyring_file::load(&config.keyring).map_err(|e| e.to_string())?;
    if shared
        .broker
        .tokens
        .with_keyring(|old| old.cluster_id() != keyring.cluster_id())
    {
        return Err(
            "keyring: ClusterId: belongs to another cluster, so every session would end. Restart the broker if that is \
             intended"
                .to_owned(),
        );
    }
    shared.broker.tokens.replace(keyring);
    shared.broker.tokens.warn_unless_it_can_sign();
    Ok(())
}

/// What the broker does after a file could not be read again.
const GOES_ON: &str = "the broker continues to use the old one";
/// What the broker does while the store cannot record a directory file.
const GOES_ON_WITHOUT_WHAT_WENT: &str = "the broker applies the removals of entries at once, and the other changes \
    when the store can record the file";

/// Logs and counts the result of reading a file again. If that failed, the old content is still in use.
fn report(shared: &Shared, what: &'static str, result: Result<(), String>) {
    report_with(shared, what, result, GOES_ON);
}

/// Logs and counts the result of reading a file again. `goes_on` says what the broker does if that failed.
fn report_with(
    shared: &Shared,
    what: &'static str,
    result: Result<(), String>,
    goes_on: &'static str,
) {
    let thing = match what {
        // The settings in the section itself apply at the next start.
        "configuration of object stores" => "content of the files that [s3] names",
        what => what,
    };
    let outcome = match result {
        Ok(()) => {
            tracing::info!("the {thing} was reloaded");
            "ok"
        }
        Err(error) => {
            tracing::error!(%error, "the new {thing} could not be loaded; {goes_on}");
            "failed"
        }
    };
    shared
        .broker
        .metrics
        .reloads
        .get_or_create(&Reload { what, outcome })
        .inc();
}

/// The stamps of the watched files, by which changes are noticed.
pub(super) struct Stamps {
    master_key: Stamp,
    directory: Stamp,
    keyring: Stamp,
    certificate: (Stamp, Stamp, Stamp),
    /// The stamps of the files of `[s3]`: the certificate of the listener for proxies, its shared secrets, and the keys
    /// of the stores.
    s3: Vec<Stamp>,
}

/// Inode number, size and modification time of a file; `None` if it does not exist or cannot be looked up. A change of
/// any of them means that the file was written or replaced.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Stamps {
    pub(super) fn of(config: &Config) -> Self {
        let stamp = |path: &Path| {
            std::fs::metadata(path)
                .ok()
                .map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()))
        };
        Self {
            master_key: config.master_key.as_deref().and_then(stamp),
            directory: config.directory.as_deref().and_then(stamp),
            keyring: stamp(&config.keyring),
            certificate: config.tls.as_ref().map_or((None, None, None), |(c, k)| {
                let ca = config.client_ca.as_deref().and_then(stamp);
                (stamp(c), stamp(k), ca)
            }),
            s3: config
                .s3
                .as_ref()
                .map_or_else(Vec::new, |s3| s3.files().map(stamp).collect()),
        }
    }
}
