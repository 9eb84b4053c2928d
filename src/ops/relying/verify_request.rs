//! VerifyRequest: finds out who signed a request to another service. The service sends the head of
//! the request as it received it, and the properties that a valid request must have.
//!
//! The service states the expected properties itself and never copies them from the request: its
//! name in the signature's scope and the host names by which clients call it. For a signed request
//! that clients hand over as a proof of identity, it also states the method, the path and a signed
//! header that names the audience.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

use super::keys;
use crate::authn;
use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};
use crate::base::field::{self, FieldError};
use crate::base::form;
use crate::base::names::Tag;
use crate::budgets::CountedAs;
use crate::caller::{Caller, Identity};
use crate::error::{Class, Error};
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::s3::refused::translated;
use crate::ops::service::Service;
use crate::proof::sigv4::s3::{S3Request, SERVICE as S3};
use crate::proof::sigv4::{
    ANY_REGION, Incoming, MAX_SKEW, PathForm, Presented, Rules, S3Presented, S3SigError,
};
use crate::s3::{self, Code, Head, S3Refusal};
use crate::sessions::SessionId;
use crate::trust;

const ACTION: &str = "brevet:VerifyRequest";
const MAX_HEADERS: usize = 64;
const MAX_URI: usize = 16_384;
const MAX_HOSTS: usize = 16;

/// The head of a request as the service received it.
pub struct SignedRequest {
    pub method: String,
    /// The path and the query, exactly as the client sent them.
    pub uri: String,
    /// All headers in the order of the request, including `host`.
    pub headers: Vec<(String, Vec<u8>)>,
    pub payload: Payload,
}

/// The body that the signature must cover.
pub enum Payload {
    Body(Vec<u8>),
    /// The SHA-256 of the body, which the service computed.
    Sha256(Vec<u8>),
    /// The body is empty. For S3, the body is not checked here: the request declares its hash
    /// itself.
    Absent,
}

/// The properties that the service requires of the request.
pub struct Expected {
    /// The name of the service that must be in the scope of the signature.
    pub service: String,
    /// The host names by which clients call the service, with the port if it is not the default
    /// one.
    pub hosts: Vec<String>,
    pub region: Option<String>,
    pub method: Option<String>,
    /// The path without the query; `None` accepts every path.
    pub path: Option<String>,
    /// A header and its value: the request must have it, and the signature must cover it. `None`
    /// requires no header.
    pub audience: Option<(String, String)>,
    /// Whether the signature may be in the query of a presigned URL, which works for anybody who gets it.
    pub presigned: bool,
}

/// A call of VerifyRequest whose parameters have been checked.
pub struct VerifyRequest {
    method: String,
    uri: String,
    headers: HeaderMap,
    payload_sha256: Option<[u8; 32]>,
    expected: Expected,
}

/// The result of a call: the signer of the request, or the reason for which its signature is not
/// valid.
pub struct Verified {
    pub outcome: Result<Box<Signer>, Refused>,
    /// The number of the last change of the feed that the result takes into account.
    pub change: i64,
}

/// Why the request is not validly signed, as an AWS error code and message that the service may
/// return to its client.
pub struct Refused {
    pub code: &'static str,
    pub message: String,
}

/// The principal that signed the request, with everything that the calling service learns about it.
pub struct Signer {
    pub arn: String,
    pub account: String,
    pub user_id: String,
    /// The ARN of the role if the signer is a role session.
    pub role_arn: Option<String>,
    pub access_key_id: String,
    /// The principal's tags. Session tags replace tags with the same key.
    pub tags: Vec<Tag>,
    pub session: Option<Session>,
    pub region: String,
    pub signed_at: Timestamp,
    pub is_presigned: bool,
    /// The value of `x-amz-content-sha256` in a request to S3: a SHA-256 in hexadecimal digits, or
    /// a keyword such as `UNSIGNED-PAYLOAD`. `None` for other services.
    pub declared_payload: Option<String>,
}

/// The session with which the principal signed the request.
pub struct Session {
    pub id: SessionId,
    pub name: String,
    pub source_identity: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Whether an MFA code was given for the session.
    pub has_mfa: bool,
    /// Whether session policies limit the session's permissions, or the session was narrowed.
    pub is_restricted: bool,
}

