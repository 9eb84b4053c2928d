//! Protobuf and operations, both ways, and [`Error`] to [`Status`]. The only file that sees
//! generated code, with `client.rs`. Holds no rule.
//!
//! The service is driven by hand on tonic's server: a signature covers the bytes of the message,
//! so a handler needs those bytes and not a decoded form of them.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::HeaderMap;
use prost::Message;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::authn::Evidence;
use crate::base::digest::{hex, sha256};
use crate::base::names::Tag;
use crate::broker::Broker;
use crate::error::Error;
use crate::mint::Credentials;
use crate::ops::admin::describe_session::DescribeSession;
use crate::ops::admin::list_sessions::{ListSessions, ListSessionsOutput};
use crate::ops::admin::revoke_sessions::{
    Asked, PreviewRevocation, RevokeSessions, RevokeSessionsOutput, Target,
};
use crate::ops::admin::session_view::SessionView;
use crate::ops::sts::assume_role::{AssumeRole, AssumeRoleInput, AssumeRoleOutput};
use crate::ops::sts::assume_role_with_web_identity::{
    AssumeRoleWithWebIdentity, AssumeRoleWithWebIdentityInput, AssumeRoleWithWebIdentityOutput,
};
use crate::ops::sts::decode_authorization_message::{
    DecodeAuthorizationMessage, DecodeAuthorizationMessageOutput,
};
use crate::ops::sts::get_access_key_info::GetAccessKeyInfo;
use crate::ops::sts::get_caller_identity::GetCallerIdentity;
use crate::ops::sts::get_federation_token::{
    GetFederationToken, GetFederationTokenInput, GetFederationTokenOutput,
};
use crate::ops::sts::get_session_token::{GetSessionToken, GetSessionTokenOutput};
use crate::ops::sts::get_web_identity_token::{
    GetWebIdentityToken, GetWebIdentityTokenInput, GetWebIdentityTokenOutput,
};
use crate::ops::{self, CALL_TIMEOUT, Operation, Service};
use crate::origin::Origin;
use crate::proof::sigv4::{Incoming, Presented};
use crate::session::token;
use crate::store::Node;

/// The generated types.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod pb {
    tonic::include_proto!("brevet.sts.v1");
}

/// The descriptors of the API, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
/// The service's full name.
pub const SERVICE: &str = "brevet.sts.v1.SecurityTokenService";
/// The full name of the service for administrators.
pub const ADMINISTRATION: &str = "brevet.sts.v1.SessionAdministration";
/// The path of RevokeSessions, for which there is room when there is none for others.
pub const REVOCATION: &str = "/brevet.sts.v1.SessionAdministration/RevokeSessions";
/// The longest message, in bytes: a SAML response of 100,000 characters and what goes with it.
pub const MAX_MESSAGE_BYTES: usize = 262_144;

/// What a handler answers with: encoded output, or why not.
type Answer = Result<Response<Bytes>, Status>;

/// Serves one call of the service, whatever came of it.
pub async fn serve<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    request: http::Request<B>,
) -> http::Response<Body>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let path = request.uri().path();
    let (service, name) = path
        .strip_prefix('/')
        .and_then(|p| p.split_once('/'))
        .unwrap_or_default();
    let service = if service == ADMINISTRATION {
        ADMINISTRATION
    } else {
        SERVICE
    };
    let host = super::query::host(request.uri(), request.headers()).map(str::to_owned);
    let call = Call {
        broker: broker.clone(),
        origin: origin.clone(),
        service,
        name: name.to_owned(),
        path: path.to_owned(),
        host,
        reached: Arc::default(),
    };
    let (reached, name) = (call.reached.clone(), call.name.clone());
    let mut grpc =
        tonic::server::Grpc::new(BytesCodec).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let response = tokio::time::timeout(CALL_TIMEOUT, grpc.unary(call, request)).await;
    // Whatever failed before a handler was reached is a refusal like any other: recorded, then answered.
    let error = match response {
        Ok(response) if reached.get().is_some() => return response,
        Ok(response) => match Status::from_header_map(response.headers()).map(|s| s.code()) {
            Some(Code::OutOfRange) => Error::TooLarge(MAX_MESSAGE_BYTES),
            // A compression that was not offered: the status says what is accepted.
            Some(Code::Unimplemented) => {
                let error = Error::Malformed("compressed messages are not accepted".into());
                let reply = ops::refuse_unread(broker, name, error, origin).await;
                return match reply.error {
                    Error::Malformed(_) => response,
                    error => failure(&reply.request_id, &error).into_http(),
                };
            }
            _ => match origin.shed() {
                Some(shed) => ops::shed(broker, shed),
                None => Error::Malformed("the request is not one gRPC message".into()),
            },
        },
        Err(_) => Error::RequestTimeout(CALL_TIMEOUT.as_secs()),
    };
    let reply = ops::refuse_unread(broker, name, error, origin).await;
    failure(&reply.request_id, &reply.error).into_http()
}

