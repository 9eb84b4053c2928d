//! VerifyRequest: whose signature does a request to another service have? The service passes on the head of
//! the request as it received it, and says what it expects of it.
//!
//! What is expected comes from the service and never from the request: the name of the service, the hosts
//! by which clients call it, and for proofs of identity that clients hand over also the method, the path
//! and a signed header that names the audience.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

use super::keys;
use crate::authn;
use crate::base::clock::Timestamp;
use crate::base::digest::sha256;
use crate::base::field::{self, FieldError};
use crate::base::form;
use crate::base::names::Tag;
use crate::budgets::CountedAs;
use crate::caller::{Caller, Identity};
use crate::error::{Class, Error};
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;
use crate::proof::sigv4::{ANY_REGION, Incoming, MAX_SKEW, PathForm, Presented, Rules};
use crate::sessions::SessionId;
use crate::trust;

const ACTION: &str = "brevet:VerifyRequest";
const MAX_HEADERS: usize = 64;
const MAX_URI: usize = 16_384;
const MAX_HOSTS: usize = 16;

/// The head of a request as the service received it.
pub struct SignedRequest {
    pub method: String,
    /// The path and the query, as they were sent.
    pub uri: String,
    /// All headers in order, with `host`.
    pub headers: Vec<(String, Vec<u8>)>,
    pub payload: Payload,
}

/// What the signature must cover of the body.
pub enum Payload {
    Body(Vec<u8>),
    /// The SHA-256 that the service computed of the body.
    Sha256(Vec<u8>),
}

/// What the service expects of the request.
pub struct Expected {
    /// The service in the scope of the signature.
    pub service: String,
    /// The hosts by which clients call the service, with the port if it is not the usual one.
    pub hosts: Vec<String>,
    pub region: Option<String>,
    pub method: Option<String>,
    /// The path without the query.
    pub path: Option<String>,
    /// A header that must be signed and have this value.
    pub audience: Option<(String, String)>,
    /// Whether the signature may be in the query, so that anybody with the URL can use it.
    pub presigned: bool,
}

/// A call of VerifyRequest whose parameters have been checked.
pub struct VerifyRequest {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    payload_sha256: [u8; 32],
    expected: Expected,
}

/// What the signature of a request proved, or why it proved nothing.
pub struct Verified {
    pub outcome: Result<Box<Signer>, Refused>,
    /// The last change of the feed that is taken into account.
    pub change: i64,
}

/// Why the request proves nothing, in the codes of AWS, which the service may pass on.
pub struct Refused {
    pub code: &'static str,
    pub message: String,
}

/// The principal that signed the request, as the service learns of it.
pub struct Signer {
    pub arn: String,
    pub account: String,
    pub user_id: String,
    /// The ARN of the role of a role session.
    pub role_arn: Option<String>,
    pub access_key_id: String,
    /// The tags of the principal, overridden by those of its session.
    pub tags: Vec<Tag>,
    pub session: Option<Session>,
    pub region: String,
    pub signed_at: Timestamp,
    pub is_presigned: bool,
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
    /// Whether session policies limit what the session may do, or it was narrowed.
    pub is_restricted: bool,
}

impl VerifyRequest {
    /// Checks the request and what is expected of it.
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
            let rule = "must be the path and query as they were sent, at most 16384 bytes";
            return Err(FieldError::new("Uri", rule).into());
        }
        let (path, query) = request.uri.split_once('?').unwrap_or((&request.uri, ""));
        let query = form::pairs(query.as_bytes())
            .map_err(|error| FieldError::new("Uri", format!("has a query with {error}")))?;
        let payload_sha256 = match request.payload {
            Payload::Body(body) => sha256(&body),
            Payload::Sha256(digest) => digest
                .as_slice()
                .try_into()
                .map_err(|_| FieldError::new("PayloadSha256", "must have 32 bytes"))?,
        };
        Ok(Self {
            method: request.method,
            path: path.to_owned(),
            query,
            headers: headers(request.headers)?,
            payload_sha256,
            expected,
        })
    }
}

