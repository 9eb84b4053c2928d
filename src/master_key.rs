//! The master key, which seals long-term secrets with AES-256-GCM and binds each to its owner.
//!
//! The file contains one key in each line. The first key seals, and all keys open: `brevet rekey`
//! puts a new key in front and reseals the store. Old keys stay for backups until `brevet rekey
//! --forget`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use zeroize::Zeroizing;

use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::base::secret::Secret;
use crate::files::{self, Audience, FileError};

/// The maximum number of keys in a file: the current one, the next one, and retired ones.
const MAX_KEYS: usize = 8;
/// The prefix of a key that is published but not used yet. No base64 text begins with it.
const NEXT: &str = "next:";

/// Why a master key was refused or could not open a secret.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    #[error(transparent)]
    File(#[from] FileError),
    /// The content of the file is not valid.
    #[error(
        "{0}: must have 1 to {MAX_KEYS} different lines with 32 random bytes in base64 each, as `brevet init` and `brevet \
         rekey` write them; only lines after the first may begin with `{NEXT}`"
    )]
    Content(std::path::PathBuf),
    /// The secret is sealed under a key that is not in the file.
    #[error("the secret is sealed under the master key {0}, which is not in the master key file")]
    Unknown(String),
    /// The secret belongs to another owner, or was altered.
    #[error(
        "the secret cannot be decrypted with this master key: the secret was altered, or sealed for another entry"
    )]
    Sealed,
    /// The file has no room for another key.
    #[error(
        "the master key file already has the maximum of {MAX_KEYS} keys; remove the retired ones with `brevet rekey --forget`"
    )]
    Full,
    /// There are no random bytes, without which nothing can be sealed.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// The keys of a master key file, which seal and open stored secrets.
pub struct MasterKey {
    keys: Vec<Entry>,
}

struct Entry {
    id: String,
    key: LessSafeKey,
    text: Zeroizing<String>,
    /// Whether the key is published but not used yet.
    next: bool,
}

impl MasterKey {
    /// Generates a key and writes it to a file with mode 0600.
    ///
    /// # Errors
    /// [`MasterKeyError`] if there are no random bytes or the file cannot be written.
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, MasterKeyError> {
        let key = Self { keys: Vec::new() }.with_fresh(path, entropy)?;
        key.save(path)?;
        Ok(key)
    }

    /// Generates a key that exists only in this process.
    ///
    /// # Errors
    /// [`MasterKeyError::Entropy`] if there are no random bytes.
    pub fn ephemeral(entropy: &dyn Entropy) -> Result<Self, MasterKeyError> {
        Self { keys: Vec::new() }.with_fresh(Path::new("in memory"), entropy)
    }

