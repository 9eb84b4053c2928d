//! JSON Web Tokens of others, strictly: RFC 7519, RFC 7515, RFC 7517, RFC 8725, OpenID Connect Core
//! 1.0 section 3.1.3.7. Knows bytes and keys; no clock, no network, no provider.
//!
//! Nothing is decided by what a token says of itself: the key is the provider's own, and the
//! algorithm is the key's. A signature is checked over the bytes that are then read, once.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error as JwtError, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{self as sig, UnparsedPublicKey, VerificationAlgorithm};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};

/// The longest token, in characters: STS API Reference, "AssumeRoleWithWebIdentity".
pub const MAX_CHARACTERS: usize = 20_000;
/// The longest key set, in bytes, and the most keys in it.
pub const MAX_KEY_SET_BYTES: usize = 1 << 20;
const MAX_KEYS: usize = 200;
/// The most claims, nested ones included, and how deep they are looked into.
const MAX_CLAIMS: usize = 500;
const MAX_CLAIM_DEPTH: usize = 4;
/// The longest key id.
const MAX_KEY_ID: usize = 512;
/// RSA moduli, in bytes: 2,048 to 8,192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// Why a token is no token. One word for every reason but those that a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of strict base64url with strict JSON in the first two.
    #[error("the token is malformed")]
    Malformed,
    /// A header that asks for something that is not done here, or an algorithm that is not taken.
    #[error("the token's header is not accepted")]
    Header,
    /// The key did not make the signature.
    #[error("the token's signature is not good")]
    Signature,
}

/// A token taken apart; nothing of it is true yet.
#[derive(Debug)]
pub struct Unverified<'a> {
    message: &'a str,
    signature: &'a str,
    signature_bytes: Vec<u8>,
    algorithm: Algorithm,
    key_id: String,
    claims: Map<String, Value>,
}

/// The claims of a token whose signature is good.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified(Map<String, Value>);

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// When it is malformed, or its header asks for what is not done here.
    pub fn read(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_CHARACTERS {
            return Err(TokenError::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        // The engine is strict: no padding, no white space, no stray bits at the end.
        let signature_bytes = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenError::Malformed)?;
        let header = object(header)?;
        let claims = object(claims)?;
        // Where people and logs read them they would pass for something else, or end a text early.
        if !claims.iter().all(|(name, value)| is_plain(name, value)) {
            return Err(TokenError::Malformed);
        }
        // What could name another key, or change what is signed, refuses the token.
        let foreign = ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"];
        if header.keys().any(|name| foreign.contains(&name.as_str())) {
            return Err(TokenError::Header);
        }
        let text = |name: &str| match header.get(name) {
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            None => Ok(None),
            Some(_) => Err(TokenError::Header),
        };
        // An ID token has the type `JWT` or none (a JWT-SVID also `JOSE`): access and logout tokens say
        // what they are (RFC 9068, OpenID Connect Back-Channel Logout 1.0).
        let id_token =
            |typ: &str| typ.eq_ignore_ascii_case("jwt") || typ.eq_ignore_ascii_case("jose");
        if text("typ")?.is_some_and(|typ| !id_token(typ)) {
            return Err(TokenError::Header);
        }
        let algorithm = text("alg")?.and_then(algorithm).ok_or(TokenError::Header)?;
        let key_id = text("kid")?
            .filter(|kid| !kid.is_empty() && kid.len() <= MAX_KEY_ID)
            .ok_or(TokenError::Header)?;
        Ok(Self {
            message,
            signature,
            signature_bytes,
            algorithm,
            key_id: key_id.to_owned(),
            claims,
        })
    }

    /// Which key it says it was signed with.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// A claim that nobody has vouched for: to find out whose key to ask.
    pub fn unverified_text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// Checks the signature. Without a key that may have made it, it is checked all the same, in vain:
    /// else the time would tell whether there is such a provider or key. What finding them costs (about
    /// a microsecond) is not made up for.
    ///
    /// # Errors
    /// When the key did not make it, or does not do so by this algorithm, or there is none.
    pub fn verify(self, key: Option<&Key>) -> Result<Verified, TokenError> {
        LazyLock::force(&PROVIDER_INSTALLED);
        let check = |key: &DecodingKey| {
            jsonwebtoken::crypto::verify(
                self.signature,
                self.message.as_bytes(),
                key,
                self.algorithm,
            )
        };
        let Some(key) = key.filter(|key| self.may_be_by(key)) else {
            let _ = nobodys(self.algorithm, self.signature_bytes.len()).map(|key| check(&key));
            return Err(TokenError::Signature);
        };
        if check(&key.key).is_ok_and(|good| good) {
            Ok(Verified(self.claims))
        } else {
            Err(TokenError::Signature)
        }
    }

    /// Whether the key signs by this algorithm, and is not refused by ring before any work: an RSA
    /// signature is a number below the modulus, and as long.
    fn may_be_by(&self, key: &Key) -> bool {
        key.algorithms.contains(&self.algorithm)
            && match key.key.kind() {
                DecodingKeyKind::RsaModulusExponent { n, .. } => {
                    self.signature_bytes.len() == n.len() && self.signature_bytes < *n
                }
                _ => true,
            }
    }
}

