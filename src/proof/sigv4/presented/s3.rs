//! Reads the signature of a request to Amazon S3, from its `Authorization` header or its query.

use std::time::Duration;

use super::read::{Fields, Scope, lower_hex};
use super::{Presented, Sent};
use crate::base::clock::Timestamp;
use crate::proof::sigv4::s3::{
    MAX_EXPIRES, S3Request, SERVICE, SIGNATURE_PARAMETERS, UNSIGNED_PAYLOAD,
};
use crate::proof::sigv4::{ALGORITHM, MAX_TOKEN_BYTES, SigError};

/// Why a signature was not accepted. Each variant stands for an error code of Amazon S3; its text
/// is the error message for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum S3SigError {
    /// The `Authorization` header is malformed or incomplete, or its scope names another service or region.
    #[error("{0}")]
    Header(String),
    /// The parameters of a presigned request are malformed or incomplete, or their scope names another service or
    /// region.
    #[error("{0}")]
    Query(String),
    /// The request is signed with a method that is not accepted or with two methods, has one of the headers for the
    /// signature twice, or lacks `x-amz-content-sha256`.
    #[error("{0}")]
    Unsupported(String),
    /// A header that must be signed is not signed, or `x-amz-date` is missing.
    #[error("{0}")]
    Unsigned(String),
    /// The client's clock differs too much from the broker's.
    #[error("{0}")]
    Skewed(String),
    /// A presigned request is not valid yet, or has expired.
    #[error("{0}")]
    Expired(String),
    /// The signature was not made with this secret key for this request, or covers a header that the request lacks.
    #[error("{0}")]
    Mismatch(String),
}

/// The signature of a request to Amazon S3, parsed but not verified yet.
pub struct S3Presented<'a> {
    /// The parsed signature, for verification with the caller's secret key.
    pub presented: Presented,
    /// The value of `x-amz-content-sha256`: the hash of the payload, or a keyword such as `UNSIGNED-PAYLOAD`, which is
    /// also the default of a presigned request.
    pub payload: &'a str,
    /// How long a presigned request is valid after its date; `None` if it is signed in a header.
    expires: Option<Duration>,
}

impl<'a> S3Presented<'a> {
    /// Reads the signature; `None` if the request has none.
    ///
    /// # Errors
    /// [`S3SigError`] if the signature is incomplete or ambiguous, or does not cover everything
    /// that it must cover.
    pub fn read(request: &S3Request<'a>) -> Result<Option<Self>, S3SigError> {
        let header = single(request, "authorization")?;
        let in_query = request
            .query
            .iter()
            .any(|(name, _)| SIGNATURE_PARAMETERS.contains(name));
        match (header, in_query) {
            (None, false) => Ok(None),
            (Some(_), true) => Err(S3SigError::Unsupported(
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified".into(),
            )),
            (Some(header), false) => Self::from_header(request, header).map(Some),
            (None, true) => Self::from_query(request).map(Some),
        }
    }

    fn from_header(request: &S3Request<'a>, header: &'a str) -> Result<Self, S3SigError> {
        let fields = header
            .strip_prefix(ALGORITHM)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or_else(unsupported_algorithm)?;
        let malformed = |error: SigError| S3SigError::Header(error.to_string());
        let fields = Fields::read(fields).map_err(malformed)?;
        let scope = Scope::read(fields.credential).map_err(malformed)?;
        let date = single(request, "x-amz-date")?.ok_or_else(|| {
            S3SigError::Unsigned("AWS authentication requires a valid x-amz-date header".into())
        })?;
        let payload = single(request, "x-amz-content-sha256")?.ok_or_else(|| {
            S3SigError::Unsupported(
                "Missing required header for this request: x-amz-content-sha256".into(),
            )
        })?;
        Self::assemble(
            request,
            S3SigError::Header,
            Parts {
                scope,
                signed_headers: fields.signed_headers,
                signature: fields.signature,
                date,
                token: single(request, "x-amz-security-token")?,
                payload,
                expires: None,
            },
        )
    }

