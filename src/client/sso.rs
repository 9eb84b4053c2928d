//! A client for AWS's APIs `sso-oidc` and `sso`, by which programs sign a person in. The calls of these APIs are not
//! signed: AWS IAM Identity Center OIDC API Reference, and Portal API Reference.

mod types;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tower_service::Service;
use zeroize::Zeroizing;

use super::error::chain;
use super::{CALL_TIMEOUT, ClientError, Credentials, Endpoint};
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::base::secret::Secret;

pub use types::{DeviceAuthorization, Grant, Registering, Registration, SsoAccount, SsoToken};

/// The maximum length in bytes of an answer.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// The header that contains a person's access token.
const TOKEN_HEADER: &str = "x-amz-sso_bearer_token";

/// A client for one broker, which signs nothing. Clones share the connection.
#[derive(Clone)]
pub struct Sso {
    channel: Channel,
    url: String,
}

impl std::fmt::Debug for Sso {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sso({})", self.url)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registered {
    client_id: String,
    client_secret: Zeroizing<String>,
    client_secret_expires_at: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    device_code: Zeroizing<String>,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: String,
    expires_in: u64,
    #[serde(default)]
    interval: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    access_token: Zeroizing<String>,
    expires_in: u64,
    refresh_token: Option<Zeroizing<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Accounts {
    account_list: Vec<SsoAccount>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Roles {
    role_list: Vec<Role>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    role_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HandedOut {
    role_credentials: RoleKeys,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleKeys {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    session_token: Zeroizing<String>,
    expiration: i64,
}

fn secret(mut text: Zeroizing<String>) -> Arc<Secret<String>> {
    Arc::new(Secret::new(std::mem::take(&mut *text)))
}

impl Sso {
    /// Makes a client, which connects at its first call. `in_clear` allows `http://` to other machines.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if the URL or the CA cannot be used, [`ClientError::InClear`] if the URL is
    /// `http://` to another machine.
    pub fn new(endpoint: &Endpoint, in_clear: bool) -> Result<Self, ClientError> {
        if endpoint.is_in_clear() && !in_clear {
            return Err(ClientError::InClear {
                url: endpoint.url.clone(),
            });
        }
        let unreachable = |e: &dyn std::error::Error| ClientError::Unreachable {
            url: endpoint.url.clone(),
            reason: chain(e),
        };
        let mut builder = Channel::from_shared(endpoint.url.clone())
            .map_err(|e| unreachable(&e))?
            .user_agent(concat!("brevet/", env!("CARGO_PKG_VERSION")))
            .map_err(|e| unreachable(&e))?;
        if endpoint.url.starts_with("https://") {
            let tls = match &endpoint.ca_pem {
                Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            builder = builder.tls_config(tls).map_err(|e| unreachable(&e))?;
        }
        Ok(Self {
            channel: builder
                .connect_timeout(CALL_TIMEOUT)
                .timeout(CALL_TIMEOUT)
                .connect_lazy(),
            url: endpoint.url.clone(),
        })
    }

    /// Registers this program with the broker, which every flow needs first.
    ///
    /// # Errors
    /// [`ClientError`] if the broker refuses or does not answer.
    pub async fn register_client(
        &self,
        registering: &Registering<'_>,
    ) -> Result<Registration, ClientError> {
        let (flow, redirect_uris) = match registering.redirect_uri {
            Some(uri) => ("authorization_code", vec![uri]),
            None => ("urn:ietf:params:oauth:grant-type:device_code", Vec::new()),
        };
        let body = json!({
            "clientName": registering.client_name,
            "clientType": "public",
            "scopes": registering.scopes,
            "issuerUrl": registering.start_url,
            "grantTypes": [flow, "refresh_token"],
        });
        let more = match redirect_uris.is_empty() {
            true => json!({}),
            false => json!({ "redirectUris": redirect_uris }),
        };
        let body = merged(body, more);
        let registered: Registered = self.post("/client/register", &body).await?;
        Ok(Registration {
            client_id: registered.client_id,
            client_secret: secret(registered.client_secret),
            expires_at: Timestamp::from_seconds(registered.client_secret_expires_at),
        })
    }

    /// Begins the device flow, in which the person approves on any computer.
    ///
    /// # Errors
    /// [`ClientError`] if the broker refuses or does not answer.
    pub async fn start_device_authorization(
        &self,
        registration: &Registration,
        start_url: &str,
    ) -> Result<DeviceAuthorization, ClientError> {
        let body = json!({
            "clientId": registration.client_id,
            "clientSecret": registration.client_secret.expose(),
            "startUrl": start_url,
        });
        let started: Started = self.post("/device_authorization", &body).await?;
        Ok(DeviceAuthorization {
            device_code: secret(started.device_code),
            user_code: started.user_code,
            verification_uri: started.verification_uri,
            verification_uri_complete: started.verification_uri_complete,
            expires_in: started.expires_in,
            interval: started.interval.max(1),
        })
    }

    /// Asks for a token. In the device flow, the program repeats this until the person has decided.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the name of AWS's exception, such as `AuthorizationPendingException`,
    /// or another [`ClientError`] if the broker does not answer.
    pub async fn create_token(
        &self,
        registration: &Registration,
        grant: Grant<'_>,
    ) -> Result<SsoToken, ClientError> {
        let (kind, more) = match grant {
            Grant::Code {
                code,
                verifier,
                redirect_uri,
            } => (
                "authorization_code",
                json!({"code": code, "codeVerifier": verifier, "redirectUri": redirect_uri}),
            ),
            Grant::Device(code) => (
                "urn:ietf:params:oauth:grant-type:device_code",
                json!({ "deviceCode": code }),
            ),
            Grant::Refresh(token) => ("refresh_token", json!({ "refreshToken": token })),
        };
        let body = json!({
            "clientId": registration.client_id,
            "clientSecret": registration.client_secret.expose(),
            "grantType": kind,
        });
        let body = merged(body, more);
        let made: Made = self.post("/token", &body).await?;
        let lasts = std::time::Duration::from_secs(made.expires_in);
        Ok(SsoToken {
            access_token: secret(made.access_token),
            refresh_token: made.refresh_token.map(secret),
            expires_at: SystemClock.now().plus(lasts),
        })
    }

    /// Lists the accounts in which the person has a role.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `UnauthorizedException` if the token has expired or was ended, or another
    /// [`ClientError`].
    pub async fn list_accounts(
        &self,
        token: &Secret<String>,
    ) -> Result<Vec<SsoAccount>, ClientError> {
        let (mut all, mut next) = (Vec::new(), None);
        loop {
            let path = with_query("/assignment/accounts", &[("next_token", next.as_deref())]);
            let page: Accounts = self.get(&path, token).await?;
            all.extend(page.account_list);
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(all);
            }
        }
    }

    /// Lists the names of the person's roles in an account.
    ///
    /// # Errors
    /// The same as for [`Self::list_accounts`].
    pub async fn list_account_roles(
        &self,
        token: &Secret<String>,
        account_id: &str,
    ) -> Result<Vec<String>, ClientError> {
        let (mut all, mut next) = (Vec::new(), None);
        loop {
            let parameters = [
                ("account_id", Some(account_id)),
                ("next_token", next.as_deref()),
            ];
            let page: Roles = self
                .get(&with_query("/assignment/roles", &parameters), token)
                .await?;
            all.extend(page.role_list.into_iter().map(|role| role.role_name));
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(all);
            }
        }
    }

    /// Returns credentials of a role.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `ForbiddenException` if the person does not have the role, or another
    /// [`ClientError`].
    pub async fn get_role_credentials(
        &self,
        token: &Secret<String>,
        account_id: &str,
        role_name: &str,
    ) -> Result<Credentials, ClientError> {
        let parameters = [
            ("role_name", Some(role_name)),
            ("account_id", Some(account_id)),
        ];
        let path = with_query("/federation/credentials", &parameters);
        let handed_out: HandedOut = self.get(&path, token).await?;
        let keys = handed_out.role_credentials;
        Ok(Credentials {
            access_key_id: keys.access_key_id,
            secret_access_key: secret(keys.secret_access_key),
            session_token: Some(secret(keys.session_token)),
            life: Some((SystemClock.now(), Timestamp::from_millis(keys.expiration))),
        })
    }

    async fn post<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, ClientError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Body::new(Full::new(Bytes::from(body.to_string()))));
        self.call(request).await
    }

    async fn get<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        token: &Secret<String>,
    ) -> Result<T, ClientError> {
        let mut value =
            http::HeaderValue::from_str(token.expose()).map_err(|_| ClientError::AccessToken)?;
        value.set_sensitive(true);
        let request = Request::get(path)
            .header(TOKEN_HEADER, value)
            .body(Body::empty());
        self.call(request).await
    }