impl Verified {
    /// All claims.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A claim that is a text.
    pub fn text(&self, claim: &str) -> Option<&str> {
        self.0.get(claim).and_then(Value::as_str)
    }

    /// A claim that is a time, in seconds since 1970. RFC 7519 section 2 lets it have a fraction, which
    /// is rounded so that the token is good for no longer. `Err`: it is there and is no time.
    ///
    /// # Errors
    /// [`TokenError::Malformed`]
    pub fn seconds(&self, claim: &str, rounded: Rounded) -> Result<Option<i64>, TokenError> {
        let Some(value) = self.0.get(claim) else {
            return Ok(None);
        };
        // The last second of the year 9999.
        const LATEST: i64 = 253_402_300_799;
        let seconds = match (value.as_i64(), value.as_f64()) {
            (Some(seconds), _) => seconds,
            // The range is that of numbers whose integers are exact.
            (None, Some(time)) if (0.0..=LATEST as f64).contains(&time) => match rounded {
                Rounded::Down => time.floor() as i64,
                Rounded::Up => time.ceil() as i64,
            },
            _ => return Err(TokenError::Malformed),
        };
        if (0..=LATEST).contains(&seconds) {
            Ok(Some(seconds))
        } else {
            Err(TokenError::Malformed)
        }
    }

    /// Every claim that a condition can look at, by its path: the names of nested claims are joined by
    /// slashes; texts, numbers and booleans are texts; a list is one of them. None when two claims would
    /// have the same path without regard to case (which of them is meant cannot be told), or when there
    /// are too many.
    pub fn flattened(&self) -> Option<Vec<(String, Flat)>> {
        let (mut flat, mut seen) = (Vec::new(), HashSet::new());
        let mut open: Vec<(String, &Value, usize)> =
            self.0.iter().map(|(n, v)| (n.clone(), v, 0)).collect();
        while let Some((path, value, depth)) = open.pop() {
            if !seen.insert(path.to_ascii_lowercase()) || seen.len() > MAX_CLAIMS {
                return None;
            }
            match value {
                Value::Object(map) if depth < MAX_CLAIM_DEPTH => {
                    open.extend(
                        map.iter()
                            .map(|(name, value)| (format!("{path}/{name}"), value, depth + 1)),
                    );
                }
                Value::Array(items) => {
                    if let Some(texts) = items.iter().map(scalar).collect() {
                        flat.push((path, Flat::Many(texts)));
                    }
                }
                other => flat.extend(scalar(other).map(|text| (path, Flat::One(text)))),
            }
        }
        Some(flat)
    }

    /// A claim that is a text or a list of texts; none of them empty. None: absent, or something else.
    pub fn texts(&self, claim: &str) -> Option<Vec<&str>> {
        let texts: Vec<&str> = match self.0.get(claim)? {
            Value::String(text) => vec![text.as_str()],
            Value::Array(items) => items.iter().map(Value::as_str).collect::<Option<_>>()?,
            _ => return None,
        };
        (!texts.is_empty() && texts.iter().all(|t| !t.is_empty())).then_some(texts)
    }
}

