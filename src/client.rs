//! The gRPC client that commands, tests and other programs share: it signs each call, and keeps
//! session credentials fresh.
//!
//! ```no_run
//! # async fn example() -> Result<(), brevet::client::ClientError> {
//! use brevet::client::{AssumeRole, Client, Credentials, Endpoint, RoleCredentials};
//!
//! let endpoint = Endpoint { url: "http://127.0.0.1:7480".into(), region: "us-east-1".into(), ca_pem: None };
//! let keys = Credentials::long_term("AKIA…", "secret");
//! let client = Client::new(&endpoint, keys)?;
//! let role = AssumeRole::new("arn:aws:iam::111122223333:role/Deploy", "ci");
//! let credentials = RoleCredentials::new(client, role);
//! let fresh = credentials.get().await?; // cached, refreshed ahead of expiry, one fetch at a time
//! # Ok(()) }
//! ```

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic_types::StatusExt;
use tower_service::Service;

use crate::api::sts::v1 as pb;
use crate::api::sts::v1::security_token_service_client::SecurityTokenServiceClient;
use crate::api::sts::v1::session_administration_client::SessionAdministrationClient;
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::base::digest::sha256;
use crate::base::entropy::{self, Entropy, SystemEntropy};
use crate::base::host_names::is_loopback;
use crate::base::secret::Secret;
use crate::proof::sigv4::Signer;

/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer of the IAM API.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// The least that is left of credentials that are handed out while they cannot be refreshed.
const MARGIN: Duration = Duration::from_secs(60);
/// How long after a failed refresh the next one is tried, while the old credentials are good.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL, the CA or the connection.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// As configured.
        url: String,
        /// The chain of causes.
        reason: String,
    },
    /// The broker refused.
    #[error("{code}: {message}{}", named(.request_id))]
    Refused {
        /// The AWS error code.
        code: String,
        /// What the broker says; may end with an encoded authorization message, see
        /// [`split_encoded_message`].
        message: String,
        /// Names the call in the broker's audit log. Empty if the answer had none.
        request_id: String,
    },
    /// The URL would carry credentials in clear beyond this machine.
    #[error(
        "{url}: http:// beyond this machine would carry credentials in clear; use https://, or connect with `Client::in_clear`"
    )]
    InClear {
        /// As configured.
        url: String,
    },
    /// An answer without what every answer has.
    #[error("the answer has no {0}")]
    Incomplete(&'static str),
}

fn named(request_id: &str) -> String {
    if request_id.is_empty() {
        String::new()
    } else {
        format!(" (request id {request_id})")
    }
}

/// What the broker puts before the encoded message of a refusal.
const ENCODED_MESSAGE_MARK: &str = "Encoded authorization failure message: ";

/// Splits what a refusal says into its sentence and the encoded message for
/// DecodeAuthorizationMessage, if it has one.
pub fn split_encoded_message(message: &str) -> (&str, Option<&str>) {
    match message.rsplit_once(ENCODED_MESSAGE_MARK) {
        Some((sentence, rest)) => (
            sentence.trim_end().trim_end_matches('.'),
            rest.split_whitespace().next(),
        ),
        None => (message, None),
    }
}

/// Where the broker is.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `https://HOST:PORT`, or `http://` on loopback.
    pub url: String,
    /// The region of the signature's scope.
    pub region: String,
    /// PEM of the CA that signed the broker's certificate; none: the system's roots.
    pub ca_pem: Option<String>,
}

impl Endpoint {
    /// Whether credentials would leave this machine unencrypted: `http://` and a host that is
    /// neither `localhost` nor a loopback address.
    pub fn is_in_clear(&self) -> bool {
        let Ok(uri) = self.url.parse::<http::Uri>() else {
            return false;
        };
        let is_https = uri
            .scheme_str()
            .is_some_and(|s| s.eq_ignore_ascii_case("https"));
        !is_https && !is_loopback(uri.host().unwrap_or_default())
    }
}

/// What a client signs with. Never printed.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `AKIA…` or `ASIA…`
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Arc<Secret<String>>,
    /// Of temporary credentials.
    pub session_token: Option<Arc<Secret<String>>>,
    /// Of temporary credentials: when they were received and when they end.
    pub life: Option<(Timestamp, Timestamp)>,
}

