//! Envelopes that are issued together and share one signature: `base64url( form ‖ key id ‖ salt ‖ AES-256-GCM( proof ‖
//! body ) )`. Each envelope is encrypted separately.

use std::sync::Arc;

use super::{HEADER, OpenError, Purpose, Received, TAG, associated, encrypt, header};
use crate::session::batch::{
    Leaf, MAX_PROOF, Proof, Scope, UnverifiedProof, VerifiedRoots, leaf_of,
};
use crate::session::keyring::{Keyring, SessionKey};

/// An envelope that is complete except for its signature.
pub struct Unsigned {
    purpose: &'static Purpose,
    key_id: u32,
    header: [u8; HEADER],
    body: Vec<u8>,
}

impl Unsigned {
    /// Makes an unsigned envelope for the keyring's current key. A `salt` must never be used twice.
    ///
    /// # Errors
    /// [`ring::error::Unspecified`] if the keyring has no current key.
    pub fn new(
        keyring: &Keyring,
        purpose: &'static Purpose,
        body: Vec<u8>,
        salt: &[u8; 16],
    ) -> Result<Self, ring::error::Unspecified> {
        let key = keyring.current().ok_or(ring::error::Unspecified)?;
        Ok(Self {
            purpose,
            key_id: key.id(),
            header: header(purpose, key, salt),
            body,
        })
    }

    /// The leaf that must be signed. `keyring` must be the keyring for which the envelope was made.
    pub fn leaf(&self, keyring: Arc<Keyring>) -> Leaf {
        let scope = Scope {
            purpose: self.purpose.name,
            form: self.purpose.form,
            key_id: self.key_id,
        };
        let hash = leaf_of(
            self.purpose.name,
            keyring.cluster_id(),
            &self.header,
            &self.body,
        );
        Leaf::new(keyring, scope, hash)
    }

    /// The length of the envelope in characters with the longest proof.
    pub fn max_characters(&self) -> usize {
        ((HEADER + MAX_PROOF + self.body.len() + TAG) * 4).div_ceil(3)
    }

    /// Seals the envelope with the proof that its leaf was signed.
    ///
    /// # Errors
    /// [`ring::error::Unspecified`] if the key was removed or revoked meanwhile.
    pub fn seal(
        self,
        keyring: &Keyring,
        proof: &Proof,
    ) -> Result<String, ring::error::Unspecified> {
        let key = keyring.find(self.key_id).ok_or(ring::error::Unspecified)?;
        let aad = associated(self.purpose, keyring, &self.header);
        let mut text = Vec::with_capacity(HEADER + MAX_PROOF + self.body.len() + TAG);
        text.extend_from_slice(&self.header);
        proof.write(&mut text);
        text.extend_from_slice(&self.body);
        encrypt(key, &aad, text)
    }
}

/// Opens an envelope that shares its signature with others. Returns the body and the key that made the signature. The
/// signature is not checked again if `roots` remembers that it is valid.
///
/// # Errors
/// [`OpenError`] if the text was altered, or no key of the keyring made it. The error does not say which.
pub fn open_batched<'k>(
    mut received: Received,
    keyring: &'k Keyring,
    purpose: &'static Purpose,
    roots: &VerifiedRoots,
) -> Result<(Vec<u8>, &'k SessionKey), OpenError> {
    // The key comes first: without it, nothing that is remembered counts.
    let unsealed = received.unseal(keyring, purpose)?;
    let (proof, body) = UnverifiedProof::read(unsealed.plain).ok_or(OpenError)?;
    let cluster_id = keyring.cluster_id();
    let leaf = leaf_of(purpose.name, cluster_id, unsealed.header, body);
    let of = (purpose.name, purpose.form);
    if !proof.shows(unsealed.key, cluster_id, of, &leaf, roots) {
        return Err(OpenError);
    }
    Ok((body.to_vec(), unsealed.key))
}
