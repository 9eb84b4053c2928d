//! The part of the OpenStack Identity API v3 (Keystone) with which Ceph RGW and OpenStack Swift ask who
//! signed an S3 request. This module has no rules of its own.
//!
//! The store logs in with the long-term access key of a user of Brevet (as user name and password), and gets a sealed
//! token for its later calls. The broker signs these calls with the key in the token and authenticates them like any
//! others, so the key must still be active. The store never gets the credentials of users. It must therefore ask about
//! each request, and a revocation takes effect at once.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::authn::bearer::{self, Bearer, LIFETIME};
use crate::base::clock::Timestamp;
use crate::base::strict_json;
use crate::broker::Broker;
use crate::error::{Class, Error};
use crate::ops::relying::verify_string_to_sign::{StoreUser, VerifyStringToSign};
use crate::ops::sts::get_caller_identity::GetCallerIdentity;
use crate::ops::{self, CALL_TIMEOUT};
use crate::origin::Origin;
use crate::request_body;
use crate::routes::{KEYSTONE_S3_TOKENS, KEYSTONE_TOKENS};

const X_SUBJECT_TOKEN: HeaderName = HeaderName::from_static("x-subject-token");
const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// The endpoints of the API that a store calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v3/auth/tokens`, with which the store logs in.
    Tokens,
    /// `/v3/s3tokens`, with which the store asks who signed a request.
    S3Tokens,
    /// The endpoint with which the store asks for the secret of a user. The answer is always 404.
    Credentials,
}

/// Serves one request to an endpoint of the API, within [`CALL_TIMEOUT`].
pub async fn serve<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    endpoint: Endpoint,
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
        answer(broker, origin, endpoint, &head, body).await
    };
    match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Ok(response) => response,
        Err(_) => {
            let reply = request_body::too_late(broker, late, &head.headers).await;
            request_body::closing(refused(&reply.error))
        }
    }
}

async fn answer(
    broker: &Arc<Broker>,
    origin: Origin,
    endpoint: Endpoint,
    head: &http::request::Parts,
    body: Result<Bytes, Error>,
) -> Response<Full<Bytes>> {
    match (endpoint, &head.method) {
        (Endpoint::Credentials, _) => failure(StatusCode::NOT_FOUND, "Not Found"),
        (_, method) if *method != Method::POST => failure(StatusCode::NOT_FOUND, "Not Found"),
        (Endpoint::Tokens, _) => log_in(broker, origin, body).await,
        (Endpoint::S3Tokens, _) => s3_token(broker, origin, &head.headers, body).await,
    }
}

/// Answers POST /v3/auth/tokens with the method `password`: the store logs in.
async fn log_in(
    broker: &Arc<Broker>,
    origin: Origin,
    body: Result<Bytes, Error>,
) -> Response<Full<Bytes>> {
    let now = broker.clock.now();
    let read = body.and_then(|body| login(&body, now));
    let evidence = read.as_ref().map_err(Clone::clone);
    let evidence = evidence.and_then(|login| login.evidence(broker, KEYSTONE_TOKENS, b"", now));
    let reply = ops::serve(broker, evidence, Ok(GetCallerIdentity), origin).await;
    let (login, who) = match (read, reply.result) {
        (Ok(login), Ok(who)) => (login, who),
        (Err(error), _) | (_, Err(error)) => return refused(&error),
    };
    let sealed = match login.seal(broker, &bearer::OF_STORE) {
        Ok(sealed) => sealed,
        Err(error) => return refused(&error),
    };
    let token = token(
        &who.arn,
        &who.user_id,
        &who.account,
        now,
        now.plus(LIFETIME),
    );
    let mut response = json_answer(StatusCode::CREATED, &token);
    if let Ok(mut value) = HeaderValue::from_str(sealed.expose()) {
        value.set_sensitive(true);
        response.headers_mut().insert(X_SUBJECT_TOKEN, value);
    }
    response
}

/// Reads the user name and the password from the body of a login: the id and the secret of an access key.
fn login(body: &[u8], now: Timestamp) -> Result<Bearer, Error> {
    let body = parsed(body)?;
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let user = "/auth/identity/password/user";
    let (Some(name), Some(password)) = (
        text(&format!("{user}/name")),
        text(&format!("{user}/password")),
    ) else {
        let text = "`auth.identity.password.user` must have a `name` and a `password`, which are the id and the secret \
             of an access key.";
        return Err(Error::Malformed(text.to_owned()));
    };
    Bearer::new(name, password, None, now)
}

