//! The keys that make and open session tokens: current, next and previous.
//!
//! A key is published as `next` before it is used, so that every node can open what another one
//! seals; it stays as `previous` until the last session it made has ended. The keys that sign tokens
//! for others turn with them. Knows no token format.

mod document;
mod rotation;
mod session_key;

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::session::key_state::KeyState;
use crate::session::signing_key::{Algorithm, SigningKey};

pub use session_key::SessionKey;

const MAX_KEYS: usize = 16;
/// So many ids of dropped keys are kept in the file: a broker that reads it notes them in the store.
const MAX_RETIRED: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Its content: the field and the rule.
    #[error("keyring: {0}")]
    Content(String),
    /// No chance, no keys.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// All keys of one cluster of brokers.
pub struct Keyring {
    cluster_id: String,
    keys: Vec<SessionKey>,
    current: usize,
    /// What signs tokens for others.
    web_identity: Vec<SigningKey>,
    /// Ids of the keys that rotations have dropped, the last ones last: no older file is to bring them back.
    retired: Vec<String>,
    /// Ids of keys that were revoked: a keyring that still has them does without them.
    revoked: ArcSwap<BTreeSet<String>>,
}

impl Keyring {
    /// A fresh cluster with a current and a next key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(entropy: &dyn Entropy, now: Timestamp) -> Result<Self, KeyringError> {
        let cluster_id = crate::base::digest::hex(&entropy::bytes::<8>(entropy)?);
        let mut keyring = Self {
            cluster_id,
            keys: Vec::new(),
            current: 0,
            web_identity: Vec::new(),
            retired: Vec::new(),
            revoked: ArcSwap::default(),
        };
        for state in [KeyState::Current, KeyState::Next] {
            let key = keyring.fresh(state, entropy, now)?;
            keyring.keys.push(key);
        }
        keyring.with_signing_keys(&[Algorithm::ES384, Algorithm::EdDSA], entropy, now)
    }

    /// The key that signs tokens for others by that algorithm.
    pub fn signing_key(&self, algorithm: Algorithm) -> Option<&SigningKey> {
        let revoked = self.revoked.load();
        let is_it = |k: &&SigningKey| k.algorithm() == algorithm && k.state == KeyState::Current;
        self.web_identity
            .iter()
            .find(is_it)
            .filter(|k| !revoked.contains(&k.id().to_ascii_lowercase()))
    }

    /// All keys that tokens for others are or may be signed with.
    pub fn signing_keys(&self) -> impl Iterator<Item = &SigningKey> {
        let revoked = self.revoked.load_full();
        self.web_identity
            .iter()
            .filter(move |k| !revoked.contains(&k.id().to_ascii_lowercase()))
    }

    /// The cluster that these keys belong to; a token of another cluster never opens.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The key that makes tokens.
    pub fn current(&self) -> Option<&SessionKey> {
        self.keys
            .get(self.current)
            .filter(|k| !self.is_revoked(k.id))
    }

    /// The key of that id, in any state, unless it was revoked.
    pub fn find(&self, id: u32) -> Option<&SessionKey> {
        self.keys
            .iter()
            .find(|k| k.id == id)
            .filter(|k| !self.is_revoked(k.id))
    }

    /// Does without keys from now on, by their ids (see [`normal_id`]).
    pub fn revoke(&self, ids: &BTreeSet<String>) {
        let all: BTreeSet<String> = self.revoked.load().union(ids).cloned().collect();
        self.revoked.store(Arc::new(all));
    }

    pub fn is_revoked(&self, id: u32) -> bool {
        let revoked = self.revoked.load();
        !revoked.is_empty() && revoked.contains(&text_id(id))
    }

    /// The ids of keys that rotations have dropped, as far as the file names them.
    pub fn retired(&self) -> BTreeSet<String> {
        let ids = self.ids();
        let retired = self.retired.iter();
        retired.filter(|id| !ids.contains(*id)).cloned().collect()
    }

    /// The ids of all keys, those that sign tokens for others among them.
    pub fn ids(&self) -> BTreeSet<String> {
        let signing = self
            .web_identity
            .iter()
            .map(|k| k.id().to_ascii_lowercase());
        self.keys
            .iter()
            .map(|k| text_id(k.id))
            .chain(signing)
            .collect()
    }

    /// Ids and states, for people.
    pub fn listing(&self) -> impl Iterator<Item = (u32, KeyState, Timestamp)> {
        self.keys.iter().map(|k| (k.id, k.state, k.since))
    }

    /// Ids, algorithms and states of the keys that sign tokens for others, for people.
    pub fn signing_listing(&self) -> impl Iterator<Item = (&str, Algorithm, KeyState, Timestamp)> {
        self.web_identity
            .iter()
            .map(|k| (k.id(), k.algorithm(), k.state, k.since))
    }

    /// A key for authenticating the cluster's records in a shared cache, the same on every node
    /// and through every rotation for which a key is kept.
    pub fn record_mac(
        &self,
        key: &SessionKey,
    ) -> Result<ring::hmac::Key, ring::error::Unspecified> {
        key.record_mac(&self.cluster_id)
    }
}

