//! The AWS Query protocol: form and operations, both ways. Holds no rule.
//!
//! AWS's "Query API" pages and botocore's `query` serializer. One strict parse serves the check of
//! the signature and the dispatch, so that no two readers see two requests.

mod answer;
mod foreign;
mod iam;
mod model;
mod token_exchange;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use percent_encoding::percent_decode;

use crate::authn::Evidence;
use crate::base::digest::sha256;
use crate::base::field::FieldError;
use crate::base::names::Tag;
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::sts::assume_role::{AssumeRole, AssumeRoleInput};
use crate::ops::sts::assume_role_with_web_identity::{
    AssumeRoleWithWebIdentity, AssumeRoleWithWebIdentityInput,
};
use crate::ops::sts::decode_authorization_message::DecodeAuthorizationMessage;
use crate::ops::sts::get_access_key_info::GetAccessKeyInfo;
use crate::ops::sts::get_caller_identity::GetCallerIdentity;
use crate::ops::sts::get_federation_token::{GetFederationToken, GetFederationTokenInput};
use crate::ops::sts::get_session_token::GetSessionToken;
use crate::ops::sts::get_web_identity_token::{GetWebIdentityToken, GetWebIdentityTokenInput};
use crate::ops::{self, CALL_TIMEOUT, Operation, Reply, Service};
use crate::origin::Origin;
use crate::proof::sigv4::{self, Incoming, Presented};
use answer::Element;
use foreign::Foreign;

/// The API version that every request names.
pub const VERSION: &str = "2011-06-15";
/// The longest body, in bytes: a SAML response of 100,000 characters, encoded twice.
pub const MAX_BODY_BYTES: usize = 262_144;
/// The most parameters.
const MAX_PARAMETERS: usize = 512;
/// The media type of every body.
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// Serves one request, whatever came of it.
pub async fn serve<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    request: Request<B>,
) -> Response<Full<Bytes>>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    // All but the texts, which are rarely needed again.
    let late = Origin {
        user_agent: None,
        referer: None,
        call: origin.call.clone(),
        ..origin
    };
    match tokio::time::timeout(CALL_TIMEOUT, answer(broker, origin, &head, body)).await {
        Ok(response) => response,
        Err(_) => too_late(broker, late, &head).await,
    }
}

/// A call that took too long. What was not read of its body cannot be skipped: the connection ends.
async fn too_late(
    broker: &Arc<Broker>,
    origin: Origin,
    head: &http::request::Parts,
) -> Response<Full<Bytes>> {
    let agent = head
        .headers
        .get(USER_AGENT)
        .map(|v| crate::audit::clip(&String::from_utf8_lossy(v.as_bytes())));
    let error = Error::RequestTimeout(CALL_TIMEOUT.as_secs());
    let reply = ops::refuse_unread(
        broker,
        "none",
        error,
        Origin {
            user_agent: agent,
            ..origin
        },
    )
    .await;
    let response = match head.uri.path() {
        token_exchange::PATH => token_exchange::refused(&reply.error, &reply.request_id),
        _ => Respond::to(&head.headers).failure(&reply.request_id, &reply.error),
    };
    closing(response)
}

