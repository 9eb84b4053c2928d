//! The public documents with which relying parties verify web identity tokens: the provider's configuration
//! (OpenID Connect Discovery 1.0 section 4) and its keys (RFC 7517).

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::routes::KEY_SET;

/// A document that the broker publishes as an OpenID Connect provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// The provider's metadata, with the address of its keys.
    Configuration,
    /// The public keys of the tokens' signatures.
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
            let keys: Vec<Value> = keyring
                .signing_keys()
                .map(|key| key.jwk().clone())
                .collect();
            json!({"keys": keys})
        }
        Document::Configuration => {
            let mut algorithms: Vec<&str> = keyring
                .signing_keys()
                .map(|key| key.algorithm().name())
                .collect();
            algorithms.sort_unstable();
            algorithms.dedup();
            json!({
                "issuer": issuer,
                "jwks_uri": format!("{issuer}{KEY_SET}"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": algorithms,
                "claims_supported": [
                    "iss", "sub", "aud", "iat", "exp", "jti", "https://sts.amazonaws.com/"
                ],
            })
        }
    });
    *response.body_mut() = Full::new(Bytes::from(document.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Caching is safe: a key is published one rotation before it signs, and until its last token has expired.
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    Some(response)
}