    /// Reads a key file, which only this account may be able to read.
    ///
    /// # Errors
    /// [`MasterKeyError::File`] if the file cannot be read or is not private, and [`MasterKeyError::Content`] if its
    /// content is not valid.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        let content = || MasterKeyError::Content(path.to_owned());
        let file = files::read(path, Audience::Owner, 4_096)?;
        let text = std::str::from_utf8(file.expose()).map_err(|_| content())?;
        let mut keys: Vec<Entry> = Vec::new();
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            let (text, next) = line
                .trim()
                .strip_prefix(NEXT)
                .map_or((line.trim(), false), |text| (text, true));
            let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| content())?);
            let entry = Entry {
                next,
                ..Entry::new(&bytes).ok_or_else(content)?
            };
            if next && keys.is_empty() {
                return Err(content()); // nothing would seal
            }
            if keys.iter().any(|k| k.id == entry.id) {
                return Err(content());
            }
            keys.push(entry);
        }
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(content());
        }
        Ok(Self { keys })
    }

    /// Writes the keys to a file with mode 0600.
    ///
    /// # Errors
    /// [`MasterKeyError::File`] if the file cannot be written, as in [`files::write_private`].
    pub fn save(&self, path: &Path) -> Result<(), MasterKeyError> {
        let mut text = Zeroizing::new(String::new());
        for entry in &self.keys {
            if entry.next {
                text.push_str(NEXT);
            }
            text.push_str(&entry.text);
            text.push('\n');
        }
        Ok(files::write_private(path, text.as_bytes())?)
    }

    /// Adds a new key at the end, which can open but does not seal yet. If there was no key, the new one seals.
    ///
    /// # Errors
    /// [`MasterKeyError`] if there are no random bytes, or [`MasterKeyError::Full`] if there are too many keys.
    pub fn with_fresh(
        mut self,
        path: &Path,
        entropy: &dyn Entropy,
    ) -> Result<Self, MasterKeyError> {
        if self.keys.len() >= MAX_KEYS {
            return Err(MasterKeyError::Full);
        }
        let bytes = Zeroizing::new(entropy::bytes::<32>(entropy)?);
        let entry = Entry::new(bytes.as_ref());
        let next = !self.keys.is_empty();
        self.keys.push(Entry {
            next,
            ..entry.ok_or_else(|| MasterKeyError::Content(path.to_owned()))?
        });
        Ok(self)
    }

    /// Moves the published key to the front, so that it seals from now on.
    #[must_use]
    pub fn promoted(mut self) -> Self {
        if let Some(at) = self.keys.iter().position(|k| k.next) {
            let key = self.keys.remove(at);
            self.keys.insert(0, Entry { next: false, ..key });
        }
        self
    }

    /// Removes the retired keys, so that the sealing key and the published one are left.
    #[must_use]
    pub fn without_retired(mut self) -> Self {
        let sealing = self.id().to_owned();
        self.keys.retain(|k| k.next || k.id == sealing);
        self
    }

    /// Adds the keys of another file that are missing here, for opening only.
    ///
    /// # Errors
    /// [`MasterKeyError::Full`] if there are too many keys.
    pub fn with_keys_of(mut self, other: Self) -> Result<Self, MasterKeyError> {
        for key in other.keys {
            if !self.holds(&key.id) {
                self.keys.push(Entry { next: false, ..key });
            }
        }
        if self.keys.len() > MAX_KEYS {
            Err(MasterKeyError::Full)
        } else {
            Ok(self)
        }
    }

    /// The ids of all keys, beginning with that of the sealing key.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|k| &*k.id)
    }

    /// The ids of all keys, separated by commas, as a broker reports them.
    pub fn listed_ids(&self) -> String {
        self.ids().collect::<Vec<_>>().join(",")
    }

    /// Whether the file contains the key with this id.
    pub fn holds(&self, id: &str) -> bool {
        self.keys.iter().any(|k| k.id == id)
    }

    /// The id of the key that is published but does not seal yet; `None` if there is none.
    pub fn next_id(&self) -> Option<&str> {
        self.keys.iter().find(|k| k.next).map(|k| &*k.id)
    }

    /// The ids of the retired keys, which only open.
    pub fn retired_ids(&self) -> Vec<String> {
        self.keys
            .iter()
            .skip(1)
            .filter(|k| !k.next)
            .map(|k| k.id.clone())
            .collect()
    }

    #[cfg(any(test, feature = "internals"))]
    /// The number of keys, including the published and the retired ones.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The id of the sealing key: 8 hexadecimal digits, which are not secret.
    pub fn id(&self) -> &str {
        self.keys.first().map_or("", |k| &k.id)
    }

    /// The id of the key that sealed a text; `None` for a text of the first version, which has no
    /// id.
    pub fn sealed_by(sealed: &str) -> Option<&str> {
        sealed.split_once(':').map(|(id, _)| id)
    }

    /// For each key, its id and the HKDF-SHA256 extract (RFC 5869) under a salt, from which further
    /// keys are derived. The sealing key comes first.
    ///
    /// # Errors
    /// [`MasterKeyError::Sealed`] if a key is not valid base64, which cannot happen with loaded or
    /// generated keys.
    pub fn extracts(&self, salt: &[u8]) -> Result<Vec<(&str, hkdf::Prk)>, MasterKeyError> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, salt);
        let extract = |entry| {
            let Entry { id, text, .. }: &Entry = entry;
            let bytes = Zeroizing::new(
                STANDARD
                    .decode(text.as_str())
                    .map_err(|_| MasterKeyError::Sealed)?,
            );
            Ok((id.as_str(), salt.extract(&bytes)))
        };
        self.keys.iter().map(extract).collect()
    }

    /// Seals a secret for one owner and returns `KEYID:base64`. `belongs_to` is authenticated but not stored.
    ///
    /// # Errors
    /// [`MasterKeyError::Entropy`] if there are no random bytes, and [`MasterKeyError::Sealed`] if there is no key or
    /// the secret is too long.
    pub fn seal(
        &self,
        belongs_to: &str,
        secret: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<String, MasterKeyError> {
        let entry = self.keys.first().ok_or(MasterKeyError::Sealed)?;
        let nonce: [u8; NONCE_LEN] = entropy::bytes(entropy)?;
        let mut buffer = secret.to_vec();
        let sealed = entry.key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(belongs_to),
            &mut buffer,
        );
        sealed.map_err(|_| MasterKeyError::Sealed)?;
        Ok(format!(
            "{}:{}",
            entry.id,
            STANDARD.encode([nonce.as_slice(), &buffer].concat())
        ))
    }

    /// Opens a secret that was sealed by [`Self::seal`].
    ///
    /// # Errors
    /// [`MasterKeyError::Unknown`] if the key is not in the file, and [`MasterKeyError::Sealed`] if
    /// the owner differs or the text was altered.
    pub fn open(&self, belongs_to: &str, sealed: &str) -> Result<Secret<String>, MasterKeyError> {
        match sealed.split_once(':') {
            Some((id, body)) => {
                let entry = self.keys.iter().find(|k| k.id == id);
                entry
                    .ok_or_else(|| MasterKeyError::Unknown(clip(id)))?
                    .open(belongs_to, body)
            }
            // Texts of the first version do not contain the key's id.
            None => self
                .keys
                .iter()
                .find_map(|k| k.open(belongs_to, sealed).ok())
                .ok_or(MasterKeyError::Sealed),
        }
    }
}