/// Refuses a call of any service before it is read.
pub async fn refuse(
    broker: &Arc<Broker>,
    origin: Origin,
    path: &str,
    error: Error,
) -> http::Response<Body> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let reply = ops::refuse_unread(broker, crate::audit::clip(name), error, origin).await;
    failure(&reply.request_id, &reply.error).into_http()
}

/// One call on its way through tonic.
struct Call {
    broker: Arc<Broker>,
    origin: Origin,
    service: &'static str,
    name: String,
    path: String,
    host: Result<String, Error>,
    reached: Arc<std::sync::OnceLock<()>>,
}

impl tower_service::Service<Request<Bytes>> for Call {
    type Response = Response<Bytes>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let _ = self.reached.set(()); // once a call
        let evidence = self.evidence(&request);
        let (broker, origin, name) = (
            self.broker.clone(),
            self.origin.clone(),
            std::mem::take(&mut self.name),
        );
        let service = self.service;
        Box::pin(async move {
            let message = request.into_inner();
            match service {
                ADMINISTRATION => administer(&broker, origin, &name, evidence, message).await,
                _ => dispatch(&broker, origin, &name, evidence, message).await,
            }
        })
    }
}

impl Call {
    /// The signature in the metadata, over the real HTTP/2 request and the message's bytes.
    fn evidence(&self, request: &Request<Bytes>) -> Result<Evidence, Error> {
        let headers: &HeaderMap = request.metadata().as_ref();
        let host = self.host.clone()?;
        let presented = Presented::read(&Incoming {
            method: "POST",
            path: &self.path,
            query: &[],
            headers,
            host: &host,
            payload_sha256: sha256(request.get_ref()),
        })?;
        Ok(Evidence::signed(presented))
    }
}

async fn dispatch(
    broker: &Arc<Broker>,
    origin: Origin,
    name: &str,
    evidence: Result<Evidence, Error>,
    message: Bytes,
) -> Answer {
    match name {
        AssumeRole::NAME => {
            let input =
                read::<pb::AssumeRoleRequest>(message).and_then(|m| AssumeRole::parse(m.into()));
            finish::<AssumeRole, pb::AssumeRoleResponse>(broker, evidence, input, origin).await
        }
        AssumeRoleWithWebIdentity::NAME => {
            let parsed = read::<pb::AssumeRoleWithWebIdentityRequest>(message)
                .and_then(|m| AssumeRoleWithWebIdentity::parse(m.into()));
            let (evidence, input) = match parsed {
                Ok((evidence, input)) => (Ok(evidence), Ok(input)),
                Err(error) => (Ok(Evidence::Anonymous), Err(error)),
            };
            finish::<AssumeRoleWithWebIdentity, pb::AssumeRoleWithWebIdentityResponse>(
                broker, evidence, input, origin,
            )
            .await
        }
        GetWebIdentityToken::NAME => {
            let input = read::<pb::GetWebIdentityTokenRequest>(message)
                .and_then(|m| GetWebIdentityToken::parse(m.into()));
            finish::<GetWebIdentityToken, pb::GetWebIdentityTokenResponse>(
                broker, evidence, input, origin,
            )
            .await
        }
        DecodeAuthorizationMessage::NAME => {
            let input = read::<pb::DecodeAuthorizationMessageRequest>(message)
                .and_then(|m| DecodeAuthorizationMessage::parse(Some(m.encoded_message)));
            finish::<DecodeAuthorizationMessage, pb::DecodeAuthorizationMessageResponse>(
                broker, evidence, input, origin,
            )
            .await
        }
        GetSessionToken::NAME => {
            let input = read::<pb::GetSessionTokenRequest>(message).and_then(|m| {
                GetSessionToken::parse(
                    m.duration_seconds.map(i64::from),
                    m.serial_number,
                    m.token_code,
                )
            });
            finish::<GetSessionToken, pb::GetSessionTokenResponse>(broker, evidence, input, origin)
                .await
        }
        GetFederationToken::NAME => {
            let input = read::<pb::GetFederationTokenRequest>(message)
                .and_then(|m| GetFederationToken::parse(m.into()));
            finish::<GetFederationToken, pb::GetFederationTokenResponse>(
                broker, evidence, input, origin,
            )
            .await
        }
        GetCallerIdentity::NAME => {
            let input = read::<pb::GetCallerIdentityRequest>(message).map(|_| GetCallerIdentity);
            finish::<GetCallerIdentity, pb::GetCallerIdentityResponse>(
                broker, evidence, input, origin,
            )
            .await
        }
        GetAccessKeyInfo::NAME => {
            let input = read::<pb::GetAccessKeyInfoRequest>(message)
                .and_then(|m| GetAccessKeyInfo::parse(Some(&m.access_key_id)));
            finish::<GetAccessKeyInfo, pb::GetAccessKeyInfoResponse>(
                broker, evidence, input, origin,
            )
            .await
        }
        other => unknown(broker, other, evidence, origin).await,
    }
}