impl Credentials {
    /// A long-term key.
    pub fn long_term(access_key_id: &str, secret_access_key: &str) -> Self {
        Self::new(access_key_id, secret_access_key, None)
    }

    /// A key, with the session token of a temporary one.
    pub fn new(access_key_id: &str, secret_access_key: &str, session_token: Option<&str>) -> Self {
        Self {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: Arc::new(Secret::new(secret_access_key.to_owned())),
            session_token: session_token.map(|t| Arc::new(Secret::new(t.to_owned()))),
            life: None,
        }
    }

    /// When temporary credentials end.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.life.map(|(_, end)| end)
    }
}

/// What to ask for. See the proto for each field's bounds.
#[derive(Debug, Clone, Default)]
pub struct AssumeRole {
    /// Required.
    pub role_arn: String,
    /// Required.
    pub role_session_name: String,
    /// 900 to 129600.
    pub duration_seconds: Option<i32>,
    /// The inline session policy.
    pub policy: Option<String>,
    /// Managed session policies.
    pub policy_arns: Vec<String>,
    /// Session tags.
    pub tags: Vec<(String, String)>,
    /// Those that are inherited.
    pub transitive_tag_keys: Vec<String>,
    /// Of a third party's customer.
    pub external_id: Option<String>,
    /// Who stands behind the chain.
    pub source_identity: Option<String>,
    /// The calling user's MFA device and its code.
    pub mfa: Option<(String, String)>,
}

impl AssumeRole {
    /// With nothing but what is required.
    pub fn new(role_arn: &str, role_session_name: &str) -> Self {
        Self {
            role_arn: role_arn.to_owned(),
            role_session_name: role_session_name.to_owned(),
            ..Self::default()
        }
    }
}

/// What to ask for with a token of an OpenID Connect provider. See the proto for each field's bounds.
#[derive(Debug, Clone)]
pub struct AssumeRoleWithWebIdentity {
    /// The role's ARN.
    pub role_arn: String,
    /// What the session is called.
    pub role_session_name: String,
    /// The provider's token: the proof.
    pub token: Arc<Secret<String>>,
    /// 900 to 129600.
    pub duration_seconds: Option<i32>,
    /// The inline session policy.
    pub policy: Option<String>,
    /// Managed session policies.
    pub policy_arns: Vec<String>,
}

/// Credentials of a role for whoever a provider vouched for.
#[derive(Debug, Clone)]
pub struct WebIdentityRole {
    /// The session.
    pub role: AssumedRole,
    /// The token's `sub`.
    pub subject: String,
    /// The token's `iss`.
    pub provider: String,
    /// The token's `aud`.
    pub audience: String,
}

/// A token that tells others who the caller is.
#[derive(Debug, Clone)]
pub struct WebIdentityToken {
    /// The JSON Web Token. Whoever holds it passes for the caller until it expires.
    pub token: Arc<Secret<String>>,
    /// From this instant on it is refused.
    pub expires_at: Timestamp,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct AssumedRole {
    /// The session's credentials.
    pub credentials: Credentials,
    /// `AROA…:SESSION`
    pub assumed_role_id: String,
    /// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`
    pub arn: String,
    /// In percent.
    pub packed_policy_size: i32,
    /// In force; empty: none.
    pub source_identity: String,
}

/// Who credentials belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// `AIDA…` or `AROA…:SESSION`
    pub user_id: String,
    /// Twelve digits.
    pub account: String,
    /// The principal's ARN.
    pub arn: String,
}

/// One signed connection, shared by its clones.
#[derive(Clone)]
pub struct Client {
    grpc: SecurityTokenServiceClient<Signed>,
    administration: SessionAdministrationClient<Signed>,
    signed: Signed,
    url: String,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.url)
    }
}

impl Client {
    /// Connects at the first call, and again whenever needed.
    ///
    /// # Errors
    /// When the URL or the CA cannot be used, or the URL is `http://` beyond this machine.
    pub fn new(endpoint: &Endpoint, credentials: Credentials) -> Result<Self, ClientError> {
        Self::with_clock(endpoint, credentials, Arc::new(SystemClock))
    }

