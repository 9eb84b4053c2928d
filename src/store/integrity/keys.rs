//! The keys of a store, derived from the master key. They make the MACs of rows and the seal of the
//! store's own row.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{aead, hkdf, hmac};

use super::columns::{Place, Row};
use super::sums::{Contents, Term};
use crate::master_key::{MasterKey, MasterKeyError};
use crate::store::clip;

/// The key id in the MACs and the seal of a store without a master key.
pub(super) const PUBLIC: &str = "00000000";

/// The reason why a MAC or a seal was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::parts::store) enum Wrong {
    /// The MAC or seal names a key that is not in the master key file; holds the id of that key.
    Key(String),
    /// The MAC or seal does not match these bytes.
    Mac,
}

/// The keys of one store: one for each key of the master key file, in the same order.
pub(in crate::parts::store) struct Keys(Vec<Key>);

/// The keys that are derived from one master key for one store.
pub(in crate::parts::store) struct Key {
    id: String,
    /// Whether this is the next key, which is published but not used for sealing yet.
    is_next: bool,
    row: hmac::Key,
    set: hmac::Key,
    nonce: hmac::Key,
    seal: aead::LessSafeKey,
}

impl Keys {
    /// Derives the keys of the store with this id. Without a master key, anybody can compute the keys, so the MACs
    /// reveal only accidental damage.
    ///
    /// # Errors
    /// [`MasterKeyError::Sealed`] if a key cannot be derived.
    pub fn derive(master_key: Option<&MasterKey>, store_id: &str) -> Result<Self, MasterKeyError> {
        let salt = store_id.as_bytes();
        let keys = match master_key {
            Some(master_key) => {
                let extracts = master_key.extracts(salt)?;
                extracts
                    .into_iter()
                    .map(|(id, prk)| Key::derive(id, master_key.next_id() == Some(id), &prk))
                    .collect::<Option<_>>()
            }
            None => {
                let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&[0; 32]);
                Key::derive(PUBLIC, false, &prk).map(|key| vec![key])
            }
        };
        keys.map(Self).ok_or(MasterKeyError::Sealed)
    }

    /// The first key of the master key file, which makes new MACs and seals.
    pub fn first(&self) -> Result<&Key, MasterKeyError> {
        self.0.first().ok_or(MasterKeyError::Sealed)
    }

    /// The place of the key with this id in the order from new to old; `None` if the master key file has no such key.
    /// The next key has the place 0, the first key the place 1, and the keys that the first key has replaced follow.
    pub fn newer_than(&self, id: &str) -> Option<usize> {
        let place = self.0.iter().position(|key| key.id == id)?;
        match self.0.get(place) {
            Some(key) if key.is_next => Some(0),
            _ => Some(place + 1),
        }
    }

    pub fn find(&self, id: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }

    /// Checks the MAC of a row. Returns the term of the row in the sum of its set.
    pub fn check(&self, row: &Row<'_>, mac: &str) -> Result<Term, Wrong> {
        let (id, text) = mac.split_once(':').ok_or(Wrong::Mac)?;
        let key = self.find(id).ok_or_else(|| Wrong::Key(clip(id)))?;
        let given = STANDARD.decode(text).map_err(|_| Wrong::Mac)?;
        let tag = key.tag(row);
        if is_same(&given, tag.as_ref()) {
            Ok(key.term(&tag))
        } else {
            Err(Wrong::Mac)
        }
    }

    /// Opens the seal of the store's own row. Returns its contents, and the key that sealed it.
    pub fn open(&self, head: &Place<'_>, seal: &str) -> Result<(Contents, &Key), Wrong> {
        let (id, text) = seal.split_once(':').ok_or(Wrong::Mac)?;
        let key = self.find(id).ok_or_else(|| Wrong::Key(clip(id)))?;
        let mut bytes = STANDARD.decode(text).map_err(|_| Wrong::Mac)?;
        let (nonce, sealed) = bytes
            .split_at_mut_checked(aead::NONCE_LEN)
            .ok_or(Wrong::Mac)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| Wrong::Mac)?;
        let plain = key
            .seal
            .open_in_place(nonce, aead::Aad::from(head.bytes()), sealed)
            .map_err(|_| Wrong::Mac)?;
        Ok((Contents::read(plain).ok_or(Wrong::Mac)?, key))
    }
}

impl Key {
    fn derive(id: &str, is_next: bool, prk: &hkdf::Prk) -> Option<Self> {
        let mac = |info: &[u8]| {
            prk.expand(&[info], hmac::HMAC_SHA256)
                .map(hmac::Key::from)
                .ok()
        };
        let seal = prk
            .expand(&[b"brevet store seal v1"], &aead::AES_256_GCM)
            .ok()?;
        Some(Self {
            id: id.to_owned(),
            is_next,
            row: mac(b"brevet store row v1")?,
            set: mac(b"brevet store set v1")?,
            nonce: mac(b"brevet store nonce v1")?,
            seal: aead::LessSafeKey::new(aead::UnboundKey::from(seal)),
        })
    }

    /// The id of the master key from which this key is derived.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Makes the MAC of a row. Returns it with the term of the row in the sum of its set.
    pub fn mac(&self, row: &Row<'_>) -> (String, Term) {
        let tag = self.tag(row);
        (
            format!("{}:{}", self.id, STANDARD.encode(tag)),
            self.term(&tag),
        )
    }

    /// Seals the store's own row: encrypts `contents`, and authenticates them together with `head`, the columns that
    /// are not encrypted.
    ///
    /// # Errors
    /// [`ring::error::Unspecified`] if encryption fails. This happens only for more than 64 GiB, which the sums never
    /// reach.
    pub fn seal(
        &self,
        head: &Place<'_>,
        contents: &Contents,
    ) -> Result<String, ring::error::Unspecified> {
        let place = head.bytes();
        let mut bytes = contents.bytes();
        // The nonce is derived from all that is sealed, so that no two different texts are sealed
        // under the same nonce. It needs no randomness.
        let mut context = hmac::Context::with_key(&self.nonce);
        context.update(&place);
        context.update(&bytes);
        let mut nonce = [0; aead::NONCE_LEN];
        for (slot, byte) in nonce.iter_mut().zip(context.sign().as_ref()) {
            *slot = *byte;
        }
        let unique = aead::Nonce::assume_unique_for_key(nonce);
        self.seal
            .seal_in_place_append_tag(unique, aead::Aad::from(place), &mut bytes)?;
        Ok(format!(
            "{}:{}",
            self.id,
            STANDARD.encode([nonce.as_slice(), &bytes].concat())
        ))
    }

    fn tag(&self, row: &Row<'_>) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.row);
        row.each(|field| {
            let (length, bytes) = field.parts();
            context.update(&length.to_be_bytes());
            context.update(bytes.as_slice());
        });
        context.sign()
    }

    fn term(&self, tag: &hmac::Tag) -> Term {
        let number = hmac::sign(&self.set, tag.as_ref());
        let mut limbs = [0; 4];
        for (limb, bytes) in limbs.iter_mut().zip(number.as_ref().chunks_exact(8)) {
            *limb = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        }
        Term(limbs)
    }
}

/// Compares two MACs in constant time.
fn is_same(one: &[u8], two: &[u8]) -> bool {
    one.len() == two.len()
        && one
            .iter()
            .zip(two)
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
}