async fn administer(
    broker: &Arc<Broker>,
    origin: Origin,
    name: &str,
    evidence: Result<Evidence, Error>,
    message: Bytes,
) -> Answer {
    match name {
        ListSessions::NAME => {
            let input = read::<pb::ListSessionsRequest>(message).and_then(|m| {
                ListSessions::parse(
                    m.role_arn.as_deref(),
                    m.max_items,
                    m.marker,
                    m.include_revoked,
                )
            });
            finish::<ListSessions, pb::ListSessionsResponse>(broker, evidence, input, origin).await
        }
        DescribeSession::NAME => {
            let input = read::<pb::DescribeSessionRequest>(message)
                .and_then(|m| DescribeSession::parse(&m.session_id));
            finish::<DescribeSession, pb::DescribeSessionResponse>(broker, evidence, input, origin)
                .await
        }
        RevokeSessions::NAME => {
            let input = read_revocation(message);
            finish::<RevokeSessions, pb::RevokeSessionsResponse>(broker, evidence, input, origin)
                .await
        }
        PreviewRevocation::NAME => {
            let input = read_revocation(message).map(PreviewRevocation);
            finish::<PreviewRevocation, pb::PreviewRevocationResponse>(
                broker, evidence, input, origin,
            )
            .await
        }
        other => unknown(broker, other, evidence, origin).await,
    }
}

fn read_revocation(message: Bytes) -> Result<RevokeSessions, Error> {
    let m = read::<pb::RevokeSessionsRequest>(message)?;
    let issued_before = m.issued_before.map(|at| at.seconds);
    RevokeSessions::parse(
        m.selector.map(Asked::from),
        issued_before,
        m.deactivate_access_key,
    )
}

async fn unknown(
    broker: &Arc<Broker>,
    name: &str,
    evidence: Result<Evidence, Error>,
    origin: Origin,
) -> Answer {
    let reply = ops::refuse(
        broker,
        Service::Sts,
        name.to_owned(),
        evidence,
        ops::registry::unanswered(name, "v1"),
        origin,
    )
    .await;
    Err(failure(&reply.request_id, &reply.error))
}

async fn finish<O, M>(
    broker: &Arc<Broker>,
    evidence: Result<Evidence, Error>,
    input: Result<O, Error>,
    origin: Origin,
) -> Answer
where
    O: Operation,
    M: Message + From<O::Output>,
{
    let reply = ops::serve(broker, evidence, input, origin).await;
    match reply.result {
        Ok(output) => {
            let mut response = Response::new(Bytes::from(M::from(output).encode_to_vec()));
            if let Ok(id) = reply.request_id.parse() {
                response.metadata_mut().insert("x-amzn-requestid", id);
            }
            Ok(response)
        }
        Err(error) => Err(failure(&reply.request_id, &error)),
    }
}

fn read<M: Message + Default>(message: Bytes) -> Result<M, Error> {
    M::decode(message).map_err(|e| Error::Malformed(format!("the message cannot be decoded: {e}")))
}