    /// [`Self::new`] with another clock.
    ///
    /// # Errors
    /// When the URL or the CA cannot be used, or the URL is `http://` beyond this machine.
    pub fn with_clock(
        endpoint: &Endpoint,
        credentials: Credentials,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        if endpoint.is_in_clear() {
            return Err(ClientError::InClear {
                url: endpoint.url.clone(),
            });
        }
        Self::connect(endpoint, Some(credentials), clock)
    }

    /// [`Self::new`], and `http://` goes anywhere: whoever is on the path reads the credentials that
    /// are answered, and can answer with others. For a network that is private to the two ends.
    ///
    /// # Errors
    /// When the URL or the CA cannot be used.
    pub fn in_clear(endpoint: &Endpoint, credentials: Credentials) -> Result<Self, ClientError> {
        Self::connect(endpoint, Some(credentials), Arc::new(SystemClock))
    }

    /// A client that signs nothing, for [`Self::assume_role_with_web_identity`]. `in_clear` lets
    /// `http://` go beyond this machine.
    ///
    /// # Errors
    /// When the URL or the CA cannot be used, or the URL is `http://` beyond this machine.
    pub fn anonymous(endpoint: &Endpoint, in_clear: bool) -> Result<Self, ClientError> {
        if endpoint.is_in_clear() && !in_clear {
            return Err(ClientError::InClear {
                url: endpoint.url.clone(),
            });
        }
        Self::connect(endpoint, None, Arc::new(SystemClock))
    }

