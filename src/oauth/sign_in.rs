//! Standard OAuth 2.0 endpoints for sign-ins, for clients that do not speak AWS's protocols: the
//! metadata of an authorization server (RFC 8414), the device flow (RFC 8628), the token endpoint
//! for codes and refresh tokens, and revocation (RFC 7009). All clients are public.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::answer::{answer, refused};
use crate::base::form::{FORM, Parameters};
use crate::base::http::media_type;
use crate::broker::Broker;
use crate::budgets;
use crate::error::{Error, GrantErrorKind};
use crate::ops::{CALL_TIMEOUT, ToTheEnd};
use crate::origin::Origin;
use crate::request_body;
use crate::routes::{self, OAuth};
use crate::sign_in::record::{Draft, Event};
use crate::sign_in::registration::{self, AUTHORIZATION_CODE, DEVICE_CODE, REFRESH_TOKEN};
use crate::sign_in::tokens::{self, Tokens};
use crate::sign_in::{authorize, budget, device, settings};

/// Serves a request for the authorization server's metadata, for a device code, or to revoke a
/// token.
pub async fn serve<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    endpoint: OAuth,
    request: Request<B>,
) -> Response<Full<Bytes>>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let method = match endpoint {
        OAuth::Metadata => Method::GET,
        OAuth::DeviceAuthorization | OAuth::Revocation => Method::POST,
    };
    if head.method != method {
        return not_allowed(if method == Method::GET { "GET" } else { "POST" });
    }
    if endpoint == OAuth::Metadata {
        return metadata(broker);
    }
    let late = request_body::without_texts(&origin);
    let answered = async {
        let body = request_body::read(broker, &origin, &head.headers, body, || false).await;
        let is_form = head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| media_type(value).eq_ignore_ascii_case(FORM));
        let parameters = match body {
            Ok(body) if is_form && head.uri.query().is_none() => {
                Parameters::read(&body).map_err(|error| invalid(error.to_string()))
            }
            Ok(_) => Err(invalid(
                "Send the parameters in the body, with Content-Type application/x-www-form-urlencoded, and none in \
                the URL.",
            )),
            Err(error) => Err(error),
        };
        let broker = broker.clone();
        ToTheEnd::new(async move {
            let answered = match (parameters, endpoint) {
                (Err(error), _) => count_unproven(&broker, &origin).and(Err(error)),
                (Ok(parameters), OAuth::Revocation) => revoke(&broker, &origin, parameters).await,
                (Ok(parameters), _) => start_device(&broker, &origin, parameters).await,
            };
            concluded(&broker, &origin, answered)
        })
        .await
    };
    match tokio::time::timeout(CALL_TIMEOUT, answered).await {
        Ok(response) => response,
        Err(_) => {
            let reply = request_body::too_late(broker, late, &head.headers).await;
            request_body::closing(refused(&reply.error, &reply.request_id))
        }
    }
}

/// Returns whether a request to the token endpoint has a grant type of a sign-in: a device code, an
/// authorization code or a refresh token.
pub(super) fn is_for_sign_in(parameters: &Parameters) -> bool {
    let grant = parameters.get("grant_type");
    grant.is_some_and(|grant| [DEVICE_CODE, AUTHORIZATION_CODE, REFRESH_TOKEN].contains(&grant))
}

/// Answers a request of the token endpoint for a device code, an authorization code or a refresh token.
pub(super) async fn token(
    broker: &Arc<Broker>,
    origin: Origin,
    parameters: Parameters,
) -> Response<Full<Bytes>> {
    let broker = broker.clone();
    ToTheEnd::new(async move {
        let is_poll = parameters.get("grant_type") == Some(DEVICE_CODE);
        let tokens = create_token(&broker, &origin, parameters);
        let answered = budget::counted(&broker, &origin, is_poll, tokens).await;
        concluded(&broker, &origin, answered)
    })
    .await
}

async fn create_token(
    broker: &Broker,
    origin: &Origin,
    mut parameters: Parameters,
) -> Result<(String, Value), Error> {
    let grant = required(&mut parameters, "grant_type")?;
    let client_id = required(&mut parameters, "client_id")?;
    let client = registration::public(broker, &client_id)?;
    let (tokens, request_id) = match grant.as_str() {
        DEVICE_CODE => {
            let code = required(&mut parameters, "device_code")?;
            device::poll(broker, &client, &code, origin).await?
        }
        AUTHORIZATION_CODE => {
            let code = required(&mut parameters, "code")?;
            let verifier = required(&mut parameters, "code_verifier")?;
            let redirect = required(&mut parameters, "redirect_uri")?;
            authorize::redeem(broker, &client, (&code, &verifier, &redirect), origin).await?
        }
        _ => {
            let token = required(&mut parameters, "refresh_token")?;
            let scope = parameters.take("scope");
            tokens::refresh(broker, &client, &token, scope.as_deref(), origin).await?
        }
    };
    Ok((request_id, shown(&tokens)))
}

