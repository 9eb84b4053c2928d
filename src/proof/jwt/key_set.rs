//! The keys of a provider: a JSON Web Key Set (RFC 7517, RFC 7518 section 6, RFC 8037), and the
//! algorithms that each key may be used with.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Value, json};

use super::{MAX_KEY_ID, TokenError};

/// The maximum size of a key set in bytes. A larger one is refused, so that parsing it cannot take
/// long.
pub const MAX_KEY_SET_BYTES: usize = 1 << 20;
/// The maximum number of keys in a key set.
const MAX_KEYS: usize = 200;
/// The permitted sizes of RSA moduli in bytes: 2,048 to 8,192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// A public key of a provider, with the algorithms that it may be used with.
#[derive(Clone)]
pub struct VerifyingKey {
    pub(super) key: DecodingKey,
    pub(super) algorithms: &'static [Algorithm],
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.algorithms)
    }
}

/// The keys of a provider, by key id.
#[derive(Debug, Clone, Default)]
pub struct KeySet(HashMap<String, VerifyingKey>);

impl KeySet {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Parses a JSON Web Key Set. Keys that cannot be used are skipped: symmetric or encryption keys, keys that are too
    /// short or of another curve, and keys without an id or with a duplicate one.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] if the text is not a key set, is too long, or has too many keys.
    pub fn parse(text: &[u8]) -> Result<Self, TokenError> {
        if text.len() > MAX_KEY_SET_BYTES {
            return Err(TokenError::Malformed);
        }
        let document: Value = serde_json::from_slice(text).map_err(|_| TokenError::Malformed)?;
        let Some(Value::Array(list)) = document.get("keys") else {
            return Err(TokenError::Malformed);
        };
        if list.len() > MAX_KEYS {
            return Err(TokenError::Malformed);
        }
        let (mut keys, mut seen) = (HashMap::new(), HashSet::new());
        for jwk in list {
            let id = jwk
                .get("kid")
                .and_then(Value::as_str)
                .filter(|id| !id.is_empty() && id.len() <= MAX_KEY_ID);
            let Some(id) = id else { continue };
            if !seen.insert(id) {
                // It would be ambiguous which of the two is meant.
                keys.remove(id);
            } else if let Some(key) = key(jwk) {
                keys.insert(id.to_owned(), key);
            }
        }
        Ok(Self(keys))
    }

    pub fn get(&self, id: &str) -> Option<&VerifyingKey> {
        self.0.get(id)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Returns the algorithm with this name; `None` if Brevet does not accept it.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    let all = RSA
        .iter()
        .chain(&[Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA]);
    all.copied().find(|a| format!("{a:?}") == name)
}

fn key(jwk: &Value) -> Option<VerifyingKey> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let list = |name: &str| jwk.get(name).and_then(Value::as_array);
    let signs = text("use").is_none_or(|u| u == "sig")
        && jwk.get("use").is_none_or(Value::is_string)
        && (jwk.get("key_ops").is_none() || list("key_ops")?.iter().any(|op| op == "verify"));
    if !signs || jwk.get("d").is_some() || jwk.get("k").is_some() {
        return None;
    }
    let (key, algorithms): (DecodingKey, &'static [Algorithm]) = match (text("kty")?, text("crv")) {
        ("RSA", None) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            // `ring` refuses exponents below 3 and even moduli.
            if !RSA_BYTES.contains(&n.len()) || n.first() == Some(&0) || e.is_empty() || e.len() > 8
            {
                return None;
            }
            (DecodingKey::from_rsa_raw_components(&n, &e), RSA)
        }
        ("EC", Some("P-256")) => (point(&bytes("x")?, &bytes("y")?, 32)?, &[Algorithm::ES256]),
        ("EC", Some("P-384")) => (point(&bytes("x")?, &bytes("y")?, 48)?, &[Algorithm::ES384]),
        ("OKP", Some("Ed25519")) => {
            let x = bytes("x").filter(|x| x.len() == 32)?;
            (DecodingKey::from_ed_der(&x), &[Algorithm::EdDSA])
        }
        _ => return None,
    };
    // A key that states its algorithm must not be used with another one.
    let algorithms = match jwk.get("alg") {
        None => algorithms,
        Some(alg) => {
            let wanted = algorithm(alg.as_str()?)?;
            let at = algorithms.iter().position(|a| *a == wanted)?;
            algorithms.get(at..=at)?
        }
    };
    Some(VerifyingKey { key, algorithms })
}

/// Decoy keys, with which signatures are checked only to take the usual time. The result of such a
/// check is never used. The keys are the base points of the curves (SP 800-186).
pub(super) static DECOY_KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let keys = json!({"keys": [
        {"kid": "ES256", "kty": "EC", "crv": "P-256", "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY", "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"},
        {
            "kid": "ES384", "kty": "EC", "crv": "P-384",
            "x": "qofKIr6LBTeOscce8yCtdG4dO2KLp5uYWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3",
            "y": "NhfeSpYmLG9dnpi_kpLcKfj0Hb0omhR86doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f",
        },
        {"kid": "EdDSA", "kty": "OKP", "crv": "Ed25519", "x": "WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY"},
    ]});
    KeySet::parse(keys.to_string().as_bytes()).unwrap_or_default()
});

/// Returns a decoy key for an algorithm. The check of a signature with it takes the usual time, and
/// its result must not be used. For RSA, the modulus is all ones and as long as the signature.
pub(super) fn decoy_key(algorithm: Algorithm, signature: usize) -> Option<DecodingKey> {
    if RSA.contains(&algorithm) {
        let length = signature.clamp(*RSA_BYTES.start(), *RSA_BYTES.end());
        Some(DecodingKey::from_rsa_raw_components(
            &vec![0xff; length],
            &[1, 0, 1],
        ))
    } else {
        DECOY_KEYS
            .get(&format!("{algorithm:?}"))
            .map(|key| key.key.clone())
    }
}

/// Encodes a curve point without compression: SEC 1 section 2.3.3.
fn point(x: &[u8], y: &[u8], size: usize) -> Option<DecodingKey> {
    (x.len() == size && y.len() == size).then(|| DecodingKey::from_ec_der(&[&[4], x, y].concat()))
}
