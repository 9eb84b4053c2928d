//! The API `sso-oidc`: RegisterClient, StartDeviceAuthorization and CreateToken.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Map, Value, json};

use super::answer::{oidc_error, ok};
use super::count_unproven;
use crate::broker::Broker;
use crate::error::{Error, GrantErrorKind};
use crate::origin::Origin;
use crate::routes::Sso;
use crate::sign_in::record::{Draft, Event};
use crate::sign_in::registration::{
    self, AUTHORIZATION_CODE, DEVICE_CODE, REFRESH_TOKEN, Registration,
};
use crate::sign_in::tokens::Tokens;
use crate::sign_in::{authorize, budget, device, settings, tokens};

/// The maximum number of members of a list in a request.
const MAX_LIST: usize = 100;

/// Answers a request for one of the operations of AWS's API `sso-oidc`.
pub(super) async fn answer(
    broker: &Broker,
    origin: &Origin,
    action: Sso,
    body: Result<Bytes, Error>,
) -> Response<Full<Bytes>> {
    let mut request_id = String::new();
    let answered = match body.and_then(|body| Members::read(&body)) {
        Err(error) => Err(error),
        Ok(members) => match action {
            Sso::RegisterClient => register(broker, origin, &members, &mut request_id).await,
            Sso::StartDevice => start_device(broker, origin, &members, &mut request_id).await,
            _ => {
                let is_poll = members.is("grantType", DEVICE_CODE);
                let tokens = create_token(broker, origin, &members, &mut request_id);
                budget::counted(broker, origin, is_poll, tokens).await
            }
        },
    };
    match answered {
        Ok(body) => ok(&request_id, &body),
        Err(error) => {
            if request_id.is_empty()
                && let Ok(draft) = Draft::new(broker, Event::CREATE_TOKEN, origin)
            {
                draft.request_id().clone_into(&mut request_id);
            }
            oidc_error(&error, &request_id)
        }
    }
}

async fn register(
    broker: &Broker,
    origin: &Origin,
    members: &Members,
    request_id: &mut String,
) -> Result<Value, Error> {
    count_unproven(broker, origin)?;
    let asked = Registration {
        name: members.required("clientName")?,
        client_type: members.required("clientType")?,
        scopes: members.list("scopes")?.unwrap_or_default(),
        redirect_uris: members.list("redirectUris")?.unwrap_or_default(),
        grant_types: members.list("grantTypes")?,
    };
    let draft = Draft::new(broker, Event::REGISTER_CLIENT, origin)?
        .asked(&json!({"clientName": crate::audit::clip(&asked.name)}));
    draft.request_id().clone_into(request_id);
    let registered = registration::register(broker, asked);
    let registered = draft.noted(broker, registered).await?;
    let public_url = &settings(broker)?.public_url;
    Ok(json!({
        "clientId": registered.client_id,
        "clientSecret": registered.client_secret,
        "clientIdIssuedAt": registered.issued_at.seconds(),
        "clientSecretExpiresAt": registered.expires_at.seconds(),
        "authorizationEndpoint": format!("{public_url}/authorize"),
        "tokenEndpoint": format!("{public_url}/token"),
    }))
}

async fn start_device(
    broker: &Broker,
    origin: &Origin,
    members: &Members,
    request_id: &mut String,
) -> Result<Value, Error> {
    count_unproven(broker, origin)?;
    let (id, secret) = (
        members.required("clientId")?,
        members.required("clientSecret")?,
    );
    let start_url = members.required("startUrl")?;
    let host = start_url.strip_prefix("https://").unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || !host.bytes().all(|b| b.is_ascii_graphic()) {
        // Nothing is ever requested from there.
        return Err(invalid("startUrl must be an https URL."));
    }
    let client = registration::with_secret(broker, &id, &secret)?;
    let started = device::start(broker, &client, None, origin).await?;
    request_id.clone_from(&started.request_id);
    let verification = format!("{}/device", settings(broker)?.public_url);
    Ok(json!({
        "deviceCode": started.device_code.expose(),
        "userCode": started.user_code,
        "verificationUriComplete": format!("{verification}?user_code={}", started.user_code),
        "verificationUri": verification,
        "expiresIn": started.lasts.as_secs(),
        "interval": device::INTERVAL,
    }))
}

async fn create_token(
    broker: &Broker,
    origin: &Origin,
    members: &Members,
    request_id: &mut String,
) -> Result<Value, Error> {
    let (id, secret) = (
        members.required("clientId")?,
        members.required("clientSecret")?,
    );
    let grant = members.required("grantType")?;
    let client = registration::with_secret(broker, &id, &secret)?;
    let (tokens, id) = match grant.as_str() {
        DEVICE_CODE => {
            let code = members.required("deviceCode")?;
            device::poll(broker, &client, &code, origin).await?
        }
        AUTHORIZATION_CODE => {
            let code = members.required("code")?;
            let verifier = members.required("codeVerifier")?;
            let redirect = members.required("redirectUri")?;
            authorize::redeem(broker, &client, (&code, &verifier, &redirect), origin).await?
        }
        REFRESH_TOKEN => {
            let token = members.required("refreshToken")?;
            let scopes = members.list("scope")?.map(|scopes| scopes.join(" "));
            tokens::refresh(broker, &client, &token, scopes.as_deref(), origin).await?
        }
        _ => {
            let text = "grantType must be `urn:ietf:params:oauth:grant-type:device_code`, `authorization_code` \
                or `refresh_token`.";
            return Err(GrantErrorKind::UnsupportedGrantType.because(text).into());
        }
    };
    *request_id = id;
    Ok(shown(&tokens))
}

fn shown(tokens: &Tokens) -> Value {
    let mut body = json!({
        "accessToken": tokens.access_token.expose(),
        "tokenType": "Bearer",
        "expiresIn": tokens.lasts.as_secs(),
    });
    if let (Some(token), Some(fields)) = (&tokens.refresh_token, body.as_object_mut()) {
        fields.insert("refreshToken".to_owned(), token.expose().as_str().into());
    }
    body
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    GrantErrorKind::InvalidRequest.because(text).into()
}

/// The members of the JSON object in a request. Unknown members are ignored, as AWS does.
struct Members(Map<String, Value>);

impl Members {
    fn read(body: &[u8]) -> Result<Self, Error> {
        let object = serde_json::from_slice(body);
        object
            .map(Self)
            .map_err(|_| invalid("The body must be a JSON object."))
    }

    fn is(&self, name: &str, text: &str) -> bool {
        self.0.get(name).and_then(Value::as_str) == Some(text)
    }

    /// The text of a required member, which must not be empty.
    fn required(&self, name: &str) -> Result<String, Error> {
        match self.0.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            None | Some(Value::Null | Value::String(_)) => {
                Err(invalid(format!("{name} is missing.")))
            }
            Some(_) => Err(invalid(format!("{name} must be a string."))),
        }
    }

    fn list(&self, name: &str) -> Result<Option<Vec<String>>, Error> {
        let items = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(items)) if items.len() <= MAX_LIST => items,
            Some(_) => {
                let text = format!("{name} must be a list of at most {MAX_LIST} strings.");
                return Err(invalid(text));
            }
        };
        let text = |item: &Value| item.as_str().map(str::to_owned);
        let texts = items.iter().map(text).collect::<Option<Vec<_>>>();
        let texts = texts.ok_or_else(|| invalid(format!("{name} must be a list of strings.")))?;
        Ok(Some(texts))
    }
}