async fn answer<B>(
    broker: &Arc<Broker>,
    origin: Origin,
    head: &http::request::Parts,
    body: B,
) -> Response<Full<Bytes>>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let respond = Respond::to(&head.headers);
    if let Some(foreign) = Foreign::read(head) {
        let response = foreign.refuse(broker, origin).await;
        return if body.is_end_stream() {
            response
        } else {
            closing(response)
        };
    }
    let body = read_body(broker, &origin, &head.headers, body).await;
    if head.uri.path() == token_exchange::PATH {
        return token_exchange::serve(broker, origin, head, body).await;
    }
    let body = match body {
        Ok(body) => body,
        Err(error) => {
            let reply = ops::refuse_unread(broker, "none", error, origin).await;
            return closing(respond.failure(&reply.request_id, &reply.error));
        }
    };
    let pairs = match read_pairs(head, &body) {
        Ok(pairs) => pairs,
        Err(error) => {
            let reply = ops::refuse_unread(broker, "none", error, origin).await;
            return respond.failure(&reply.request_id, &reply.error);
        }
    };
    let evidence = read_evidence(head, &pairs.url, &body);
    // Its parameters are its contents: while the call waits for something, it is held once.
    drop(body);
    let mut parameters = pairs.parameters;
    let action = parameters.take("Action").unwrap_or_default();
    let version = parameters.take("Version").unwrap_or_default();
    if version == iam::VERSION {
        return iam::serve(broker, &respond, &action, parameters, evidence, origin).await;
    }
    match action.as_str() {
        _ if version != VERSION => {
            respond
                .unanswered(broker, &action, &version, evidence, origin)
                .await
        }
        AssumeRole::NAME => {
            let input = assume_role(&mut parameters)
                .and_then(|input| parameters.none_left().and(AssumeRole::parse(input)));
            respond.finish(
                AssumeRole::NAME,
                ops::serve(broker, evidence, input, origin).await,
            )
        }
        AssumeRoleWithWebIdentity::NAME => {
            let parsed = assume_role_with_web_identity(&mut parameters).and_then(|input| {
                parameters
                    .none_left()
                    .and(AssumeRoleWithWebIdentity::parse(input))
            });
            // The token is the proof: signatures that come along are not looked at.
            let (evidence, input) = match parsed {
                Ok((evidence, input)) => (Ok(evidence), Ok(input)),
                Err(error) => (Ok(Evidence::Anonymous), Err(error)),
            };
            respond.finish(
                AssumeRoleWithWebIdentity::NAME,
                ops::serve(broker, evidence, input, origin).await,
            )
        }
        GetWebIdentityToken::NAME => {
            let input = get_web_identity_token(&mut parameters).and_then(|input| {
                parameters
                    .none_left()
                    .and(GetWebIdentityToken::parse(input))
            });
            respond.finish(
                GetWebIdentityToken::NAME,
                ops::serve(broker, evidence, input, origin).await,
            )
        }
        DecodeAuthorizationMessage::NAME => {
            let message = parameters.take("EncodedMessage");
            let input = parameters
                .none_left()
                .and_then(|()| DecodeAuthorizationMessage::parse(message));
            respond.finish(
                DecodeAuthorizationMessage::NAME,
                ops::serve(broker, evidence, input, origin).await,
            )
        }
        GetSessionToken::NAME => {
            let input = parameters.number("DurationSeconds").and_then(|seconds| {
                let (serial, code) = (
                    parameters.take("SerialNumber"),
                    parameters.take("TokenCode"),
                );
                parameters
                    .none_left()
                    .and_then(|()| GetSessionToken::parse(seconds, serial, code))
            });
            respond.finish(
                GetSessionToken::NAME,
                ops::serve(broker, evidence, input, origin).await,
            )
        }
        GetFederationToken::NAME => {
            let input = get_federation_token(&mut parameters)
                .and_then(|input| parameters.none_left().and(GetFederationToken::parse(input)));
            respond.finish(
                GetFederationToken::NAME,
                ops::serve(broker, evidence, input, origin).await,
            )
        }
        GetCallerIdentity::NAME => {
            // Unknown parameters are ignored: proofs of identity that other servers replay carry some.
            respond.finish(
                GetCallerIdentity::NAME,
                ops::serve(broker, evidence, Ok(GetCallerIdentity), origin).await,
            )
        }
        GetAccessKeyInfo::NAME => {
            let id = parameters.take("AccessKeyId");
            let input = parameters
                .none_left()
                .and_then(|()| GetAccessKeyInfo::parse(id.as_deref()));
            respond.finish(
                GetAccessKeyInfo::NAME,
                ops::serve(broker, evidence, input, origin).await,
            )
        }
        _ => {
            respond
                .unanswered(broker, &action, &version, evidence, origin)
                .await
        }
    }
}

/// Refuses a request before its body is read, and ends its connection.
pub async fn refuse(
    broker: &Arc<Broker>,
    origin: Origin,
    headers: &HeaderMap,
    error: Error,
) -> Response<Full<Bytes>> {
    let respond = Respond::to(headers);
    let reply = ops::refuse_unread(broker, "none", error, origin).await;
    closing(respond.failure(&reply.request_id, &reply.error))
}