impl Entry {
    /// Creates an entry; `None` if the bytes are not a valid key or are all the same.
    fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.iter().all(|b| Some(b) == bytes.first()) {
            return None;
        }
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?);
        let mut named = ring::digest::Context::new(&ring::digest::SHA256);
        named.update(b"brevet master key id v1");
        named.update(bytes);
        let id: String = named
            .finish()
            .as_ref()
            .iter()
            .take(4)
            .map(|b| format!("{b:02x}"))
            .collect();
        Some(Self {
            id,
            key,
            text: Zeroizing::new(STANDARD.encode(bytes)),
            next: false,
        })
    }

    fn open(&self, belongs_to: &str, body: &str) -> Result<Secret<String>, MasterKeyError> {
        let mut bytes = Zeroizing::new(STANDARD.decode(body).map_err(|_| MasterKeyError::Sealed)?);
        let (nonce, rest) = bytes
            .split_at_mut_checked(NONCE_LEN)
            .ok_or(MasterKeyError::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| MasterKeyError::Sealed)?;
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(belongs_to), rest)
            .map_err(|_| MasterKeyError::Sealed)?;
        let text = std::str::from_utf8(plain).map_err(|_| MasterKeyError::Sealed)?;
        Ok(Secret::new(text.to_owned()))
    }
}

fn clip(id: &str) -> String {
    id.chars().take(16).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SystemEntropy;

    #[test]
    fn a_secret_opens_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let key = MasterKey::create(&path, &SystemEntropy::new()).unwrap();
        let sealed = key.seal("AKIA1", b"secret", &SystemEntropy::new()).unwrap();
        let again = MasterKey::load(&path).unwrap();
        assert_eq!(again.open("AKIA1", &sealed).unwrap().expose(), "secret");
        assert!(again.open("AKIA2", &sealed).is_err());
        assert!(again.open("AKIA1", "AAAA").is_err());
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_opens_until_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let entropy = SystemEntropy::new();
        let old = MasterKey::create(&path, &entropy).unwrap();
        let before = old.seal("a", b"secret", &entropy).unwrap();
        assert_eq!(MasterKey::sealed_by(&before), Some(old.id()));
        let old_id = old.id().to_owned();
        // Published: it does not seal yet.
        let published = old.with_fresh(&path, &entropy).unwrap();
        assert!(
            published.id() == old_id
                && published.next_id().is_some()
                && published.retired_ids().is_empty()
        );
        published.save(&path).unwrap();
        let promoted = MasterKey::load(&path).unwrap().promoted();
        assert!(promoted.id() != old_id && promoted.next_id().is_none());
        assert!(promoted.retired_ids().iter().eq([&old_id]));
        assert_eq!(promoted.open("a", &before).unwrap().expose(), "secret");
        let after = promoted.seal("a", b"secret", &entropy).unwrap();
        let alone = promoted.without_retired();
        assert!(alone.open("a", &after).is_ok());
        assert!(
            alone
                .open("a", &before)
                .unwrap_err()
                .to_string()
                .contains(&old_id)
        );
        // A text of the first format version, without an id.
        assert!(alone.open("a", after.split_once(':').unwrap().1).is_ok());
        // The keys of an old file open what they sealed, in addition to the current keys.
        let old = alone.with_keys_of(MasterKey::load(&path).unwrap()).unwrap();
        assert!(old.id() != old_id && old.holds(&old_id) && old.open("a", &before).is_ok());
        assert_eq!((old.ids().count(), old.next_id()), (2, None));
    }

    #[test]
    fn a_file_holds_eight_keys() {
        let entropy = SystemEntropy::new();
        let fresh = |key: MasterKey| {
            key.with_fresh(Path::new("x"), &entropy)
                .map(MasterKey::promoted)
        };
        let mut key = MasterKey::ephemeral(&entropy).unwrap();
        for _ in 1..MAX_KEYS {
            key = fresh(key).unwrap();
        }
        assert_eq!(key.count(), MAX_KEYS);
        assert!(
            fresh(key)
                .err()
                .unwrap()
                .to_string()
                .contains("rekey --forget")
        );
    }

    #[test]
    fn an_05_an_empty_or_constant_master_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        for text in [
            "",
            "AAAA",
            &STANDARD.encode([0; 32]),
            &STANDARD.encode([7; 32]),
            "changeme",
        ] {
            files::write_private(&path, text.as_bytes()).unwrap();
            assert!(MasterKey::load(&path).is_err(), "{text}");
        }
    }
}