impl VerifyRequest {
    /// Checks the form of the request's head and of the expected properties.
    ///
    /// # Errors
    /// [`Error`] that names the field and the rule.
    pub fn parse(request: SignedRequest, expected: Expected) -> Result<Self, Error> {
        check_expected(&expected)?;
        let is_method = |m: &str| m.bytes().all(|b| b.is_ascii_uppercase());
        if !(1..=16).contains(&request.method.len()) || !is_method(&request.method) {
            return Err(FieldError::new("Method", "must have 1 to 16 upper-case letters").into());
        }
        let plain = request.uri.bytes().all(|b| b.is_ascii_graphic());
        if !request.uri.starts_with('/') || request.uri.len() > MAX_URI || !plain {
            let rule = "must be the path and query of the request as its client sent them, and at most 16384 bytes";
            return Err(FieldError::new("Uri", rule).into());
        }
        let payload_sha256 = match request.payload {
            Payload::Absent => None,
            Payload::Body(body) => Some(sha256(&body)),
            Payload::Sha256(digest) => {
                let digest = digest.as_slice().try_into();
                let rule = |_| FieldError::new("PayloadSha256", "must have 32 bytes");
                Some(digest.map_err(rule)?)
            }
        };
        Ok(Self {
            method: request.method,
            uri: request.uri,
            headers: headers(request.headers)?,
            payload_sha256,
            expected,
        })
    }
}

fn check_expected(expected: &Expected) -> Result<(), FieldError> {
    if !keys::is_service(&expected.service) {
        let rule = "must be the service name of a signature's scope, with 1 to 64 letters, digits and hyphens, \
            but not aws, brevet, iam, localhost, saml or sts";
        return Err(FieldError::new("Service", rule));
    }
    if !(1..=MAX_HOSTS).contains(&expected.hosts.len()) {
        return Err(FieldError::new(
            "Hosts",
            format!("must have 1 to {MAX_HOSTS} items"),
        ));
    }
    for host in &expected.hosts {
        field::length("Hosts", host, 1, 255)?;
    }
    if let Some((name, value)) = &expected.audience {
        field::length("Audience", value, 1, 1_000)?;
        let is_name = name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !(1..=64).contains(&name.len()) || !is_name || name == "host" {
            let rule = "must name a header other than `host` by 1 to 64 lower-case letters, digits and hyphens";
            return Err(FieldError::new("Audience", rule));
        }
    }
    Ok(())
}

fn headers(pairs: Vec<(String, Vec<u8>)>) -> Result<HeaderMap, FieldError> {
    if pairs.len() > MAX_HEADERS {
        let rule = format!("must have at most {MAX_HEADERS} items");
        return Err(FieldError::new("Headers", rule));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let rule = || FieldError::new("Headers", "must have names and values that HTTP allows");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| rule())?;
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| rule())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

impl Operation for VerifyRequest {
    const NAME: &'static str = "VerifyRequest";
    const SERVICE: Service = Service::Brevet;
    const OPEN_TO: OpenTo = OpenTo::UserSessions;
    const COUNTED_AS: CountedAs = CountedAs::Read;
    const HANDS_OUT: bool = false;
    type Output = Verified;