fn asks_for_json(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .is_some_and(|v| v.as_bytes().starts_with(b"application/json"))
}

/// What the client called this server; `Host` and `:authority` must not differ.
///
/// # Errors
/// When there is none, two, or no text.
pub fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Error> {
    let mut hosts = headers.get_all(HOST).iter().map(|v| v.to_str());
    let header = hosts
        .next()
        .transpose()
        .map_err(|_| Error::Malformed("the header 'host' is not ASCII text".into()))?;
    if hosts.next().is_some() {
        return Err(Error::Malformed("duplicate 'host' header".into()));
    }
    match (uri.authority().map(http::uri::Authority::as_str), header) {
        (Some(authority), Some(header)) if authority != header => {
            Err(Error::Malformed("'host' and ':authority' differ".into()))
        }
        (Some(host), _) | (None, Some(host)) if !host.is_empty() => Ok(host),
        _ => Err(Error::Malformed("the header 'host' is missing".into())),
    }
}

async fn read_body<B>(
    broker: &Broker,
    origin: &Origin,
    headers: &HeaderMap,
    body: B,
) -> Result<Bytes, Error>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<usize>().ok());
    if declared.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(Error::TooLarge(MAX_BODY_BYTES));
    }
    match in_one_piece(Limited::new(body, MAX_BODY_BYTES)).await {
        Ok(body) => Ok(body),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Error::TooLarge(MAX_BODY_BYTES))
        }
        Err(_) => Err(match origin.shed() {
            Some(shed) => ops::shed(broker, shed),
            None => Error::Malformed("the body ended early".into()),
        }),
    }
}

/// A body that comes in one frame stays where it is. Otherwise its frames are copied together, since
/// each of them keeps the whole buffer that it was read into.
async fn in_one_piece<B: http_body::Body>(body: B) -> Result<Bytes, B::Error> {
    let mut body = std::pin::pin!(body);
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else {
            continue;
        };
        if first.is_empty() && all.is_empty() {
            first = data.copy_to_bytes(data.remaining());
            continue;
        }
        if !first.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            all.extend_from_slice(chunk);
            let length = chunk.len();
            data.advance(length);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// A request's parameters: those of the URL as sent, for the signature, and all of them by name.
pub struct Pairs {
    url: Vec<(String, String)>,
    parameters: Parameters,
}

fn read_pairs(head: &http::request::Parts, body: &Bytes) -> Result<Pairs, Error> {
    if !is_root(head.uri.path()) || !matches!(head.method, Method::GET | Method::POST) {
        return Err(Error::Malformed(
            "only POST and GET of `/` are answered".into(),
        ));
    }
    if head.method == Method::GET && !body.is_empty() {
        return Err(Error::Malformed("a GET has no body".into()));
    }
    // Some clients send no content type. Every body is read as a form.
    let mut types = head.headers.get_all(CONTENT_TYPE).iter();
    let is_form =
        |v: &HeaderValue| media_type(v).is_empty() || media_type(v).eq_ignore_ascii_case(FORM);
    if !types.next().is_none_or(is_form) || types.next().is_some() {
        return Err(Error::Malformed(
            "the content type must be `application/x-www-form-urlencoded`, or absent".into(),
        ));
    }
    read_form(head.uri.query().unwrap_or_default().as_bytes(), body)
}

/// Whether a path is that of the Query protocol. `//` counts as `/`: servers that replay a proof of
/// identity append the signed path `/` to a base URL that already ends with a slash.
fn is_root(path: &str) -> bool {
    matches!(path, "/" | "//")
}

/// A content type without its parameters.
fn media_type(value: &HeaderValue) -> &[u8] {
    value
        .as_bytes()
        .split(|b| *b == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii()
}

/// The parameters of a URL's query and of a body, each name once, whichever of the two it is in.
/// What the query's signer added is no parameter.
///
/// # Errors
/// When something is no URL-encoded UTF-8, there twice, or too much.
pub fn read_form(query: &[u8], body: &[u8]) -> Result<Pairs, Error> {
    let url = decode_pairs(query)?;
    let mut parameters = Parameters::default();
    for (name, value) in &url {
        if !sigv4::is_signers_parameter(name) {
            parameters.put(name.clone(), value.clone())?;
        }
    }
    for (name, value) in decode_pairs(body)? {
        parameters.put(name, value)?;
    }
    Ok(Pairs { url, parameters })
}

fn read_evidence(
    head: &http::request::Parts,
    url: &[(String, String)],
    body: &Bytes,
) -> Result<Evidence, Error> {
    let presented = Presented::read(&Incoming {
        method: head.method.as_str(),
        // Nothing else gets here: see `is_root`.
        path: "/",
        query: url,
        headers: &head.headers,
        host: host(&head.uri, &head.headers)?,
        payload_sha256: sha256(body),
    })?;
    Ok(Evidence::signed(presented))
}

fn decode_pairs(text: &[u8]) -> Result<Vec<(String, String)>, Error> {
    let mut pairs = Vec::new();
    for pair in text.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
        if pairs.len() == MAX_PARAMETERS {
            return Err(Error::Malformed(format!(
                "more than {MAX_PARAMETERS} parameters"
            )));
        }
        let at = pair.iter().position(|b| *b == b'=');
        let (name, value) = at.map_or((pair, &[][..]), |at| {
            (
                pair.get(..at).unwrap_or_default(),
                pair.get(at + 1..).unwrap_or_default(),
            )
        });
        pairs.push((decode(name)?, decode(value)?));
    }
    Ok(pairs)
}

fn decode(text: &[u8]) -> Result<String, Error> {
    let malformed = || Error::Malformed("a parameter is not URL-encoded UTF-8".into());
    for (i, byte) in text.iter().enumerate() {
        let digits = text
            .get(i + 1..i + 3)
            .is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit));
        if (*byte == b'%' && !digits) || !byte.is_ascii() || byte.is_ascii_control() {
            return Err(malformed());
        }
    }
    let spaced: Vec<u8> = text
        .iter()
        .map(|b| if *b == b'+' { b' ' } else { *b })
        .collect();
    percent_decode(&spaced)
        .decode_utf8()
        .map(|t| t.into_owned())
        .map_err(|_| malformed())
}