    fn connect(
        endpoint: &Endpoint,
        credentials: Option<Credentials>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let unreachable = |e: &dyn std::error::Error| ClientError::Unreachable {
            url: endpoint.url.clone(),
            reason: chain(e),
        };
        let mut builder =
            Channel::from_shared(endpoint.url.clone()).map_err(|e| unreachable(&e))?;
        let host = builder.uri().authority().map(|a| a.as_str().to_owned());
        let host = host.ok_or_else(|| ClientError::Unreachable {
            url: endpoint.url.clone(),
            reason: "the URL has no host".to_owned(),
        })?;
        if endpoint.url.starts_with("https://") {
            let tls = match &endpoint.ca_pem {
                Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            builder = builder.tls_config(tls).map_err(|e| unreachable(&e))?;
        }
        let channel = builder
            .connect_timeout(CALL_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .connect_lazy();
        let signed = Signed {
            channel,
            host,
            region: endpoint.region.clone(),
            credentials,
            clock: clock.clone(),
        };
        let administration = SessionAdministrationClient::new(signed.clone());
        let grpc = SecurityTokenServiceClient::new(signed.clone());
        Ok(Self {
            grpc,
            administration,
            signed,
            url: endpoint.url.clone(),
            clock,
        })
    }

    /// AssumeRole.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn assume_role(&self, request: &AssumeRole) -> Result<AssumedRole, ClientError> {
        let message = pb::AssumeRoleRequest {
            role_arn: request.role_arn.clone(),
            role_session_name: request.role_session_name.clone(),
            policy_arns: request.policy_arns.clone(),
            policy: request.policy.clone(),
            duration_seconds: request.duration_seconds,
            tags: request
                .tags
                .iter()
                .map(|(key, value)| pb::Tag {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
            transitive_tag_keys: request.transitive_tag_keys.clone(),
            external_id: request.external_id.clone(),
            serial_number: request
                .mfa
                .as_ref()
                .map(|(serial_number, _)| serial_number.clone()),
            token_code: request.mfa.as_ref().map(|(_, code)| code.clone()),
            source_identity: request.source_identity.clone(),
        };
        let answer = self
            .grpc
            .clone()
            .assume_role(message)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner();
        self.assumed(
            answer.credentials,
            answer.assumed_role_user,
            answer.packed_policy_size,
            answer.source_identity,
        )
    }

    /// AssumeRoleWithWebIdentity: the token is the proof, and nothing is signed.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn assume_role_with_web_identity(
        &self,
        request: &AssumeRoleWithWebIdentity,
    ) -> Result<WebIdentityRole, ClientError> {
        let message = pb::AssumeRoleWithWebIdentityRequest {
            role_arn: request.role_arn.clone(),
            role_session_name: request.role_session_name.clone(),
            web_identity_token: request.token.expose().clone(),
            provider_id: None,
            policy_arns: request.policy_arns.clone(),
            policy: request.policy.clone(),
            duration_seconds: request.duration_seconds,
        };
        let answer = self
            .grpc
            .clone()
            .assume_role_with_web_identity(message)
            .await;
        let answer = answer.map_err(|s| self.failed(&s))?.into_inner();
        let (size, source) = (answer.packed_policy_size, answer.source_identity);
        Ok(WebIdentityRole {
            role: self.assumed(answer.credentials, answer.assumed_role_user, size, source)?,
            subject: answer.subject_from_web_identity_token,
            provider: answer.provider,
            audience: answer.audience,
        })
    }

    fn assumed(
        &self,
        credentials: Option<pb::Credentials>,
        user: Option<pb::AssumedRoleUser>,
        packed_policy_size: i32,
        source_identity: String,
    ) -> Result<AssumedRole, ClientError> {
        let credentials = self.received(credentials)?;
        let user = user.ok_or(ClientError::Incomplete("assumed_role_user"))?;
        let (assumed_role_id, arn) = (user.assumed_role_id, user.arn);
        Ok(AssumedRole {
            credentials,
            assumed_role_id,
            arn,
            packed_policy_size,
            source_identity,
        })
    }

    /// GetWebIdentityToken: a signed statement of who the caller is, for others. `algorithm` is
    /// `ES384`, `RS256` or `EdDSA`; `duration_seconds` 60 to 3600, 300 without it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get_web_identity_token(
        &self,
        audience: &[String],
        algorithm: &str,
        duration_seconds: Option<i32>,
        tags: &[(String, String)],
    ) -> Result<WebIdentityToken, ClientError> {
        let message = pb::GetWebIdentityTokenRequest {
            audience: audience.to_vec(),
            signing_algorithm: algorithm.to_owned(),
            duration_seconds,
            tags: tags
                .iter()
                .map(|(key, value)| pb::Tag {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
        };
        let answer = self
            .grpc
            .clone()
            .get_web_identity_token(message)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner();
        let expiration = answer
            .expiration
            .ok_or(ClientError::Incomplete("expiration"))?;
        Ok(WebIdentityToken {
            token: Arc::new(Secret::new(answer.web_identity_token)),
            expires_at: Timestamp::from_seconds(expiration.seconds),
        })
    }

    /// GetSessionToken: a session of the calling user, with an MFA device and its code, or without.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get_session_token(
        &self,
        mfa: Option<(&str, &str)>,
    ) -> Result<Credentials, ClientError> {
        let message = pb::GetSessionTokenRequest {
            duration_seconds: None,
            serial_number: mfa.map(|(serial_number, _)| serial_number.to_owned()),
            token_code: mfa.map(|(_, code)| code.to_owned()),
        };
        let answer = self
            .grpc
            .clone()
            .get_session_token(message)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner();
        self.received(answer.credentials)
    }

    fn received(&self, credentials: Option<pb::Credentials>) -> Result<Credentials, ClientError> {
        let credentials = credentials.ok_or(ClientError::Incomplete("credentials"))?;
        let expires_at = credentials
            .expiration
            .ok_or(ClientError::Incomplete("expiration"))?;
        let life = Some((
            self.clock.now(),
            Timestamp::from_seconds(expires_at.seconds),
        ));
        let keys = Credentials::new(
            &credentials.access_key_id,
            &credentials.secret_access_key,
            Some(&credentials.session_token),
        );
        Ok(Credentials { life, ..keys })
    }

    /// GetCallerIdentity.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get_caller_identity(&self) -> Result<CallerIdentity, ClientError> {
        let answer = self
            .grpc
            .clone()
            .get_caller_identity(pb::GetCallerIdentityRequest {})
            .await;
        let answer = answer.map_err(|s| self.failed(&s))?.into_inner();
        Ok(CallerIdentity {
            user_id: answer.user_id,
            account: answer.account,
            arn: answer.arn,
        })
    }

    /// GetAccessKeyInfo: the account.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get_access_key_info(&self, access_key_id: &str) -> Result<String, ClientError> {
        let message = pb::GetAccessKeyInfoRequest {
            access_key_id: access_key_id.to_owned(),
        };
        Ok(self
            .grpc
            .clone()
            .get_access_key_info(message)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner()
            .account)
    }

