//! The questions by which the S3 gateway versitygw asks a standalone IAM service: three calls of JSON, by which it gets
//! signing keys of a day, the verdicts of policies, and the users to whom access keys belong. It never gets a secret
//! access key. What it may learn is decided in [`crate::ops`].
//!
//! The gateway proves itself twice: by a client certificate, since the answers contain keys, and by a signature for
//! `iam` with an access key of the directory, whose policies say what it may ask.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::memory::{self, Counted, Held, Memory};
use crate::audit;
use crate::authn::Evidence;
use crate::base::digest::sha256;
use crate::base::form;
use crate::base::http::host;
use crate::base::strict_json;
use crate::broker::Broker;
use crate::error::{Class, Error};
use crate::ops::relying::derive_signing_key::{DeriveSigningKey, Scope};
use crate::ops::relying::evaluate_policy::{EvaluatePolicy, Evaluated};
use crate::ops::relying::resolve_identity::ResolveIdentity;
use crate::ops::relying::subject::Unknown;
use crate::ops::{self, CALL_TIMEOUT, ToTheEnd};
use crate::origin::Origin;
use crate::proof::sigv4::{Incoming, Presented};
use crate::routes::GatewayCall;
use crate::trust::Verdict;

/// The longest body: a question about a thousand objects with long names.
const MAX_BODY_BYTES: usize = 2 << 20;
/// The time limit from the head of a call to its answer. It is a second longer than the limit for the body, so that a
/// call whose body is late is refused, and recorded, like any other; this limit ends only what takes too long after
/// the body has arrived.
const UNTIL_ANSWERED: Duration = Duration::from_secs(CALL_TIMEOUT.as_secs() + 1);
/// The message to a sender that has shown a secret and no certificate.
const NOT_CERTIFIED: &str = "A gateway that asks for signing keys must show a client certificate of the CA in [s3] client_ca.";

/// The gateway that asks, as its connection shows it.
pub struct Gateway {
    /// The regions for which gateways may have signing keys; `None` if there are no gateways.
    pub regions: Option<Arc<[String]>>,
    /// Whether its client certificate is that of one of the operator's proxies.
    pub is_certified: bool,
    pub address: IpAddr,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeriveBody {
    access_key_id: String,
    #[serde(default)]
    session_token: Option<String>,
    date: String,
    region: String,
    service: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EvaluateBody {
    access_key_id: String,
    #[serde(default)]
    session_token: Option<String>,
    actions: Vec<String>,
    resources: Vec<String>,
    /// `null` stands for no keys.
    #[serde(default)]
    condition: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResolveBody {
    access_key_ids: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verdicts<'a> {
    decisions: Vec<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_decisions: Option<Vec<Vec<&'static str>>>,
    has_session_policy: bool,
    principal_arn: &'a str,
}

impl Gateway {
    /// Answers a question. The future is boxed, because few questions need it, and its type is erased, because it
    /// would be too deep for the compiler.
    pub(super) fn serve<'a, B>(
        self,
        broker: &'a Arc<Broker>,
        memory: Arc<Memory>,
        call: GatewayCall,
        request: Request<B>,
    ) -> Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send + 'a>>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        Box::pin(in_time(self.answer(broker, memory, call, request)))
    }

    async fn answer<B>(
        self,
        broker: &Arc<Broker>,
        memory: Arc<Memory>,
        call: GatewayCall,
        request: Request<B>,
    ) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        if !self.is_certified {
            return closing(failure(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                NOT_CERTIFIED,
            ));
        }
        if request.method() != Method::POST {
            let text = "This address accepts only the method POST.";
            return closing(failure(StatusCode::METHOD_NOT_ALLOWED, "BadRequest", text));
        }
        let (head, body) = request.into_parts();
        let agent = head.headers.get(USER_AGENT);
        let agent = agent.map(|v| audit::clip(&String::from_utf8_lossy(v.as_bytes())));
        let origin = Origin {
            source_ip: self.address,
            secure_transport: true,
            user_agent: agent,
            referer: None,
            certificate: None,
            call: None,
        };
        let held = memory.of_question();
        let body = match received(body, held.clone()).await {
            Ok(body) => body,
            Err(error) => {
                let reply = ops::refuse_unread(broker, "none", error, origin).await;
                return closing(refused(&reply.error));
            }
        };
        let evidence = evidence(&head, &body);
        let (broker, regions) = (broker.clone(), self.regions.unwrap_or_default());
        // A call goes on even if the gateway does not wait for it, and its memory counts until then.
        ToTheEnd::new(async move {
            let answer = decided(&broker, &regions, call, evidence, &body, origin).await;
            drop(held);
            answer
        })
        .await
    }
}

