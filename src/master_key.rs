//! The key under which long-term secrets rest: AES-256-GCM, bound to what each secret belongs to.
//!
//! The file holds one key a line. The first seals, all of them open: `brevet rekey` puts a new one
//! in front and reseals the store. The old ones stay for backups until `brevet rekey --forget`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use zeroize::Zeroizing;

use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::base::secret::Secret;
use crate::files::{self, Audience, FileError};

/// The most keys in one file: the one in use, the one to come, those that go.
const MAX_KEYS: usize = 8;
/// Before a key that is published and not used yet. No base64 text begins like this.
const NEXT: &str = "next:";

/// Why a master key was refused, or did not open something.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its content.
    #[error(
        "{0}: must be 32 random bytes in base64 on each of 1 to {MAX_KEYS} lines, as `brevet init` and `brevet rekey` write them"
    )]
    Content(std::path::PathBuf),
    /// Sealed under a key that is not in the file.
    #[error("is sealed under the master key {0}, which the master key file does not hold")]
    Unknown(String),
    /// It belongs to something else, or it was altered.
    #[error("does not open under this master key")]
    Sealed,
    /// There is no room for one more key.
    #[error(
        "the master key file holds {MAX_KEYS} keys, which is the most; `brevet rekey --forget` takes out the retired ones"
    )]
    Full,
    /// Nothing is sealed without random bytes.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// Seals and opens secrets at rest.
pub struct MasterKey {
    keys: Vec<Entry>,
}

struct Entry {
    id: String,
    key: LessSafeKey,
    text: Zeroizing<String>,
    /// Published, and not used yet.
    next: bool,
}

impl MasterKey {
    /// Makes a key and writes it, mode 0600.
    ///
    /// # Errors
    /// Without randomness, or when the file cannot be written.
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, MasterKeyError> {
        let key = Self { keys: Vec::new() }.with_fresh(path, entropy)?;
        key.save(path)?;
        Ok(key)
    }

    /// A key that is nowhere but in this process.
    ///
    /// # Errors
    /// Without randomness.
    pub fn ephemeral(entropy: &dyn Entropy) -> Result<Self, MasterKeyError> {
        Self { keys: Vec::new() }.with_fresh(Path::new("in memory"), entropy)
    }

    /// Reads a key file, which must be private to this account.
    ///
    /// # Errors
    /// Names the file and the rule.
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

    /// Writes the file, mode 0600.
    ///
    /// # Errors
    /// The system's answer; the old file then stays.
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

    /// The same keys and a new one at the end, which opens and does not seal yet.
    ///
    /// # Errors
    /// Without randomness, or when the file is full.
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

    /// The same keys, the published one in front: it seals from now on.
    #[must_use]
    pub fn promoted(mut self) -> Self {
        if let Some(at) = self.keys.iter().position(|k| k.next) {
            let key = self.keys.remove(at);
            self.keys.insert(0, Entry { next: false, ..key });
        }
        self
    }

    /// Without the keys that only open: the one that seals, and the published one.
    #[must_use]
    pub fn without_retired(mut self) -> Self {
        let sealing = self.id().to_owned();
        self.keys.retain(|k| k.next || k.id == sealing);
        self
    }

    /// With those keys of another file that are not here, to open with.
    ///
    /// # Errors
    /// When there are too many.
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

    /// The ids of all keys; the first one is that of the key that seals.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|k| &*k.id)
    }

    /// The ids of all keys, separated by commas, as a broker reports them.
    pub fn listed_ids(&self) -> String {
        self.ids().collect::<Vec<_>>().join(",")
    }

    /// Whether a key is here.
    pub fn holds(&self, id: &str) -> bool {
        self.keys.iter().any(|k| k.id == id)
    }

    /// The id of the key that was published and seals nothing yet.
    pub fn next_id(&self) -> Option<&str> {
        self.keys.iter().find(|k| k.next).map(|k| &*k.id)
    }

    /// The ids of the keys that sealed once, and only open now.
    pub fn retired_ids(&self) -> Vec<String> {
        self.keys
            .iter()
            .skip(1)
            .filter(|k| !k.next)
            .map(|k| k.id.clone())
            .collect()
    }

    #[cfg(any(test, feature = "internals"))]
    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The id of the key that seals: 8 hexadecimal digits, not secret.
    pub fn id(&self) -> &str {
        self.keys.first().map_or("", |k| &k.id)
    }

    /// The id of the key that sealed a text; none in texts of the first version.
    pub fn sealed_by(sealed: &str) -> Option<&str> {
        sealed.split_once(':').map(|(id, _)| id)
    }

    /// Of each key, its id and what further keys are derived from by HKDF-SHA256 (RFC 5869) under a
    /// salt. The key that seals comes first.
    ///
    /// # Errors
    /// Never with keys that were loaded or made here.
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

    /// Seals a secret for one owner (`belongs_to` is authenticated, not stored): `KEYID:base64`.
    ///
    /// # Errors
    /// Without randomness.
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

    /// Reverses [`Self::seal`].
    ///
    /// # Errors
    /// [`MasterKeyError::Unknown`] for a key that is not here, [`MasterKeyError::Sealed`] for another
    /// owner or altered bytes.
    pub fn open(&self, belongs_to: &str, sealed: &str) -> Result<Secret<String>, MasterKeyError> {
        match sealed.split_once(':') {
            Some((id, body)) => {
                let entry = self.keys.iter().find(|k| k.id == id);
                entry
                    .ok_or_else(|| MasterKeyError::Unknown(clip(id)))?
                    .open(belongs_to, body)
            }
            // The first version did not name its key.
            None => self
                .keys
                .iter()
                .find_map(|k| k.open(belongs_to, sealed).ok())
                .ok_or(MasterKeyError::Sealed),
        }
    }
}

impl Entry {
    /// None unless the bytes are a key, and not the same byte again and again.
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
        // As the first version sealed: without an id.
        assert!(alone.open("a", after.split_once(':').unwrap().1).is_ok());
        // An old file opens what it sealed, beside the keys of today.
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