    /// ListSessions: what is on record about the account's sessions.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list_sessions(
        &self,
        request: pb::ListSessionsRequest,
    ) -> Result<pb::ListSessionsResponse, ClientError> {
        Ok(self
            .administration
            .clone()
            .list_sessions(request)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner())
    }

    /// DescribeSession: what is on record about one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn describe_session(&self, session_id: &str) -> Result<pb::Session, ClientError> {
        let message = pb::DescribeSessionRequest {
            session_id: session_id.to_owned(),
        };
        let answer = self
            .administration
            .clone()
            .describe_session(message)
            .await
            .map_err(|s| self.failed(&s))?;
        answer
            .into_inner()
            .session
            .ok_or(ClientError::Incomplete("session"))
    }

    /// RevokeSessions: they end, and so does what came from them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke_sessions(
        &self,
        request: pb::RevokeSessionsRequest,
    ) -> Result<pb::RevokeSessionsResponse, ClientError> {
        Ok(self
            .administration
            .clone()
            .revoke_sessions(request)
            .await
            .map_err(|s| self.failed(&s))?
            .into_inner())
    }

    /// PreviewRevocation: what RevokeSessions would hit; ends nothing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn preview_revocation(
        &self,
        request: pb::RevokeSessionsRequest,
    ) -> Result<pb::RevocationTarget, ClientError> {
        let answer = self
            .administration
            .clone()
            .preview_revocation(request)
            .await
            .map_err(|s| self.failed(&s))?;
        answer
            .into_inner()
            .target
            .ok_or(ClientError::Incomplete("target"))
    }

    /// DecodeAuthorizationMessage: JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn decode_authorization_message(
        &self,
        encoded_message: &str,
    ) -> Result<String, ClientError> {
        let request = pb::DecodeAuthorizationMessageRequest {
            encoded_message: encoded_message.to_owned(),
        };
        let answer = self
            .grpc
            .clone()
            .decode_authorization_message(request)
            .await
            .map_err(|s| self.failed(&s))?;
        Ok(answer.into_inner().decoded_message)
    }

    /// An action of the IAM API: its result as JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn iam(
        &self,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<serde_json::Value, ClientError> {
        let all = [("Action", action), ("Version", "2010-05-08")]
            .into_iter()
            .chain(parameters.iter().copied());
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let form: Vec<String> = all
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        let (status, text) =
            self.signed
                .form(form.join("&"))
                .await
                .map_err(|error| ClientError::Unreachable {
                    url: self.url.clone(),
                    reason: chain(&*error),
                })?;
        let mut answer: serde_json::Value =
            serde_json::from_slice(&text).map_err(|_| ClientError::Incomplete("JSON"))?;
        let field = |name: &str| {
            answer
                .pointer(&format!("/Error/{name}"))
                .and_then(|v| v.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        if !status.is_success() {
            let request_id = answer
                .get("RequestId")
                .and_then(|v| v.as_str())
                .unwrap_or_default()
                .to_owned();
            return Err(ClientError::Refused {
                code: field("Code"),
                message: field("Message"),
                request_id,
            });
        }
        let result = answer.pointer_mut(&format!("/{action}Response/{action}Result"));
        Ok(result.map(serde_json::Value::take).unwrap_or_default())
    }

    fn failed(&self, status: &tonic::Status) -> ClientError {
        match status.get_details_error_info() {
            Some(info) => {
                let mut message = status.message().to_owned();
                if let Some(encoded) = info.metadata.get("encoded_authorization_message") {
                    message.push_str(". ");
                    message.push_str(ENCODED_MESSAGE_MARK);
                    message.push_str(encoded);
                }
                let request_id = status
                    .get_details_request_info()
                    .map(|r| r.request_id)
                    .unwrap_or_default();
                ClientError::Refused {
                    code: info.reason,
                    message,
                    request_id,
                }
            }
            // Not the broker's word: something in between, or nothing at all.
            None => {
                let reason = std::error::Error::source(status)
                    .map_or_else(|| status.message().to_owned(), chain);
                ClientError::Unreachable {
                    url: self.url.clone(),
                    reason,
                }
            }
        }
    }
}

/// A session that renews itself: `get` answers from memory, and when half of the credentials' life
/// is over (give or take a tenth, so that a fleet does not come back all at once) one caller
/// fetches new ones.
#[derive(Clone)]
pub struct RoleCredentials(Arc<Refreshing>);

struct Refreshing {
    client: Client,
    request: AssumeRole,
    entropy: Arc<dyn Entropy>,
    current: RwLock<Option<Held>>,
    /// One fetch at a time; the others wait for it, or go on with what there is.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Held {
    credentials: Credentials,
    refresh_at: Timestamp,
}

/// What to do with credentials in hand.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// They are good, and young.
    Use,
    /// They are good; somebody should fetch new ones.
    Refresh,
    /// They are not to be used any more.
    Wait,
}

