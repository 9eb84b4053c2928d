//! The keys that sign tokens for other services: JSON Web Signatures (RFC 7515), and the public key set for verifying
//! them (RFC 7517). The algorithms are RS256 and ES384 as in AWS, and also ES256 and EdDSA (RFC 8037).

mod certificate;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rsa::pkcs8::EncodePrivateKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::base::clock::Timestamp;
use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::base::secret::Secret;
use crate::session::key_state::KeyState;

/// The length of a new RSA key in bits: RFC 7518 section 3.3.
const RSA_BITS: usize = 2_048;

/// The signature algorithm of a token: RFC 7518 section 3.1, RFC 8037 section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256, which AWS does not offer.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519, which AWS does not offer.
    EdDSA,
}

impl Algorithm {
    /// Every algorithm, the most widely accepted ones first.
    pub const ALL: [Self; 4] = [Self::RS256, Self::ES256, Self::ES384, Self::EdDSA];

    /// The algorithm with this name; `None` for any other name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    /// The name of the algorithm in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }
}

/// A signing key in the form of the keyring file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct KeyDocument {
    key_id: String,
    algorithm: Algorithm,
    state: KeyState,
    since: i64,
    pkcs8: Zeroizing<String>,
    /// The signature of the key's certificate. Keys of an earlier version have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_signature: Option<String>,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// A key that signs tokens, with its public form for verifiers.
pub struct SigningKey {
    id: String,
    algorithm: Algorithm,
    pub(crate) state: KeyState,
    pub(crate) since: Timestamp,
    pair: Pair,
    /// The signature of the key's certificate, if it has one.
    certificate_signature: Option<Vec<u8>>,
    /// The public key as a JSON Web Key (RFC 7517), with its certificate, if it has one, in `x5c`.
    jwk: Value,
    pkcs8: Secret<Vec<u8>>,
}

/// A key could not be generated or parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the key cannot be used: generating or signing failed, or it is not valid for its algorithm"
)]
pub struct BadKey;

impl From<NoEntropy> for BadKey {
    fn from(_: NoEntropy) -> Self {
        Self
    }
}

impl SigningKey {
    /// Generates a key. An RSA key takes up to a second. Keys of the other algorithms use the
    /// system's random bytes instead of `entropy`.
    ///
    /// # Errors
    /// [`BadKey`] if there are no random bytes, or the key or its certificate cannot be made.
    pub fn generate(
        algorithm: Algorithm,
        state: KeyState,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<Self, BadKey> {
        let random = entropy::system();
        let pkcs8 = match algorithm {
            // `ring` signs with RSA keys but cannot generate them.
            Algorithm::RS256 => {
                let key = rsa::PrivateKey::new(&mut Rng(entropy), RSA_BITS).map_err(|_| BadKey)?;
                key.to_pkcs8_der().map_err(|_| BadKey)?.as_bytes().to_vec()
            }
            Algorithm::ES256 | Algorithm::ES384 => {
                let made = EcdsaKeyPair::generate_pkcs8(curve(algorithm).signing, &random);
                made.map_err(|_| BadKey)?.as_ref().to_vec()
            }
            Algorithm::EdDSA => Ed25519KeyPair::generate_pkcs8(&random)
                .map_err(|_| BadKey)?
                .as_ref()
                .to_vec(),
        };
        let id = crate::base::digest::hex(&entropy::bytes::<8>(entropy)?);
        Self::new(id, algorithm, state, now, Secret::new(pkcs8))?.certified()
    }

    /// Returns the key with a certificate. A key that has no certificate yet signs one now.
    ///
    /// # Errors
    /// [`BadKey`] if signing fails, which does not happen with a valid key.
    pub fn certified(self) -> Result<Self, BadKey> {
        if self.certificate_signature.is_some() {
            return Ok(self);
        }
        let signature = self.signature(&self.to_be_signed()).map_err(|_| BadKey)?;
        self.with_certificate(signature)
    }

    /// Adds the certificate with this signature to the key.
    ///
    /// # Errors
    /// [`BadKey`] if the signature is not valid.
    fn with_certificate(mut self, signature: Vec<u8>) -> Result<Self, BadKey> {
        let verifier: &'static dyn VerificationAlgorithm = match self.algorithm {
            Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::ES256 | Algorithm::ES384 => curve(self.algorithm).verification,
            Algorithm::EdDSA => &ED25519,
        };
        UnparsedPublicKey::new(verifier, self.public_key())
            .verify(&self.to_be_signed(), &signature)
            .map_err(|_| BadKey)?;
        self.certificate_signature = Some(signature);
        let certificate = self.certificate().ok_or(BadKey)?;
        if let Value::Object(jwk) = &mut self.jwk {
            jwk.insert("x5c".to_owned(), json!([STANDARD.encode(certificate)]));
        }
        Ok(self)
    }