    fn from_query(request: &S3Request<'a>) -> Result<Self, S3SigError> {
        let get = |name: &str| {
            let mut found = request.query.iter().filter(|(n, _)| *n == name);
            match (found.next(), found.next()) {
                (found, None) => Ok(found.map(|(_, value)| &**value)),
                _ => Err(S3SigError::Query(format!(
                    "duplicate query parameter `{name}`"
                ))),
            }
        };
        let need = |name: &str| {
            get(name)?.ok_or_else(|| {
                S3SigError::Query(format!(
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters; `{name}` is missing."
                ))
            })
        };
        if need("X-Amz-Algorithm")? != ALGORITHM {
            return Err(unsupported_algorithm());
        }
        let scope = Scope::read(need("X-Amz-Credential")?)
            .map_err(|error| S3SigError::Query(error.to_string()))?;
        let expires = need("X-Amz-Expires")?;
        let seconds = Some(expires)
            .filter(|text| {
                (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
            })
            .and_then(|text| text.parse().ok())
            .map(Duration::from_secs)
            .filter(|expires| (Duration::from_secs(1)..=MAX_EXPIRES).contains(expires))
            .ok_or_else(|| S3SigError::Query("X-Amz-Expires must be 1 to 604800 seconds".into()))?;
        if single(request, "x-amz-security-token")?.is_some() {
            return Err(S3SigError::Query(
                "a presigned request must have its security token in the query, not in a header"
                    .into(),
            ));
        }
        let payload = match (
            get("X-Amz-Content-Sha256")?,
            single(request, "x-amz-content-sha256")?,
        ) {
            (Some(query), Some(header)) if query != header => {
                return Err(S3SigError::Query(
                    "X-Amz-Content-Sha256 and the header x-amz-content-sha256 differ".into(),
                ));
            }
            (Some(declared), _) | (None, Some(declared)) => declared,
            (None, None) => UNSIGNED_PAYLOAD,
        };
        Self::assemble(
            request,
            S3SigError::Query,
            Parts {
                scope,
                signed_headers: need("X-Amz-SignedHeaders")?,
                signature: need("X-Amz-Signature")?,
                date: need("X-Amz-Date")?,
                token: get("X-Amz-Security-Token")?,
                payload,
                expires: Some(seconds),
            },
        )
    }

    fn assemble(
        request: &S3Request<'a>,
        malformed: fn(String) -> S3SigError,
        parts: Parts<'a, '_>,
    ) -> Result<Self, S3SigError> {
        let signed_at = Timestamp::from_amz(parts.date)
            .ok_or_else(|| malformed("X-Amz-Date must be `YYYYMMDDTHHMMSSZ`".into()))?;
        if parts.date.get(..8) != Some(parts.scope.day) {
            return Err(malformed(format!(
                "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
                parts.scope.day, parts.date
            )));
        }
        if parts
            .token
            .is_some_and(|t| t.is_empty() || t.len() > MAX_TOKEN_BYTES)
        {
            return Err(malformed(
                "the security token must have 1 to 16384 bytes".into(),
            ));
        }
        let signature = lower_hex(parts.signature).ok_or_else(|| {
            malformed("Signature must be 64 lower-case hexadecimal digits".into())
        })?;
        let lines = signed_lines(request, parts.signed_headers, malformed)?;
        let leave_out = |name: &str| name == "X-Amz-Signature";
        let canonical_request_sha256 =
            request.digest(leave_out, &lines, parts.signed_headers, parts.payload);
        Ok(Self {
            presented: Presented::new(
                &Sent {
                    access_key_id: parts.scope.access_key_id,
                    session_token: parts.token,
                    region: parts.scope.region,
                    service: parts.scope.service,
                    amz_date: parts.date,
                    host: request.host,
                    signed_headers: parts.signed_headers,
                },
                signed_at,
                parts.expires.is_some(),
                canonical_request_sha256,
                signature,
            ),
            payload: parts.payload,
            expires: parts.expires,
        })
    }

    /// Checks the scope and the date of the signature, which needs no key.
    ///
    /// # Errors
    /// [`S3SigError`] if the scope names another service or region, or the date is out of range.
    pub fn check_scope(
        &self,
        now: Timestamp,
        region: &str,
        skew: Duration,
    ) -> Result<(), S3SigError> {
        let presented = &self.presented;
        let malformed = |text: String| match self.expires {
            None => S3SigError::Header(text),
            Some(_) => S3SigError::Query(text),
        };
        let (_, own_region, service) = presented.scope();
        if service != SERVICE {
            return Err(malformed(format!(
                "Error parsing the X-Amz-Credential parameter; incorrect service \"{}\". This endpoint belongs to \"s3\".",
                service
            )));
        }
        if own_region != region {
            return Err(malformed(format!(
                "Error parsing the X-Amz-Credential parameter; the region '{own_region}' is wrong; expecting '{region}'"
            )));
        }
        let now = now.whole_second();
        let (ahead, signed_at) = (presented.signed_at > now.plus(skew), presented.signed_at);
        match self.expires {
            None if ahead || now > signed_at.plus(skew) => Err(S3SigError::Skewed(
                "The difference between the request time and the current time is too large.".into(),
            )),
            Some(_) if ahead => Err(S3SigError::Expired("Request is not valid yet".into())),
            Some(expires) if now > signed_at.plus(expires) => {
                Err(S3SigError::Expired("Request has expired".into()))
            }
            _ => Ok(()),
        }
    }

    /// Returns the time since the request was signed; zero if its date is in the future.
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.presented.signed_at)
    }
}

