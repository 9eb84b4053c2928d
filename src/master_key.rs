//! The key under which long-term secrets rest: AES-256-GCM, bound to what each secret belongs to.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::entropy::{self, Entropy, NoEntropy};
use crate::files::{self, Audience, FileError};
use crate::secret::Secret;

/// Why a master key was refused, or did not open something.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its content.
    #[error("{0}: must be 32 random bytes in base64 on one line, as `brevet init` writes them")]
    Content(std::path::PathBuf),
    /// Another key sealed it, it belongs to something else, or it was altered.
    #[error("does not open under this master key")]
    Sealed,
    /// No chance, no sealing.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// Seals and opens secrets at rest.
pub struct MasterKey(LessSafeKey);

impl MasterKey {
    /// Makes a key and writes it, mode 0600.
    ///
    /// # Errors
    /// Without randomness, or when the file cannot be written.
    pub fn create(path: &Path, entropy: &dyn Entropy) -> Result<Self, MasterKeyError> {
        let bytes = Zeroizing::new(entropy::bytes::<32>(entropy)?);
        let mut text = Zeroizing::new(STANDARD.encode(bytes.as_ref()));
        text.push('\n');
        files::write_private(path, text.as_bytes())?;
        Self::new(path, bytes.as_ref())
    }

    /// Reads a key file, which must be private to this account.
    ///
    /// # Errors
    /// Names the file and the rule.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        let content = || MasterKeyError::Content(path.to_owned());
        let text = files::read(path, Audience::Owner, 1_024)?;
        let bytes = Zeroizing::new(STANDARD.decode(text.expose().trim_ascii()).map_err(|_| content())?);
        Self::new(path, &bytes)
    }

    fn new(path: &Path, bytes: &[u8]) -> Result<Self, MasterKeyError> {
        let content = || MasterKeyError::Content(path.to_owned());
        if bytes.iter().all(|b| Some(b) == bytes.first()) {
            return Err(content());
        }
        Ok(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| content())?)))
    }

    /// Seals a secret for one owner (`belongs_to` is authenticated, not stored): base64 text.
    ///
    /// # Errors
    /// Without randomness.
    pub fn seal(&self, belongs_to: &str, secret: &[u8], entropy: &dyn Entropy) -> Result<String, MasterKeyError> {
        let nonce: [u8; NONCE_LEN] = entropy::bytes(entropy)?;
        let mut buffer = secret.to_vec();
        let sealed =
            self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(belongs_to), &mut buffer);
        sealed.map_err(|_| MasterKeyError::Sealed)?;
        Ok(STANDARD.encode([nonce.as_slice(), &buffer].concat()))
    }

    /// Reverses [`Self::seal`].
    ///
    /// # Errors
    /// [`MasterKeyError::Sealed`] for another key, another owner or altered bytes.
    pub fn open(&self, belongs_to: &str, sealed: &str) -> Result<Secret<String>, MasterKeyError> {
        let mut bytes = Zeroizing::new(STANDARD.decode(sealed).map_err(|_| MasterKeyError::Sealed)?);
        let (nonce, rest) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(MasterKeyError::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| MasterKeyError::Sealed)?;
        let plain = self.0.open_in_place(nonce, Aad::from(belongs_to), rest).map_err(|_| MasterKeyError::Sealed)?;
        let text = std::str::from_utf8(plain).map_err(|_| MasterKeyError::Sealed)?;
        Ok(Secret::new(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

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
    fn an_05_an_empty_or_constant_master_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        for text in ["", "AAAA", &STANDARD.encode([0; 32]), &STANDARD.encode([7; 32]), "changeme"] {
            files::write_private(&path, text.as_bytes()).unwrap();
            assert!(MasterKey::load(&path).is_err(), "{text}");
        }
    }
}