/// Parameters by name, each taken once; what nobody takes is unknown.
#[derive(Default)]
struct Parameters {
    by_name: BTreeMap<String, String>,
    /// The names in lower case: two that differ only in case are a duplicate.
    folded: HashSet<String>,
}

impl Parameters {
    fn put(&mut self, name: String, value: String) -> Result<(), Error> {
        if !self.folded.insert(name.to_ascii_lowercase()) {
            return Err(Error::Malformed("duplicate parameter".into()));
        }
        self.by_name.insert(name, value);
        Ok(())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.by_name.remove(name)
    }

    /// Whether there is anything under a prefix.
    fn has_under(&self, prefix: &str) -> bool {
        let dotted = format!("{prefix}.");
        self.by_name
            .range(dotted.clone()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(&dotted))
    }

    /// A lone `Name=` is the empty list or map.
    fn take_empty(&mut self, name: &str) -> bool {
        let empty = self.by_name.get(name).is_some_and(String::is_empty);
        if empty {
            self.take(name);
        }
        empty
    }

    fn number(&mut self, name: &str) -> Result<Option<i64>, Error> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let digits = text.strip_prefix('-').unwrap_or(&text);
        let number = text
            .parse()
            .ok()
            .filter(|_| digits.bytes().all(|b| b.is_ascii_digit()));
        number
            .map(Some)
            .ok_or_else(|| FieldError::new(name.to_owned(), "must be an integer").into())
    }

    /// `Name.member.1` and so on without gaps, each item read by `item` from its prefix. A lone
    /// `Name=` is the empty list.
    fn list<T>(
        &mut self,
        name: &str,
        mut item: impl FnMut(&mut Self, &str) -> Option<T>,
    ) -> Vec<T> {
        self.take_empty(name);
        let mut items = Vec::new();
        while let Some(next) = item(self, &format!("{name}.member.{}", items.len() + 1)) {
            items.push(next);
        }
        items
    }

    /// Refuses what was not understood: an unknown name, a gap in a list.
    fn none_left(&self) -> Result<(), Error> {
        match self.by_name.keys().next() {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(128).filter(|c| !c.is_control()).collect();
                Err(FieldError::new(
                    name,
                    "must be a parameter of this action, and list members must be numbered from 1 without gaps",
                )
                .into())
            }
        }
    }
}