/// What becomes of a fraction of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounded {
    /// The second that has begun: for the end of a span.
    Down,
    /// The next one: for its beginning.
    Up,
}

/// The value of a claim as a condition sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flat {
    /// A text, number or boolean.
    One(String),
    /// A list of them.
    Many(Vec<String>),
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// A provider's key: what it is fixes how it signs.
#[derive(Clone)]
pub struct Key {
    key: DecodingKey,
    algorithms: &'static [Algorithm],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.algorithms)
    }
}

/// A provider's keys, by id.
#[derive(Debug, Clone, Default)]
pub struct KeySet(HashMap<String, Key>);

impl KeySet {
    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Reads a JSON Web Key Set. A key that cannot be used (symmetric, for encryption, too short, of
    /// another curve, without an id, or with one that stands twice) is passed over.
    ///
    /// # Errors
    /// When it is no key set, or too long.
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
                // Which of two is meant cannot be told.
                keys.remove(id);
            } else if let Some(key) = key(jwk) {
                keys.insert(id.to_owned(), key);
            }
        }
        Ok(Self(keys))
    }

    /// The key of that id.
    pub fn get(&self, id: &str) -> Option<&Key> {
        self.0.get(id)
    }

    /// Whether there is none that could be used.
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

fn algorithm(name: &str) -> Option<Algorithm> {
    let all = RSA
        .iter()
        .chain(&[Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA]);
    all.copied().find(|a| format!("{a:?}") == name)
}

fn key(jwk: &Value) -> Option<Key> {
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
            // ring refuses exponents below 3 and even moduli.
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
    // One that says how it signs signs in no other way.
    let algorithms = match jwk.get("alg") {
        None => algorithms,
        Some(alg) => {
            let wanted = algorithm(alg.as_str()?)?;
            let at = algorithms.iter().position(|a| *a == wanted)?;
            algorithms.get(at..=at)?
        }
    };
    Some(Key { key, algorithms })
}

/// Keys that vouch for nothing, for signatures that are checked in vain: the curves' own base points
/// (SP 800-186).
static NOBODYS: LazyLock<KeySet> = LazyLock::new(|| {
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

/// Of RSA a modulus of ones, as long as the signature.
fn nobodys(algorithm: Algorithm, signature: usize) -> Option<DecodingKey> {
    if RSA.contains(&algorithm) {
        let length = signature.clamp(*RSA_BYTES.start(), *RSA_BYTES.end());
        Some(DecodingKey::from_rsa_raw_components(
            &vec![0xff; length],
            &[1, 0, 1],
        ))
    } else {
        NOBODYS
            .get(&format!("{algorithm:?}"))
            .map(|key| key.key.clone())
    }
}

/// SEC 1 section 2.3.3, uncompressed.
fn point(x: &[u8], y: &[u8], size: usize) -> Option<DecodingKey> {
    (x.len() == size && y.len() == size).then(|| DecodingKey::from_ec_der(&[&[4], x, y].concat()))
}

/// A part of a token: strict base64url of a JSON object in which no name stands twice.
fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| TokenError::Malformed)?;
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(Value::Object(map))) => Ok(map),
        _ => Err(TokenError::Malformed),
    }
}

/// Whether no name and no text in a claim has a control character. A postal address may have line
/// breaks: OpenID Connect Core 1.0 section 5.1.1.
fn is_plain(name: &str, value: &Value) -> bool {
    fn printable(text: &str) -> bool {
        !text.chars().any(char::is_control)
    }
    let lines = |member: &str, value: &Value| {
        name == "address"
            && matches!(member, "formatted" | "street_address")
            && value
                .as_str()
                .is_some_and(|text| printable(&text.replace(['\r', '\n'], "")))
    };
    printable(name)
        && match value {
            Value::String(text) => printable(text),
            Value::Array(items) => items.iter().all(|item| is_plain("", item)),
            Value::Object(members) => members
                .iter()
                .all(|(member, value)| is_plain(member, value) || lines(member, value)),
            _ => true,
        }
}