/// Ends a call that has no answer after [`UNTIL_ANSWERED`].
async fn in_time(answered: impl Future<Output = Response<Full<Bytes>>>) -> Response<Full<Bytes>> {
    let late = |_| closing(refused(&Error::RequestTimeout(CALL_TIMEOUT.as_secs())));
    let answered = tokio::time::timeout(UNTIL_ANSWERED, answered).await;
    answered.unwrap_or_else(late)
}

/// Receives a body, whose bytes `held` counts.
///
/// # Errors
/// [`Error::RequestTimeout`] if it takes longer than [`CALL_TIMEOUT`], [`Error::TooLarge`],
/// [`Error::Overloaded`] if the questions of all proxies take too much memory, and [`Error::Malformed`] if it
/// ends early.
async fn received<B>(body: B, held: Arc<Held>) -> Result<Bytes, Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let received = Limited::new(Counted::new(body, held), MAX_BODY_BYTES).collect();
    match tokio::time::timeout(CALL_TIMEOUT, received).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Error::TooLarge(MAX_BODY_BYTES))
        }
        Ok(Err(error)) if error.is::<memory::Full>() => Err(Error::Overloaded(ops::NO_ROOM.into())),
        Ok(Err(_)) => Err(Error::Malformed(
            "The body of the request was not received completely.".to_owned(),
        )),
        Err(_) => Err(Error::RequestTimeout(CALL_TIMEOUT.as_secs())),
    }
}

/// Reads a call and answers it.
async fn decided(
    broker: &Arc<Broker>,
    regions: &[String],
    call: GatewayCall,
    evidence: Result<Evidence, Error>,
    body: &[u8],
    origin: Origin,
) -> Response<Full<Bytes>> {
    match call {
        GatewayCall::DeriveSigningKey => {
            let input = parsed::<DeriveBody>(body).and_then(|asked| asked.read(regions));
            let reply = ops::serve(broker, evidence, input, origin).await;
            answer(reply.result, |key| derived(&key))
        }
        GatewayCall::EvaluatePolicy => {
            let input = parsed::<EvaluateBody>(body).and_then(|asked| asked.read(regions));
            let reply = ops::serve(broker, evidence, input, origin).await;
            answer(reply.result, |evaluated| verdicts(&evaluated))
        }
        GatewayCall::ResolveIdentity => {
            let input = parsed::<ResolveBody>(body);
            let input = input.and_then(|asked| ResolveIdentity::parse(asked.access_key_ids));
            let reply = ops::serve(broker, evidence, input, origin).await;
            answer(reply.result.map(Ok), |users| identities(&users))
        }
    }
}

impl DeriveBody {
    fn read(self, regions: &[String]) -> Result<DeriveSigningKey, Error> {
        let scope = Scope {
            date: &self.date,
            region: &self.region,
            service: &self.service,
        };
        DeriveSigningKey::parse(&self.access_key_id, self.session_token, scope, regions)
    }
}

impl EvaluateBody {
    fn read(self, regions: &[String]) -> Result<EvaluatePolicy, Error> {
        let texts = |(name, values): (String, Value)| {
            let values = serde_json::from_value(values).map_err(|_| malformed())?;
            Ok((name, values))
        };
        let condition = self.condition.unwrap_or_default().into_iter().map(texts);
        // A gateway does not say for which region it was called, unless it can have only one.
        let region = match regions {
            [region] => Some(region.as_str()),
            _ => None,
        };
        EvaluatePolicy::parse(
            &self.access_key_id,
            self.session_token,
            self.actions,
            self.resources,
            condition.collect::<Result<_, Error>>()?,
            region,
        )
    }
}

/// The evidence for the caller of a request: the request's signature.
fn evidence(head: &http::request::Parts, body: &Bytes) -> Result<Evidence, Error> {
    let query = form::pairs(head.uri.query().unwrap_or_default().as_bytes())?;
    let presented = Presented::read(&Incoming {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: &query,
        headers: &head.headers,
        host: host(&head.uri, &head.headers)?,
        payload_sha256: sha256(body),
    })?;
    Ok(Evidence::signed(presented))
}

fn parsed<'a, T: Deserialize<'a>>(body: &[u8]) -> Result<T, Error> {
    let value = strict_json::parse(body).map_err(|_| malformed())?;
    T::deserialize(value).map_err(|_| malformed())
}

fn malformed() -> Error {
    let text = "The body must be a JSON object with the members of this call, and with no others.";
    Error::Malformed(text.to_owned())
}