/// The parts of a signature as the request contains them, from the header or the query.
struct Parts<'a, 's> {
    scope: Scope<'s>,
    signed_headers: &'s str,
    signature: &'s str,
    date: &'s str,
    token: Option<&'s str>,
    payload: &'a str,
    expires: Option<Duration>,
}

/// Returns the lines of the signed headers in the canonical request. The host and every `x-amz-`
/// header must be signed, because object stores act on them.
fn signed_lines(
    request: &S3Request<'_>,
    names: &str,
    malformed: fn(String) -> S3SigError,
) -> Result<String, S3SigError> {
    let plain = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| !b.is_ascii_uppercase() && b.is_ascii_graphic())
    };
    let (mut lines, mut last, mut host) = (String::with_capacity(512), "", false);
    for name in names.split(';') {
        if !plain(name) || name <= last {
            return Err(malformed(
                "SignedHeaders must be lower-case header names in ascending order, each once"
                    .into(),
            ));
        }
        request.push_header(&mut lines, name).ok_or_else(|| {
            S3SigError::Mismatch(format!(
                "the signed header '{name}' is missing from the request"
            ))
        })?;
        host |= name == "host";
        last = name;
    }
    if !host {
        return Err(S3SigError::Unsigned("'host' must be a SignedHeader".into()));
    }
    let signed = |name: &str| names.split(';').any(|signed| signed == name);
    let mut own = request.headers.iter().map(|(name, _)| name.as_str());
    match own.find(|name| name.starts_with("x-amz-") && !signed(name)) {
        Some(name) => Err(S3SigError::Unsigned(format!(
            "There were headers present in the request which were not signed: {name}"
        ))),
        None => Ok(lines),
    }
}

fn unsupported_algorithm() -> S3SigError {
    S3SigError::Unsupported(
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.".into(),
    )
}

/// Returns the value of a header that may occur only once; `None` if it is absent.
fn single<'a>(request: &S3Request<'a>, name: &str) -> Result<Option<&'a str>, S3SigError> {
    let mut values = request.headers.iter().filter(|(n, _)| n == name);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|(_, value)| value.as_str())),
        _ => Err(S3SigError::Unsupported(format!(
            "duplicate '{name}' header"
        ))),
    }
}
