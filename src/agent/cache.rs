//! The sealed file in which sessions of configured roles outlive a restart of the agent, so that the agent can also
//! start while the broker cannot be reached.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::config::CacheConfig;
use super::session::RoleSession;
use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy};
use crate::client::{AssumedRole, Credentials};
use crate::files::{self, Audience, FileError};

/// The first bytes of the file, which are also sealed: the format and its version.
const MAGIC: &[u8] = b"brevet-agent-sessions-2\n";
const KEY_BYTES: usize = 32;
/// The maximum length of the file in bytes. It is enough for the sessions of all workloads that an agent can have, with
/// session tokens of the maximum length.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Why the file or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error(transparent)]
    File(#[from] FileError),
    /// The key file does not hold a key.
    #[error(
        "{path}: must hold 32 bytes in base64; create the file with `openssl rand -base64 32 > {path}` and `chmod 600 \
        {path}`"
    )]
    Key { path: PathBuf },
}

/// The sealed file, which can be opened only by the agent that sealed it and with the same key.
pub struct Cache {
    file: PathBuf,
    key: LessSafeKey,
    /// The data that is authenticated together with the sessions: the format, and the agent to which they belong.
    bound_to: Vec<u8>,
    entropy: Arc<dyn Entropy>,
    /// The access key IDs of the sessions that were written last, so that the same sessions are not written twice.
    written: Mutex<Vec<String>>,
}

/// The decrypted content of the file.
#[derive(Default, Serialize, Deserialize)]
pub struct Kept {
    /// The highest number of a change in the broker's feed that any of the agent's streams has seen; `None` if none has
    /// seen one.
    pub sequence_number: Option<i64>,
    pub sessions: Vec<KeptSession>,
}

/// A session in the file, with its secrets.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct KeptSession {
    /// The description of the session, as [`super::wanted::Wanted::lasting_id`] returns it.
    pub wanted: String,
    role_arn: String,
    arn: String,
    assumed_role_id: String,
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    /// When the broker issued the session, in milliseconds since 1970.
    issued_at: i64,
    expires_at: i64,
}

impl KeptSession {
    /// Makes the entry of a session that was fetched for `wanted`.
    pub fn new(wanted: &str, session: &RoleSession) -> Self {
        let keys = &session.credentials;
        let token = keys.session_token.as_ref();
        Self {
            wanted: wanted.to_owned(),
            role_arn: session.role_arn.clone(),
            arn: session.arn.clone(),
            assumed_role_id: session.assumed_role_id.clone(),
            access_key_id: keys.access_key_id.clone(),
            secret_access_key: keys.secret_access_key.expose().clone(),
            session_token: token.map(|t| t.expose().clone()).unwrap_or_default(),
            issued_at: session.issued_at.millis(),
            expires_at: session.expires_at.millis(),
        }
    }

    /// Makes the session from its entry. `None` if the entry does not describe a possible session.
    pub fn session(&self) -> Option<RoleSession> {
        let keys = Credentials::new(
            &self.access_key_id,
            &self.secret_access_key,
            Some(&self.session_token),
        );
        let life = (
            Timestamp::from_millis(self.issued_at),
            Timestamp::from_millis(self.expires_at),
        );
        let role = AssumedRole {
            credentials: Credentials {
                life: Some(life),
                ..keys
            },
            assumed_role_id: self.assumed_role_id.clone(),
            arn: self.arn.clone(),
            packed_policy_size: 0,
            source_identity: String::new(),
        };
        RoleSession::new(&self.role_arn, role).ok()
    }
}