    fn to_be_signed(&self) -> Vec<u8> {
        certificate::to_be_signed(&self.id, self.algorithm, self.public_key())
    }

    /// The key's self-signed certificate in DER; `None` if an earlier version made the key and it was not rotated
    /// since.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let signature = self.certificate_signature.as_ref()?;
        let signed = self.to_be_signed();
        Some(certificate::certificate(&signed, self.algorithm, signature))
    }

    fn public_key(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    pub(crate) fn parse(document: &KeyDocument) -> Result<Self, BadKey> {
        let legal =
            document.key_id.len() == 16 && document.key_id.bytes().all(|b| b.is_ascii_hexdigit());
        let pkcs8 = Secret::new(
            STANDARD
                .decode(document.pkcs8.as_bytes())
                .map_err(|_| BadKey)?,
        );
        let since = Timestamp::from_seconds(document.since);
        let key = Self::new(
            document.key_id.clone(),
            document.algorithm,
            document.state,
            since,
            pkcs8,
        );
        let key = if legal { key? } else { return Err(BadKey) };
        match &document.certificate_signature {
            Some(signature) => {
                key.with_certificate(STANDARD.decode(signature).map_err(|_| BadKey)?)
            }
            None => Ok(key),
        }
    }

    pub(crate) fn document(&self) -> KeyDocument {
        KeyDocument {
            key_id: self.id.clone(),
            algorithm: self.algorithm,
            state: self.state,
            since: self.since.seconds(),
            pkcs8: Zeroizing::new(STANDARD.encode(self.pkcs8.expose())),
            certificate_signature: self
                .certificate_signature
                .as_ref()
                .map(|signature| STANDARD.encode(signature)),
        }
    }

    fn new(
        id: String,
        algorithm: Algorithm,
        state: KeyState,
        since: Timestamp,
        pkcs8: Secret<Vec<u8>>,
    ) -> Result<Self, BadKey> {
        let bytes = pkcs8.expose();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (pair, public) = match algorithm {
            Algorithm::RS256 => {
                let pair = RsaKeyPair::from_pkcs8(bytes).map_err(|_| BadKey)?;
                let parts: PublicKeyComponents<Vec<u8>> = pair.public().into();
                let public = json!({"kty": "RSA", "n": text(&parts.n), "e": text(&parts.e)});
                (Pair::Rsa(Box::new(pair)), public)
            }
            Algorithm::ES256 | Algorithm::ES384 => {
                let (random, curve) = (entropy::system(), curve(algorithm));
                let pair = EcdsaKeyPair::from_pkcs8(curve.signing, bytes, &random);
                let pair = pair.map_err(|_| BadKey)?;
                // The uncompressed point: a byte 4, then x and y.
                let point = pair.public_key().as_ref().get(1..).ok_or(BadKey)?;
                let (x, y) = point.split_at(point.len() / 2);
                let public = json!({"kty": "EC", "crv": curve.name, "x": text(x), "y": text(y)});
                (Pair::Ecdsa(Box::new(pair)), public)
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::from_pkcs8(bytes).map_err(|_| BadKey)?;
                let public =
                    json!({"kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref())});
                (Pair::Ed25519(Box::new(pair)), public)
            }
        };
        let mut jwk = json!({"kid": id, "use": "sig", "alg": algorithm.name()});
        if let (Value::Object(jwk), Value::Object(public)) = (&mut jwk, public) {
            jwk.extend(public);
        }
        Ok(Self {
            id,
            algorithm,
            state,
            since,
            pair,
            certificate_signature: None,
            jwk,
            pkcs8,
        })
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The id of the key in tokens and in the key set.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key as a JSON Web Key (RFC 7517).
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// Signs claims and returns the token in compact form: RFC 7515 section 7.1, RFC 7519.
    ///
    /// # Errors
    /// [`ring::error::Unspecified`] if signing fails, which does not happen with a valid key.
    pub fn sign(&self, claims: &[u8]) -> Result<String, ring::error::Unspecified> {
        let header =
            json!({"alg": self.algorithm.name(), "kid": self.id, "typ": "JWT"}).to_string();
        let mut token = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The signature of a message in the form of RFC 7518 section 3 and RFC 8037 section 3.1.
    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        Ok(match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &entropy::system(),
                    message,
                    &mut signature,
                )?;
                signature
            }
            Pair::Ecdsa(pair) => pair.sign(&entropy::system(), message)?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }
}

/// A curve of ECDSA: RFC 7518 section 3.4.
struct Curve {
    name: &'static str,
    signing: &'static EcdsaSigningAlgorithm,
    verification: &'static dyn VerificationAlgorithm,
}

/// The curve of an algorithm that uses ECDSA.
fn curve(algorithm: Algorithm) -> Curve {
    match algorithm {
        Algorithm::ES256 => Curve {
            name: "P-256",
            signing: &ECDSA_P256_SHA256_FIXED_SIGNING,
            verification: &ECDSA_P256_SHA256_FIXED,
        },
        _ => Curve {
            name: "P-384",
            signing: &ECDSA_P384_SHA384_FIXED_SIGNING,
            verification: &ECDSA_P384_SHA384_FIXED,
        },
    }
}

/// Adapts the broker's source of random bytes to the interface of the RSA library.
struct Rng<'a>(&'a dyn Entropy);

impl rsa::rand_core::TryRng for Rng<'_> {
    type Error = NoEntropy;

    fn try_next_u32(&mut self) -> Result<u32, NoEntropy> {
        entropy::bytes(self.0).map(u32::from_le_bytes)
    }

    fn try_next_u64(&mut self) -> Result<u64, NoEntropy> {
        entropy::bytes(self.0).map(u64::from_le_bytes)
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        self.0.fill(buffer)
    }
}

