//! A folder with one file for each requested session. If the cache does not work, the credentials are
//! requested again, and there is no error.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};
use crate::base::secret::Secret;
use crate::command_line::session_credentials::SessionCredentials;
use crate::files::{self, Audience};

/// The maximum size in bytes of a file. A session token has at most a few kilobytes.
const MAX_BYTES: u64 = 64 << 10;
/// The interval at which a waiting run checks whether the lock is free.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The maximum lifetime of a session. A file that was written longer ago is removed.
const LONGEST_LIFE: Duration = Duration::from_secs(129_600);
/// The maximum number of files that one run looks at.
const MAX_SWEPT: usize = 1_000;

/// The place of one session in the cache: a file for the session, and a file next to it that a run locks while it gets
/// new credentials. The lock is released when the process ends.
pub(super) struct Entry {
    file: PathBuf,
    lock: PathBuf,
}

/// The content of a cache file: one session.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Stored {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    session_token: Zeroizing<String>,
    /// When the session was received, in milliseconds since 1970, like `expires_at`.
    received_at: i64,
    expires_at: i64,
    account_id: String,
}

impl Entry {
    /// The place in `folder` for a session. `asked` describes the request; different texts have different
    /// places.
    pub(super) fn new(folder: PathBuf, asked: &str) -> Self {
        let name = hex(&sha256(asked.as_bytes()));
        Self {
            file: folder.join(format!("{name}.json")),
            lock: folder.join(format!("{name}.lock")),
        }
    }

    /// Reads the session in the cache. `None` if the file does not exist, is not private, belongs to neither this user
    /// nor root, or does not contain a session.
    pub(super) fn read(&self) -> Option<SessionCredentials> {
        let bytes = files::read(&self.file, Audience::Owner, MAX_BYTES)
            .inspect_err(|error| tracing::debug!(%error, "no cached credentials"))
            .ok()?;
        let stored: Stored = serde_json::from_slice(bytes.expose()).ok()?;
        SessionCredentials {
            access_key_id: stored.access_key_id,
            secret_access_key: Secret::new(stored.secret_access_key.to_string()).into(),
            session_token: Secret::new(stored.session_token.to_string()).into(),
            received_at: Timestamp::from_millis(stored.received_at),
            expires_at: Timestamp::from_millis(stored.expires_at),
            account_id: stored.account_id,
        }
        .checked()
        .ok()
    }

    /// Stores a session in the cache, and removes the files of sessions that have ended.
    pub(super) fn write(&self, session: &SessionCredentials, now: Timestamp) {
        let stored = Stored {
            access_key_id: session.access_key_id.clone(),
            secret_access_key: Zeroizing::new(session.secret_access_key.expose().clone()),
            session_token: Zeroizing::new(session.session_token.expose().clone()),
            received_at: session.received_at.millis(),
            expires_at: session.expires_at.millis(),
            account_id: session.account_id.clone(),
        };
        let Ok(bytes) = serde_json::to_vec(&stored).map(Zeroizing::new) else {
            return;
        };
        let folder = files::folder(&self.file);
        let written = files::create_private_dir(folder)
            .and_then(|()| files::write_private(&self.file, &bytes));
        match written {
            Ok(()) => self.sweep(folder, now),
            Err(error) => {
                tracing::debug!(%error, "the credentials could not be written to the cache")
            }
        }
    }

    pub(super) fn remove(&self) {
        // The file may not exist.
        let _ = std::fs::remove_file(&self.file);
    }

    /// Removes the files of other sessions that have ended.
    fn sweep(&self, folder: &Path, now: Timestamp) {
        let Ok(files) = std::fs::read_dir(folder) else {
            return;
        };
        let ours = files.flatten().map(|file| file.path());
        let ours = ours.filter(|file| is_of_a_cache(file));
        for file in ours.take(MAX_SWEPT) {
            // A lock file is kept as long as the file of its session.
            let has_ended = match file.extension().and_then(|extension| extension.to_str()) {
                Some("json") => file != self.file,
                Some("lock") => file != self.lock && !file.with_extension("json").exists(),
                _ => true,
            };
            if has_ended && written_at(&file).is_some_and(|at| now.since(at) > LONGEST_LIFE) {
                // Another run may have removed it.
                let _ = std::fs::remove_file(file);
            }
        }
    }

    /// Waits for the lock, which is held until the returned file is dropped. `None` if another run holds the lock for
    /// longer than `max_wait`, or if the folder cannot be written.
    pub(super) async fn lock(&self, max_wait: Duration) -> Option<File> {
        let file = files::create_private_dir(files::folder(&self.lock))
            .and_then(|()| files::create_private(&self.lock))
            .inspect_err(|error| {
                tracing::debug!(%error, "the cache cannot be locked; several runs may call the broker at the same time")
            })
            .ok()?;
        let deadline = tokio::time::Instant::now() + max_wait;
        loop {
            match file.try_lock() {
                Ok(()) => return Some(file),
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(_) => return None,
            }
        }
    }
}

/// Whether a file's name is one that a cache uses. Files with other names are never removed, because somebody may have
/// chosen a folder that contains other files.
fn is_of_a_cache(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    let Some((digest, kind)) = name.and_then(|name| name.split_once('.')) else {
        return false;
    };
    let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    digest.len() == 64
        && digest.bytes().all(is_hex)
        && (["json", "lock"].contains(&kind) || kind.starts_with("json.new-"))
}

fn written_at(file: &Path) -> Option<Timestamp> {
    let at = std::fs::symlink_metadata(file).ok()?.modified().ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(
        i64::try_from(since.as_millis()).ok()?,
    ))
}