impl Cache {
    /// Reads the key. `agent` is [`super::config::AgentConfig::owner`], which names the broker and the agent's
    /// identity. The file of another agent cannot be opened, even if both have the same key.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn open(
        config: &CacheConfig,
        agent: &str,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, CacheError> {
        let text = files::read(&config.key_file, Audience::Owner, 1_024)?;
        let unfit = || CacheError::Key {
            path: config.key_file.clone(),
        };
        let bytes = STANDARD.decode(text.expose().trim_ascii());
        let bytes = Zeroizing::new(bytes.map_err(|_| unfit())?);
        if bytes.len() != KEY_BYTES {
            return Err(unfit());
        }
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| unfit())?;
        Ok(Self {
            file: config.file.clone(),
            key: LessSafeKey::new(key),
            bound_to: [MAGIC, agent.as_bytes()].concat(),
            entropy,
            written: Mutex::default(),
        })
    }

    /// Reads the content of the file. A file that does not exist, is damaged, or was sealed with another key or by
    /// another agent counts as empty, and the broker is asked instead.
    ///
    /// # Errors
    /// [`FileError`] if the file exists but cannot be read, is too long, or must not be trusted because others could
    /// have read or written it.
    pub fn read(&self) -> Result<Kept, FileError> {
        if !self.file.exists() {
            return Ok(Kept::default());
        }
        let sealed = files::read(&self.file, Audience::Owner, MAX_FILE_BYTES)?;
        Ok(self.unseal(sealed.expose()).unwrap_or_else(|| {
            let file = self.file.display();
            tracing::warn!(%file, "the agent ignores its session file, which is damaged, or was written by another \
                version of the agent, for another broker or identity, or with another key; it gets new sessions from \
                the broker");
            Kept::default()
        }))
    }

    fn unseal(&self, sealed: &[u8]) -> Option<Kept> {
        let rest = sealed.strip_prefix(MAGIC)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let text = self
            .key
            .open_in_place(nonce, Aad::from(&self.bound_to), &mut bytes);
        serde_json::from_slice(text.ok()?).ok()
    }

    /// Writes the file, unless the sessions are those that were written last.
    ///
    /// # Errors
    /// The operating system gives no random bytes, the sessions cannot be encrypted, or the file cannot be written.
    pub fn write(&self, kept: &Kept) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let keys: Vec<String> = kept
            .sessions
            .iter()
            .map(|s| s.access_key_id.clone())
            .collect();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written == keys {
            return Ok(());
        }
        let nonce = entropy::bytes::<NONCE_LEN>(&*self.entropy)?;
        let mut bytes = Zeroizing::new(serde_json::to_vec(kept)?);
        let unique = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(unique, Aad::from(&self.bound_to), &mut bytes)
            .map_err(|_| "the sessions could not be encrypted for the session file")?;
        let sealed = [MAGIC, &nonce, &bytes, tag.as_ref()].concat();
        files::write_private(&self.file, &sealed)?;
        *written = keys;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::agent::session::tests::answered;
    use crate::base::entropy::SystemEntropy;

    const ROLE: &str = "arn:aws:iam::111122223333:role/App";

    fn cache(folder: &Path, key: &str) -> Result<Cache, CacheError> {
        cache_of(folder, key, "node-a")
    }

    fn cache_of(folder: &Path, key: &str, agent: &str) -> Result<Cache, CacheError> {
        let config = CacheConfig {
            file: folder.join("sessions.sealed"),
            key_file: folder.join("cache.key"),
        };
        files::write_private(&config.key_file, key.as_bytes()).unwrap();
        Cache::open(&config, agent, Arc::new(SystemEntropy::new()))
    }

    fn kept() -> Kept {
        let at = Timestamp::from_seconds;
        let session = RoleSession::new(ROLE, answered("ASIA1", at(0), at(3_600))).unwrap();
        Kept {
            sequence_number: Some(7),
            sessions: vec![KeptSession::new("App as node", &session)],
        }
    }

    #[test]
    fn a_session_outlives_a_restart_and_nobody_else_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]) + "\n");
        let cached = cache(dir.path(), &one).unwrap();
        assert!(cached.read().unwrap().sessions.is_empty());
        cached.write(&kept()).unwrap();
        let path = dir.path().join("sessions.sealed");
        let bytes = std::fs::read(&path).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("canary"));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );

        let read = cache(dir.path(), &one).unwrap().read().unwrap();
        assert_eq!(read.sequence_number, Some(7));
        let session = read.sessions[0].session().unwrap();
        assert_eq!(session.credentials.access_key_id, "ASIA1");
        assert_eq!(session.expires_at.seconds(), 3_600);
        let kept = kept();
        assert_eq!(
            session.imds_document,
            kept.sessions[0].session().unwrap().imds_document
        );

        assert!(
            cache(dir.path(), &other)
                .unwrap()
                .read()
                .unwrap()
                .sessions
                .is_empty()
        );
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            assert!(cached.unseal(&changed).is_none(), "{position}");
        }
        for length in 0..bytes.len() {
            assert!(cached.unseal(&bytes[..length]).is_none(), "{length}");
        }
        // The file of another agent that has the same key.
        let agent = cache_of(dir.path(), &one, "node-b").unwrap();
        assert!(agent.read().unwrap().sessions.is_empty());
    }

    #[test]
    fn ag_05_a_file_that_others_could_have_put_there_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let cached = cache(dir.path(), &STANDARD.encode([1; 32])).unwrap();
        cached.write(&kept()).unwrap();
        let path = dir.path().join("sessions.sealed");
        let chmod = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        for mode in [0o640, 0o604, 0o620] {
            chmod(mode).unwrap();
            assert!(cached.read().is_err(), "{mode:o}");
        }
        chmod(0o600).unwrap();
        let moved = dir.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &path).unwrap();
        assert!(cached.read().is_err());
        // A write replaces the link, and not what it leads to.
        let before = std::fs::read(&moved).unwrap();
        cached.write(&Kept::default()).unwrap();
        assert!(!path.is_symlink());
        assert_eq!(std::fs::read(&moved).unwrap(), before);
        std::fs::write(&path, b"").unwrap();
        assert!(cached.read().unwrap().sessions.is_empty());
    }

    #[test]
    fn a_key_has_32_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for wrong in [
            "",
            "x",
            &STANDARD.encode([1; 31]),
            &STANDARD.encode([1; 33]),
        ] {
            let error = cache(dir.path(), wrong).err().unwrap().to_string();
            assert!(error.contains("32 bytes in base64"), "{error}");
        }
    }

    #[test]
    fn nothing_is_written_twice() {
        let dir = tempfile::tempdir().unwrap();
        let cached = cache(dir.path(), &STANDARD.encode([1; 32])).unwrap();
        let read = || std::fs::read(dir.path().join("sessions.sealed")).unwrap();
        cached.write(&kept()).unwrap();
        let first = read();
        cached.write(&kept()).unwrap();
        assert_eq!(read(), first);
        cached.write(&Kept::default()).unwrap();
        assert_ne!(read(), first);
    }
}
