//! Seals the rows of sign-ins in the store, and the registrations that programs keep. The keys are derived from the
//! master key, which all nodes share. A sealed value can only be opened as the same kind of value with the same id.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{aead, hkdf, hmac};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::base::digest::hex;
use crate::base::entropy::{self, Entropy};
use crate::broker::Broker;
use crate::error::Error;

/// The key id of the fixed key by which `brevet serve --dev` seals registrations.
const FIXED: &str = "dev";

/// The keys for one purpose. New values are sealed under the first key; all keys can open values.
pub(super) struct Sealer(Vec<Key>);

struct Key {
    id: String,
    seal: aead::LessSafeKey,
    mac: hmac::Key,
}

impl Sealer {
    /// The keys for the rows in the store.
    ///
    /// # Errors
    /// [`Error::ServiceUnavailable`] if there is no master key.
    pub(super) fn of(broker: &Broker) -> Result<Self, Error> {
        Self::derive(broker, "brevet sign-in")
    }

    /// The keys for registrations. Since programs keep registrations for a long time, retired master keys still open
    /// them. For development, the settings can select one fixed key instead.
    ///
    /// # Errors
    /// [`Error::ServiceUnavailable`] if there is no master key.
    pub(super) fn of_registrations(broker: &Broker) -> Result<Self, Error> {
        const INFO: &str = "brevet registration";
        if super::settings(broker)?.fixed_registration_key {
            let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"development");
            let key = Key::derive(FIXED, INFO, &salt.extract(b"a registration proves nothing"));
            return Ok(Self(vec![key.ok_or(Error::InternalFailure)?]));
        }
        Self::derive(broker, INFO)
    }

    fn derive(broker: &Broker, info: &str) -> Result<Self, Error> {
        const MISSING: Error = Error::ServiceUnavailable("the master key");
        let master_key = broker.master_key.load_full().ok_or(MISSING)?;
        let extracts = master_key
            .extracts(broker.store.id().as_bytes())
            .map_err(|_| MISSING)?;
        let keys = extracts
            .into_iter()
            .map(|(id, prk)| Key::derive(id, info, &prk))
            .collect::<Option<Vec<_>>>();
        keys.filter(|keys| !keys.is_empty())
            .map(Self)
            .ok_or(Error::InternalFailure)
    }

    /// Seals a value, and binds it to its kind and its id. Returns `KEYID.TEXT` in base64url.
    ///
    /// # Errors
    /// [`Error`] if there are no random bytes, or the value cannot be serialized or sealed.
    pub(super) fn seal(
        &self,
        kind: &str,
        id: &str,
        value: &impl Serialize,
        entropy: &dyn Entropy,
    ) -> Result<String, Error> {
        let key = self.0.first().ok_or(Error::InternalFailure)?;
        let text = serde_json::to_vec(value).map_err(|_| Error::InternalFailure)?;
        let nonce: [u8; aead::NONCE_LEN] = entropy::bytes(entropy)?;
        let mut sealed = Zeroizing::new(text);
        key.seal.seal_in_place_append_tag(
            aead::Nonce::assume_unique_for_key(nonce),
            bound_to(kind, id),
            &mut *sealed,
        )?;
        let body = URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat());
        Ok(format!("{}.{body}", key.id))
    }

    /// Opens a text that was sealed for this kind and id. `None` if the text was sealed for another kind or id, or was
    /// altered, or if its key is gone.
    pub(super) fn open<T: DeserializeOwned>(&self, kind: &str, id: &str, text: &str) -> Option<T> {
        let (key_id, body) = text.split_once('.')?;
        let key = self.0.iter().find(|key| key.id == key_id)?;
        let mut bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).ok()?);
        let (nonce, sealed) = bytes.split_at_mut_checked(aead::NONCE_LEN)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let opened = key.seal.open_in_place(nonce, bound_to(kind, id), sealed);
        serde_json::from_slice(opened.ok()?).ok()
    }

    /// The MACs of a short code: one under each key, beginning with the key that seals. The store has only the MACs of
    /// such codes, because somebody with a plain digest could find the code by trying all possible codes.
    pub(super) fn marks(&self, code: &str) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .map(move |key| hex(hmac::sign(&key.mac, code.as_bytes()).as_ref()))
    }

    /// The client secret that belongs to a sealed client id: a MAC of the text under the key that sealed it. `None` if
    /// that key is gone, or the text names no key.
    pub(super) fn secret_of(&self, text: &str) -> Option<String> {
        let (key_id, _) = text.split_once('.')?;
        let key = self.0.iter().find(|key| key.id == key_id)?;
        Some(super::spelled(
            hmac::sign(&key.mac, text.as_bytes()).as_ref(),
        ))
    }
}

impl Key {
    fn derive(id: &str, info: &str, prk: &hkdf::Prk) -> Option<Self> {
        let seal = [info.as_bytes(), b" seal v1"];
        let mac = [info.as_bytes(), b" mac v1"];
        Some(Self {
            id: id.to_owned(),
            seal: aead::LessSafeKey::new(aead::UnboundKey::from(
                prk.expand(&seal, &aead::AES_256_GCM).ok()?,
            )),
            mac: hmac::Key::from(prk.expand(&mac, hmac::HMAC_SHA256).ok()?),
        })
    }
}

fn bound_to(kind: &str, id: &str) -> aead::Aad<Vec<u8>> {
    let length = u64::try_from(kind.len()).unwrap_or(u64::MAX).to_be_bytes();
    aead::Aad::from([&length[..], kind.as_bytes(), id.as_bytes()].concat())
}
