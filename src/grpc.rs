//! The gRPC API: turns calls into operations, and their results into answers. It has no rules of its own.

mod call;
mod framing;
mod messages;
mod relying;
mod sessions;
mod status;
mod watch;

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response};
use tonic::Status;
use tonic::body::Body;

use crate::base::http::LongLived;
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
use crate::ops::sts::get_scoped_credentials::GetScopedCredentials;
use crate::ops::sts::get_session_token::GetSessionToken;
use crate::ops::sts::get_web_identity_token::GetWebIdentityToken;
use crate::ops::{self, CALL_TIMEOUT, Operation};
use crate::origin::Origin;
use crate::{request_body, routes};
use call::Call;
use framing::Unreadable;
use status::failure;

/// The maximum length of a message in bytes. It leaves room for a SAML response of 100,000 characters and the
/// other fields.
pub const MAX_MESSAGE_BYTES: usize = 262_144;

/// Runs the operation of a call of the SecurityTokenService.
async fn dispatch(call: Call, name: &str) -> Response<Body> {
    match name {
        AssumeRole::NAME => call.run::<AssumeRole>().await,
        AssumeRoleForWorkload::NAME => call.run::<AssumeRoleForWorkload>().await,
        AssumeRoleWithSaml::NAME => call.run::<AssumeRoleWithSaml>().await,
        AssumeRoleWithWebIdentity::NAME => call.run::<AssumeRoleWithWebIdentity>().await,
        DecodeAuthorizationMessage::NAME => call.run::<DecodeAuthorizationMessage>().await,
        GetAccessKeyInfo::NAME => call.run::<GetAccessKeyInfo>().await,
        GetCallerIdentity::NAME => call.run::<GetCallerIdentity>().await,
        GetFederationToken::NAME => call.run::<GetFederationToken>().await,
        GetScopedCredentials::NAME => call.run::<GetScopedCredentials>().await,
        GetSessionToken::NAME => call.run::<GetSessionToken>().await,
        GetWebIdentityToken::NAME => call.run::<GetWebIdentityToken>().await,
        other => call.refuse(other).await,
    }
}

/// Runs the operation of a call of the SessionAdministration service.
async fn administer(call: Call, name: &str) -> Response<Body> {
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

/// Runs the operation of a call of the Relying service, except WatchRevocations, whose answer is a stream.
async fn rely(call: Call, name: &str) -> Response<Body> {
    match name {
        Authorize::NAME => call.run::<Authorize>().await,
        VerifyRequest::NAME => call.run::<VerifyRequest>().await,
        other => call.refuse(other).await,
    }
}

/// Serves one call of any of the services. `stop` becomes true when the broker stops, which ends streams. A call
/// whose message cannot be read is recorded and refused, too.
pub async fn serve<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    stop: &tokio::sync::watch::Receiver<bool>,
    request: http::Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send,
{
    let (parts, body) = request.into_parts();
    let (service, name) = routes::grpc(parts.uri.path());
    let late = request_body::without_texts(&origin);
    // Pinned here, so that it is not moved into the timeout.
    let answered = pin!(async {
        let message = match framing::receive(&parts.headers, body).await {
            Ok(message) => message,
            Err(unreadable) => return Err((unreadable, origin)),
        };
        let call = Call::new(broker, origin, &parts, message);
        Ok(match service {
            routes::Grpc::SessionAdministration => administer(call, name).await,
            routes::Grpc::Relying if name == WatchRevocations::NAME => {
                // Boxed, because few calls need it.
                let mut response = Box::pin(watch::answer(call, stop.clone())).await;
                response.extensions_mut().insert(LongLived);
                response
            }
            routes::Grpc::Relying => rely(call, name).await,
            _ => dispatch(call, name).await,
        })
    });
    let (unreadable, origin) = match tokio::time::timeout(CALL_TIMEOUT, answered).await {
        Ok(Ok(response)) => return response,
        Ok(Err((unreadable, origin))) => (Some(unreadable), origin),
        Err(_) => (None, request_body::with_agent(late, &parts.headers)),
    };
    let error = match (unreadable, origin.shed()) {
        (None, _) => Error::RequestTimeout(CALL_TIMEOUT.as_secs()),
        (Some(Unreadable::TooLong), _) => Error::TooLarge(MAX_MESSAGE_BYTES),
        (Some(Unreadable::Compressed), _) => Error::Malformed(COMPRESSED.into()),
        (Some(Unreadable::NotOneMessage), Some(shed)) => ops::shed(broker, shed),
        (Some(Unreadable::NotOneMessage), None) => {
            Error::Malformed("The request must be exactly one gRPC message.".into())
        }
    };
    let reply = ops::refuse_unread(broker, name, error, origin).await;
    match (unreadable, &reply.error) {
        (Some(Unreadable::Compressed), Error::Malformed(_)) => compressed(),
        (_, error) => failure(&reply.request_id, error).into_http(),
    }
}

const COMPRESSED: &str = "Compressed messages are not accepted.";

/// Makes the answer to a call whose message is compressed, which says that only plain messages are accepted: gRPC
/// documentation, "Compression", section "Specification".
fn compressed() -> Response<Body> {
    let mut response = Status::unimplemented(COMPRESSED).into_http();
    let accepted = HeaderValue::from_static("identity");
    response
        .headers_mut()
        .insert("grpc-accept-encoding", accepted);
    response
}

/// Refuses a call of any service before its message is read.
pub async fn refuse(
    broker: &Arc<Broker>,
    origin: Origin,
    path: &str,
    error: Error,
) -> Response<Body> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let reply = ops::refuse_unread(broker, crate::audit::clip(name), error, origin).await;
    failure(&reply.request_id, &reply.error).into_http()
}

/// Makes the answer to a gRPC call of a service that the broker does not have.
pub fn unimplemented() -> Response<Body> {
    Status::unimplemented("no such service").into_http()
}
