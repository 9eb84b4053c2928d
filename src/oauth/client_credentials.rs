//! The client credentials grant (RFC 6749 section 4.4): the holder of an access key gets a bearer
//! token that is valid for an hour, for interfaces whose clients cannot sign requests. The access
//! key id is the client id and the secret key is the client secret; a temporary key's session token
//! comes in the parameter `session_token`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::answer::{answer, refused};
use crate::authn::bearer::{Bearer, LIFETIME, OF_CLIENT};
use crate::base::clock::Timestamp;
use crate::base::form::{self, Parameters};
use crate::broker::Broker;
use crate::error::{Class, Error, GrantErrorKind};
use crate::ops;
use crate::ops::sts::get_caller_identity::GetCallerIdentity;
use crate::origin::Origin;
use crate::routes::TOKEN;

const GRANT: &str = "client_credentials";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// Parameters that many clients send and that are ignored: the token always has all permissions of
/// its holder, at every interface.
const IGNORED: [&str; 3] = ["scope", "audience", "resource"];

/// Returns whether a request to the token endpoint uses the client credentials grant.
pub(super) fn is_asked(parameters: &Parameters) -> bool {
    parameters.get("grant_type") == Some(GRANT)
}

/// Answers a request with a bearer token. The broker verifies the access key as in a call of
/// GetCallerIdentity, and writes that call to the audit log.
pub(super) async fn token(
    broker: &Arc<Broker>,
    origin: Origin,
    headers: &HeaderMap,
    parameters: Parameters,
) -> Response<Full<Bytes>> {
    let now = broker.clock.now();
    let read = read(headers, parameters, now);
    let evidence = read.as_ref().map_err(Clone::clone);
    let evidence = evidence.and_then(|bearer| bearer.evidence(broker, TOKEN, b"", now));
    let reply = ops::serve(broker, evidence, Ok(GetCallerIdentity), origin).await;
    let sealed = match (read, reply.result) {
        (Ok(bearer), Ok(_)) => bearer.seal(broker, &OF_CLIENT),
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    match sealed {
        Ok(sealed) => {
            let body = json!({
                "access_token": sealed.expose(),
                "issued_token_type": ACCESS_TOKEN,
                "token_type": "bearer",
                "expires_in": LIFETIME.as_secs(),
            });
            answer(StatusCode::OK, &reply.request_id, &body)
        }
        Err(error) => refuse(&error, &reply.request_id),
    }
}

/// Reads the client's access key from the header `Authorization` or from the form.
fn read(headers: &HeaderMap, mut form: Parameters, now: Timestamp) -> Result<Bearer, Error> {
    let _ = form.take("grant_type");
    for name in IGNORED {
        let _ = form.take(name);
    }
    let given = (form.take("client_id"), form.take("client_secret"));
    let (id, secret) = match (basic(headers)?, given) {
        (None, (Some(id), Some(secret))) | (Some((id, secret)), (None, None)) => (id, secret),
        (Some(_), _) => {
            let text = "The client's id and secret must be either in the header Authorization or in the form, \
                but not in both.";
            return Err(invalid(text));
        }
        (None, _) => {
            let text =
                "client_id and client_secret must be the id and the secret of an access key.";
            return Err(invalid(text));
        }
    };
    let session_token = form.take("session_token");
    form.none_left()?;
    Bearer::new(&id, &secret, session_token.as_deref(), now)
}

/// The id and the secret in a header of HTTP's Basic scheme (RFC 6749 section 2.3.1). A `+` is not
/// decoded to a space, since few clients percent-encode the id and the secret, and secret keys
/// contain `+`.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Error> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let wrong =
        || invalid("Authorization must be `Basic`, with the id and the secret of an access key.");
    let text = value.to_str().map_err(|_| wrong())?;
    let encoded = match text.split_once(' ') {
        Some((scheme, encoded)) if scheme.eq_ignore_ascii_case("basic") => encoded,
        _ => return Err(wrong()),
    };
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| wrong())?;
    let decoded = String::from_utf8(decoded).map_err(|_| wrong())?;
    let (id, secret) = decoded.split_once(':').ok_or_else(wrong)?;
    let plain = |text: &str| {
        let field = ["x=", &text.replace('+', "%2B")].concat();
        match form::pairs(field.as_bytes())?.as_slice() {
            [(_, value)] => Ok(value.clone()),
            _ => Err(wrong()),
        }
    };
    Ok(Some((plain(id)?, plain(secret)?)))
}

fn invalid(text: &'static str) -> Error {
    GrantErrorKind::InvalidRequest.because(text).into()
}

/// Returns the answer to a refused request. An invalid access key is reported as an unknown client
/// (RFC 6749 section 5.2).
fn refuse(error: &Error, request_id: &str) -> Response<Full<Bytes>> {
    match error.class() {
        Class::Unauthenticated | Class::UnfitProof | Class::WrongCredentials | Class::Forbidden => {
            let unknown = GrantErrorKind::InvalidClient.because(
                "The access key of the client is unknown or inactive, its secret is wrong, or its session token is not \
                 valid.",
            );
            let mut response = refused(&unknown.into(), request_id);
            let basic = HeaderValue::from_static("Basic realm=\"brevet\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, basic);
            response
        }
        _ => refused(error, request_id),
    }
}
