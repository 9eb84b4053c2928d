//! OAuth 2.0 Token Exchange (RFC 8693) at `/oauth2/token`: exchanges an ID token for session credentials of
//! a role. It runs the operation AssumeRoleWithWebIdentity, with the same audit record.
//!
//! `resource` is the role's ARN, the optional `scope` is the name of the session. In the answer,
//! `access_token` is the session token, and the access key is in fields of its own. If the request names
//! an `audience` and asks for a JWT, it gets a token of GetWebIdentityToken for that session instead.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::answer::{answer, refused};
use super::{client_credentials, sign_in};
use crate::authn::Evidence;
use crate::base::digest::sha256;
use crate::base::form::{FORM, Parameters};
use crate::base::http::media_type;
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::sts::assume_role_with_web_identity::{
    AssumeRoleWithWebIdentity, AssumeRoleWithWebIdentityInput, AssumeRoleWithWebIdentityOutput,
};
use crate::ops::sts::get_web_identity_token::{GetWebIdentityToken, GetWebIdentityTokenInput};
use crate::ops::{self, CALL_TIMEOUT};
use crate::origin::Origin;
use crate::proof::sigv4::{Incoming, Presented, Signer};
use crate::request_body;
use crate::routes::TOKEN;
use crate::session::signing_key::Algorithm;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The token type of an answer with session credentials. OAuth has no registered type for them.
const SESSION: &str = "urn:brevet:params:oauth:token-type:aws-session";
/// The session's name if the request has no `scope`.
const SESSION_NAME: &str = "token-exchange";

struct Asked {
    login: AssumeRoleWithWebIdentityInput,
    /// The type and the audience of the requested JWT; `None` if the answer is to contain the
    /// session credentials.
    token: Option<(&'static str, String)>,
}

/// The error code (RFC 6749 section 5.2, RFC 8693 section 2.2.2) and the message for a request that
/// cannot be parsed.
struct Refused(&'static str, String);

/// Serves one request to `/oauth2/token`. The modules for client credentials and for sign-ins
/// answer requests with their own grant types.
pub async fn serve<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    request: Request<B>,
) -> Response<Full<Bytes>>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let late = request_body::without_texts(&origin);
    let answer = async {
        let body = request_body::read(broker, &origin, &head.headers, body, || false).await;
        exchange(broker, origin, &head, body).await
    };
    match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Ok(response) => response,
        Err(_) => {
            let reply = request_body::too_late(broker, late, &head.headers).await;
            request_body::closing(refused(&reply.error, &reply.request_id))
        }
    }
}

