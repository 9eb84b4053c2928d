//! The keys that make and open session tokens: current, next and previous.
//!
//! A key is published as `next` before it is used, so that every node can open what another one
//! seals; it stays as `previous` until the last session it made has ended. The keys that sign tokens
//! for others turn with them. Knows no token format.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::base::secret::Secret;
use crate::session::durations;
use crate::session::key_state::KeyState;
use crate::session::signing_key::{self, Algorithm, SigningKey};

/// How long a key that signed tokens for others is published after its last: their longest life,
/// and a day for whoever fetches keys seldom.
const PUBLISHED: Duration = Duration::from_secs(90_000);
/// The most keys in one keyring.
const MAX_KEYS: usize = 16;

/// Why a keyring was refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Its content: the field and the rule.
    #[error("keyring: {0}")]
    Content(String),
    /// No chance, no keys.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// The keyring file. Text forms of keys live only while it is read or written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Document {
    cluster_id: String,
    keys: Vec<KeyDocument>,
    #[serde(default)]
    web_identity_keys: Vec<signing_key::KeyDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct KeyDocument {
    key_id: String,
    state: KeyState,
    /// When it came into this state, in seconds since 1970.
    since: i64,
    sealing_key: Zeroizing<String>,
    signing_seed: Zeroizing<String>,
    secret_key: Zeroizing<String>,
}

/// One key: an id and three secrets that are rotated together.
pub struct Key {
    id: u32,
    state: KeyState,
    since: Timestamp,
    seal: hkdf::Prk,
    sign: Ed25519KeyPair,
    secret: hkdf::Prk,
    /// What is written back when the keyring changes.
    raw: Secret<[[u8; 32]; 3]>,
}