fn next(now: Timestamp, refresh_at: Timestamp, expires_at: Timestamp) -> Next {
    if now.plus(MARGIN) >= expires_at {
        Next::Wait
    } else if now >= refresh_at {
        Next::Refresh
    } else {
        Next::Use
    }
}

/// Half of the life, give or take a tenth of it; `chance` is any number.
fn refresh_at(received_at: Timestamp, expires_at: Timestamp, chance: u16) -> Timestamp {
    let life = expires_at.since(received_at);
    received_at
        .plus(life * 2 / 5)
        .plus(life / 5 * u32::from(chance) / u32::from(u16::MAX))
}

impl RoleCredentials {
    /// Fetches nothing yet.
    pub fn new(client: Client, request: AssumeRole) -> Self {
        Self(Arc::new(Refreshing {
            client,
            request,
            entropy: Arc::new(SystemEntropy::new()),
            current: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
        }))
    }

    /// Credentials with at least a minute left. While the broker cannot be reached the old ones go
    /// on until then.
    ///
    /// # Errors
    /// When there are none that are good, and none can be fetched.
    pub async fn get(&self) -> Result<Credentials, ClientError> {
        let inner = &self.0;
        let held = self.held();
        let _turn = match self.judge(held.as_ref()) {
            (Next::Use, Some(held)) => return Ok(held.credentials.clone()),
            (Next::Refresh, Some(held)) => match inner.fetching.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(held.credentials.clone()),
            },
            _ => inner.fetching.lock().await,
        };
        // Another caller may have fetched while this one waited.
        let held = self.held();
        if let (Next::Use, Some(held)) = self.judge(held.as_ref()) {
            return Ok(held.credentials.clone());
        }
        match inner.client.assume_role(&inner.request).await {
            Ok(role) => {
                let (received_at, expires_at) = role
                    .credentials
                    .life
                    .ok_or(ClientError::Incomplete("expiration"))?;
                let chance = entropy::bytes::<2>(&*inner.entropy).map_or(0, u16::from_be_bytes);
                let refresh_at = refresh_at(received_at, expires_at, chance);
                self.hold(Held {
                    credentials: role.credentials.clone(),
                    refresh_at,
                });
                Ok(role.credentials)
            }
            Err(error) => match (self.judge(held.as_ref()), held.as_ref()) {
                ((Next::Refresh, _), Some(held)) => {
                    tracing::warn!(%error, "credentials could not be refreshed; the old ones go on");
                    let refresh_at = inner.client.clock.now().plus(RETRY_AFTER);
                    self.hold(Held {
                        refresh_at,
                        ..held.clone()
                    });
                    Ok(held.credentials.clone())
                }
                _ => Err(error),
            },
        }
    }

    fn held(&self) -> Option<Held> {
        self.0
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn hold(&self, held: Held) {
        *self
            .0
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(held);
    }

    fn judge<'a>(&self, held: Option<&'a Held>) -> (Next, Option<&'a Held>) {
        let verdict = held.and_then(|h| {
            h.credentials
                .expires_at()
                .map(|end| next(self.0.client.clock.now(), h.refresh_at, end))
        });
        (verdict.unwrap_or(Next::Wait), held)
    }
}

/// A channel that signs what goes through it, where there are credentials to sign with.
#[derive(Clone)]
struct Signed {
    channel: Channel,
    host: String,
    region: String,
    credentials: Option<Credentials>,
    clock: Arc<dyn Clock>,
}

