//! The private keys that assertions are encrypted for. Knows no XML.
//!
//! RSA decryption that takes the same time for every ciphertext is in aws-lc-rs only, a second library
//! of cryptography: the feature `saml-encryption` has it. Without the feature there is no such key, and
//! encrypted assertions are refused.

use std::fmt;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::Oaep;

/// Why a text is not taken as a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecryptionKeyError {
    /// Not PEM, or of another form.
    #[error(
        "must be an RSA key of 2,048 to 4,096 bits in PKCS #8, as PEM without a passphrase, which \
         begins with -----BEGIN PRIVATE KEY-----"
    )]
    Form,
    /// This program was built without the feature.
    #[error("is not accepted, since this program was built without the feature `saml-encryption`")]
    NotBuilt,
}

/// A private key that assertions are encrypted for.
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
    /// When it has another form, or encrypted assertions are not part of this program.
    pub fn parse(pem: &[u8]) -> Result<Self, DecryptionKeyError> {
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(PrivateKeyDer::Pkcs8(key)) => Self::from_pkcs8(key.secret_pkcs8_der()),
            _ => Err(DecryptionKeyError::Form),
        }
    }

    /// Reads a private key in DER.
    ///
    /// # Errors
    /// The same.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, DecryptionKeyError> {
        implementation::Key::read(der).map(Self)
    }

    /// The key in an `EncryptedKey`, if it was encrypted for this one.
    pub(super) fn open(&self, how: Oaep, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.0.open(how, ciphertext)
    }
}

#[cfg(feature = "saml-encryption")]
mod implementation {
    use aws_lc_rs::rsa::{
        OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
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

        pub fn open(&self, _: Oaep, _: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
            match *self {}
        }
    }
}