/// A refusal as gRPC says it: a code, a sentence, and details for programs.
pub fn failure(request_id: &str, error: &Error) -> Status {
    let mut details = ErrorDetails::new();
    details
        .set_error_info(error.code(), "brevet", [])
        .set_request_info(request_id, "");
    if let Some(field) = error.field() {
        details.add_bad_request_violation(snake_case(&field.field), field.rule.clone());
    }
    if let Some(encoded_message) = error.encoded_message() {
        let metadata = [(
            "encoded_authorization_message".to_owned(),
            encoded_message.to_owned(),
        )];
        details.set_error_info(error.code(), "brevet", metadata);
    }
    if matches!(
        error,
        Error::ServiceUnavailable(_) | Error::Throttling | Error::IdpCommunicationError
    ) {
        details.set_retry_info(Some(Duration::from_secs(1)));
    }
    Status::with_error_details(status(error), error.to_string(), details)
}

/// The one place where refusals become gRPC codes.
fn status(error: &Error) -> Code {
    match error {
        Error::AccessDenied { .. }
        | Error::NotAuthorized { .. }
        | Error::IdpRejectedClaim(_)
        | Error::LongTermCredentialsOnly(_)
        | Error::PresignedAction(_)
        | Error::Mfa(_)
        | Error::SessionDurationEscalation
        | Error::InvalidAuthenticationCode => Code::PermissionDenied,
        Error::Validation(_)
        | Error::Duration(_)
        | Error::Malformed(_)
        | Error::MalformedPolicyDocument(_)
        | Error::PackedPolicyTooLarge(_)
        | Error::InvalidAuthorizationMessage
        | Error::InvalidIdentityToken(_)
        | Error::ExpiredWebIdentityToken(_)
        | Error::JwtPayloadSizeExceeded(..) => Code::InvalidArgument,
        Error::TooLarge(_)
        | Error::HeadersTooLarge(..)
        | Error::Throttling
        | Error::LimitExceeded(_) => Code::ResourceExhausted,
        Error::OutboundWebIdentityFederationDisabled(_)
        | Error::DeleteConflict(_)
        | Error::UnmodifiableEntity(_)
        | Error::EntityTemporarilyUnmodifiable(_) => Code::FailedPrecondition,
        Error::EntityAlreadyExists(_) => Code::AlreadyExists,
        Error::ConcurrentModification(_) => Code::Aborted,
        Error::RequestTimeout(_) => Code::DeadlineExceeded,
        Error::InvalidAction { .. } | Error::NotAvailable(_) | Error::UnknownOperation(_) => {
            Code::Unimplemented
        }
        Error::MissingAuthenticationToken
        | Error::IncompleteSignature(_)
        | Error::SignatureDoesNotMatch(_)
        | Error::RequestExpired(_)
        | Error::InvalidClientTokenId
        | Error::Ended
        | Error::ExpiredToken => Code::Unauthenticated,
        Error::ServiceUnavailable(_) | Error::IdpCommunicationError => Code::Unavailable,
        Error::NotFound(_) => Code::NotFound,
        Error::InternalFailure => Code::Internal,
    }
}