fn assume_role(p: &mut Parameters) -> Result<AssumeRoleInput, Error> {
    Ok(AssumeRoleInput {
        role_arn: p.take("RoleArn"),
        role_session_name: p.take("RoleSessionName"),
        policy_arns: p.list("PolicyArns", |p, at| p.take(&format!("{at}.arn"))),
        policy: p.take("Policy"),
        duration_seconds: p.number("DurationSeconds")?,
        tags: tags(p),
        transitive_tag_keys: p.list("TransitiveTagKeys", |p, at| p.take(at)),
        external_id: p.take("ExternalId"),
        serial_number: p.take("SerialNumber"),
        token_code: p.take("TokenCode"),
        source_identity: p.take("SourceIdentity"),
        provided_contexts: !p
            .list("ProvidedContexts", |p, at| {
                let provider = p.take(&format!("{at}.ProviderArn"));
                p.take(&format!("{at}.ContextAssertion")).or(provider)
            })
            .is_empty(),
    })
}

fn get_federation_token(p: &mut Parameters) -> Result<GetFederationTokenInput, Error> {
    Ok(GetFederationTokenInput {
        name: p.take("Name"),
        policy: p.take("Policy"),
        policy_arns: p.list("PolicyArns", |p, at| p.take(&format!("{at}.arn"))),
        duration_seconds: p.number("DurationSeconds")?,
        tags: tags(p),
    })
}

fn assume_role_with_web_identity(
    p: &mut Parameters,
) -> Result<AssumeRoleWithWebIdentityInput, Error> {
    Ok(AssumeRoleWithWebIdentityInput {
        role_arn: p.take("RoleArn"),
        role_session_name: p.take("RoleSessionName"),
        web_identity_token: p.take("WebIdentityToken"),
        provider_id: p.take("ProviderId"),
        policy_arns: p.list("PolicyArns", |p, at| p.take(&format!("{at}.arn"))),
        policy: p.take("Policy"),
        duration_seconds: p.number("DurationSeconds")?,
    })
}

fn get_web_identity_token(p: &mut Parameters) -> Result<GetWebIdentityTokenInput, Error> {
    Ok(GetWebIdentityTokenInput {
        audience: p.list("Audience", |p, at| p.take(at)),
        signing_algorithm: p.take("SigningAlgorithm"),
        duration_seconds: p.number("DurationSeconds")?,
        tags: tags(p),
    })
}

fn tags(p: &mut Parameters) -> Vec<Tag> {
    p.list("Tags", |p, at| {
        Some(Tag {
            key: p.take(&format!("{at}.Key"))?,
            value: p.take(&format!("{at}.Value")).unwrap_or_default(),
        })
    })
}

/// How to say it: XML, or JSON for those who ask.
#[derive(Clone, Copy)]
struct Respond {
    json: bool,
    /// The XML namespace of the API that was asked for.
    namespace: &'static str,
}

/// Ends the connection after an answer to a request whose body was not read, because the start of the
/// next request is then unknown.
fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

impl Respond {
    fn to(headers: &HeaderMap) -> Self {
        Self {
            json: asks_for_json(headers),
            namespace: answer::NAMESPACE,
        }
    }

    fn finish<T: Into<Vec<Element>>>(
        &self,
        action: &str,
        reply: Reply<T>,
    ) -> Response<Full<Bytes>> {
        match reply.result {
            Ok(output) => self.success(action, Some(output.into()), &reply.request_id),
            Err(error) => self.failure(&reply.request_id, &error),
        }
    }

    fn success(
        &self,
        action: &str,
        result: Option<Vec<Element>>,
        request_id: &str,
    ) -> Response<Full<Bytes>> {
        self.whole(
            StatusCode::OK,
            request_id,
            answer::success(action, self.namespace, result, request_id, self.json),
        )
    }

