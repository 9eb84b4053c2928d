//! A received token that has been parsed, but not verified, and the verification of its signature.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::digest::{SHA256, SHA384, SHA512, digest};
use serde_json::{Map, Value};

use super::claims::Verified;
use super::key_set::{VerifyingKey, algorithm, decoy_key};
use super::strict_json::{is_plain, object};
use super::{MAX_KEY_ID, TokenError, adapter};

/// The maximum length of a token in characters: STS API Reference, "AssumeRoleWithWebIdentity".
pub const MAX_CHARACTERS: usize = 20_000;

/// A parsed token. None of its content may be trusted before [`Self::verify`].
#[derive(Debug)]
pub struct Unverified<'a> {
    message: &'a str,
    signature: &'a str,
    signature_bytes: Vec<u8>,
    algorithm: Algorithm,
    key_id: String,
    claims: Map<String, Value>,
}

impl<'a> Unverified<'a> {
    /// Parses an ID token.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] or [`TokenError::Header`].
    pub fn read(token: &'a str) -> Result<Self, TokenError> {
        // An ID token has the type `JWT` or none (a JWT-SVID also `JOSE`). Access and logout tokens
        // have types of their own (RFC 9068, OpenID Connect Back-Channel Logout 1.0).
        Self::parse(token, &["jwt", "jose"])
    }

    /// Parses a logout token: OpenID Connect Back-Channel Logout 1.0 section 2.4. Providers need
    /// not set the type `logout+jwt`, so the caller must tell a logout token from an ID token by
    /// its claims.
    ///
    /// # Errors
    /// The same as for [`Self::read`].
    pub fn read_logout(token: &'a str) -> Result<Self, TokenError> {
        Self::parse(token, &["logout+jwt", "application/logout+jwt", "jwt"])
    }

    /// Parses a token whose header has one of these types, in lower case, or no type.
    fn parse(token: &'a str, types: &[&str]) -> Result<Self, TokenError> {
        if token.len() > MAX_CHARACTERS {
            return Err(TokenError::Malformed);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        // The decoder is strict: no padding, no white space, no stray bits at the end.
        let signature_bytes = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenError::Malformed)?;
        let header = object(header)?;
        let claims = object(claims)?;
        // In logs and texts for people, control characters could look like something else or end a
        // text early.
        if !claims.iter().all(|(name, value)| is_plain(name, value)) {
            return Err(TokenError::Malformed);
        }
        // Header fields that could select another key or change what is signed are refused.
        let foreign = ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"];
        let unfit = |field: &'static str, fault: &'static str| TokenError::Header { field, fault };
        if let Some(field) = foreign
            .into_iter()
            .find(|field| header.contains_key(*field))
        {
            return Err(unfit(field, "is not accepted"));
        }
        let text = |name: &'static str| match header.get(name) {
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            None => Ok(None),
            Some(_) => Err(unfit(name, "must be a string")),
        };
        let is_known = |typ: &str| types.iter().any(|known| typ.eq_ignore_ascii_case(known));
        if text("typ")?.is_some_and(|typ| !is_known(typ)) {
            return Err(unfit(
                "typ",
                "names a kind of token that is not accepted here",
            ));
        }
        let name = text("alg")?.ok_or_else(|| unfit("alg", "is missing"))?;
        let algorithm = algorithm(name)
            .ok_or_else(|| unfit("alg", "names an algorithm that is not accepted"))?;
        let key_id = text("kid")?.ok_or_else(|| unfit("kid", "is missing"))?;
        if key_id.is_empty() || key_id.len() > MAX_KEY_ID {
            return Err(unfit("kid", "must have 1 to 512 bytes"));
        }
        Ok(Self {
            message,
            signature,
            signature_bytes,
            algorithm,
            key_id: key_id.to_owned(),
            claims,
        })
    }

    /// The id of the key that the token's header names.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Returns a claim before the signature is verified, to find the provider whose key is needed.
    pub fn unverified_text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// Returns the value that the claim `at_hash` must have for an access token: OpenID Connect
    /// Core 1.0 section 3.1.3.6. The digest algorithm follows from the token's signature algorithm;
    /// EdDSA with Ed25519 uses SHA-512.
    pub fn half_digest(&self, access_token: &str) -> String {
        let algorithm = match self.algorithm {
            Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &SHA384,
            Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => &SHA512,
            _ => &SHA256,
        };
        let digest = digest(algorithm, access_token.as_bytes());
        let half = digest.as_ref().len() / 2;
        URL_SAFE_NO_PAD.encode(digest.as_ref().get(..half).unwrap_or_default())
    }

    /// Verifies the signature. If there is no suitable key, a decoy key is used instead, so that
    /// the time of a refusal does not show whether the provider or key exists. The lookup of
    /// provider and key still shows in the time, but takes only about a microsecond.
    ///
    /// # Errors
    /// [`TokenError::Signature`] if there is no key, or the key did not make the signature with
    /// this algorithm.
    pub fn verify(self, key: Option<&VerifyingKey>) -> Result<Verified, TokenError> {
        let check =
            |key: &DecodingKey| adapter::verify(self.message, self.signature, key, self.algorithm);
        let Some(key) = key.filter(|key| self.may_be_by(key)) else {
            let _ = decoy_key(self.algorithm, self.signature_bytes.len()).map(|key| check(&key));
            return Err(TokenError::Signature);
        };
        if check(&key.key) {
            Ok(Verified::new(self.claims))
        } else {
            Err(TokenError::Signature)
        }
    }

    /// Returns whether a check with this key takes the usual time: the key allows the algorithm,
    /// and an RSA signature is below the modulus and of the same length. `ring` refuses all others
    /// at once.
    fn may_be_by(&self, key: &VerifyingKey) -> bool {
        key.algorithms.contains(&self.algorithm)
            && match key.key.kind() {
                DecodingKeyKind::RsaModulusExponent { n, .. } => {
                    self.signature_bytes.len() == n.len() && self.signature_bytes < *n
                }
                _ => true,
            }
    }
}
