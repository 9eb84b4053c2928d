//! The S3 Signer API of Apache Iceberg, for clients that have a bearer token of `/oauth2/token` instead of an access
//! key. The client describes a request to an object store, gets headers with a signature, and sends the request itself.
//!
//! - A request to the proxy in front of a store is signed with the client's own key. The broker decides on it later,
//!   when the proxy asks.
//! - A request to the store itself is decided here and signed with the store's key. This requires `remote_signing` in
//!   `[[s3.stores]]`, which an operator sets only for a store that ignores everything in a request that is not signed.
//!
//! Permissions are decided by [`decide`].

mod answer;
mod read;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response};
use http_body_util::Full;

use crate::authn::bearer::Bearer;
use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};
use crate::base::http::media_type;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::s3::decide::{Decision, decide};
use crate::ops::{self, CALL_TIMEOUT};
use crate::origin::Origin;
use crate::proof::sigv4::SigningSecret;
use crate::proof::sigv4::s3::{S3Request, UNSIGNED_PAYLOAD, UNSIGNED_TRAILER, authorization};
use crate::request_body;
use crate::s3::{Code, Head, S3Refusal, S3Store, route};
use answer::Refused;
use read::Asked;

/// The name of the event in the audit log for a call that is refused before the broker knows the operation on the
/// store.
const NAME: &str = "SignS3Request";
/// Headers that a client must not send in its question, because only the answer sets them.
const OF_THE_ANSWER: [&str; 3] = ["authorization", "x-amz-date", "x-amz-security-token"];
const PAYLOAD: &str = "x-amz-content-sha256";

/// Headers to add to a request. They are a live signature, and must not be logged.
type Added = Vec<(&'static str, Secret<String>)>;

/// Signs requests to the stores of the configuration.
pub struct Signer<'a> {
    pub broker: &'a Arc<Broker>,
    pub stores: &'a [Arc<S3Store>],
    /// `Err` with the reason if the broker is not ready to serve anybody now.
    pub readiness: Result<(), String>,
}

impl Signer<'_> {
    /// Answers one `S3SignRequest` with the headers of a signed request, or with a refusal.
    pub async fn serve<B>(&self, origin: Origin, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.method() != Method::POST {
            return answer::only_post();
        }
        let (head, body) = request.into_parts();
        let late = request_body::without_texts(&origin);
        let answer = async {
            let headers = &head.headers;
            let body = request_body::read(self.broker, &origin, headers, body, || false).await;
            match self.signed(&head, body, &origin).await {
                Ok((uri, added)) => answer::signed(&uri, &added),
                Err(Refused::Store(refusal)) => answer::refused(&refusal),
                Err(Refused::Broker(error)) => {
                    let refused = ops::refuse_unread(self.broker, NAME, error, origin).await;
                    answer::failed(&refused.error, &refused.request_id)
                }
            }
        };
        match tokio::time::timeout(CALL_TIMEOUT, answer).await {
            Ok(response) => response,
            Err(_) => {
                let reply = request_body::too_late(self.broker, late, &head.headers).await;
                request_body::closing(answer::failed(&reply.error, &reply.request_id))
            }
        }
    }

    /// Signs the request that a client describes in the body of its call. Returns the URI of that request, and the
    /// headers to add to it.
    async fn signed(
        &self,
        head: &http::request::Parts,
        body: Result<Bytes, Error>,
        origin: &Origin,
    ) -> Result<(String, Added), Refused> {
        let (body, now) = (body?, self.broker.clock.now());
        let bearer = Bearer::of_client(self.broker, &head.headers, now)?;
        let bearer = bearer.ok_or(Error::MissingAuthenticationToken)?;
        let is_json = head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|v| media_type(v).eq_ignore_ascii_case(b"application/json"));
        if !is_json {
            let text = "The Content-Type must be application/json.";
            return Err(Error::Malformed(text.to_owned()).into());
        }
        let asked = read::request(&body).map_err(Error::Malformed)?;
        if let Err(why) = &self.readiness {
            tracing::debug!(
                why,
                "a request to an object store was not signed, because the broker is not ready"
            );
            let refusal = S3Refusal::new(Code::ServiceUnavailable, "Please try again.");
            return Err(refusal.into());
        }
        let itself = self.stores.iter().filter(|store| store.remote_signing);
        let mut itself =
            itself.filter_map(|store| Some((store, store.as_behind(&asked.authority)?)));
        if let Some((store, called)) = itself.next() {
            let added = self
                .for_store(store, &called, &asked, &bearer, origin, now)
                .await?;
            return Ok((asked.uri, added));
        }
        match S3Store::behind(self.stores, &asked.authority) {
            Some(store) => {
                let (_, added) = own_signature(store, &asked.authority, &asked, &bearer, now)?;
                Ok((asked.uri, added))
            }
            None => Err(S3Refusal::new(
                Code::InvalidRequest,
                "The host in `uri` is neither in `hosts` of [[s3.stores]] nor the host of a store with \
                 `remote_signing`.",
            )
            .into()),
        }
    }

    /// Decides on a request to a store as if the client had signed it and sent it to the proxy, and signs it with the
    /// store's key.
    async fn for_store(
        &self,
        store: &S3Store,
        called: &str,
        asked: &Asked,
        bearer: &Bearer,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<Added, Refused> {
        let (headers, _) = own_signature(store, called, asked, bearer, now)?;
        let head = head(asked, called, &headers);
        let decision = decide(self.broker, store, head, origin.clone()).await;
        let (set, removed, host) = match decision {
            Decision::Allow {
                set,
                remove_headers,
                host,
                ..
            } => (set, remove_headers, host),
            Decision::Refuse(refusal) => return Err(refusal.into()),
            Decision::Preflight(_) => {
                let message = "A preflight request needs no signature.";
                return Err(S3Refusal::new(Code::InvalidRequest, message).into());
            }
        };
        if host != asked.authority {
            let message =
                format!("The host in `uri` must be '{host}', as the broker calls this store.");
            return Err(S3Refusal::new(Code::InvalidRequest, message).into());
        }
        // What a proxy would remove reaches the store.
        if let Some(name) = removed.iter().find(|name| asked.header(name).is_some()) {
            let message = format!(
                "The request must not have the header '{name}', because the object store must not receive this \
                 header."
            );
            return Err(S3Refusal::new(Code::InvalidRequest, message).into());
        }
        let is_added = |name: &str| asked.header(name).is_none();
        Ok(set.into_iter().filter(|(name, _)| is_added(name)).collect())
    }
}

