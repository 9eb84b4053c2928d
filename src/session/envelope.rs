//! Envelopes: texts that a broker issues and any broker of the cluster can read again. They are
//! signed, then sealed, and opaque to their holders.
//!
//! The format is `base64url( form ‖ key id ‖ salt ‖ AES-256-GCM( Ed25519 signature ‖ body ) )`.
//! Only a holder of the signing key can make an envelope, and only a broker of the cluster can read
//! one. The header, the purpose and the cluster id are authenticated, so that an envelope for one
//! purpose cannot be opened for another. This module knows keys and bytes, but no store and no
//! clock.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::session::keyring::{Keyring, SessionKey};

/// The length of the header in bytes: the form, the key id and the salt.
const HEADER: usize = 1 + 4 + 16;
const SIGNATURE: usize = 64;

/// What an envelope is used for. An envelope cannot be opened for another purpose.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// The name of the purpose, which must differ from everything else that is signed or sealed
    /// with these keys.
    pub name: &'static str,
    /// The version of the body's format.
    pub form: u8,
    /// The maximum length of an envelope in characters.
    pub max_characters: usize,
}

/// The envelope cannot be opened. The reason is not distinguished, because the holder must not
/// learn it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text cannot be opened")]
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
    let mut buffer = Vec::with_capacity(SIGNATURE + body.len() + 16);
    buffer.extend_from_slice(&key.sign(&signed_message(&aad, body)));
    buffer.extend_from_slice(body);
    key.seal(salt, &aad, &mut buffer)?;
    let mut sealed = Vec::with_capacity(HEADER + buffer.len());
    sealed.extend_from_slice(&header);
    sealed.extend_from_slice(&buffer);
    Ok(URL_SAFE_NO_PAD.encode(sealed))
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
    if text.len() > purpose.max_characters {
        return Err(OpenError);
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| OpenError)?;
    let (head, sealed) = bytes.split_at_mut_checked(HEADER).ok_or(OpenError)?;
    let [form, a, b, c, d, salt @ ..] = &*head else {
        return Err(OpenError);
    };
    if *form != purpose.form {
        return Err(OpenError);
    }
    let key = keyring
        .find(u32::from_be_bytes([*a, *b, *c, *d]))
        .ok_or(OpenError)?;
    let salt: &[u8; 16] = salt.try_into().map_err(|_| OpenError)?;
    let aad = associated(purpose, keyring, head);
    let plain = key.open(salt, &aad, sealed).map_err(|_| OpenError)?;
    let (signature, body) = plain.split_at_checked(SIGNATURE).ok_or(OpenError)?;
    if !key.verify(&signed_message(&aad, body), signature) {
        return Err(OpenError);
    }
    Ok((body.to_vec(), key))
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
    }
}
