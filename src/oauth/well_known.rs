//! The public documents with which relying parties verify web identity tokens: the provider's configuration
//! (OpenID Connect Discovery 1.0 section 4) and its keys (RFC 7517).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::routes::KEY_SET;
use crate::session::key_state::KeyState;
use crate::session::keyring::Keyring;
use crate::session::signing_key::{Algorithm, SigningKey};

/// The longest `max-age` that the broker sends with the documents.
const LONGEST: Duration = Duration::from_secs(3_600);
/// The claims in every token that the broker issues, for the metadata's `claims_supported`.
const OWN_CLAIMS: [&str; 8] = [
    "iss",
    "sub",
    "aud",
    "iat",
    "nbf",
    "exp",
    "jti",
    "https://sts.amazonaws.com/",
];

/// A document that the broker publishes as an OpenID Connect provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// The provider's metadata, which contains the address of the key set.
    Configuration,
    /// The public keys with which relying parties verify the tokens' signatures.
    KeySet,
}

/// Answers a request for a document. Returns `None` if the configuration names no issuer.
pub fn answer(
    broker: &Broker,
    method: &Method,
    document: Document,
) -> Option<Response<Full<Bytes>>> {
    let issuer = broker.issuer.as_ref()?;
    let mut response = Response::new(Full::new(Bytes::new()));
    if method != Method::GET {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET"));
        return Some(response);
    }
    let document = broker.tokens.with_keyring(|keyring| match document {
        Document::KeySet => {
            let mut keys: Vec<&SigningKey> = keyring.signing_keys().collect();
            // Some services read the first key only.
            keys.sort_by_key(|key| (place(key.state), key.algorithm()));
            let keys: Vec<&Value> = keys.iter().map(|key| key.jwk()).collect();
            json!({"keys": keys})
        }
        Document::Configuration => {
            let known: BTreeSet<Algorithm> =
                keyring.signing_keys().map(SigningKey::algorithm).collect();
            let algorithms: Vec<&str> = known.into_iter().map(Algorithm::name).collect();
            let own = OWN_CLAIMS.into_iter();
            let claims: Vec<&str> = own
                .chain(broker.lifted_claims.iter().map(String::as_str))
                .collect();
            json!({
                "issuer": issuer,
                "jwks_uri": format!("{issuer}{KEY_SET}"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": algorithms,
                "claims_supported": claims,
            })
        }
    });
    let seconds = broker.tokens.with_keyring(max_age).as_secs();
    *response.body_mut() = Full::new(Bytes::from(document.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(value) = HeaderValue::from_str(&format!("public, max-age={seconds}")) {
        headers.insert(CACHE_CONTROL, value);
    }
    Some(response)
}

/// How long the documents may be cached. A key is published one rotation before it signs, and until
/// its last token has expired; a client that caches the documents for a quarter of a rotation never
/// meets an unknown key.
fn max_age(keyring: &Keyring) -> Duration {
    let quarter = keyring.rotated_every().map(|every| every / 4);
    quarter.map_or(LONGEST, |quarter| quarter.min(LONGEST))
}

/// Orders the published keys: the current key first, then the next one, then the previous ones.
fn place(state: KeyState) -> u8 {
    match state {
        KeyState::Current => 0,
        KeyState::Next => 1,
        KeyState::Previous => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::entropy::SystemEntropy;

    #[test]
    fn the_documents_are_cached_for_a_quarter_of_a_rotation_at_most() {
        let (entropy, now) = (SystemEntropy::new(), Timestamp::from_seconds(100_000));
        let keyring = Keyring::generate(&entropy, now).unwrap();
        assert_eq!(max_age(&keyring), LONGEST);
        let every = Duration::from_secs(1_000);
        let keyring = keyring.rotate(&entropy, now.plus(every)).unwrap();
        let keyring = keyring.rotate(&entropy, now.plus(every * 2)).unwrap();
        assert_eq!(max_age(&keyring), every / 4);
    }
}
