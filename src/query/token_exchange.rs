//! OAuth 2.0 Token Exchange (RFC 8693) at `/oauth2/token`: an ID token for a role's session
//! credentials, in the standard's words. The same operation as AssumeRoleWithWebIdentity, and the same
//! audit.
//!
//! `resource` is the role's ARN, `scope` (if there is one) the session's name. The answer's
//! `access_token` is the session token; the access key that goes with it stands beside it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{Parameters, read_form};
use crate::authn::Evidence;
use crate::error::Error;
use crate::ops::assume_role_with_web_identity::{
    AssumeRoleWithWebIdentity, AssumeRoleWithWebIdentityInput, AssumeRoleWithWebIdentityOutput,
};
use crate::ops::{self, Origin, Reply, Sts};

/// Where it is.
pub(super) const PATH: &str = "/oauth2/token";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// What is handed out: no type of the registry's.
const SESSION: &str = "urn:brevet:params:oauth:token-type:aws-session";
/// The session's name where none is asked for.
const SESSION_NAME: &str = "token-exchange";

/// Why a request is none that can be served: an error code of RFC 6749 section 5.2 or RFC 8693
/// section 2.2.2.
struct Refused(&'static str, String);

/// Serves one request.
pub(super) async fn serve(
    sts: &Arc<Sts>,
    origin: Origin,
    head: &http::request::Parts,
    body: Result<Bytes, Error>,
) -> Response<Full<Bytes>> {
    if head.method != Method::POST {
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, "", &json!({"error": "invalid_request"}));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let form = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded"));
    let parsed = match body {
        Ok(body) if form && head.uri.query().is_none() => read_form(b"", &body)
            .map_err(|e| Refused("invalid_request", e.to_string()))
            .and_then(|mut pairs| read(&mut pairs.parameters)),
        Ok(_) => Err(Refused("invalid_request", "the request must be a form in the body of a POST".to_owned())),
        Err(error) => Err(Refused("invalid_request", error.to_string())),
    };
    let (evidence, input) = match parsed {
        Ok(input) => match AssumeRoleWithWebIdentity::parse(input) {
            Ok((evidence, input)) => (Ok(evidence), Ok(input)),
            Err(error) => (Ok(Evidence::Anonymous), Err(error)),
        },
        Err(Refused(code, text)) => {
            let error = Error::Malformed(text.clone());
            let reply = ops::refuse_unread(sts, "AssumeRoleWithWebIdentity", error, origin).await;
            let body = json!({"error": code, "error_description": text});
            return answer(StatusCode::BAD_REQUEST, &reply.request_id, &body);
        }
    };
    told(ops::serve(sts, evidence, input, origin).await)
}

fn read(parameters: &mut Parameters) -> Result<AssumeRoleWithWebIdentityInput, Refused> {
    let invalid = |text: &str| Refused("invalid_request", text.to_owned());
    match parameters.take("grant_type").as_deref() {
        Some(GRANT) => {}
        Some(_) => return Err(Refused("unsupported_grant_type", format!("the grant_type is `{GRANT}`"))),
        None => return Err(invalid("grant_type is missing")),
    }
    match parameters.take("subject_token_type").as_deref() {
        Some(ID_TOKEN | JWT) => {}
        _ => return Err(invalid("subject_token_type must be of an id_token or a jwt")),
    }
    match parameters.take("requested_token_type").as_deref() {
        None | Some(SESSION) => {}
        Some(_) => return Err(invalid("requested_token_type must be absent, or the session's")),
    }
    let input = AssumeRoleWithWebIdentityInput {
        role_arn: Some(parameters.take("resource").ok_or_else(|| invalid("resource is missing: the role's ARN"))?),
        role_session_name: Some(parameters.take("scope").unwrap_or_else(|| SESSION_NAME.to_owned())),
        web_identity_token: Some(parameters.take("subject_token").ok_or_else(|| invalid("subject_token is missing"))?),
        ..AssumeRoleWithWebIdentityInput::default()
    };
    parameters.none_left().map_err(|e| Refused("invalid_request", e.to_string()))?;
    Ok(input)
}

fn told(reply: Reply<AssumeRoleWithWebIdentityOutput>) -> Response<Full<Bytes>> {
    match reply.result {
        Ok(output) => {
            let credentials = &output.credentials;
            let lasts = credentials.expires_at.since(credentials.issued_at).as_secs();
            let body = json!({
                "access_token": credentials.session_token.expose(),
                "issued_token_type": SESSION,
                "token_type": "N_A",
                "expires_in": lasts,
                "access_key_id": credentials.access_key_id.as_str(),
                "secret_access_key": credentials.secret_access_key.expose(),
                "expiration": credentials.expires_at.to_string(),
                "assumed_role_arn": output.arn,
            });
            answer(StatusCode::OK, &reply.request_id, &body)
        }
        Err(error) => {
            let (status, code) = fault(&error);
            let body = json!({"error": code, "error_description": error.message()});
            let mut response = answer(status, &reply.request_id, &body);
            if status == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            response
        }
    }
}

/// The one place where refusals become errors of OAuth.
fn fault(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::InvalidIdentityToken(_) | Error::ExpiredWebIdentityToken(_) | Error::IdpRejectedClaim(_) => {
            (StatusCode::BAD_REQUEST, "invalid_grant")
        }
        Error::NotAuthorized { .. } | Error::AccessDenied { .. } => (StatusCode::BAD_REQUEST, "invalid_target"),
        Error::IdpCommunicationError | Error::ServiceUnavailable(_) | Error::Throttling => {
            (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
        }
        Error::InternalFailure => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        _ => (StatusCode::BAD_REQUEST, "invalid_request"),
    }
}

fn answer(status: StatusCode, request_id: &str, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