impl Signed {
    /// A signed form in AWS's Query protocol, and its answer as JSON.
    async fn form(&self, form: String) -> Result<(http::StatusCode, Bytes), BoxError> {
        let body = Bytes::from(form);
        let mut request = http::Request::post("/");
        let headers = request.headers_mut().ok_or("a request without headers")?;
        let kind = http::HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(http::header::CONTENT_TYPE, kind);
        headers.insert(
            http::header::ACCEPT,
            http::HeaderValue::from_static("application/json"),
        );
        self.sign("iam", "/", headers, &body)?;
        let mut channel = self.channel.clone();
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
        let response = channel
            .call(request.body(Body::new(Full::new(body)))?)
            .await?;
        let (head, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await?;
        Ok((head.status, body.to_bytes()))
    }

    fn sign(
        &self,
        service: &str,
        path: &str,
        headers: &mut http::HeaderMap,
        payload: &[u8],
    ) -> Result<(), BoxError> {
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        let signer = Signer {
            access_key_id: &credentials.access_key_id,
            secret_access_key: credentials.secret_access_key.expose().as_bytes(),
            session_token: credentials
                .session_token
                .as_ref()
                .map(|t| t.expose().as_str()),
            region: &self.region,
            service,
        };
        Ok(signer.sign(
            "POST",
            path,
            &self.host,
            headers,
            &sha256(payload),
            self.clock.now(),
        )?)
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<http::Request<Body>> for Signed {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The channel that was polled ready goes; a clone of it stays for the next call.
        let clone = self.channel.clone();
        let mut channel = std::mem::replace(&mut self.channel, clone);
        let this = self.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            // Five bytes of gRPC framing come before the message: a flag and a length.
            let message: Bytes = if body.len() >= 5 {
                body.slice(5..)
            } else {
                Bytes::new()
            };
            let path = head.uri.path().to_owned();
            this.sign("sts", &path, &mut head.headers, &message)?;
            Ok(channel
                .call(http::Request::from_parts(head, Body::new(Full::new(body))))
                .await?)
        })
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refreshed_ahead_of_expiry_with_jitter() {
        let (start, end) = (Timestamp::from_seconds(0), Timestamp::from_seconds(3_600));
        assert_eq!(refresh_at(start, end, 0).seconds(), 1_440);
        assert_eq!(refresh_at(start, end, u16::MAX).seconds(), 2_160);
        let at = Timestamp::from_seconds;
        assert_eq!(next(at(1_000), at(1_440), end), Next::Use);
        assert_eq!(next(at(1_440), at(1_440), end), Next::Refresh);
        assert_eq!(next(at(3_539), at(1_440), end), Next::Refresh);
        assert_eq!(next(at(3_540), at(1_440), end), Next::Wait);
    }

    #[test]
    fn an_05_credentials_do_not_leave_this_machine_in_clear() {
        let at = |url: &str| Endpoint {
            url: url.into(),
            region: "us-east-1".into(),
            ca_pem: None,
        };
        for local in [
            "http://127.0.0.1:7480",
            "http://127.8.9.10",
            "http://[::1]:7480",
            "http://localhost:7480",
            "https://broker.example.com",
            "HTTPS://10.0.0.1",
        ] {
            assert!(!at(local).is_in_clear(), "{local}");
        }
        let keys = || Credentials::long_term("AKIA", "secret");
        for foreign in [
            "http://broker.example.com",
            "http://10.0.0.1:7480",
            "http://[2001:db8::1]",
            "http://127.0.0.1.example.com",
            "http://localhost.example.com",
            "http://0.0.0.0:7480",
        ] {
            assert!(
                matches!(
                    Client::new(&at(foreign), keys()),
                    Err(ClientError::InClear { .. })
                ),
                "{foreign}"
            );
            assert!(
                matches!(
                    Client::anonymous(&at(foreign), false),
                    Err(ClientError::InClear { .. })
                ),
                "{foreign}"
            );
        }
    }

    #[test]
    fn an_encoded_message_is_told_from_its_sentence() {
        let message = "User: x is not authorized. Encoded authorization failure message: AbC_1-2 ";
        assert_eq!(
            split_encoded_message(message),
            ("User: x is not authorized", Some("AbC_1-2"))
        );
        assert_eq!(
            split_encoded_message("no such role."),
            ("no such role.", None)
        );
    }

    #[test]
    fn nothing_prints_a_secret() {
        let credentials = Credentials::new("ASIA", "canary-secret", Some("canary-token"));
        assert!(!format!("{credentials:?}").contains("canary"));
    }
}