fn check_expected(expected: &Expected) -> Result<(), FieldError> {
    if !keys::is_service(&expected.service) || expected.service == "s3" {
        let rule = "must be the name of a service in signatures: letters, digits and hyphens; sts and iam are the \
                    broker's own, and s3 is signed in another form";
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
            let rule = "must name a header in lower case, other than `host`";
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
            Err(error) if matches!(error.class(), Class::Internal | Class::Unavailable) => {
                return Err(error);
            }
            Err(error) => Err(Refused {
                code: error.code(),
                message: error.to_string(),
            }),
        };
        let answered = Answered {
            arn: outcome.as_ref().ok().map(|signer| signer.arn.as_str()),
            access_key_id: outcome.as_ref().ok().map(|s| s.access_key_id.as_str()),
            refused: outcome.as_ref().err().map(|refused| refused.code),
        };
        let account = cx.caller().account();
        cx.answered(&answered, account.as_str());
        Ok(Verified {
            outcome,
            change: cx.issued_under,
        })
    }
}

impl VerifyRequest {
    /// Finds the principal that signed the request, and checks that the request is as expected.
    fn signer(&self, cx: &Context<'_>) -> Result<Box<Signer>, Error> {
        let expected = &self.expected;
        let unlike = |what: &str| {
            Error::SignatureDoesNotMatch(format!("The {what} is not the one that is expected."))
        };
        if expected.method.as_ref().is_some_and(|m| *m != self.method) {
            return Err(unlike("method"));
        }
        if expected.path.as_ref().is_some_and(|p| *p != self.path) {
            return Err(unlike("path"));
        }
        let mut hosts = self.headers.get_all(http::header::HOST).iter();
        let host = match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
            (Some(Ok(host)), None) => host,
            _ => {
                let text = "The request must have one header 'host'.".to_owned();
                return Err(Error::IncompleteSignature(text));
            }
        };
        if !expected.hosts.iter().any(|h| h.eq_ignore_ascii_case(host)) {
            return Err(unlike("host"));
        }
        let incoming = Incoming {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            host,
            payload_sha256: self.payload_sha256,
        };
        let presented = Presented::read_as(&incoming, PathForm::EncodedAgain)?
            .ok_or(Error::MissingAuthenticationToken)?;
        if presented.is_presigned() && !expected.presigned {
            let text = "The signature must be in the Authorization header.".to_owned();
            return Err(Error::IncompleteSignature(text));
        }
        if let Some((name, value)) = &expected.audience {
            let mut values = self.headers.get_all(name).iter();
            let is_right = values
                .next()
                .is_some_and(|v| v.as_bytes() == value.as_bytes())
                && values.next().is_none();
            if !is_right || !presented.signs(name) {
                return Err(unlike("signed audience"));
            }
        }
        let rules = Rules {
            regions: vec![
                expected
                    .region
                    .clone()
                    .unwrap_or_else(|| ANY_REGION.to_owned()),
            ],
            skew: cx.broker.rules.skew.min(MAX_SKEW),
            presigned_actions: Vec::new(),
        };
        presented.check_scope(cx.now, &rules, &expected.service)?;
        let caller = authn::holder(cx.broker, &cx.directory, cx.now, &presented)?;
        // Of another account, the caller learns no more than of an unknown key.
        if caller.account() != cx.caller().account() {
            return Err(Error::InvalidClientTokenId);
        }
        Signer::of(&caller, &presented).map(Box::new)
    }
}

impl Signer {
    fn of(caller: &Caller, presented: &Presented) -> Result<Self, Error> {
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
            tags: caller.tags(),
            session: session.transpose()?,
            region: presented.unverified_region().to_owned(),
            signed_at: presented.unverified_date(),
            is_presigned: presented.is_presigned(),
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
