//! The keys that make and open session tokens: current, next and previous.
//!
//! A key is published as `next` before it is used, so that every node can open what another one seals. It stays as
//! `previous` until the last session that it sealed has ended, unless an administrator removes it earlier. The keys
//! that sign web identity tokens are rotated together with them. This module does not know the format of tokens.

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
/// The maximum number of ids of removed keys that the file keeps. A broker that reads the file records them in
/// the store.
const MAX_RETIRED: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The content of the keyring breaks a rule; holds the field and the rule.
    #[error("keyring: {0}")]
    Content(String),
    /// The system has no random bytes for a new key.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// The keys of session tokens and of web identity tokens that all brokers of a cluster share.
pub struct Keyring {
    cluster_id: String,
    keys: Vec<SessionKey>,
    current: usize,
    /// The keys that sign web identity tokens.
    web_identity: Vec<SigningKey>,
    /// The ids of the last [`MAX_RETIRED`] keys that rotations have removed, oldest first. The broker refuses these
    /// keys even if it later reads an older keyring file that contains them.
    retired: Vec<String>,
    /// The ids of revoked keys. A keyring that still contains such a key does not use it.
    revoked: ArcSwap<BTreeSet<String>>,
}

impl Keyring {
    /// Makes the keys of a new cluster: a current and a next key of each kind, except RSA keys of web identity tokens,
    /// which take long to generate.
    ///
    /// # Errors
    /// [`KeyringError::Entropy`] if there are no random bytes.
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
        // RSA keys take a second, so whoever starts a broker adds them.
        let quick = [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
        keyring.with_signing_keys(&quick, entropy, now)
    }

    /// The current key that signs web identity tokens with this algorithm; `None` if there is none, or it was revoked.
    pub fn signing_key(&self, algorithm: Algorithm) -> Option<&SigningKey> {
        let revoked = self.revoked.load();
        let is_it = |k: &&SigningKey| k.algorithm() == algorithm && k.state == KeyState::Current;
        self.web_identity
            .iter()
            .find(is_it)
            .filter(|k| !revoked.contains(&k.id().to_ascii_lowercase()))
    }

    /// All keys that sign web identity tokens, whatever their state, except revoked ones.
    pub fn signing_keys(&self) -> impl Iterator<Item = &SigningKey> {
        let revoked = self.revoked.load_full();
        self.web_identity
            .iter()
            .filter(move |k| !revoked.contains(&k.id().to_ascii_lowercase()))
    }

    /// The id of the cluster to which these keys belong. They open no token of another cluster.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The key that seals new tokens, unless it was revoked.
    pub fn current(&self) -> Option<&SessionKey> {
        self.keys
            .get(self.current)
            .filter(|k| !self.is_revoked(k.id))
    }

    /// The key with this id, in any state, unless it was revoked.
    pub fn find(&self, id: u32) -> Option<&SessionKey> {
        self.keys
            .iter()
            .find(|k| k.id == id)
            .filter(|k| !self.is_revoked(k.id))
    }

    /// Stops using the keys with these ids, even though they stay in the keyring. The ids must have the form of
    /// [`normal_id`].
    pub fn revoke(&self, ids: &BTreeSet<String>) {
        let all: BTreeSet<String> = self.revoked.load().union(ids).cloned().collect();
        self.revoked.store(Arc::new(all));
    }

    pub fn is_revoked(&self, id: u32) -> bool {
        let revoked = self.revoked.load();
        !revoked.is_empty() && revoked.contains(&text_id(id))
    }

    /// The ids of keys that rotations have removed; the file keeps the last 256 of them.
    pub fn retired(&self) -> BTreeSet<String> {
        let ids = self.ids();
        let retired = self.retired.iter();
        retired.filter(|id| !ids.contains(*id)).cloned().collect()
    }

    /// The ids of all keys, including those that sign web identity tokens.
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

    /// The id and the state of each key of session tokens, and the time of its last change.
    pub fn listing(&self) -> impl Iterator<Item = (u32, KeyState, Timestamp)> {
        self.keys.iter().map(|k| (k.id, k.state, k.since))
    }

    /// The id, algorithm and state of each key of web identity tokens, and the time of its last
    /// change.
    pub fn signing_listing(&self) -> impl Iterator<Item = (&str, Algorithm, KeyState, Timestamp)> {
        self.web_identity
            .iter()
            .map(|k| (k.id(), k.algorithm(), k.state, k.since))
    }

    /// The key for authenticating the cluster's records in Redis. It is derived from `key`, so it is the same on every
    /// node.
    pub fn record_mac(
        &self,
        key: &SessionKey,
    ) -> Result<ring::hmac::Key, ring::error::Unspecified> {
        key.record_mac(&self.cluster_id)
    }
}

/// The id of a key as files and messages contain it.
fn text_id(id: u32) -> String {
    format!("{id:08x}")
}

/// The normal form of a key's id for comparisons: 8 hexadecimal digits, or 16 for a key of web
/// identity tokens, in lower case. `None` for any other text.
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
        // A new file continues with the key that every broker already has.
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
        // If the whole file leaked, all of its keys are replaced.
        let old = renewed.ids();
        let new = renewed.without(&old, &entropy, now).unwrap();
        assert!(
            new.ids().is_disjoint(&old) && new.ids().len() == 8,
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