    fn parameters(&self) -> Option<Box<RawValue>> {
        serde_json::value::to_raw_value(&Parameters {
            service: &self.expected.service,
            method: &self.method,
        })
        .ok()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<Verified, Error> {
        let own = cx.caller().own_arn().to_owned();
        let permitted = trust::permit(cx.caller(), &cx.directory, &cx.facts(), ACTION, &own);
        permitted.map_err(|denied| cx.refuse(&denied, &own))?;
        let outcome = match self.signer(cx) {
            Ok(signer) => Ok(signer),
            // That the broker cannot tell is no word about the request.
            Err(Unproven::Error(error))
                if matches!(error.class(), Class::Internal | Class::Unavailable) =>
            {
                return Err(error);
            }
            Err(Unproven::Error(error)) if self.expected.service == S3 => {
                Err(translated(&error).into())
            }
            Err(Unproven::Error(error)) => Err(Refused {
                code: error.code(),
                message: error.to_string(),
            }),
            Err(Unproven::S3(refusal)) => Err(refusal.into()),
        };
        let answered = Answered {
            arn: outcome.as_ref().ok().map(|signer| signer.arn.as_str()),
            access_key_id: outcome.as_ref().ok().map(|s| s.access_key_id.as_str()),
            refused: outcome.as_ref().err().map(|refused| refused.code),
        };
        let account = cx.caller().account();
        cx.answered(&answered, account);
        Ok(Verified {
            outcome,
            change: cx.issued_under,
        })
    }
}

/// Why no signer could be determined: the signature is not valid, or the broker cannot decide.
enum Unproven {
    Error(Error),
    /// A refusal with the error code and message of Amazon S3.
    S3(S3Refusal),
}

impl From<Error> for Unproven {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<S3Refusal> for Unproven {
    fn from(refusal: S3Refusal) -> Self {
        Self::S3(refusal)
    }
}

impl From<S3SigError> for Unproven {
    fn from(error: S3SigError) -> Self {
        Self::S3(error.into())
    }
}

impl From<S3Refusal> for Refused {
    fn from(refusal: S3Refusal) -> Self {
        Self {
            code: refusal.code.as_str(),
            message: refusal.message,
        }
    }
}

fn unlike(what: &str) -> Error {
    Error::SignatureDoesNotMatch(format!(
        "The request was signed for another {what} than the caller expects."
    ))
}

impl VerifyRequest {
    /// Returns the principal that signed the request, after checking that the request has the
    /// expected properties.
    fn signer(&self, cx: &Context<'_>) -> Result<Box<Signer>, Unproven> {
        let expected = &self.expected;
        if expected.method.as_ref().is_some_and(|m| *m != self.method) {
            return Err(unlike("method").into());
        }
        if expected
            .path
            .as_ref()
            .is_some_and(|p| *p != self.target().0)
        {
            return Err(unlike("path").into());
        }
        let mut hosts = self.headers.get_all(http::header::HOST).iter();
        let host = match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
            (Some(Ok(host)), None) => host,
            _ => {
                let text = "The request must have exactly one header 'host'.".to_owned();
                return Err(Error::IncompleteSignature(text).into());
            }
        };
        if !expected.hosts.iter().any(|h| h.eq_ignore_ascii_case(host)) {
            return Err(unlike("host").into());
        }
        let signer = match &*expected.service {
            S3 => self.signer_for_s3(cx, host)?,
            _ => self.signer_for_others(cx, host)?,
        };
        // Of another account, the caller learns no more than of an unknown key.
        if signer.account != cx.caller().account().as_str() {
            return Err(Error::InvalidClientTokenId.into());
        }
        Ok(signer)
    }

    /// Splits the URI into the path and the query.
    fn target(&self) -> (&str, &str) {
        self.uri.split_once('?').unwrap_or((&self.uri, ""))
    }

    /// Checks that a presigned URL is allowed and that the signed audience is the expected one. The
    /// scope is checked elsewhere.
    fn check(&self, presented: &Presented) -> Result<(), Error> {
        if presented.is_presigned() && !self.expected.presigned {
            let text = "The signature must be in the Authorization header, because the service does not accept \
                presigned URLs.".to_owned();
            return Err(Error::IncompleteSignature(text));
        }
        if let Some((name, value)) = &self.expected.audience {
            let mut values = self.headers.get_all(name).iter();
            let is_right = values
                .next()
                .is_some_and(|v| v.as_bytes() == value.as_bytes())
                && values.next().is_none();
            if !is_right || !presented.signs(name) {
                let text = format!(
                    "The header '{name}' must occur once, be signed, and have the value that the caller expects."
                );
                return Err(Error::SignatureDoesNotMatch(text));
            }
        }
        Ok(())
    }