/// The answer to the gateway. If its client's access key is unknown or inactive, or its client's session is not valid,
/// the answer has a code that the gateway passes on to the client. Any other error is the fault of the gateway or of
/// the broker.
fn answer<T>(
    result: Result<Result<T, Unknown>, Error>,
    write: impl FnOnce(T) -> Bytes,
) -> Response<Full<Bytes>> {
    match result {
        Ok(Ok(output)) => json_answer(StatusCode::OK, write(output)),
        Ok(Err(Unknown::NoSuchPrincipal)) => failure(
            StatusCode::FORBIDDEN,
            "NoSuchIdentity",
            "The account has no active access key with this id.",
        ),
        Ok(Err(Unknown::NoSuchSession | Unknown::Expired | Unknown::Ended)) => failure(
            StatusCode::FORBIDDEN,
            "InvalidToken",
            "The session token is missing or invalid, does not belong to the access key, or its session is over.",
        ),
        Err(error) => refused(&error),
    }
}

/// Writes a signing key into memory that is wiped once it was sent.
fn derived(key: &[u8; 32]) -> Bytes {
    let mut text = Zeroizing::new(String::with_capacity(128));
    text.push_str("{\"derivedKey\":\"");
    STANDARD.encode_string(key, &mut text);
    text.push_str("\"}");
    Bytes::from_owner(Owned(text))
}

/// A text whose bytes are sent and then wiped.
struct Owned(Zeroizing<String>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn verdicts(evaluated: &Evaluated) -> Bytes {
    let word = |verdict: &Verdict| match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::NoMatch => "no_match",
    };
    let words = |rows: &Vec<Vec<Verdict>>| -> Vec<Vec<&'static str>> {
        let row = |row: &Vec<Verdict>| row.iter().map(word).collect();
        rows.iter().map(row).collect()
    };
    let written = serde_json::to_vec(&Verdicts {
        decisions: words(&evaluated.all),
        session_decisions: evaluated.session.as_ref().map(words),
        has_session_policy: evaluated.session.is_some(),
        principal_arn: &evaluated.principal_arn,
    });
    // Without decisions, the gateway refuses its client.
    written.unwrap_or_default().into()
}

fn identities(users: &[Option<String>]) -> Bytes {
    let identity = |user: &Option<String>| match user {
        Some(arn) => json!({"found": true, "kind": "user", "principalArn": arn}),
        None => json!({"found": false}),
    };
    let identities: Vec<Value> = users.iter().map(identity).collect();
    json!({"identities": identities}).to_string().into()
}

fn refused(error: &Error) -> Response<Full<Bytes>> {
    let (status, code) = match error.class() {
        Class::Unauthenticated | Class::UnfitProof | Class::Forbidden | Class::WrongCredentials => {
            (StatusCode::FORBIDDEN, error.code())
        }
        Class::Unavailable | Class::Timeout | Class::ProviderUnavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, error.code())
        }
        Class::Throttled => (StatusCode::TOO_MANY_REQUESTS, error.code()),
        Class::Internal => (StatusCode::INTERNAL_SERVER_ERROR, error.code()),
        _ => (StatusCode::BAD_REQUEST, "BadRequest"),
    };
    failure(status, code, &error.message())
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    let body = json!({"error": message, "code": code});
    json_answer(status, body.to_string().into())
}

fn json_answer(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Makes an answer close the connection, because the body of its request was not read to its end.
fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::StreamExt;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::time::Instant;

    use super::*;

    /// A body that sends a byte each second, and has this many.
    fn slow(bytes: usize) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin {
        let one = |_| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Frame::data(Bytes::from_static(b"x")))
        };
        let pieces = futures_util::stream::iter(0..bytes).then(one);
        StreamBody::new(Box::pin(pieces))
    }

    #[tokio::test(start_paused = true)]
    async fn tr_04_a_body_that_is_late_is_refused_before_the_call_ends() {
        let begun = Instant::now();
        let receive =
            async |bytes| received(slow(bytes), Arc::<Memory>::default().of_question()).await;
        assert_eq!(receive(9).await.unwrap().len(), 9);
        assert_eq!(begun.elapsed(), Duration::from_secs(9));
        let begun = Instant::now();
        let late = receive(20).await;
        assert!(matches!(late, Err(Error::RequestTimeout(10))), "{late:?}");
        assert_eq!(begun.elapsed(), CALL_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn tr_04_a_call_without_an_answer_ends() {
        let answered_after = async |time| {
            in_time(async move {
                tokio::time::sleep(time).await;
                json_answer(StatusCode::OK, Bytes::new())
            })
            .await
        };
        // The refusal of a late body is still sent.
        let recorded = answered_after(CALL_TIMEOUT + Duration::from_millis(500)).await;
        assert_eq!(recorded.status(), StatusCode::OK);
        let begun = Instant::now();
        let ended = answered_after(Duration::from_secs(3_600)).await;
        assert_eq!(begun.elapsed(), UNTIL_ANSWERED);
        assert_eq!(ended.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ended.headers()[CONNECTION], "close");
    }
}