/// Signs a request with the client's own key. Returns all headers of the signed request, and separately the headers
/// that the client must add.
fn own_signature(
    store: &S3Store,
    authority: &str,
    asked: &Asked,
    bearer: &Bearer,
    now: Timestamp,
) -> Result<(Vec<(String, String)>, Added), S3Refusal> {
    if asked.region != store.rules.region {
        let message = format!(
            "The region must be '{}', which is that of the store.",
            store.rules.region
        );
        return Err(S3Refusal::new(Code::InvalidRequest, message));
    }
    if let Some(name) = OF_THE_ANSWER
        .iter()
        .find(|name| asked.header(name).is_some())
    {
        let message = format!(
            "The broker itself sets the header '{name}' in its answer, so the request must not contain it."
        );
        return Err(S3Refusal::new(Code::InvalidRequest, message));
    }
    let payload = payload(asked)?;
    let mut added: Added = vec![("x-amz-date", Secret::new(now.to_amz()))];
    if asked.header(PAYLOAD).is_none() {
        added.push((PAYLOAD, Secret::new(payload.clone().into_owned())));
    }
    if let Some(token) = bearer.session_token() {
        added.push(("x-amz-security-token", Secret::new(token.to_owned())));
    }
    let mut headers = asked.headers.clone();
    let own = added.iter();
    headers.extend(own.map(|(name, value)| ((*name).to_owned(), value.expose().clone())));
    let routed = route(&head(asked, authority, &headers), &store.rules)?;
    let signed = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let signed = signed.filter(|(name, _)| name.starts_with("x-amz-"));
    let mut signed: Vec<(&str, &str)> = signed.chain([("host", authority)]).collect();
    signed.sort_unstable();
    let request = S3Request {
        method: &asked.method,
        path: &routed.path,
        query: &routed.query,
        headers: &headers,
        host: authority,
    };
    let secret = SigningSecret::new(bearer.secret_access_key());
    let key = (bearer.access_key_id(), &secret);
    let region = &store.rules.region;
    let signature = authorization(key, region, now, &request, |_| false, &signed, &payload);
    headers.push(("authorization".to_owned(), signature.clone()));
    added.push(("authorization", Secret::new(signature)));
    Ok((headers, added))
}

/// The value of `x-amz-content-sha256` for the request: the client's own value, or the value that the client must add.
///
/// If the client sent a body, the value must be the SHA-256 of that body, because the broker decides on the objects
/// that the body names.
fn payload(asked: &Asked) -> Result<Cow<'_, str>, S3Refusal> {
    let hash = asked
        .body
        .as_ref()
        .map(|body| hex(&sha256(body.as_bytes())));
    match (asked.header(PAYLOAD), hash) {
        (Some(declared), Some(hash)) if declared != hash => Err(S3Refusal::new(
            Code::BadDigest,
            "The header 'x-amz-content-sha256' must be the SHA-256 hash of `body`.",
        )),
        (Some(declared), _) => Ok(declared.into()),
        (None, Some(hash)) => Ok(hash.into()),
        (None, None) => Ok(match asked.header("x-amz-trailer") {
            Some(_) => UNSIGNED_TRAILER.into(),
            None => UNSIGNED_PAYLOAD.into(),
        }),
    }
}

fn head<'a>(asked: &'a Asked, authority: &'a str, headers: &'a [(String, String)]) -> Head<'a> {
    Head {
        method: &asked.method,
        path: &asked.target,
        authority,
        headers,
        body: asked.body.as_deref().map(str::as_bytes),
        size: None,
    }
}
