//! What a relying party reads to check a web identity token: OpenID Connect Discovery 1.0 section
//! 4, RFC 7517. Public, and the same for everybody.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::broker::Broker;

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/.well-known/jwks.json";

/// The answer, if the path is one of the two and there is an issuer.
pub(super) fn answer(
    broker: &Broker,
    method: &Method,
    path: &str,
) -> Option<Response<Full<Bytes>>> {
    let issuer = broker
        .issuer
        .as_ref()
        .filter(|_| path == CONFIGURATION || path == KEYS)?;
    let mut response = Response::new(Full::new(Bytes::new()));
    if method != Method::GET {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET"));
        return Some(response);
    }
    let document = broker.tokens.with_keyring(|keyring| match path {
        KEYS => json!({"keys": keyring.signing_keys().map(|key| key.jwk().clone()).collect::<Vec<Value>>()}),
        _ => {
            let mut algorithms: Vec<&str> = keyring.signing_keys().map(|key| key.algorithm().name()).collect();
            algorithms.sort_unstable();
            algorithms.dedup();
            json!({
                "issuer": issuer,
                "jwks_uri": format!("{issuer}{KEYS}"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": algorithms,
                "claims_supported": ["iss", "sub", "aud", "iat", "exp", "jti", "https://sts.amazonaws.com/"],
            })
        }
    });
    *response.body_mut() = Full::new(Bytes::from(document.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // A key is published one rotation before it signs, and stays until its last token is over.
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    Some(response)
}