/// JSON in which no name stands twice: RFC 8725 section 2.4 tells why. The parser stops at a depth of
/// 128 by itself.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON without repeated names")
            }

            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
                Ok(Strict(
                    Number::from_f64(value).map_or(Value::Null, Value::Number),
                ))
            }

            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
                let mut list = Vec::new();
                while let Some(Strict(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(Strict(Value::Array(list)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strict, A::Error> {
                let mut map = Map::new();
                while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
                    if map.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a name stands twice"));
                    }
                }
                Ok(Strict(Value::Object(map)))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// The token library's cryptography is ring's, as everywhere here.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: |_: &Algorithm, _: &EncodingKey| {
        Err(JwtError::from(ErrorKind::InvalidAlgorithm))
    },
    verifier_factory: |algorithm: &Algorithm, key: &DecodingKey| {
        Ok(Box::new(RingVerifier {
            algorithm: *algorithm,
            key: key.clone(),
        }) as Box<dyn JwtVerifier>)
    },
    key_utils: KeyUtils::new_unimplemented(),
};

static PROVIDER_INSTALLED: LazyLock<()> = LazyLock::new(|| {
    // An error says that it is there already.
    let _ = RING.install_default();
});

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl signature::Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let (rsa, other): (
            Option<&'static sig::RsaParameters>,
            Option<&'static dyn VerificationAlgorithm>,
        ) = match self.algorithm {
            Algorithm::RS256 => (Some(&sig::RSA_PKCS1_2048_8192_SHA256), None),
            Algorithm::RS384 => (Some(&sig::RSA_PKCS1_2048_8192_SHA384), None),
            Algorithm::RS512 => (Some(&sig::RSA_PKCS1_2048_8192_SHA512), None),
            Algorithm::PS256 => (Some(&sig::RSA_PSS_2048_8192_SHA256), None),
            Algorithm::PS384 => (Some(&sig::RSA_PSS_2048_8192_SHA384), None),
            Algorithm::PS512 => (Some(&sig::RSA_PSS_2048_8192_SHA512), None),
            Algorithm::ES256 => (None, Some(&sig::ECDSA_P256_SHA256_FIXED)),
            Algorithm::ES384 => (None, Some(&sig::ECDSA_P384_SHA384_FIXED)),
            Algorithm::EdDSA => (None, Some(&sig::ED25519)),
            _ => (None, None),
        };
        let good = match (self.key.kind(), rsa, other) {
            (DecodingKeyKind::RsaModulusExponent { n, e }, Some(rsa), _) => {
                sig::RsaPublicKeyComponents { n, e }
                    .verify(rsa, message, signature)
                    .is_ok()
            }
            (DecodingKeyKind::SecretOrDer(bytes), _, Some(other)) => {
                UnparsedPublicKey::new(other, bytes)
                    .verify(message, signature)
                    .is_ok()
            }
            _ => false,
        };
        if good {
            Ok(())
        } else {
            Err(signature::Error::new())
        }
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::entropy::SystemEntropy;
    use crate::session::keyring::State;
    use crate::session::signing_key::{Algorithm as Signs, SigningKey};

    fn signing(algorithm: Signs) -> SigningKey {
        SigningKey::generate(
            algorithm,
            State::Current,
            &SystemEntropy::new(),
            Timestamp::from_seconds(1),
        )
        .unwrap()
    }

    fn set(jwks: Value) -> KeySet {
        KeySet::parse(json!({"keys": jwks}).to_string().as_bytes()).unwrap()
    }

    fn token(header: &Value, claims: &str, signature: &str) -> String {
        format!(
            "{}.{}.{signature}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims)
        )
    }

    fn check(token: &str, keys: &KeySet) -> Result<Verified, TokenError> {
        let unverified = Unverified::read(token)?;
        let key = keys.get(unverified.key_id());
        unverified.verify(key)
    }

    #[test]
    fn good_tokens_of_each_kind_of_key() {
        for algorithm in [Signs::RS256, Signs::ES384, Signs::EdDSA] {
            let key = signing(algorithm);
            let keys = set(json!([key.jwk()]));
            let verified = check(&key.sign(br#"{"sub":"x","n":[1]}"#).unwrap(), &keys).unwrap();
            assert_eq!(verified.text("sub"), Some("x"));
            // Another key of the same kind under the same name.
            let mut other = signing(algorithm).jwk().clone();
            other["kid"] = key.id().into();
            assert_eq!(
                check(&key.sign(b"{}").unwrap(), &set(json!([other]))),
                Err(TokenError::Signature)
            );
        }
    }

    #[test]
    fn no_other_character_anywhere_passes() {
        for algorithm in [Signs::ES384, Signs::EdDSA] {
            let key = signing(algorithm);
            let keys = set(json!([key.jwk()]));
            let good = key.sign(br#"{"sub":"x"}"#).unwrap();
            for at in 0..good.len() {
                for other in ['A', 'Q', 'g', 'w', '.', '='] {
                    let bad: String = good
                        .chars()
                        .enumerate()
                        .map(|(i, c)| if i == at { other } else { c })
                        .collect();
                    assert!(bad == good || check(&bad, &keys).is_err(), "{at} {other}");
                }
            }
        }
    }

    #[test]
    fn tk_01_a_token_does_not_choose_its_algorithm() {
        let rsa = signing(Signs::RS256);
        let ec = signing(Signs::ES384);
        let keys = set(json!([rsa.jwk(), ec.jwk()]));
        for alg in [
            "none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "ES512", "ES256K",
            "RS1", "rs256",
        ] {
            for signature in ["", "AAAA"] {
                let header = json!({"alg": alg, "kid": rsa.id()});
                assert!(
                    check(&token(&header, "{}", signature), &keys).is_err(),
                    "{alg}"
                );
            }
        }
        for alg in [json!(["RS256"]), json!(null), json!(1), json!({})] {
            assert!(
                check(
                    &token(&json!({"alg": alg, "kid": rsa.id()}), "{}", "AAAA"),
                    &keys
                )
                .is_err()
            );
        }
        // A good signature of one way under the name of another.
        let good = rsa.sign(b"{}").unwrap();
        let signature = good.rsplit_once('.').unwrap().1;
        for alg in ["PS256", "RS384", "ES256", "ES384", "EdDSA"] {
            assert!(
                check(
                    &token(
                        &json!({"alg": alg, "kid": rsa.id(), "typ": "JWT"}),
                        "{}",
                        signature
                    ),
                    &keys
                )
                .is_err()
            );
        }
        // Psychic signatures: r = s = 0.
        let zero = URL_SAFE_NO_PAD.encode([0; 96]);
        assert!(
            check(
                &token(&json!({"alg": "ES384", "kid": ec.id()}), "{}", &zero),
                &keys
            )
            .is_err()
        );
    }

    #[test]
    fn an_01_a_signature_that_nobodys_key_made_counts_for_nothing() {
        for algorithm in [
            Algorithm::RS256,
            Algorithm::ES256,
            Algorithm::ES384,
            Algorithm::EdDSA,
        ] {
            assert!(nobodys(algorithm, 256).is_some(), "{algorithm:?}");
        }
        // Everybody knows the private key of a base point: it is one.
        let random = crate::base::entropy::system();
        let one = [vec![0; 31], vec![1]].concat();
        let by = |x: &str| URL_SAFE_NO_PAD.decode(x).unwrap();
        let point = [
            vec![4],
            by("axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY"),
            by("T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"),
        ]
        .concat();
        let pair = sig::EcdsaKeyPair::from_private_key_and_public_key(
            &sig::ECDSA_P256_SHA256_FIXED_SIGNING,
            &one,
            &point,
            &random,
        )
        .unwrap();
        let message = token(&json!({"alg": "ES256", "kid": "ES256"}), "{}", "");
        let message = message.trim_end_matches('.');
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(&random, message.as_bytes()).unwrap());
        let token = format!("{message}.{signature}");
        assert!(check(&token, &NOBODYS).is_ok(), "a key like any other");
        assert_eq!(
            check(&token, &KeySet::default()),
            Err(TokenError::Signature)
        );
    }

    #[test]
    fn tk_02_no_header_names_another_key() {
        let key = signing(Signs::EdDSA);
        let keys = set(json!([key.jwk()]));
        let good = key.sign(b"{}").unwrap();
        let signature = good.rsplit_once('.').unwrap().1;
        for (name, value) in [
            ("jku", json!("https://evil.example/jwks")),
            ("x5u", json!("https://evil.example/x5u")),
            ("jwk", key.jwk().clone()),
            ("x5c", json!(["AAAA"])),
            ("crit", json!(["b64"])),
            ("b64", json!(false)),
            ("zip", json!("DEF")),
        ] {
            let header = json!({"alg": "EdDSA", "kid": key.id(), name: value});
            assert_eq!(
                Unverified::read(&token(&header, "{}", signature)).unwrap_err(),
                TokenError::Header,
                "{name}"
            );
        }
        for kid in [json!(""), json!(null), json!(7), json!("x".repeat(513))] {
            assert!(
                Unverified::read(&token(
                    &json!({"alg": "EdDSA", "kid": kid}),
                    "{}",
                    signature
                ))
                .is_err()
            );
        }
        assert!(Unverified::read(&token(&json!({"alg": "EdDSA"}), "{}", signature)).is_err());
        for kid in ["../../etc/passwd", "' OR 1=1 --", "unknown"] {
            assert!(
                check(
                    &token(&json!({"alg": "EdDSA", "kid": kid}), "{}", signature),
                    &keys
                )
                .is_err()
            );
        }
        for typ in [
            "at+jwt",
            "application/at+jwt",
            "logout+jwt",
            "secevent+jwt",
            "dpop+jwt",
        ] {
            assert!(
                Unverified::read(&token(
                    &json!({"alg": "EdDSA", "kid": key.id(), "typ": typ}),
                    "{}",
                    ""
                ))
                .is_err()
            );
        }
    }

    #[test]
    fn tk_03_tk_05_only_one_spelling() {
        let key = signing(Signs::EdDSA);
        let keys = set(json!([key.jwk()]));
        let good = key.sign(br#"{"exp":5}"#).unwrap();
        assert!(check(&good, &keys).is_ok());
        for bad in [
            format!("{good}="),
            format!("{good} "),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{good}."),
            format!(".{good}"),
            good.replace('.', ".."),
            good.replacen('.', "", 1),
            "a.b".into(),
            "...".into(),
            String::new(),
            ".".repeat(20_000),
            "a".repeat(20_001),
        ] {
            assert!(check(&bad, &keys).is_err(), "{bad:.40}");
        }
        // Stray bits at the end of the signature's last character.
        let last = good.chars().last().unwrap();
        let twins = ('A'..='Z')
            .chain('a'..='z')
            .chain('0'..='9')
            .filter(|c| *c != last);
        for c in twins {
            assert!(check(&format!("{}{c}", &good[..good.len() - 1]), &keys).is_err());
        }
        for claims in [
            r#"{"exp":1,"exp":2}"#.to_owned(),
            r#"{"a":{"b":1,"b":2}}"#.into(),
            r#"{"exp":1} "x""#.into(),
            "[]".into(),
            "1".into(),
            format!("{}1{}", r#"{"a":"#.repeat(2_000), "}".repeat(2_000)),
        ] {
            assert!(
                check(&key.sign(claims.as_bytes()).unwrap(), &keys).is_err(),
                "{claims:.40}"
            );
        }
        let time = |time: &str, rounded| {
            let token = key.sign(format!(r#"{{"exp":{time}}}"#).as_bytes()).unwrap();
            check(&token, &keys).unwrap().seconds("exp", rounded)
        };
        for bad in [
            "\"5\"",
            "\"5.5\"",
            "1e30",
            "1e308",
            "-1",
            "-0.5",
            "-1e-9",
            "null",
            "[5]",
            "{}",
            "true",
            "9223372036854775808",
            "253402300800",
            "253402300799.5",
        ] {
            for rounded in [Rounded::Down, Rounded::Up] {
                assert_eq!(
                    time(bad, rounded),
                    Err(TokenError::Malformed),
                    "{bad} {rounded:?}"
                );
            }
        }
        for (text, down, up) in [
            ("5", 5, 5),
            ("5.0", 5, 5),
            ("5e0", 5, 5),
            ("5.000001", 5, 6),
            ("5.999999", 5, 6),
            ("0", 0, 0),
            ("0.5", 0, 1),
            ("1800000000.25", 1_800_000_000, 1_800_000_001),
            ("1.8e9", 1_800_000_000, 1_800_000_000),
            ("253402300799", 253_402_300_799, 253_402_300_799),
        ] {
            let both = (time(text, Rounded::Down), time(text, Rounded::Up));
            assert_eq!(both, (Ok(Some(down)), Ok(Some(up))), "{text}");
        }
        assert_eq!(
            check(&key.sign(b"{}").unwrap(), &keys)
                .unwrap()
                .seconds("exp", Rounded::Up),
            Ok(None)
        );
    }

    #[test]
    fn no_control_character_stands_in_a_claim() {
        let key = signing(Signs::EdDSA);
        let keys = set(json!([key.jwk()]));
        let result = |claims: Value| {
            check(&key.sign(claims.to_string().as_bytes()).unwrap(), &keys).map(|_| ())
        };
        for bad in [
            "\0",
            "a\0b",
            "\n",
            "a\r\n",
            "\t",
            "\u{1b}[2J",
            "\u{7f}",
            "\u{9b}",
            "\u{85}",
        ] {
            for claims in [
                json!({"sub": bad}),
                json!({"sub": format!("alice{bad}")}),
                json!({"aud": ["brevet", bad]}),
                json!({"a": {"b": [{"c": bad}]}}),
                json!({bad: 1}),
                json!({"a": {bad: 1}}),
            ] {
                assert_eq!(
                    result(claims.clone()),
                    Err(TokenError::Malformed),
                    "{claims}"
                );
            }
        }
        for bad in [
            json!({"address": {"formatted": "1 Main St\0"}}),
            json!({"address": {"region": "a\nb"}}),
            json!({"formatted": "a\nb"}),
        ] {
            assert_eq!(result(bad.clone()), Err(TokenError::Malformed), "{bad}");
        }
        for good in [
            json!({"sub": "žluťoučký kůň 🐎 \u{a0}\u{2028}"}),
            json!({"address": {"formatted": "1 Main St\r\nSpringfield", "street_address": "1 Main St\nFlat 2"}}),
        ] {
            assert_eq!(result(good.clone()), Ok(()), "{good}");
        }
    }

    #[test]
    fn oi_07_keys_that_cannot_be_used_are_passed_over() {
        let rsa = signing(Signs::RS256).jwk().clone();
        let with = |name: &str, value: Value| {
            let mut jwk = rsa.clone();
            jwk[name] = value;
            jwk
        };
        let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
        for bad in [
            json!({"kty": "oct", "kid": "a", "k": "AAAA"}),
            with("use", json!("enc")),
            with("use", json!(1)),
            with("key_ops", json!(["encrypt"])),
            with("n", json!(short)),
            with("alg", json!("ES256")),
            with("alg", json!("RSA-OAEP")),
            with("alg", json!(["RS256"])),
            with("kid", json!(null)),
            with("kty", json!("EC")),
            with("d", json!("AAAA")),
            json!("RSA"),
            json!(null),
        ] {
            assert!(set(json!([bad])).is_empty(), "{bad}");
        }
        assert!(set(json!([rsa, rsa])).is_empty(), "which of two?");
        assert!(
            !set(json!([with("alg", json!(null))
                .as_object()
                .map(|o| {
                    let mut o = o.clone();
                    o.remove("alg");
                    o
                })
                .unwrap()]))
            .is_empty()
        );
        assert!(KeySet::parse(b"{}").is_err() && KeySet::parse(b"[]").is_err());
        assert!(KeySet::parse(&vec![b' '; MAX_KEY_SET_BYTES + 1]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[A-Za-z0-9_.-]{0,200}") {
            let _ = Unverified::read(&text);
        }

        #[test]
        fn no_key_set_makes_it_panic(text in ".{0,200}") {
            let _ = KeySet::parse(text.as_bytes());
        }
    }
}