    async fn unanswered(
        &self,
        broker: &Arc<Broker>,
        action: &str,
        version: &str,
        evidence: Result<Evidence, Error>,
        origin: Origin,
    ) -> Response<Full<Bytes>> {
        let error = if version == VERSION {
            ops::registry::unanswered(action, version)
        } else {
            Error::InvalidAction {
                action: crate::audit::clip(action),
                version: crate::audit::clip(version),
            }
        };
        let reply = ops::refuse(
            broker,
            Service::Sts,
            action.to_owned(),
            evidence,
            error,
            origin,
        )
        .await;
        self.failure(&reply.request_id, &reply.error)
    }

    fn failure(&self, request_id: &str, error: &Error) -> Response<Full<Bytes>> {
        let (status, side) = fault(error);
        let error_element = answer::error(side, error.code(), &error.message());
        let body = answer::failure(error_element, self.namespace, request_id, self.json);
        let mut response = self.whole(status, request_id, body);
        if matches!(
            error,
            Error::ServiceUnavailable(_) | Error::Throttling | Error::IdpCommunicationError
        ) {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn whole(&self, status: StatusCode, request_id: &str, body: Vec<u8>) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let kind = if self.json {
            "application/json"
        } else {
            "text/xml"
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }
}

/// The one place where refusals become HTTP statuses and AWS's sides.
fn fault(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::AccessDenied { .. }
        | Error::NotAuthorized { .. }
        | Error::IdpRejectedClaim(_)
        | Error::LongTermCredentialsOnly(_)
        | Error::PresignedAction(_)
        | Error::Mfa(_)
        | Error::OutboundWebIdentityFederationDisabled(_)
        | Error::SessionDurationEscalation
        | Error::InvalidAuthenticationCode
        | Error::MissingAuthenticationToken
        | Error::SignatureDoesNotMatch(_)
        | Error::InvalidClientTokenId
        | Error::Ended
        | Error::ExpiredToken => (StatusCode::FORBIDDEN, "Sender"),
        Error::Validation(_)
        | Error::Duration(_)
        | Error::Malformed(_)
        | Error::MalformedPolicyDocument(_)
        | Error::PackedPolicyTooLarge(_)
        | Error::InvalidAction { .. }
        | Error::NotAvailable(_)
        | Error::UnknownOperation(_)
        | Error::IncompleteSignature(_)
        | Error::RequestExpired(_)
        | Error::InvalidAuthorizationMessage
        | Error::InvalidIdentityToken(_)
        | Error::ExpiredWebIdentityToken(_)
        | Error::IdpCommunicationError
        | Error::Throttling
        | Error::UnmodifiableEntity(_)
        | Error::JwtPayloadSizeExceeded(..) => (StatusCode::BAD_REQUEST, "Sender"),
        Error::EntityAlreadyExists(_)
        | Error::DeleteConflict(_)
        | Error::LimitExceeded(_)
        | Error::ConcurrentModification(_)
        | Error::EntityTemporarilyUnmodifiable(_) => (StatusCode::CONFLICT, "Sender"),
        Error::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "Sender"),
        Error::HeadersTooLarge(..) => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Sender"),
        Error::RequestTimeout(_) => (StatusCode::REQUEST_TIMEOUT, "Sender"),
        Error::ServiceUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "Receiver"),
        Error::NotFound(_) => (StatusCode::NOT_FOUND, "Sender"),
        Error::InternalFailure => (StatusCode::INTERNAL_SERVER_ERROR, "Receiver"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, target: &str) -> http::request::Parts {
        let builder = Request::builder()
            .method(method)
            .uri(target)
            .header("content-type", "application/x-www-form-urlencoded");
        builder.body(()).unwrap().into_parts().0
    }

    fn parse(body: &str) -> Result<AssumeRoleInput, Error> {
        let mut parameters =
            read_pairs(&head("POST", "/"), &Bytes::copy_from_slice(body.as_bytes()))?.parameters;
        let input = assume_role(&mut parameters)?;
        parameters.none_left().map(|()| input)
    }