/// Answers POST /v3/s3tokens: tells the store who signed a request.
async fn s3_token(
    broker: &Arc<Broker>,
    origin: Origin,
    headers: &HeaderMap,
    body: Result<Bytes, Error>,
) -> Response<Full<Bytes>> {
    let now = broker.clock.now();
    let asked = body.as_ref().map_or(&b""[..], |body| body.as_ref());
    let evidence = store(broker, headers, now)
        .and_then(|login| login.evidence(broker, KEYSTONE_S3_TOKENS, asked, now));
    let input = body.and_then(|body| question(&body));
    let reply = ops::serve(broker, evidence, input, origin).await;
    match reply.result {
        Ok(user) => {
            let ends_by = user.now.plus(LIFETIME);
            let expires_at = user.expires_at.map_or(ends_by, |at| at.min(ends_by));
            let StoreUser {
                arn,
                account,
                user_id,
                now,
                ..
            } = &user;
            json_answer(
                StatusCode::OK,
                &token(arn, user_id, account, *now, expires_at),
            )
        }
        Err(error) => refused(&error),
    }
}

/// Opens the store's token in the headers, and returns the credentials that it contains.
fn store(broker: &Broker, headers: &HeaderMap, now: Timestamp) -> Result<Bearer, Error> {
    let sealed = headers.get(X_AUTH_TOKEN).and_then(|v| v.to_str().ok());
    let sealed = sealed.ok_or(Error::MissingAuthenticationToken)?;
    Bearer::open(broker, &bearer::OF_STORE, sealed, now)
}

fn question(body: &[u8]) -> Result<VerifyStringToSign, Error> {
    let body = parsed(body)?;
    let text = |name: &str| {
        let value = body.pointer(&format!("/credentials/{name}"));
        value
            .and_then(Value::as_str)
            .ok_or_else(|| Error::Malformed(format!("`credentials.{name}` must be a string.")))
    };
    let token = text("token")?;
    let decoded = STANDARD.decode(token).or_else(|_| URL_SAFE.decode(token));
    let string_to_sign = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let string_to_sign = string_to_sign.ok_or_else(|| {
        Error::Malformed("`credentials.token` must be the base64 of the string to sign.".to_owned())
    })?;
    VerifyStringToSign::parse(
        text("access")?,
        string_to_sign,
        text("signature")?.to_owned(),
    )
}

fn parsed(body: &[u8]) -> Result<Value, Error> {
    strict_json::parse(body)
        .map_err(|_| Error::Malformed("The body must be JSON without duplicate names.".to_owned()))
}

/// Describes a token in Keystone's format. The project is the account.
fn token(arn: &str, user_id: &str, account: &str, now: Timestamp, expires_at: Timestamp) -> Value {
    let domain = json!({"id": "default", "name": "Default"});
    // Keystone's form has six digits of a second.
    let time = |at: Timestamp| at.to_string().replace('Z', ".000000Z");
    json!({"token": {
        "methods": ["ec2credential"],
        "user": {"domain": domain, "id": user_id, "name": arn},
        "project": {"domain": domain, "id": account, "name": account},
        "roles": [{"id": "brevet", "name": "brevet"}],
        "is_domain": false,
        "issued_at": time(now.whole_second()),
        "expires_at": time(expires_at.whole_second()),
        "audit_ids": ["brevet"],
        "catalog": [],
    }})
}

fn refused(error: &Error) -> Response<Full<Bytes>> {
    let (status, title) = match error.class() {
        Class::Unauthenticated | Class::UnfitProof | Class::Forbidden | Class::WrongCredentials => {
            (StatusCode::UNAUTHORIZED, "Unauthorized")
        }
        Class::Unavailable | Class::Timeout | Class::ProviderUnavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
        }
        Class::Throttled => (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests"),
        Class::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        _ => (StatusCode::BAD_REQUEST, "Bad Request"),
    };
    failure(status, title)
}

fn failure(status: StatusCode, title: &str) -> Response<Full<Bytes>> {
    let error = json!({"error": {"code": status.as_u16(), "title": title, "message": title}});
    json_answer(status, &error)
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
