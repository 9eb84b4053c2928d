//! Envelopes: texts that a broker issues and any broker of the cluster can read again. They are signed, then sealed,
//! and opaque to their holders.
//!
//! The format is `base64url( form ‖ key id ‖ salt ‖ AES-256-GCM( Ed25519 signature ‖ body ) )`. There are two variants:
//!
//! - Envelopes that are issued together share one signature. Each has a proof in place of a signature of its own:
//!   [`Unsigned`].
//! - A text that grants nothing is sealed without a signature: [`seal_only`].
//!
//! Only a holder of the keyring can make an envelope, and only a broker of the cluster can read one. The header, the
//! purpose and the cluster id are authenticated, so that an envelope for one purpose cannot be opened for another.
//!
//! This module knows keys and bytes, but no store and no clock.

mod batched;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::session::keyring::{Keyring, SessionKey};

pub use batched::{Unsigned, open_batched};

/// The length of the header in bytes: the form, the key id and the salt.
const HEADER: usize = 1 + 4 + 16;
const SIGNATURE: usize = 64;
/// The length of the authentication tag that AES-256-GCM adds to a text, in bytes.
const TAG: usize = 16;

/// The purpose of an envelope. It is authenticated, so that an envelope for one purpose cannot be opened for another.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// The name of the purpose, which must differ from everything else that is signed or sealed
    /// with these keys.
    pub name: &'static str,
    /// The version of the format, which is the first byte of each envelope. An envelope with another first byte is not
    /// opened.
    pub form: u8,
    /// The maximum length of an envelope in characters. Longer texts are not decoded.
    pub max_characters: usize,
}

/// The envelope cannot be opened. The error has no details, because the holder must not learn the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed text cannot be decrypted")]
pub struct OpenError;

/// Signs and seals a body with the keyring's current key. A `salt` must never be used twice.
///
/// # Errors
/// [`ring::error::Unspecified`] if the keyring has no current key.
pub fn seal(
    keyring: &Keyring,
    purpose: &Purpose,
    body: &[u8],
    salt: &[u8; 16],
) -> Result<String, ring::error::Unspecified> {
    let key = keyring.current().ok_or(ring::error::Unspecified)?;
    let header = header(purpose, key, salt);
    let aad = associated(purpose, keyring, &header);
    let mut buffer = Vec::with_capacity(HEADER + SIGNATURE + body.len() + TAG);
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(&key.sign(&signed_message(&aad, body)));
    buffer.extend_from_slice(body);
    encrypt(key, &aad, buffer)
}

/// Seals a body with the keyring's current key without signing it, for texts that grant nothing. The encryption is
/// authenticated, so nobody without the keyring can make or alter an envelope. A `salt` must never be used twice.
///
/// # Errors
/// [`ring::error::Unspecified`] if the keyring has no current key.
pub fn seal_only(
    keyring: &Keyring,
    purpose: &Purpose,
    body: &[u8],
    salt: &[u8; 16],
) -> Result<String, ring::error::Unspecified> {
    let key = keyring.current().ok_or(ring::error::Unspecified)?;
    let header = header(purpose, key, salt);
    let mut buffer = Vec::with_capacity(HEADER + body.len() + TAG);
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(body);
    encrypt(key, &associated(purpose, keyring, &header), buffer)
}

/// Opens an envelope that [`seal_only`] made.
///
/// # Errors
/// The same as those of [`open`].
pub fn open_sealed(keyring: &Keyring, purpose: &Purpose, text: &str) -> Result<Vec<u8>, OpenError> {
    let mut received = Received::decode(text, purpose.max_characters)?;
    let unsealed = received.unseal(keyring, purpose)?;
    Ok(unsealed.plain.to_vec())
}

/// Opens an envelope and checks its signature. Returns the body and the key that signed it.
///
/// # Errors
/// [`OpenError`] if the text is malformed or altered, or no key of the keyring made it. The error does
/// not say which.
pub fn open<'k>(
    keyring: &'k Keyring,
    purpose: &Purpose,
    text: &str,
) -> Result<(Vec<u8>, &'k SessionKey), OpenError> {
    Received::decode(text, purpose.max_characters)?.open(keyring, purpose)
}

/// An envelope as it was received: decoded, and neither decrypted nor verified.
pub struct Received(Vec<u8>);

impl Received {
    /// Decodes a text of at most `max_characters` characters.
    ///
    /// # Errors
    /// [`OpenError`] if it is longer, or is not spelled as [`seal`] spells it.
    pub fn decode(text: &str, max_characters: usize) -> Result<Self, OpenError> {
        if text.len() > max_characters {
            return Err(OpenError);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| OpenError)?;
        Ok(Self(bytes))
    }