/// `RoleSessionName` as the proto names it: `role_session_name`.
fn snake_case(field: &str) -> String {
    let mut out = String::with_capacity(field.len() + 4);
    for c in field.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

impl From<pb::AssumeRoleRequest> for AssumeRoleInput {
    fn from(m: pb::AssumeRoleRequest) -> Self {
        Self {
            role_arn: Some(m.role_arn),
            role_session_name: Some(m.role_session_name),
            policy_arns: m.policy_arns,
            policy: m.policy,
            duration_seconds: m.duration_seconds.map(i64::from),
            tags: tags(m.tags),
            transitive_tag_keys: m.transitive_tag_keys,
            external_id: m.external_id,
            serial_number: m.serial_number,
            token_code: m.token_code,
            source_identity: m.source_identity,
            provided_contexts: false,
        }
    }
}

fn tags(tags: Vec<pb::Tag>) -> Vec<Tag> {
    tags.into_iter()
        .map(|t| Tag {
            key: t.key,
            value: t.value,
        })
        .collect()
}

impl From<pb::GetFederationTokenRequest> for GetFederationTokenInput {
    fn from(m: pb::GetFederationTokenRequest) -> Self {
        Self {
            name: Some(m.name),
            policy: m.policy,
            policy_arns: m.policy_arns,
            duration_seconds: m.duration_seconds.map(i64::from),
            tags: tags(m.tags),
        }
    }
}

impl From<DecodeAuthorizationMessageOutput> for pb::DecodeAuthorizationMessageResponse {
    fn from(output: DecodeAuthorizationMessageOutput) -> Self {
        Self {
            decoded_message: output.decoded_message,
        }
    }
}

impl From<pb::GetWebIdentityTokenRequest> for GetWebIdentityTokenInput {
    fn from(m: pb::GetWebIdentityTokenRequest) -> Self {
        Self {
            audience: m.audience,
            signing_algorithm: Some(m.signing_algorithm),
            duration_seconds: m.duration_seconds.map(i64::from),
            tags: tags(m.tags),
        }
    }
}

impl From<GetWebIdentityTokenOutput> for pb::GetWebIdentityTokenResponse {
    fn from(output: GetWebIdentityTokenOutput) -> Self {
        Self {
            web_identity_token: output.web_identity_token.expose().clone(),
            expiration: Some(prost_types::Timestamp {
                seconds: output.expiration.seconds(),
                nanos: 0,
            }),
        }
    }
}

impl From<pb::AssumeRoleWithWebIdentityRequest> for AssumeRoleWithWebIdentityInput {
    fn from(m: pb::AssumeRoleWithWebIdentityRequest) -> Self {
        Self {
            role_arn: Some(m.role_arn),
            role_session_name: Some(m.role_session_name),
            web_identity_token: Some(m.web_identity_token),
            provider_id: m.provider_id,
            policy_arns: m.policy_arns,
            policy: m.policy,
            duration_seconds: m.duration_seconds.map(i64::from),
        }
    }
}

impl From<AssumeRoleWithWebIdentityOutput> for pb::AssumeRoleWithWebIdentityResponse {
    fn from(output: AssumeRoleWithWebIdentityOutput) -> Self {
        Self {
            credentials: Some(output.credentials.into()),
            subject_from_web_identity_token: output.subject,
            assumed_role_user: Some(pb::AssumedRoleUser {
                assumed_role_id: output.assumed_role_id,
                arn: output.arn,
            }),
            packed_policy_size: i32::try_from(output.packed_policy_size).unwrap_or(100),
            provider: output.provider,
            audience: output.audience,
            source_identity: output.source_identity,
        }
    }
}

impl From<GetSessionTokenOutput> for pb::GetSessionTokenResponse {
    fn from(output: GetSessionTokenOutput) -> Self {
        Self {
            credentials: Some(output.credentials.into()),
        }
    }
}

impl From<GetFederationTokenOutput> for pb::GetFederationTokenResponse {
    fn from(output: GetFederationTokenOutput) -> Self {
        Self {
            credentials: Some(output.credentials.into()),
            federated_user: Some(pb::FederatedUser {
                federated_user_id: output.federated_user_id,
                arn: output.arn,
            }),
            packed_policy_size: i32::try_from(output.packed_policy_size).unwrap_or(100),
        }
    }
}

impl From<AssumeRoleOutput> for pb::AssumeRoleResponse {
    fn from(output: AssumeRoleOutput) -> Self {
        Self {
            credentials: Some(output.credentials.into()),
            assumed_role_user: Some(pb::AssumedRoleUser {
                assumed_role_id: output.assumed_role_id,
                arn: output.arn,
            }),
            packed_policy_size: i32::try_from(output.packed_policy_size).unwrap_or(100),
            source_identity: output.source_identity,
        }
    }
}

impl From<Credentials> for pb::Credentials {
    fn from(credentials: Credentials) -> Self {
        Self {
            access_key_id: credentials.access_key_id.as_str().to_owned(),
            secret_access_key: credentials.secret_access_key.expose().clone(),
            session_token: credentials.session_token.expose().clone(),
            expiration: Some(prost_types::Timestamp {
                seconds: credentials.expires_at.seconds(),
                nanos: 0,
            }),
        }
    }
}

impl From<ops::sts::get_caller_identity::GetCallerIdentityOutput>
    for pb::GetCallerIdentityResponse
{
    fn from(output: ops::sts::get_caller_identity::GetCallerIdentityOutput) -> Self {
        Self {
            user_id: output.user_id,
            account: output.account,
            arn: output.arn,
        }
    }
}

impl From<ops::sts::get_access_key_info::GetAccessKeyInfoOutput> for pb::GetAccessKeyInfoResponse {
    fn from(output: ops::sts::get_access_key_info::GetAccessKeyInfoOutput) -> Self {
        Self {
            account: output.account,
        }
    }
}

impl From<pb::revoke_sessions_request::Selector> for Asked {
    fn from(selector: pb::revoke_sessions_request::Selector) -> Self {
        use pb::revoke_sessions_request::Selector;
        match selector {
            Selector::SessionId(text) => Self::SessionId(text),
            Selector::AccessKeyId(text) => Self::AccessKeyId(text),
            Selector::PrincipalArn(text) => Self::PrincipalArn(text),
            Selector::RoleArn(text) => Self::RoleArn(text),
            Selector::SourceIdentity(text) => Self::SourceIdentity(text),
            Selector::VouchedFor(pb::VouchedFor {
                provider_arn,
                subject,
            }) => Self::VouchedFor {
                provider_arn,
                subject,
            },
            Selector::All(all) => Self::All(all),
        }
    }
}

impl From<SessionView> for pb::Session {
    fn from(view: SessionView) -> Self {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let record = view.record;
        let kind = record.kind();
        let made_by = match kind {
            token::Kind::Role => "AssumeRole",
            token::Kind::User => "GetSessionToken",
            token::Kind::FederatedUser => "GetFederationToken",
        };
        Self {
            session_id: hex(&record.session_id),
            access_key_id: record.access_key_id,
            arn: view.arn,
            made_by: made_by.to_owned(),
            role_arn: if kind == token::Kind::Role {
                record.principal_arn
            } else {
                String::new()
            },
            source_identity: record.source_identity,
            tags: record
                .tags
                .into_iter()
                .map(|t| pb::Tag {
                    key: t.key,
                    value: t.value,
                })
                .collect(),
            issued_at: at(record.issued_at),
            expires_at: at(record.expires_at),
            came_from: view.came_from,
            assumed_by_access_key_id: record
                .ancestors
                .last()
                .map(|a| a.access_key_id.clone())
                .unwrap_or_default(),
            revoked: view.revoked,
        }
    }
}

impl From<SessionView> for pb::DescribeSessionResponse {
    fn from(view: SessionView) -> Self {
        Self {
            session: Some(view.into()),
        }
    }
}

impl From<ListSessionsOutput> for pb::ListSessionsResponse {
    fn from(output: ListSessionsOutput) -> Self {
        let sessions = output.sessions.into_iter().map(pb::Session::from).collect();
        Self {
            sessions,
            marker: output.marker,
            shared: output.shared,
        }
    }
}

impl From<RevokeSessionsOutput> for pb::RevokeSessionsResponse {
    fn from(output: RevokeSessionsOutput) -> Self {
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let node = |n: Node| pb::Node {
            node: n.node,
            host: n.host,
            confirmed_sequence_number: n.confirmed,
        };
        Self {
            sequence_number: output.sequence_number,
            nodes_connected: count(output.nodes_connected),
            nodes_confirmed: count(output.nodes_connected.saturating_sub(output.pending.len())),
            pending: output.pending.into_iter().map(node).collect(),
            target: Some(output.target.into()),
            access_key_deactivated: output.access_key_deactivated,
        }
    }
}

impl From<Target> for pb::RevocationTarget {
    fn from(target: Target) -> Self {
        Self {
            exists: target.exists,
            sessions_on_record: target
                .sessions
                .map(|counted| i32::try_from(counted.hit).unwrap_or(i32::MAX)),
            more: target.sessions.is_some_and(|counted| counted.more),
            access_key_goes_on: target.access_key_goes_on,
        }
    }
}

impl From<Target> for pb::PreviewRevocationResponse {
    fn from(target: Target) -> Self {
        Self {
            target: Some(target.into()),
        }
    }
}

/// Messages as bytes.
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// For a gRPC call to no service of ours.
pub fn unimplemented() -> Result<http::Response<Body>, Infallible> {
    Ok(Status::unimplemented("no such service").into_http())
}