/// Returns the tokens in the form of a token endpoint's answer: RFC 6749 section 5.1.
fn shown(tokens: &Tokens) -> Value {
    let mut body = json!({
        "access_token": tokens.access_token.expose(),
        "token_type": "Bearer",
        "expires_in": tokens.lasts.as_secs(),
        "scope": tokens.scopes.join(" "),
    });
    if let (Some(token), Some(fields)) = (&tokens.refresh_token, body.as_object_mut()) {
        fields.insert("refresh_token".to_owned(), token.expose().as_str().into());
    }
    body
}

async fn start_device(
    broker: &Broker,
    origin: &Origin,
    mut parameters: Parameters,
) -> Result<(String, Value), Error> {
    count_unproven(broker, origin)?;
    let client_id = required(&mut parameters, "client_id")?;
    let client = registration::public(broker, &client_id)?;
    let scope = parameters.take("scope");
    let started = device::start(broker, &client, scope.as_deref(), origin).await?;
    let verification = format!("{}/device", settings(broker)?.public_url);
    let body = json!({
        "device_code": started.device_code.expose(),
        "user_code": started.user_code,
        "verification_uri_complete": format!("{verification}?user_code={}", started.user_code),
        "verification_uri": verification,
        "expires_in": started.lasts.as_secs(),
        "interval": device::INTERVAL,
    });
    Ok((started.request_id, body))
}

async fn revoke(
    broker: &Broker,
    origin: &Origin,
    mut parameters: Parameters,
) -> Result<(String, Value), Error> {
    count_unproven(broker, origin)?;
    let client_id = required(&mut parameters, "client_id")?;
    let client = registration::public(broker, &client_id)?;
    let token = required(&mut parameters, "token")?;
    tokens::withdraw(broker, &client, &token, origin).await?;
    Ok((String::new(), json!({})))
}

fn metadata(broker: &Broker) -> Response<Full<Bytes>> {
    let issuer = match settings(broker) {
        Ok(settings) => settings.public_url.as_str(),
        Err(error) => return refused(&error, ""),
    };
    let at = |path: &str| format!("{issuer}{path}");
    let mut grants = vec![AUTHORIZATION_CODE, REFRESH_TOKEN];
    let mut body = json!({
        "issuer": issuer,
        "authorization_endpoint": at(routes::AUTHORIZE),
        "token_endpoint": at(routes::TOKEN),
        "revocation_endpoint": at(routes::REVOCATION),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": ["sso:account:access"],
        "authorization_response_iss_parameter_supported": true,
    });
    if let (Ok(settings), Some(fields)) = (settings(broker), body.as_object_mut()) {
        if settings.device_flow {
            grants.push(DEVICE_CODE);
            let endpoint = at(routes::DEVICE_AUTHORIZATION);
            fields.insert("device_authorization_endpoint".to_owned(), endpoint.into());
        }
        fields.insert("grant_types_supported".to_owned(), grants.into());
    }
    let mut response = answer(StatusCode::OK, "", &body);
    let caching = HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(CACHE_CONTROL, caching);
    response
}

fn concluded(
    broker: &Broker,
    origin: &Origin,
    answered: Result<(String, Value), Error>,
) -> Response<Full<Bytes>> {
    match answered {
        Ok((request_id, body)) => answer(StatusCode::OK, &request_id, &body),
        Err(error) => {
            let error = match error {
                // What the clients of these endpoints know for it.
                Error::Throttling => GrantErrorKind::SlowDown.because("Rate exceeded").into(),
                error => error,
            };
            let draft = Draft::new(broker, Event::CREATE_TOKEN, origin);
            let request_id = draft.map(|draft| draft.request_id().to_owned());
            refused(&error, &request_id.unwrap_or_default())
        }
    }
}

/// Counts a request without a valid credential against the budget of its source address.
fn count_unproven(broker: &Broker, origin: &Origin) -> Result<(), Error> {
    let source = budgets::source(origin.source_ip);
    let counted = broker.budgets.unproven(source, broker.clock.monotonic());
    counted.map_err(|exceeded| broker.throttled(exceeded.name()))
}

fn required(parameters: &mut Parameters, name: &'static str) -> Result<String, Error> {
    let value = parameters.take(name).filter(|value| !value.is_empty());
    value.ok_or_else(|| invalid(format!("{name} is missing.")))
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    GrantErrorKind::InvalidRequest.because(text).into()
}

fn not_allowed(method: &'static str) -> Response<Full<Bytes>> {
    let mut response = answer(
        StatusCode::METHOD_NOT_ALLOWED,
        "",
        &json!({
            "error": "invalid_request",
            "error_description": format!("This endpoint accepts only {method}.")
        }),
    );
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(method));
    response
}
