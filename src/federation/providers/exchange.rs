//! Exchanges an authorization code for an ID token: OpenID Connect Core 1.0 sections 3.1.3 and 9, RFC 6749
//! sections 2.3.1 and 5, RFC 7636.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::fetch::{FetchError, Fetcher};
use super::metadata::Metadata;
use crate::base::secret::Secret;
use crate::directory::{OidcProvider, SignInClient};

/// The characters that are percent-encoded in a form: all except letters, digits, `-`, `.`, `_` and `~`.
const FORM: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The maximum number of characters that are kept of a provider's error code or description.
const MAX_FOREIGN: usize = 200;

/// A code, and the values which prove that this broker requested it.
pub struct Code<'a> {
    pub code: &'a str,
    /// The PKCE code verifier, whose challenge was in the authorization request: RFC 7636.
    pub verifier: &'a str,
    /// The redirect URI of the authorization request, which the provider compares: RFC 6749 section 4.1.3.
    pub redirect_uri: &'a str,
}

/// The tokens in the answer of a provider.
pub struct Tokens {
    pub id_token: Secret<String>,
    /// The access token. It is only compared with `at_hash`, and then dropped.
    pub access_token: Option<Secret<String>>,
}

/// Why a code could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The provider refused the code. Both texts come from the provider.
    #[error("the provider refused to exchange the code: {code} {description}")]
    Refused { code: String, description: String },
    #[error("the code could not be exchanged: {0}")]
    Unreachable(String),
    /// The answer does not have the form of a token endpoint's.
    #[error("the answer of the provider's token endpoint is not valid: {0}")]
    Answer(&'static str),
    #[error(
        "the provider's token endpoint accepts neither client_secret_basic nor client_secret_post"
    )]
    Method,
    #[error(
        "the provider expects a client secret, but the broker has no secret for this provider; set one with `brevet \
         provider secret`, or as ClientSecret in a directory file"
    )]
    NoSecret,
}

#[derive(Deserialize)]
struct Answer {
    id_token: Option<Zeroizing<String>>,
    access_token: Option<Zeroizing<String>>,
    token_type: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
    error_description: String,
}

/// Exchanges a code, authenticated as this client of the provider.
pub(super) async fn exchange(
    fetcher: &Fetcher,
    provider: &OidcProvider,
    metadata: &Metadata,
    client: &SignInClient,
    code: &Code<'_>,
) -> Result<Tokens, ExchangeError> {
    let mut form = Zeroizing::new(String::from("grant_type=authorization_code"));
    put(&mut form, "code", code.code);
    put(&mut form, "redirect_uri", code.redirect_uri);
    put(&mut form, "code_verifier", code.verifier);
    let accepts = |method: &str| {
        let methods = &metadata.token_endpoint_auth_methods;
        methods.iter().any(|m| m == method)
    };
    let authorization = match &client.secret {
        None => {
            put(&mut form, "client_id", &client.id);
            None
        }
        Some(secret) if accepts("client_secret_basic") => Some(basic(&client.id, secret)?),
        Some(secret) if accepts("client_secret_post") => {
            put(&mut form, "client_id", &client.id);
            put(&mut form, "client_secret", secret.expose());
            None
        }
        Some(_) => return Err(ExchangeError::Method),
    };
    let asked = fetcher
        .post(
            provider,
            &metadata.token_endpoint,
            std::mem::take(&mut *form),
            authorization,
        )
        .await;
    let (status, body) =
        asked.map_err(|error: FetchError| ExchangeError::Unreachable(error.to_string()))?;
    if status != StatusCode::OK {
        let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
        if refusal.error == "invalid_client" && client.secret.is_none() {
            return Err(ExchangeError::NoSecret);
        }
        let clip = |text: String| text.chars().take(MAX_FOREIGN).collect();
        return Err(match refusal.error.as_str() {
            "" => ExchangeError::Unreachable(format!(
                "the provider answered with HTTP status {status}"
            )),
            _ => ExchangeError::Refused {
                code: clip(refusal.error),
                description: clip(refusal.error_description),
            },
        });
    }
    read(&body)
}

fn read(body: &[u8]) -> Result<Tokens, ExchangeError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| {
        ExchangeError::Answer("the body is not JSON of the form in RFC 6749 section 5.1")
    })?;
    let is_bearer = |kind: &String| kind.eq_ignore_ascii_case("bearer");
    if answer.access_token.is_some() && !answer.token_type.as_ref().is_some_and(is_bearer) {
        return Err(ExchangeError::Answer(
            "`token_type` is missing or not Bearer",
        ));
    }
    let owned = |mut text: Zeroizing<String>| Secret::new(std::mem::take(&mut *text));
    let id_token = answer
        .id_token
        .ok_or(ExchangeError::Answer("`id_token` is missing"))?;
    Ok(Tokens {
        id_token: owned(id_token),
        access_token: answer.access_token.map(owned),
    })
}

fn put(form: &mut String, name: &str, value: &str) {
    form.push('&');
    form.push_str(name);
    form.push('=');
    form.extend(utf8_percent_encode(value, FORM));
}

/// Makes the header `Authorization` of a client with a secret. By RFC 6749 section 2.3.1, both parts are
/// encoded as in a form before they are joined.
fn basic(id: &str, secret: &Secret<String>) -> Result<HeaderValue, ExchangeError> {
    let mut pair = utf8_percent_encode(id, FORM).to_string();
    pair.push(':');
    pair.extend(utf8_percent_encode(secret.expose(), FORM));
    let mut text = format!("Basic {}", STANDARD.encode(&pair));
    pair.zeroize();
    let value = HeaderValue::from_str(&text);
    text.zeroize();
    let mut value = value.map_err(|_| {
        ExchangeError::Unreachable("the client secret does not fit into a header".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_authenticated_as_the_rfc_says() {
        let secret = Secret::new("s:e c%r~t-._".to_owned());
        let value = basic("brevet id", &secret).unwrap();
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
        assert_eq!(pair, "brevet%20id:s%3Ae%20c%25r~t-._");
        assert!(value.is_sensitive());
    }

    #[test]
    fn an_answer_has_an_id_token_and_is_for_bearers() {
        let read = |text: &str| read(text.as_bytes()).map(|t| t.id_token.expose().clone());
        assert_eq!(
            read(r#"{"id_token":"a.b.c","access_token":"x","token_type":"bearer"}"#).unwrap(),
            "a.b.c"
        );
        assert_eq!(read(r#"{"id_token":"a.b.c"}"#).unwrap(), "a.b.c");
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"access_token":"x","token_type":"Bearer"}"#,
            r#"{"id_token":"a.b.c","access_token":"x"}"#,
            r#"{"id_token":"a.b.c","access_token":"x","token_type":"DPoP"}"#,
            r#"{"id_token":1}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