    #[test]
    fn lists_and_structures() {
        let input = parse("PolicyArns.member.1.arn=a&PolicyArns.member.2.arn=b&Tags.member.1.Key=k+1&Tags.member.1.Value=%2B&TransitiveTagKeys=").unwrap();
        assert_eq!(input.policy_arns, ["a", "b"]);
        assert_eq!(
            (input.tags[0].key.as_str(), input.tags[0].value.as_str()),
            ("k 1", "+")
        );
        assert!(input.transitive_tag_keys.is_empty());
    }

    #[test]
    fn sv_05_what_can_be_read_in_two_ways_is_refused() {
        for bad in [
            "RoleArn=a&RoleArn=b",
            "RoleArn=a&roleArn=b",
            "PolicyArns.member.1.arn=a&PolicyArns.member.3.arn=b",
            "PolicyArns.member.0.arn=a",
            "PolicyArns.member.01.arn=a",
            "Tags.member.1.Value=x",
            "Surprise=1",
            "rolearn=a",
            "RoleArn=%ff",
            "RoleArn=%c0%af",
            "RoleArn=%zz",
            "RoleArn=%",
            "RoleArn=a\r\nb",
            "DurationSeconds=1e3",
            "DurationSeconds=+900",
            "DurationSeconds=",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let across = read_pairs(
            &head("POST", "/?Action=GetCallerIdentity"),
            &Bytes::from_static(b"action=AssumeRole"),
        );
        assert!(across.is_err());
        for target in [
            "///",
            "/x",
            "/.",
            "/%2e",
            "//x",
            "/?a=1&a=2",
            "/?X-Amz-A=1&a=1&A=2",
        ] {
            assert!(
                read_pairs(&head("POST", target), &Bytes::new()).is_err(),
                "{target}"
            );
        }
        assert!(read_pairs(&head("PUT", "/"), &Bytes::new()).is_err());
    }

    #[test]
    fn sv_05_a_body_is_a_form_or_says_nothing() {
        let with = |types: &[&str]| {
            let mut head = head("POST", "//");
            head.headers.remove(CONTENT_TYPE);
            for kind in types {
                head.headers
                    .append(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
            }
            read_pairs(&head, &Bytes::from_static(b"Action=x"))
        };
        for good in [
            vec![],
            vec![""],
            vec!["Application/X-WWW-Form-URLEncoded"],
            vec!["application/x-www-form-urlencoded ; charset=UTF-8;x=y"],
        ] {
            assert!(with(&good).is_ok(), "{good:?}");
        }
        for bad in [
            vec!["application/x-www-form-urlencodedx"],
            vec!["application/json"],
            vec!["text/plain; application/x-www-form-urlencoded"],
            vec!["application/x-www-form-urlencoded, text/plain"],
            vec![
                "application/x-www-form-urlencoded",
                "application/x-www-form-urlencoded",
            ],
        ] {
            assert!(with(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_a_signer_adds_to_a_url_is_no_parameter() {
        let target = "/?RoleArn=a&x-amz-user-agent=aws-sdk-js&X-Amz-Signature=1&X-AMZ-Other=1";
        let mut parameters = read_pairs(&head("GET", target), &Bytes::new())
            .unwrap()
            .parameters;
        assert_eq!(
            assume_role(&mut parameters).unwrap().role_arn.as_deref(),
            Some("a")
        );
        parameters.none_left().unwrap();
        // In the body it is one like any other, and unknown.
        assert!(parse("X-Amz-User-Agent=x").is_err());
    }

    #[test]
    fn as_many_parameters_as_are_allowed_and_none_twice() {
        let form = |names: std::ops::Range<usize>| {
            names
                .map(|n| format!("{}{n:03}=v", "x".repeat(400)))
                .collect::<Vec<_>>()
                .join("&")
        };
        assert_eq!(
            read_form(b"", form(0..512).as_bytes())
                .unwrap()
                .parameters
                .by_name
                .len(),
            512
        );
        assert!(read_form(b"", form(0..513).as_bytes()).is_err());
        let twice = format!("{}&{}", form(0..511), form(7..8).to_ascii_uppercase());
        assert!(read_form(b"", twice.as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_form_makes_it_panic(body in "[ -~]{0,200}") {
            let _ = parse(&body);
        }
    }
}
