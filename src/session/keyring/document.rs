//! Reads and writes the keyring file.

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Keyring, KeyringError, MAX_KEYS, MAX_RETIRED, SessionKey, content, normal_id};
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::session::key_state::KeyState;
use crate::session::signing_key::{self, Algorithm, SigningKey};

/// The content of the keyring file. It exists only while the file is read or written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Document {
    cluster_id: String,
    keys: Vec<KeyDocument>,
    #[serde(default)]
    web_identity_keys: Vec<signing_key::KeyDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retired_key_ids: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct KeyDocument {
    key_id: String,
    state: KeyState,
    /// When the key entered its present state, in seconds since 1970.
    since: i64,
    sealing_key: Zeroizing<String>,
    signing_seed: Zeroizing<String>,
    secret_key: Zeroizing<String>,
}

impl Keyring {
    /// Reads a keyring from the text of its file.
    ///
    /// # Errors
    /// [`KeyringError::Content`] with the field and the rule that it breaks.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|e| content(e.to_string()))?;
        let cluster = &document.cluster_id;
        if cluster.len() != 16 || !cluster.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(content("ClusterId: must be 16 hexadecimal digits"));
        }
        if document.keys.len() > MAX_KEYS {
            return Err(content(format!(
                "Keys: must have at most {MAX_KEYS} entries"
            )));
        }
        let keys = session_keys(&document.keys)?;
        let most = Algorithm::ALL.len() * MAX_KEYS;
        if document.web_identity_keys.len() > most {
            return Err(content(format!(
                "WebIdentityKeys: must have at most {most} entries"
            )));
        }
        let web_identity = document
            .web_identity_keys
            .iter()
            .enumerate()
            .map(|(at, key)| {
                SigningKey::parse(key).map_err(|_| {
                    content(format!(
                        "WebIdentityKeys: entry {}: KeyId must be 16 hexadecimal digits, and Pkcs8 and CertificateSignature must \
                         be base64 and fit the Algorithm",
                        at + 1
                    ))
                })
            })
            .collect::<Result<_, _>>()?;
        if document.retired_key_ids.len() > MAX_RETIRED {
            return Err(content(format!(
                "RetiredKeyIds: must have at most {MAX_RETIRED} entries"
            )));
        }
        let retired = document.retired_key_ids.iter().map(|id| {
            normal_id(id).ok_or_else(|| {
                content("RetiredKeyIds: each entry must be 8 or 16 hexadecimal digits")
            })
        });
        let retired = retired.collect::<Result<_, _>>()?;
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
                    retired,
                    revoked,
                })
            }
            _ => Err(content(
                "Keys: exactly one key must have the State `current`",
            )),
        }
    }

    /// Serializes the keyring as the JSON text of its file.
    ///
    /// # Errors
    /// [`KeyringError::Content`] if serialization fails, which does not happen with a valid keyring.
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
            retired_key_ids: self.retired.clone(),
        };
        serde_json::to_vec_pretty(&document)
            .map(Zeroizing::new)
            .map_err(|e| content(e.to_string()))
    }
}

/// Reads the keys of session tokens, no two of which may have the same id.
fn session_keys(documents: &[KeyDocument]) -> Result<Vec<SessionKey>, KeyringError> {
    let mut keys: Vec<SessionKey> = Vec::new();
    for (at, key) in documents.iter().enumerate() {
        let id = u32::from_str_radix(&key.key_id, 16)
            .ok()
            .filter(|_| key.key_id.len() == 8);
        let id = id.ok_or_else(|| {
            content(format!(
                "Keys: KeyId of entry {}: must be 8 hexadecimal digits",
                at + 1
            ))
        })?;
        if keys.iter().any(|k| k.id == id) {
            return Err(content(format!("KeyId: {:08x} occurs twice", id)));
        }
        let raw = [
            decode(id, "SealingKey", &key.sealing_key)?,
            decode(id, "SigningSeed", &key.signing_seed)?,
            decode(id, "SecretKey", &key.secret_key)?,
        ];
        keys.push(SessionKey::new(
            id,
            key.state,
            Timestamp::from_seconds(key.since),
            Secret::new(raw),
        )?);
    }
    Ok(keys)
}

fn decode(id: u32, field: &str, text: &str) -> Result<[u8; 32], KeyringError> {
    let wrong = |rule: &str| content(format!("Keys: {field} of the key {id:08x}: {rule}"));
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| wrong("must be base64"))?);
    bytes
        .as_slice()
        .try_into()
        .map_err(|_| wrong("must be 32 bytes"))
}