    fn signer_for_others(&self, cx: &Context<'_>, host: &str) -> Result<Box<Signer>, Error> {
        let (path, query) = self.target();
        let query = form::pairs(query.as_bytes()).map_err(|error| {
            FieldError::new("Uri", format!("has a query that cannot be read ({error})"))
        })?;
        let incoming = Incoming {
            method: &self.method,
            path,
            query: &query,
            headers: &self.headers,
            host,
            payload_sha256: self.payload_sha256.unwrap_or_else(|| sha256(b"")),
        };
        let presented = Presented::read_as(&incoming, PathForm::EncodedAgain)?
            .ok_or(Error::MissingAuthenticationToken)?;
        self.check(&presented)?;
        let region = self.expected.region.as_deref().unwrap_or(ANY_REGION);
        let rules = Rules {
            regions: vec![region.to_owned()],
            skew: cx.broker.rules.skew.min(MAX_SKEW),
            presigned_actions: Vec::new(),
        };
        presented.check_scope(cx.now, &rules, &self.expected.service)?;
        let caller = authn::holder(cx.broker, &cx.directory, cx.now, &presented)?;
        Signer::of(&caller, &presented, None).map(Box::new)
    }

    /// Returns the signer of a request to S3, whose signature has rules of its own: the path is
    /// encoded once, every `x-amz-` header must be signed, and the request declares the hash of its
    /// body.
    fn signer_for_s3(&self, cx: &Context<'_>, host: &str) -> Result<Box<Signer>, Unproven> {
        let named = self
            .headers
            .iter()
            .filter(|(name, _)| *name != http::header::HOST);
        let headers = named.map(|(name, value)| {
            let text = std::str::from_utf8(value.as_bytes());
            let rule = || format!("The value of the header {name} is not UTF-8.");
            let text = text.map_err(|_| S3Refusal::new(Code::InvalidRequest, rule()))?;
            Ok((name.as_str().to_owned(), text.to_owned()))
        });
        let headers = headers.collect::<Result<Vec<_>, S3Refusal>>()?;
        let head = Head {
            method: &self.method,
            path: &self.uri,
            authority: host,
            headers: &headers,
            body: None,
            size: None,
        };
        let (path, query) = s3::decoded(&head)?;
        let request = S3Request {
            method: &self.method,
            path: &path,
            query: &query,
            headers: &headers,
            host,
        };
        let signed = S3Presented::read(&request)?.ok_or(Error::MissingAuthenticationToken)?;
        let presented = &signed.presented;
        self.check(presented)?;
        let region = self.expected.region.as_deref();
        let region = region.unwrap_or(presented.unverified_region());
        let skew = cx.broker.rules.skew.min(MAX_SKEW);
        signed.check_scope(cx.now, region, skew)?;
        let caller = authn::signed_for_store(cx.broker, &cx.directory, cx.now, presented)?;
        let declares_hash = signed.payload.len() == 64;
        if let Some(given) = self.payload_sha256.filter(|_| declares_hash)
            && hex(&given) != signed.payload
        {
            let message =
                "The provided 'x-amz-content-sha256' header does not match what was computed.";
            return Err(S3Refusal::new(Code::BadDigest, message).into());
        }
        let signer = Signer::of(&caller, presented, Some(signed.payload.to_owned()))?;
        Ok(Box::new(signer))
    }
}

impl Signer {
    fn of(
        caller: &Caller,
        presented: &Presented,
        declared_payload: Option<String>,
    ) -> Result<Self, Error> {
        let session = caller.session().map(|session| {
            let claims = &session.claims;
            let id = claims.session_id.as_slice().try_into();
            Ok::<_, Error>(Session {
                id: id.map_err(|_| Error::InternalFailure)?,
                name: claims.session_name.clone(),
                source_identity: claims.source_identity.clone(),
                issued_at: Timestamp::from_seconds(claims.issued_at),
                expires_at: Timestamp::from_seconds(claims.expires_at),
                has_mfa: claims.mfa_at > 0,
                is_restricted: session.is_restricted(),
            })
        });
        let role_arn = match &caller.identity {
            Identity::RoleSession { role, .. } => Some(role.arn.to_string()),
            _ => None,
        };
        Ok(Self {
            arn: caller.arn().to_owned(),
            account: caller.account().to_string(),
            user_id: caller.user_id().to_owned(),
            role_arn,
            access_key_id: caller.access_key_id.clone(),
            tags: caller
                .tags()
                .map(|(key, value)| Tag {
                    key: key.to_owned(),
                    value: value.to_owned(),
                })
                .collect(),
            session: session.transpose()?,
            region: presented.unverified_region().to_owned(),
            signed_at: presented.unverified_date(),
            is_presigned: presented.is_presigned(),
            declared_payload,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    service: &'a str,
    method: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
}
