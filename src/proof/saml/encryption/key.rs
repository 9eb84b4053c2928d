//! The private keys with which the broker decrypts assertions. This module does not handle XML.
//!
//! RSA decryption that takes the same time for every ciphertext is available only in aws-lc-rs, a
//! second cryptographic library, which the feature `saml-encryption` adds. Without the feature, the broker uses no
//! private keys, not even those in the directory, and refuses encrypted assertions.

use std::fmt;
use std::sync::LazyLock;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::Oaep;

/// Why a PEM text is not accepted as a private key for decrypting assertions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecryptionKeyError {
    /// The text is not a private key of the required kind and size.
    #[error(
        "must be an RSA key of 2,048 to 4,096 bits in PKCS #8, as PEM without a passphrase, which \
         begins with -----BEGIN PRIVATE KEY-----"
    )]
    Form,
    /// The program was built without the feature `saml-encryption`.
    #[error("is not accepted, since this program was built without the feature `saml-encryption`")]
    NotBuilt,
}

/// A private key with which the broker decrypts assertions. The identity provider encrypts them for
/// its public key.
pub struct DecryptionKey(implementation::Key);

impl fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DecryptionKey")
    }
}

impl DecryptionKey {
    /// Reads a private key in PEM.
    ///
    /// # Errors
    /// [`DecryptionKeyError::Form`] if the text is not an accepted key, and
    /// [`DecryptionKeyError::NotBuilt`] if the program was built without the feature.
    pub fn parse(pem: &[u8]) -> Result<Self, DecryptionKeyError> {
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs8(key)) => Self::from_pkcs8(key.secret_pkcs8_der()),
            _ => Err(DecryptionKeyError::Form),
        }
    }

    /// Reads a private key in DER (PKCS #8).
    ///
    /// # Errors
    /// The same as for [`Self::parse`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, DecryptionKeyError> {
        implementation::Key::read(der).map(Self)
    }

    /// Decrypts the content's key in an `EncryptedKey`; `None` if this private key does not decrypt it.
    pub(super) fn open(&self, how: Oaep, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.0.open(how, ciphertext)
    }
}

/// Returns a decoy key, for which no identity provider encrypts anything. `None` if the key could not be generated, and
/// without the feature `saml-encryption`, since nothing is decrypted then.
pub(super) fn decoy() -> Option<&'static DecryptionKey> {
    static DECOY: LazyLock<Option<DecryptionKey>> =
        LazyLock::new(|| implementation::Key::decoy().map(DecryptionKey));
    DECOY.as_ref()
}

#[cfg(feature = "saml-encryption")]
mod implementation {
    use aws_lc_rs::rsa::{
        KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey,
        PrivateDecryptingKey,
    };

    use super::{DecryptionKeyError, Oaep, Zeroizing};

    pub struct Key(OaepPrivateDecryptingKey);

    impl Key {
        pub fn read(pkcs8: &[u8]) -> Result<Self, DecryptionKeyError> {
            PrivateDecryptingKey::from_pkcs8(pkcs8)
                .ok()
                .filter(|key| (2_048..=4_096).contains(&key.key_size_bits()))
                .and_then(|key| OaepPrivateDecryptingKey::new(key).ok())
                .map(Self)
                .ok_or(DecryptionKeyError::Form)
        }

        /// Generates the decoy with the library's own random bytes. Nothing is ever encrypted for
        /// this key.
        pub fn decoy() -> Option<Self> {
            let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).ok()?;
            OaepPrivateDecryptingKey::new(key).ok().map(Self)
        }

        pub fn open(&self, how: Oaep, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
            let how = match how {
                Oaep::Sha1 => &OAEP_SHA1_MGF1SHA1,
                Oaep::Sha256 => &OAEP_SHA256_MGF1SHA256,
            };
            let mut room = Zeroizing::new(vec![0; self.0.min_output_size()]);
            let length = self.0.decrypt(how, ciphertext, &mut room, None).ok()?.len();
            room.truncate(length);
            Some(room)
        }
    }
}

#[cfg(not(feature = "saml-encryption"))]
mod implementation {
    use super::{DecryptionKeyError, Oaep, Zeroizing};

    pub enum Key {}

    impl Key {
        pub fn read(_: &[u8]) -> Result<Self, DecryptionKeyError> {
            Err(DecryptionKeyError::NotBuilt)
        }

        pub fn decoy() -> Option<Self> {
            None
        }

        pub fn open(&self, _: Oaep, _: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
            match *self {}
        }
    }
}