impl rsa::rand_core::TryCryptoRng for Rng<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SystemEntropy;

    #[test]
    fn each_algorithm_signs_what_its_published_key_checks() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1));
        for algorithm in Algorithm::ALL {
            let made = SigningKey::generate(algorithm, KeyState::Current, &entropy, now).unwrap();
            let key = SigningKey::parse(&made.document()).unwrap();
            assert_eq!(key.jwk(), made.jwk());
            let token = key.sign(br#"{"sub":"x"}"#).unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let part = |name: &str| {
                URL_SAFE_NO_PAD
                    .decode(key.jwk()[name].as_str().unwrap())
                    .unwrap()
            };
            let verified = match algorithm {
                Algorithm::RS256 => ring::signature::RsaPublicKeyComponents {
                    n: part("n"),
                    e: part("e"),
                }
                .verify(
                    &RSA_PKCS1_2048_8192_SHA256,
                    message.as_bytes(),
                    &signature,
                ),
                Algorithm::ES256 | Algorithm::ES384 => UnparsedPublicKey::new(
                    curve(algorithm).verification,
                    [&[4][..], &part("x"), &part("y")].concat(),
                )
                .verify(message.as_bytes(), &signature),
                Algorithm::EdDSA => UnparsedPublicKey::new(&ED25519, part("x"))
                    .verify(message.as_bytes(), &signature),
            };
            assert!(verified.is_ok(), "{algorithm:?}");
            assert!(
                !key.jwk().to_string().contains("\"d\""),
                "a private part in {}",
                key.jwk()
            );
        }
    }
    #[test]
    fn a_certificate_of_another_key_is_refused() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(1));
        let made = || {
            SigningKey::generate(Algorithm::ES256, KeyState::Next, &entropy, now)
                .unwrap()
                .document()
        };
        let (one, other) = (made(), made());
        let mixed = KeyDocument {
            certificate_signature: other.certificate_signature,
            ..made()
        };
        assert!(SigningKey::parse(&mixed).is_err());
        // A key of an earlier version has no certificate until it gets one.
        let earlier = KeyDocument {
            certificate_signature: None,
            ..one
        };
        let key = SigningKey::parse(&earlier).unwrap();
        assert!(key.certificate().is_none() && key.jwk().get("x5c").is_none());
        assert!(key.certified().unwrap().jwk().get("x5c").is_some());
    }
}
