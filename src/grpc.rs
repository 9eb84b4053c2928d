//! The gRPC face: turns calls into operations, and their results into answers. Holds no rule.

mod call;
mod messages;
mod relying;
mod sessions;
mod status;
mod watch;

use std::sync::Arc;

use tonic::body::Body;
use tonic::{Code, Status};

use crate::base::http::{LongLived, host};
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::admin::describe_session::DescribeSession;
use crate::ops::admin::end_sign_in::EndSignIn;
use crate::ops::admin::list_sessions::ListSessions;
use crate::ops::admin::list_sign_ins::ListSignIns;
use crate::ops::admin::preview_revocation::PreviewRevocation;
use crate::ops::admin::revoke_sessions::RevokeSessions;
use crate::ops::relying::authorize::Authorize;
use crate::ops::relying::verify_request::VerifyRequest;
use crate::ops::relying::watch_revocations::WatchRevocations;
use crate::ops::sts::assume_role::AssumeRole;
use crate::ops::sts::assume_role_for_workload::AssumeRoleForWorkload;
use crate::ops::sts::assume_role_with_saml::AssumeRoleWithSaml;
use crate::ops::sts::assume_role_with_web_identity::AssumeRoleWithWebIdentity;
use crate::ops::sts::decode_authorization_message::DecodeAuthorizationMessage;
use crate::ops::sts::get_access_key_info::GetAccessKeyInfo;
use crate::ops::sts::get_caller_identity::GetCallerIdentity;
use crate::ops::sts::get_federation_token::GetFederationToken;
use crate::ops::sts::get_session_token::GetSessionToken;
use crate::ops::sts::get_web_identity_token::GetWebIdentityToken;
use crate::ops::{self, CALL_TIMEOUT, Operation};
use crate::origin::Origin;
use crate::routes;
use call::{Answer, BytesCodec, Call, Handler};
use status::failure;
use watch::Streaming;

/// The longest message, in bytes. A SAML response of 100,000 characters fits, with the other fields.
pub const MAX_MESSAGE_BYTES: usize = 262_144;

/// Runs the operation of a call of the SecurityTokenService.
async fn dispatch(call: Call, name: &str) -> Answer {
    match name {
        AssumeRole::NAME => call.run::<AssumeRole>().await,
        AssumeRoleForWorkload::NAME => call.run::<AssumeRoleForWorkload>().await,
        AssumeRoleWithSaml::NAME => call.run::<AssumeRoleWithSaml>().await,
        AssumeRoleWithWebIdentity::NAME => call.run::<AssumeRoleWithWebIdentity>().await,
        DecodeAuthorizationMessage::NAME => call.run::<DecodeAuthorizationMessage>().await,
        GetAccessKeyInfo::NAME => call.run::<GetAccessKeyInfo>().await,
        GetCallerIdentity::NAME => call.run::<GetCallerIdentity>().await,
        GetFederationToken::NAME => call.run::<GetFederationToken>().await,
        GetSessionToken::NAME => call.run::<GetSessionToken>().await,
        GetWebIdentityToken::NAME => call.run::<GetWebIdentityToken>().await,
        other => call.refuse(other).await,
    }
}

/// Runs the operation of a call of the SessionAdministration service.
async fn administer(call: Call, name: &str) -> Answer {
    match name {
        DescribeSession::NAME => call.run::<DescribeSession>().await,
        EndSignIn::NAME => call.run::<EndSignIn>().await,
        ListSessions::NAME => call.run::<ListSessions>().await,
        ListSignIns::NAME => call.run::<ListSignIns>().await,
        PreviewRevocation::NAME => call.run::<PreviewRevocation>().await,
        RevokeSessions::NAME => call.run::<RevokeSessions>().await,
        other => call.refuse(other).await,
    }
}

/// Runs the operation of a call of the service Relying that has one answer.
async fn rely(call: Call, name: &str) -> Answer {
    match name {
        Authorize::NAME => call.run::<Authorize>().await,
        VerifyRequest::NAME => call.run::<VerifyRequest>().await,
        other => call.refuse(other).await,
    }
}

/// Serves one call of any of the services. `stop` becomes true when the broker stops, which ends streams. A call that fails before its operation is reached is recorded and
/// refused, too.
pub async fn serve<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    stop: &tokio::sync::watch::Receiver<bool>,
    request: http::Request<B>,
) -> http::Response<Body>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let path = request.uri().path();
    let (service, name) = routes::grpc(path);
    let handler = Handler {
        broker: broker.clone(),
        origin: origin.clone(),
        service,
        name: name.to_owned(),
        path: path.to_owned(),
        host: host(request.uri(), request.headers())
            .map(str::to_owned)
            .map_err(Error::from),
        reached: Arc::default(),
    };
    let (reached, name) = (handler.reached.clone(), handler.name.clone());
    let mut grpc =
        tonic::server::Grpc::new(BytesCodec).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let answer = async {
        if service != routes::Grpc::Relying || handler.name != WatchRevocations::NAME {
            return grpc.unary(handler, request).await;
        }
        let stop = stop.clone();
        let streaming = Streaming { handler, stop };
        // Boxed, because few calls need it.
        let mut response = Box::pin(grpc.server_streaming(streaming, request)).await;
        response.extensions_mut().insert(LongLived);
        response
    };
    let response = tokio::time::timeout(CALL_TIMEOUT, answer).await;
    // A failure before the handler was reached is a refusal like any other: recorded, then answered.
    let error = match response {
        Ok(response) if reached.get().is_some() => return response,
        Ok(response) => match Status::from_header_map(response.headers()).map(|s| s.code()) {
            Some(Code::OutOfRange) => Error::TooLarge(MAX_MESSAGE_BYTES),
            // The client used a compression that was not offered; tonic's status says what is accepted.
            Some(Code::Unimplemented) => {
                let error = Error::Malformed("Compressed messages are not accepted.".into());
                let reply = ops::refuse_unread(broker, name, error, origin).await;
                return match reply.error {
                    Error::Malformed(_) => response,
                    error => failure(&reply.request_id, &error).into_http(),
                };
            }
            _ => match origin.shed() {
                Some(shed) => ops::shed(broker, shed),
                None => Error::Malformed("The request must be exactly one gRPC message.".into()),
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

/// The answer to a gRPC call of a service that the broker does not have.
pub fn unimplemented() -> http::Response<Body> {
    Status::unimplemented("no such service").into_http()
}