/// All keys of one cluster of brokers.
pub struct Keyring {
    cluster_id: String,
    keys: Vec<Key>,
    current: usize,
    /// What signs tokens for others.
    web_identity: Vec<SigningKey>,
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
            revoked: ArcSwap::default(),
        };
        for state in [KeyState::Current, KeyState::Next] {
            let key = keyring.fresh(state, entropy, now)?;
            keyring.keys.push(key);
        }
        keyring.with_signing_keys(&[Algorithm::ES384, Algorithm::EdDSA], entropy, now)
    }

    /// With a current and a next key of each of these algorithms that has none.
    ///
    /// # Errors
    /// Without randomness.
    pub fn with_signing_keys(
        mut self,
        algorithms: &[Algorithm],
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        for algorithm in algorithms
            .iter()
            .filter(|a| self.signing_key(**a).is_none())
            .copied()
            .collect::<Vec<_>>()
        {
            for state in [KeyState::Current, KeyState::Next] {
                self.web_identity
                    .push(signing_key(algorithm, state, entropy, now)?);
            }
        }
        Ok(self)
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

    /// Reads a keyring from its file form.
    ///
    /// # Errors
    /// Names the field and the rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|e| content(e.to_string()))?;
        let cluster = &document.cluster_id;
        if cluster.len() != 16 || !cluster.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(content("ClusterId: must be 16 hexadecimal digits"));
        }
        if document.keys.len() > MAX_KEYS {
            return Err(content(format!("Keys: at most {MAX_KEYS}")));
        }
        let mut keys: Vec<Key> = Vec::new();
        for key in &document.keys {
            let id = u32::from_str_radix(&key.key_id, 16)
                .ok()
                .filter(|_| key.key_id.len() == 8);
            let id = id.ok_or_else(|| content("KeyId: must be 8 hexadecimal digits"))?;
            if keys.iter().any(|k| k.id == id) {
                return Err(content(format!("KeyId: {:08x} is there twice", id)));
            }
            let raw = [
                decode("SealingKey", &key.sealing_key)?,
                decode("SigningSeed", &key.signing_seed)?,
                decode("SecretKey", &key.secret_key)?,
            ];
            keys.push(Key::new(
                id,
                key.state,
                Timestamp::from_seconds(key.since),
                Secret::new(raw),
            )?);
        }
        if document.web_identity_keys.len() > 3 * MAX_KEYS {
            return Err(content(format!(
                "WebIdentityKeys: at most {}",
                3 * MAX_KEYS
            )));
        }
        let web_identity = document
            .web_identity_keys
            .iter()
            .map(SigningKey::parse)
            .collect::<Result<_, _>>();
        let web_identity = web_identity.map_err(|e| content(format!("WebIdentityKeys: {e}")))?;
        let mut current = keys
            .iter()
            .enumerate()
            .filter(|(_, k)| k.state == KeyState::Current)
            .map(|(i, _)| i);
        match (current.next(), current.next()) {
            (Some(current), None) => {
                let revoked = ArcSwap::default();
                Ok(Self {
                    cluster_id: document.cluster_id,
                    keys,
                    current,
                    web_identity,
                    revoked,
                })
            }
            _ => Err(content("Keys: exactly one must have the State `current`")),
        }
    }

    /// The file form.
    ///
    /// # Errors
    /// Never with a sound keyring.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let encode = |bytes: &[u8; 32]| Zeroizing::new(STANDARD.encode(bytes));
        let keys = self.keys.iter().map(|k| {
            let [seal, sign, secret] = k.raw.expose();
            KeyDocument {
                key_id: format!("{:08x}", k.id),
                state: k.state,
                since: k.since.seconds(),
                sealing_key: encode(seal),
                signing_seed: encode(sign),
                secret_key: encode(secret),
            }
        });
        let document = Document {
            cluster_id: self.cluster_id.clone(),
            keys: keys.collect(),
            web_identity_keys: self.web_identity.iter().map(SigningKey::document).collect(),
        };
        serde_json::to_vec_pretty(&document)
            .map(Zeroizing::new)
            .map_err(|e| content(e.to_string()))
    }

    /// Next becomes current, current becomes previous, and a new next key is published. Previous
    /// keys go once every session they made has ended.
    ///
    /// # Errors
    /// Without a next key (nobody else could open what it makes), and without randomness.
    pub fn rotate(mut self, entropy: &dyn Entropy, now: Timestamp) -> Result<Self, KeyringError> {
        let next = self.keys.iter().position(|k| k.state == KeyState::Next);
        let next = next.ok_or_else(|| {
            content("Keys: none has the State `next`; a key is published before it is used")
        })?;
        for (i, key) in self.keys.iter_mut().enumerate() {
            if i == next || key.state == KeyState::Current {
                key.state = if i == next {
                    KeyState::Current
                } else {
                    KeyState::Previous
                };
                key.since = now;
            }
        }
        let fresh = self.fresh(KeyState::Next, entropy, now)?;
        self.keys.push(fresh);
        self.keys
            .retain(|k| k.state != KeyState::Previous || now.since(k.since) <= durations::MAX);
        if self.keys.len() > MAX_KEYS {
            let oldest = self.keys.iter().map(|key| key.since).min().unwrap_or(now);
            return Err(content(format!(
                "Keys: there would be more than {MAX_KEYS}: sessions of the previous keys go on until {}; rotate again then",
                oldest.plus(durations::MAX)
            )));
        }
        self.current = self
            .keys
            .iter()
            .position(|k| k.state == KeyState::Current)
            .unwrap_or_default();
        for algorithm in [Algorithm::RS256, Algorithm::ES384, Algorithm::EdDSA] {
            for key in self
                .web_identity
                .iter_mut()
                .filter(|k| k.algorithm() == algorithm)
            {
                let state = match key.state {
                    KeyState::Next => KeyState::Current,
                    KeyState::Current | KeyState::Previous => KeyState::Previous,
                };
                if state != key.state {
                    (key.state, key.since) = (state, now);
                }
            }
            if self.signing_key(algorithm).is_some() {
                self.web_identity
                    .push(signing_key(algorithm, KeyState::Next, entropy, now)?);
            }
        }
        self.web_identity
            .retain(|k| k.state != KeyState::Previous || now.since(k.since) <= PUBLISHED);
        // One from before there were such keys, or of an algorithm that came later.
        self.with_signing_keys(
            &[Algorithm::RS256, Algorithm::ES384, Algorithm::EdDSA],
            entropy,
            now,
        )
    }

    fn fresh(
        &self,
        state: KeyState,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<Key, KeyringError> {
        let id = u32::from_be_bytes(entropy::bytes(entropy)?);
        if self.keys.iter().any(|k| k.id == id) {
            return Err(content("a new key's id is taken; run the command again"));
        }
        let raw = [
            entropy::bytes(entropy)?,
            entropy::bytes(entropy)?,
            entropy::bytes(entropy)?,
        ];
        Key::new(id, state, now, Secret::new(raw))
    }

    /// The cluster that these keys belong to; a token of another cluster never opens.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The key that makes tokens.
    pub fn current(&self) -> Option<&Key> {
        self.keys
            .get(self.current)
            .filter(|k| !self.is_revoked(k.id))
    }

    /// The key of that id, in any state, unless it was revoked.
    pub fn find(&self, id: u32) -> Option<&Key> {
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

    /// Whether the key of that id was revoked.
    pub fn is_revoked(&self, id: u32) -> bool {
        let revoked = self.revoked.load();
        !revoked.is_empty() && revoked.contains(&text_id(id))
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

    /// A keyring without some keys: the next key takes the place of the current one, and new keys are
    /// made where one is missing.
    ///
    /// # Errors
    /// Without randomness.
    pub fn without(
        mut self,
        ids: &BTreeSet<String>,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        self.keys.retain(|k| !ids.contains(&text_id(k.id)));
        for state in [KeyState::Current, KeyState::Next] {
            if self.keys.iter().any(|k| k.state == state) {
                continue;
            }
            match self.keys.iter_mut().find(|k| k.state == KeyState::Next) {
                Some(next) if state == KeyState::Current => (next.state, next.since) = (state, now),
                _ => {
                    let key = self.fresh(state, entropy, now)?;
                    self.keys.push(key);
                }
            }
        }
        self.current = self
            .keys
            .iter()
            .position(|k| k.state == KeyState::Current)
            .unwrap_or_default();
        let algorithms: BTreeSet<_> = self
            .web_identity
            .iter()
            .map(|k| k.algorithm().name())
            .collect();
        self.web_identity
            .retain(|k| !ids.contains(&k.id().to_ascii_lowercase()));
        for algorithm in algorithms.into_iter().filter_map(Algorithm::parse) {
            for state in [KeyState::Current, KeyState::Next] {
                let mut own = self
                    .web_identity
                    .iter_mut()
                    .filter(|k| k.algorithm() == algorithm);
                if own.any(|k| k.state == state) {
                    continue;
                }
                let mut own = self
                    .web_identity
                    .iter_mut()
                    .filter(|k| k.algorithm() == algorithm);
                match own.find(|k| k.state == KeyState::Next) {
                    Some(next) if state == KeyState::Current => {
                        (next.state, next.since) = (state, now)
                    }
                    _ => self
                        .web_identity
                        .push(signing_key(algorithm, state, entropy, now)?),
                }
            }
        }
        Ok(self)
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
    pub fn record_mac(&self, key: &Key) -> Result<ring::hmac::Key, ring::error::Unspecified> {
        let mut bytes = Zeroizing::new([0; 32]);
        let info = [
            b"brevet session record v1".as_slice(),
            self.cluster_id.as_bytes(),
        ];
        key.seal.expand(&info, Bytes32)?.fill(bytes.as_mut())?;
        Ok(ring::hmac::Key::new(
            ring::hmac::HMAC_SHA256,
            bytes.as_ref(),
        ))
    }
}

impl Key {
    fn new(
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
            return Err(content(format!("key {id:08x} is not random")));
        }
        let prk = |bytes: &[u8; 32]| hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, bytes);
        let pair = Ed25519KeyPair::from_seed_unchecked(sign)
            .map_err(|_| content("SigningSeed: not an Ed25519 seed"))?;
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

    /// Its name in tokens.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Ed25519 over `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        for (slot, byte) in out.iter_mut().zip(self.sign.sign(message).as_ref()) {
            *slot = *byte;
        }
        out
    }

    /// Whether this key made the signature.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.sign.public_key().as_ref())
            .verify(message, signature)
            .is_ok()
    }

    /// Encrypts in place under a key of its own for each `salt` (which must never repeat), so that
    /// no number of tokens wears the sealing key out. Appends the tag.
    pub fn seal(
        &self,
        salt: &[u8; 16],
        aad: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<(), ring::error::Unspecified> {
        self.message_key(salt)?
            .seal_in_place_append_tag(zero_nonce(), Aad::from(aad), buffer)
    }

    /// Reverses [`Self::seal`]; the plain bytes, or an error if a single bit differs.
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

    /// Thirty bytes that belong to one session and cannot be told from its token.
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

/// Each message key seals one message, so its nonce need not vary.
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

fn decode(field: &str, text: &str) -> Result<[u8; 32], KeyringError> {
    let bytes = Zeroizing::new(
        STANDARD
            .decode(text)
            .map_err(|_| content(format!("{field}: must be base64")))?,
    );
    bytes
        .as_slice()
        .try_into()
        .map_err(|_| content(format!("{field}: must be 32 bytes")))
}

fn signing_key(
    algorithm: Algorithm,
    state: KeyState,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<SigningKey, KeyringError> {
    SigningKey::generate(algorithm, state, entropy, now)
        .map_err(|_| KeyringError::Entropy(NoEntropy))
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
    fn a_keyring_is_written_read_and_rotated() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1_000));
        let first = Keyring::generate(&entropy, now).unwrap();
        let first_id = first.current().unwrap().id();
        let second = Keyring::parse(&first.to_bytes().unwrap())
            .unwrap()
            .rotate(&entropy, now)
            .unwrap();
        assert_ne!(second.current().unwrap().id(), first_id);
        assert_eq!(second.find(first_id).unwrap().state, KeyState::Previous);
        assert_eq!(second.current().unwrap().id(), first.keys[1].id());
        // Once the longest session is over, the key that made it goes.
        let third = second.rotate(&entropy, now.plus(durations::MAX)).unwrap();
        assert!(third.find(first_id).is_some());
        let fourth = third
            .rotate(&entropy, now.plus(durations::MAX * 2))
            .unwrap();
        assert!(fourth.find(first_id).is_none());
    }

    #[test]
    fn it_is_not_rotated_into_more_keys_than_a_broker_reads() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1_000));
        let mut keyring = Keyring::generate(&entropy, now).unwrap();
        let refused = loop {
            match keyring.rotate(&entropy, now) {
                Ok(rotated) => keyring = Keyring::parse(&rotated.to_bytes().unwrap()).unwrap(),
                Err(refused) => break refused.to_string(),
            }
        };
        assert!(refused.contains("more than 16"), "{refused}");
    }

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

    #[test]
    fn an_05_constant_keys_are_refused() {
        assert!(
            Key::new(
                1,
                KeyState::Current,
                Timestamp::from_seconds(0),
                Secret::new([[0; 32]; 3])
            )
            .is_err()
        );
    }
}
