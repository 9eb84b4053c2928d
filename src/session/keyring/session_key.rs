//! One key of the keyring, which seals and signs session tokens, and from which other secrets are derived.

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::{KeyringError, content};
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::session::key_state::KeyState;

/// One key of session tokens: an id, and three secrets that are rotated together.
pub struct SessionKey {
    pub(super) id: u32,
    pub(super) state: KeyState,
    pub(super) since: Timestamp,
    seal: hkdf::Prk,
    sign: Ed25519KeyPair,
    secret: hkdf::Prk,
    /// The secrets as the keyring file contains them.
    pub(super) raw: Secret<[[u8; 32]; 3]>,
}

impl SessionKey {
    pub(super) fn new(
        id: u32,
        state: KeyState,
        since: Timestamp,
        raw: Secret<[[u8; 32]; 3]>,
    ) -> Result<Self, KeyringError> {
        let [seal, sign, secret] = raw.expose();
        if raw
            .expose()
            .iter()
            .any(|k| k.iter().all(|b| b == k.first().unwrap_or(&0)))
        {
            return Err(content(format!(
                "a secret of the key {id:08x} is not random, because all its bytes are \
                equal"
            )));
        }
        let prk = |bytes: &[u8; 32]| hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, bytes);
        let pair = Ed25519KeyPair::from_seed_unchecked(sign).map_err(|_| {
            content(format!(
                "Keys: SigningSeed of the key {id:08x}: must be a valid Ed25519 seed"
            ))
        })?;
        Ok(Self {
            id,
            state,
            since,
            seal: prk(seal),
            sign: pair,
            secret: prk(secret),
            raw,
        })
    }

    /// The id by which tokens name the key.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Signs a message with Ed25519. The key in [`Self::public_key`] verifies the signature.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        for (slot, byte) in out.iter_mut().zip(self.sign.sign(message).as_ref()) {
            *slot = *byte;
        }
        out
    }

    /// The Ed25519 public key, which verifies the signatures of [`Self::sign`].
    pub fn public_key(&self) -> &[u8] {
        self.sign.public_key().as_ref()
    }

    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public_key())
            .verify(message, signature)
            .is_ok()
    }

    /// Encrypts a text in place with AES-256-GCM, and returns the tag. A separate key is derived for each `salt`, so
    /// that any number of texts can be encrypted. A `salt` must never be used twice.
    pub fn seal(
        &self,
        salt: &[u8; 16],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; 16], ring::error::Unspecified> {
        let key = self.message_key(salt)?;
        let tag = key.seal_in_place_separate_tag(zero_nonce(), Aad::from(aad), text)?;
        tag.as_ref()
            .try_into()
            .map_err(|_| ring::error::Unspecified)
    }

    /// Decrypts a text that [`Self::seal`] has encrypted, and returns the plain bytes. Fails if the text, `salt` or
    /// `aad` was altered.
    pub fn open<'a>(
        &self,
        salt: &[u8; 16],
        aad: &[u8],
        buffer: &'a mut [u8],
    ) -> Result<&'a [u8], ring::error::Unspecified> {
        Ok(self
            .message_key(salt)?
            .open_in_place(zero_nonce(), Aad::from(aad), buffer)?)
    }

    fn message_key(&self, salt: &[u8; 16]) -> Result<LessSafeKey, ring::error::Unspecified> {
        let info = [b"brevet session token v1".as_slice(), salt];
        let okm = self.seal.expand(&info, &aead::AES_256_GCM)?;
        Ok(LessSafeKey::new(UnboundKey::from(okm)))
    }

    /// Derives the key for [`Keyring::record_mac`](super::Keyring::record_mac), which authenticates the cluster's
    /// records in Redis.
    pub(super) fn record_mac(
        &self,
        cluster_id: &str,
    ) -> Result<ring::hmac::Key, ring::error::Unspecified> {
        let mut bytes = Zeroizing::new([0; 32]);
        let info = [
            b"brevet session record v1".as_slice(),
            cluster_id.as_bytes(),
        ];
        self.seal.expand(&info, Bytes32)?.fill(bytes.as_mut())?;
        Ok(ring::hmac::Key::new(
            ring::hmac::HMAC_SHA256,
            bytes.as_ref(),
        ))
    }

    /// Derives the 30 secret bytes of a session, which cannot be computed from its token.
    pub fn session_secret(
        &self,
        session_id: &[u8; 16],
        access_key_id: &str,
    ) -> Result<Zeroizing<[u8; 30]>, ring::error::Unspecified> {
        let mut bytes = Zeroizing::new([0; 30]);
        let info = [
            b"brevet session secret v1".as_slice(),
            session_id,
            access_key_id.as_bytes(),
        ];
        self.secret.expand(&info, Bytes30)?.fill(bytes.as_mut())?;
        Ok(bytes)
    }
}

/// The nonce is always zero, because each message key seals only one message.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

struct Bytes30;

impl hkdf::KeyType for Bytes30 {
    fn len(&self) -> usize {
        30
    }
}

struct Bytes32;

impl hkdf::KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_05_constant_keys_are_refused() {
        assert!(
            SessionKey::new(
                1,
                KeyState::Current,
                Timestamp::from_seconds(0),
                Secret::new([[0; 32]; 3])
            )
            .is_err()
        );
    }
}