async fn exchange(
    broker: &Arc<Broker>,
    origin: Origin,
    head: &http::request::Parts,
    body: Result<Bytes, Error>,
) -> Response<Full<Bytes>> {
    if head.method != Method::POST {
        let mut response = answer(
            StatusCode::METHOD_NOT_ALLOWED,
            "",
            &json!({
                "error": "invalid_request",
                "error_description": "The token endpoint accepts only POST."
            }),
        );
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let form = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|v| media_type(v).eq_ignore_ascii_case(FORM));
    let parsed = match body {
        Ok(body) if form && head.uri.query().is_none() => match Parameters::read(&body) {
            Ok(mut parameters) => {
                if broker.sign_ins.is_some() && sign_in::is_for_sign_in(&parameters) {
                    return sign_in::token(broker, origin, parameters).await;
                }
                if client_credentials::is_asked(&parameters) {
                    let headers = &head.headers;
                    return client_credentials::token(broker, origin, headers, parameters).await;
                }
                read(&mut parameters)
            }
            Err(error) => Err(Refused("invalid_request", error.to_string())),
        },
        Ok(_) => Err(Refused(
            "invalid_request",
            "Send the parameters in the body, with Content-Type application/x-www-form-urlencoded, and none in the \
            URL."
                .to_owned(),
        )),
        Err(error) => Err(Refused("invalid_request", error.to_string())),
    };
    let wanted: Option<(&'static str, String)>;
    let (evidence, input) = match parsed {
        Ok(Asked { login, token }) => {
            wanted = token;
            match AssumeRoleWithWebIdentity::parse(login) {
                Ok((evidence, input)) => (Ok(evidence), Ok(input)),
                Err(error) => (Ok(Evidence::Anonymous), Err(error)),
            }
        }
        Err(Refused(code, text)) => {
            let error = Error::Malformed(text.clone());
            let reply =
                ops::refuse_unread(broker, "AssumeRoleWithWebIdentity", error, origin).await;
            if !matches!(reply.error, Error::Malformed(_)) {
                return refused(&reply.error, &reply.request_id);
            }
            let body = json!({"error": code, "error_description": text});
            return answer(StatusCode::BAD_REQUEST, &reply.request_id, &body);
        }
    };
    let reply = ops::serve(broker, evidence, input, origin.clone()).await;
    match (reply.result, wanted) {
        (Ok(output), Some((kind, audience))) => {
            vouched(broker, origin, output, kind, audience).await
        }
        (Ok(output), None) => session(&output, &reply.request_id),
        (Err(error), _) => refused(&error, &reply.request_id),
    }
}

/// Calls GetWebIdentityToken with the new session's credentials and answers with the JWT. The call
/// is signed, authorized and recorded like any other.
async fn vouched(
    broker: &Arc<Broker>,
    origin: Origin,
    output: AssumeRoleWithWebIdentityOutput,
    kind: &'static str,
    audience: String,
) -> Response<Full<Bytes>> {
    let input = GetWebIdentityToken::parse(GetWebIdentityTokenInput {
        audience: vec![audience],
        signing_algorithm: Some(Algorithm::ES384.name().to_owned()),
        ..GetWebIdentityTokenInput::default()
    });
    let reply = ops::serve(broker, signed(broker, &output), input, origin).await;
    match reply.result {
        Ok(made) => {
            let lasts = made
                .expiration
                .since(output.credentials.issued_at)
                .as_secs();
            let body = json!({
                "access_token": made.web_identity_token.expose(),
                "issued_token_type": kind,
                "token_type": if kind == ACCESS_TOKEN { "Bearer" } else { "N_A" },
                "expires_in": lasts,
            });
            answer(StatusCode::OK, &reply.request_id, &body)
        }
        Err(error) => refused(&error, &reply.request_id),
    }
}

/// Signs a request for GetWebIdentityToken with the session's own key, so that it is authenticated
/// like a request from a client.
fn signed(broker: &Broker, output: &AssumeRoleWithWebIdentityOutput) -> Result<Evidence, Error> {
    let host = &broker.names.load().example();
    let credentials = &output.credentials;
    let signer = Signer {
        access_key_id: credentials.access_key_id.as_str(),
        secret_access_key: credentials.secret_access_key.expose().as_bytes(),
        session_token: Some(credentials.session_token.expose()),
        region: &broker.region,
        service: "sts",
    };
    let mut headers = HeaderMap::new();
    let payload_sha256 = sha256(b"");
    signer.sign(
        "POST",
        TOKEN,
        host,
        &mut headers,
        &payload_sha256,
        broker.clock.now(),
    )?;
    let incoming = Incoming {
        method: "POST",
        path: TOKEN,
        query: &[],
        headers: &headers,
        host,
        payload_sha256,
    };
    let presented = Presented::read(&incoming)?.ok_or(Error::InternalFailure)?;
    Ok(Evidence::signed(Some(presented)))
}

fn read(parameters: &mut Parameters) -> Result<Asked, Refused> {
    let invalid = |text: &str| Refused("invalid_request", text.to_owned());
    match parameters.take("grant_type").as_deref() {
        Some(GRANT) => {}
        Some(_) => {
            return Err(Refused(
                "unsupported_grant_type",
                format!(
                    "grant_type must be `{GRANT}` or `client_credentials`; the grant types of a sign-in need [sign_in] in \
                     the broker's configuration."
                ),
            ));
        }
        None => return Err(invalid("grant_type is missing.")),
    }
    match parameters.take("subject_token_type").as_deref() {
        Some(ID_TOKEN | JWT) => {}
        _ => {
            return Err(invalid(
                "subject_token_type must be the URN of the token type `id_token` or `jwt`.",
            ));
        }
    }
    let audience = parameters.take("audience");
    let token = match (parameters.take("requested_token_type").as_deref(), audience) {
        (None | Some(SESSION), None) => None,
        (None | Some(ACCESS_TOKEN), Some(audience)) => Some((ACCESS_TOKEN, audience)),
        (Some(JWT), Some(audience)) => Some((JWT, audience)),
        (Some(ACCESS_TOKEN | JWT), None) => {
            return Err(invalid(
                "audience is missing: it must name the service that the token is for.",
            ));
        }
        _ => {
            return Err(invalid(
                "requested_token_type must be the URN of the token type `aws-session`, or, if the request has \
                 an audience, of `access_token` or `jwt`.",
            ));
        }
    };
    let login = AssumeRoleWithWebIdentityInput {
        role_arn: Some(
            parameters
                .take("resource")
                .ok_or_else(|| invalid("resource is missing: it must be the ARN of the role."))?,
        ),
        role_session_name: Some(
            parameters
                .take("scope")
                .unwrap_or_else(|| SESSION_NAME.to_owned()),
        ),
        web_identity_token: Some(
            parameters
                .take("subject_token")
                .ok_or_else(|| invalid("subject_token is missing."))?,
        ),
        ..AssumeRoleWithWebIdentityInput::default()
    };
    parameters
        .none_left()
        .map_err(|e| Refused("invalid_request", Error::from(e).to_string()))?;
    Ok(Asked { login, token })
}

fn session(output: &AssumeRoleWithWebIdentityOutput, request_id: &str) -> Response<Full<Bytes>> {
    let credentials = &output.credentials;
    let lasts = credentials
        .expires_at
        .since(credentials.issued_at)
        .as_secs();
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
    answer(StatusCode::OK, request_id, &body)
}