    async fn call<T: for<'de> Deserialize<'de>>(
        &self,
        request: Result<Request<Body>, http::Error>,
    ) -> Result<T, ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable {
            url: self.url.clone(),
            reason,
        };
        let request = request.map_err(|error| unreachable(chain(&error)))?;
        let mut channel = self.channel.clone();
        let ready = std::future::poll_fn(|cx| channel.poll_ready(cx)).await;
        ready.map_err(|error| unreachable(chain(&error)))?;
        let answered = channel.call(request).await;
        let (head, body) = answered
            .map_err(|error| unreachable(chain(&error)))?
            .into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body
            .map_err(|error| unreachable(chain(&*error)))?
            .to_bytes();
        if head.status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|_| {
                ClientError::Incomplete("JSON with all fields that this call returns")
            });
        }
        let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok());
        // Some servers append a URL after a colon.
        let code = header("x-amzn-errortype").and_then(|name| name.split(':').next());
        let Some(code) = code.filter(|code| !code.is_empty()) else {
            let status = head.status;
            return Err(unreachable(format!(
                "the server answered with HTTP status {status} and no error code, as no broker with [sign_in] does; \
                 check the endpoint, and any proxy in between"
            )));
        };
        let said: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let text = |name: &str| said.get(name).and_then(Value::as_str);
        Err(ClientError::Refused {
            code: code.to_owned(),
            message: text("error_description")
                .or_else(|| text("message"))
                .unwrap_or_default()
                .to_owned(),
            request_id: header("x-amzn-requestid").unwrap_or_default().to_owned(),
        })
    }
}