/// A key's id as files and people write it.
fn text_id(id: u32) -> String {
    format!("{id:08x}")
}

/// The id of a key, as it is compared: 8 hexadecimal digits, or 16 of a key that signs tokens for
/// others. None for any other text.
pub fn normal_id(text: &str) -> Option<String> {
    let is_id = [8, 16].contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| text.to_ascii_lowercase())
}

fn content(text: impl Into<String>) -> KeyringError {
    KeyringError::Content(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SystemEntropy;

    #[test]
    fn a_revoked_key_is_as_good_as_not_there() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1_000));
        let keyring = Keyring::generate(&entropy, now).unwrap();
        let (current, next) = (keyring.keys[0].id(), keyring.keys[1].id());
        keyring.revoke(&BTreeSet::from([text_id(current)]));
        assert!(
            keyring.current().is_none()
                && keyring.find(current).is_none()
                && keyring.is_revoked(current)
        );
        assert!(keyring.find(next).is_some());
        let kid = keyring
            .signing_key(Algorithm::ES384)
            .unwrap()
            .id()
            .to_owned();
        let published = keyring.signing_keys().count();
        keyring.revoke(&BTreeSet::from([kid.clone()]));
        assert!(keyring.signing_key(Algorithm::ES384).is_none() && keyring.current().is_none());
        assert!(
            keyring.signing_keys().count() == published - 1
                && keyring.signing_keys().all(|k| k.id() != kid)
        );
        // A new file goes on with the key that every broker has already.
        let ids = BTreeSet::from([text_id(current), kid.clone()]);
        let renewed = keyring.without(&ids, &entropy, now).unwrap();
        assert_eq!(renewed.current().unwrap().id(), next);
        let renewed = Keyring::parse(&renewed.to_bytes().unwrap()).unwrap();
        assert_eq!(renewed.current().unwrap().id(), next);
        assert!(
            renewed.keys.iter().any(|k| k.state == KeyState::Next)
                && renewed.ids().is_disjoint(&ids)
        );
        assert!(renewed.signing_key(Algorithm::ES384).is_some());
        // Nothing is left of one that leaked as a whole.
        let old = renewed.ids();
        let new = renewed.without(&old, &entropy, now).unwrap();
        assert!(
            new.ids().is_disjoint(&old) && new.ids().len() == 6,
            "{:?}",
            new.ids()
        );
        assert!(new.current().is_some());
    }

    #[test]
    fn an_id_is_eight_or_sixteen_digits() {
        assert_eq!(normal_id("0123ABcd").as_deref(), Some("0123abcd"));
        assert_eq!(
            normal_id("0123456789abcdef").as_deref(),
            Some("0123456789abcdef")
        );
        for bad in [
            "",
            "0123abc",
            "0123abcg",
            "+123abcd",
            "0123456789abcde",
            "ééé45678",
        ] {
            assert_eq!(normal_id(bad), None, "{bad}");
        }
    }
}