    /// The form that the envelope claims to have.
    pub fn unverified_form(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Decrypts the envelope and checks its signature, like the function [`open`], which also decodes the text.
    ///
    /// # Errors
    /// The same as those of [`open`].
    pub fn open<'k>(
        mut self,
        keyring: &'k Keyring,
        purpose: &Purpose,
    ) -> Result<(Vec<u8>, &'k SessionKey), OpenError> {
        let unsealed = self.unseal(keyring, purpose)?;
        let (signature, body) = unsealed
            .plain
            .split_at_checked(SIGNATURE)
            .ok_or(OpenError)?;
        let aad = associated(purpose, keyring, unsealed.header);
        if !unsealed.key.verify(&signed_message(&aad, body), signature) {
            return Err(OpenError);
        }
        Ok((body.to_vec(), unsealed.key))
    }

    /// Finds the key and decrypts the envelope. The caller must still check the signature.
    fn unseal<'r, 'k>(
        &'r mut self,
        keyring: &'k Keyring,
        purpose: &Purpose,
    ) -> Result<Unsealed<'r, 'k>, OpenError> {
        let (header, sealed) = self.0.split_at_mut_checked(HEADER).ok_or(OpenError)?;
        let [form, a, b, c, d, salt @ ..] = &*header else {
            return Err(OpenError);
        };
        if *form != purpose.form {
            return Err(OpenError);
        }
        let key = keyring
            .find(u32::from_be_bytes([*a, *b, *c, *d]))
            .ok_or(OpenError)?;
        let salt: &[u8; 16] = salt.try_into().map_err(|_| OpenError)?;
        let aad = associated(purpose, keyring, header);
        let plain = key.open(salt, &aad, sealed).map_err(|_| OpenError)?;
        Ok(Unsealed { header, plain, key })
    }
}

/// An envelope that was decrypted, but whose signature was not checked yet.
struct Unsealed<'r, 'k> {
    header: &'r [u8],
    plain: &'r [u8],
    key: &'k SessionKey,
}

fn header(purpose: &Purpose, key: &SessionKey, salt: &[u8; 16]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let bytes = std::iter::once(purpose.form)
        .chain(key.id().to_be_bytes())
        .chain(*salt);
    for (slot, byte) in header.iter_mut().zip(bytes) {
        *slot = byte;
    }
    header
}

fn associated(purpose: &Purpose, keyring: &Keyring, header: &[u8]) -> Vec<u8> {
    [
        purpose.name.as_bytes(),
        keyring.cluster_id().as_bytes(),
        header,
    ]
    .concat()
}

fn signed_message(aad: &[u8], body: &[u8]) -> Vec<u8> {
    [aad, body].concat()
}

/// Encrypts the text that follows the header, and encodes both in base64url.
fn encrypt(
    key: &SessionKey,
    aad: &[u8],
    mut text: Vec<u8>,
) -> Result<String, ring::error::Unspecified> {
    let (header, plain) = text
        .split_first_chunk_mut::<HEADER>()
        .ok_or(ring::error::Unspecified)?;
    let [_, _, _, _, _, salt @ ..] = header;
    let tag = key.seal(salt, aad, plain)?;
    text.extend_from_slice(&tag);
    Ok(URL_SAFE_NO_PAD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::entropy::SystemEntropy;

    #[test]
    fn tk_06_what_is_for_one_purpose_opens_for_no_other() {
        let keyring = Keyring::generate(&SystemEntropy::new(), Timestamp::from_seconds(1)).unwrap();
        let purpose = |name, form| Purpose {
            name,
            form,
            max_characters: 1_000,
        };
        let text = seal(&keyring, &purpose("one", 1), b"body", &[1; 16]).unwrap();
        assert_eq!(
            open(&keyring, &purpose("one", 1), &text).unwrap().0,
            b"body"
        );
        assert!(open(&keyring, &purpose("two", 1), &text).is_err());
        assert!(open(&keyring, &purpose("one", 2), &text).is_err());
        // Nor is what is only sealed taken for something that is signed, or the other way round.
        let sealed = seal_only(&keyring, &purpose("one", 1), b"body", &[2; 16]).unwrap();
        let opened = open_sealed(&keyring, &purpose("one", 1), &sealed).unwrap();
        assert_eq!(opened, b"body");
        assert!(open_sealed(&keyring, &purpose("two", 1), &sealed).is_err());
        assert!(open_sealed(&keyring, &purpose("one", 2), &sealed).is_err());
        assert!(open(&keyring, &purpose("one", 1), &sealed).is_err());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(
                open_sealed(&keyring, &purpose("one", 1), &altered).is_err(),
                "{at}"
            );
        }
    }
}