/// Merges two objects. A member of the second one replaces the one with the same name in the first.
fn merged(one: Value, more: Value) -> Value {
    match (one, more) {
        (Value::Object(mut one), Value::Object(more)) => {
            one.extend(more);
            Value::Object(one)
        }
        (one, _) => one,
    }
}

fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut path = path.to_owned();
    let mut separator = '?';
    for (name, value) in parameters {
        let Some(value) = value else { continue };
        path.push(separator);
        path.push_str(name);
        path.push('=');
        path.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        separator = '&';
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_and_absent_ones_left_out() {
        let path = with_query("/x", &[("a", None), ("b", Some("1 &=")), ("c", Some("2"))]);
        assert_eq!(path, "/x?b=1%20%26%3D&c=2");
        assert_eq!(with_query("/x", &[("a", None)]), "/x");
    }

    #[tokio::test]
    async fn an_05_a_token_does_not_leave_this_machine_in_clear() {
        let at = |url: &str| Endpoint {
            url: url.into(),
            region: "us-east-1".into(),
            ca_pem: None,
        };
        assert!(Sso::new(&at("http://127.0.0.1:1"), false).is_ok());
        let foreign = Sso::new(&at("http://broker.example.com"), false);
        assert!(matches!(foreign, Err(ClientError::InClear { .. })));
        assert!(Sso::new(&at("http://broker.example.com"), true).is_ok());
    }

    #[tokio::test]
    async fn a_token_that_no_header_can_carry_is_not_blamed_on_the_broker() {
        let here = Endpoint {
            url: "http://127.0.0.1:1".into(),
            region: "us-east-1".into(),
            ca_pem: None,
        };
        let client = Sso::new(&here, false).unwrap();
        let listed = client.list_accounts(&Secret::new("a\nb".to_owned())).await;
        assert!(matches!(listed, Err(ClientError::AccessToken)));
    }
}
