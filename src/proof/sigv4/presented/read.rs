//! Reads the signature of a request from the `Authorization` header or from the query of a
//! presigned URL.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, DATE, HeaderName};

use super::{Presented, Sent};
use crate::base::clock::Timestamp;
use crate::base::digest::Hex;
use crate::proof::sigv4::canonical::{canonical_path, canonical_request};
use crate::proof::sigv4::{
    ALGORITHM, Incoming, MAX_TOKEN_BYTES, OWN_HEADERS, PathForm, SigError, X_AMZ_DATE,
    X_AMZ_SECURITY_TOKEN, incomplete, is_signers_parameter, mismatch,
};

const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// The query parameters of a presigned URL that contain its signature.
pub(in crate::proof::sigv4) const PROOF_PARAMETERS: &[&str] = &[
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

impl Presented {
    /// Reads the signature from the `Authorization` header or from the query of a presigned URL. Returns `None` if the
    /// request has neither.
    ///
    /// # Errors
    /// [`SigError`] if the signature is incomplete, malformed or ambiguous, contradicts the request, or does not cover
    /// everything that it must cover.
    pub fn read(incoming: &Incoming<'_>) -> Result<Option<Self>, SigError> {
        Self::read_as(incoming, PathForm::Own)
    }

    /// Reads the signature of a request to another service, whose paths are encoded in the form
    /// `form`. Otherwise the same as [`Self::read`].
    ///
    /// # Errors
    /// The same as for [`Self::read`].
    pub fn read_as(incoming: &Incoming<'_>, form: PathForm) -> Result<Option<Self>, SigError> {
        let proof = |name: &str| {
            PROOF_PARAMETERS
                .iter()
                .any(|p| p.eq_ignore_ascii_case(name))
        };
        let presigned = incoming
            .query
            .iter()
            .any(|(name, _)| is_signers_parameter(name) && proof(name));
        match (single(incoming.headers, &AUTHORIZATION)?, presigned) {
            (None, false) => Ok(None),
            (Some(_), true) => Err(incomplete(
                "the request must not have credentials in both the Authorization header and the query",
            )),
            (Some(header), false) => Self::from_header(incoming, header, form).map(Some),
            (None, true) => Self::from_query(incoming, form).map(Some),
        }
    }

    fn from_header(
        incoming: &Incoming<'_>,
        header: &str,
        form: PathForm,
    ) -> Result<Self, SigError> {
        let Some(fields) = header
            .strip_prefix(ALGORITHM)
            .and_then(|r| r.strip_prefix(' '))
        else {
            return Err(incomplete(
                "Authorization must begin with `AWS4-HMAC-SHA256 `",
            ));
        };
        let Fields {
            credential,
            signed_headers,
            signature,
        } = Fields::read(fields)?;
        let (signed_at, amz_date) = header_date(incoming.headers)?;
        Self::assemble(
            incoming,
            Parts {
                credential,
                signed_headers,
                signature,
                signed_at,
                amz_date,
                session_token: single(incoming.headers, &X_AMZ_SECURITY_TOKEN)?,
                presigned: false,
                form,
            },
        )
    }

    fn from_query(incoming: &Incoming<'_>, form: PathForm) -> Result<Self, SigError> {
        // In another case it would be a second spelling of the same parameter.
        let get = |wanted: &str| -> Result<Option<&str>, SigError> {
            let mut found = incoming
                .query
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            match (found.next(), found.next()) {
                (None, _) => Ok(None),
                (Some((name, value)), None) if name == wanted => Ok(Some(value)),
                (Some(_), None) => Err(incomplete(format!(
                    "the name of the query parameter `{wanted}` must be in exactly these capital and small letters"
                ))),
                (Some(_), Some(_)) => {
                    Err(incomplete(format!("duplicate query parameter `{wanted}`")))
                }
            }
        };
        let need = |name: &str| {
            get(name)?.ok_or_else(|| {
                incomplete(format!("AWS query-string parameters must include '{name}'"))
            })
        };
        if need("X-Amz-Algorithm")? != ALGORITHM {
            return Err(incomplete("X-Amz-Algorithm must be AWS4-HMAC-SHA256"));
        }
        // The value does not matter: see `MAX_SKEW`.
        get("X-Amz-Expires")?;
        if single(incoming.headers, &X_AMZ_SECURITY_TOKEN)?.is_some() {
            return Err(incomplete(
                "a presigned request must have its security token in the query, not in a header",
            ));
        }
        let amz_date = need("X-Amz-Date")?;
        let signed_at = Timestamp::from_amz(amz_date)
            .ok_or_else(|| incomplete("X-Amz-Date must be `YYYYMMDDTHHMMSSZ`"))?;
        Self::assemble(
            incoming,
            Parts {
                credential: need("X-Amz-Credential")?,
                signed_headers: need("X-Amz-SignedHeaders")?,
                signature: need("X-Amz-Signature")?,
                signed_at,
                amz_date: amz_date.into(),
                session_token: get("X-Amz-Security-Token")?,
                presigned: true,
                form,
            },
        )
    }

    fn assemble(incoming: &Incoming<'_>, parts: Parts<'_>) -> Result<Self, SigError> {
        let scope = Scope::read(parts.credential)?;
        if parts
            .session_token
            .is_some_and(|t| t.len() > MAX_TOKEN_BYTES || t.is_empty())
        {
            return Err(incomplete("the security token must have 1 to 16384 bytes"));
        }
        if parts.amz_date.get(..8) != Some(scope.day) {
            return Err(mismatch(
                "the date in Credential must be the day of X-Amz-Date, or of Date if that is missing",
            ));
        }
        let signature = lower_hex(parts.signature)
            .ok_or_else(|| incomplete("Signature must be 64 lower-case hexadecimal digits"))?;
        insist_on_signed(incoming, parts.signed_headers)?;
        let payload = Hex::of(&incoming.payload_sha256);
        if let Some(declared) = single(incoming.headers, &X_AMZ_CONTENT_SHA256)?
            && declared != &*payload
        {
            return Err(mismatch(
                "X-Amz-Content-Sha256 is not the SHA-256 of the payload",
            ));
        }
        let canonical_request_sha256 = canonical_request(
            incoming.method,
            &canonical_path(incoming.path, parts.form)?,
            incoming.query,
            incoming.headers,
            incoming.host,
            parts.signed_headers,
            &payload,
        )?;
        Ok(Self::new(
            &Sent {
                access_key_id: scope.access_key_id,
                session_token: parts.session_token,
                region: scope.region,
                service: scope.service,
                amz_date: &parts.amz_date,
                host: incoming.host,
                signed_headers: parts.signed_headers,
            },
            parts.signed_at,
            parts.presigned,
            canonical_request_sha256,
            signature,
        ))
    }
}

/// The claims of a request's headers about its signature, before the body has arrived and the
/// signature can be verified. They may only decide how the body is received.
pub struct Announced<'a> {
    /// The id of the access key that the request names in its signature.
    pub access_key_id: &'a str,
    /// The service in the scope of the signature, such as `sts`.
    pub service: &'a str,
    /// The session token in the headers; `None` if there is none.
    pub session_token: Option<&'a str>,
}

impl<'a> Announced<'a> {
    /// Reads the headers. Returns `None` unless they contain exactly one `Authorization` header, with Signature Version
    /// 4 and a well-formed `Credential`, and at most one session token.
    pub fn read(headers: &'a HeaderMap) -> Option<Self> {
        let fields = single(headers, &AUTHORIZATION).ok()??;
        let mut fields = fields
            .strip_prefix(ALGORITHM)?
            .strip_prefix(' ')?
            .split(',');
        let credential = fields.find_map(|field| field.trim().strip_prefix("Credential="))?;
        let scope = Scope::read(credential).ok()?;
        Some(Self {
            access_key_id: scope.access_key_id,
            service: scope.service,
            session_token: single(headers, &X_AMZ_SECURITY_TOKEN).ok()?,
        })
    }
}

/// The parts of a signature as the request contains them, from the header or the query.
struct Parts<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    signed_at: Timestamp,
    amz_date: Cow<'a, str>,
    session_token: Option<&'a str>,
    presigned: bool,
    form: PathForm,
}

/// The fields that follow the algorithm in an `Authorization` header. Each must occur exactly once.
pub(super) struct Fields<'a> {
    pub credential: &'a str,
    pub signed_headers: &'a str,
    pub signature: &'a str,
}

impl<'a> Fields<'a> {
    pub fn read(fields: &'a str) -> Result<Self, SigError> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field
                .trim()
                .split_once('=')
                .ok_or_else(|| {
                    incomplete(
                        "each field of the Authorization header must be `NAME=VALUE`, with commas between them",
                    )
                })?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => {
                    return Err(incomplete(
                        "the Authorization header has a field other than Credential, SignedHeaders and Signature",
                    ));
                }
            };
            if slot.replace(value).is_some() {
                return Err(incomplete(format!(
                    "duplicate `{name}` in the Authorization header"
                )));
            }
        }
        let need = |field: Option<_>, name: &str| {
            field.ok_or_else(|| {
                incomplete(format!("Authorization header requires '{name}' parameter"))
            })
        };
        Ok(Self {
            credential: need(credential, "Credential")?,
            signed_headers: need(signed_headers, "SignedHeaders")?,
            signature: need(signature, "Signature")?,
        })
    }
}

/// The scope in a Credential: `ID/YYYYMMDD/REGION/SERVICE/aws4_request`.
pub(super) struct Scope<'a> {
    pub access_key_id: &'a str,
    pub day: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

impl<'a> Scope<'a> {
    pub fn read(credential: &'a str) -> Result<Self, SigError> {
        let mut scope = credential.split('/');
        let (Some(id), Some(day), Some(region), Some(service), Some("aws4_request"), None) = (
            scope.next(),
            scope.next(),
            scope.next(),
            scope.next(),
            scope.next(),
            scope.next(),
        ) else {
            return Err(incomplete(
                "Credential must be `ID/YYYYMMDD/REGION/SERVICE/aws4_request`",
            ));
        };
        if !(1..=128).contains(&id.len())
            || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            return Err(incomplete(
                "the access key id in Credential must be 1 to 128 ASCII letters, digits or `_`",
            ));
        }
        Ok(Self {
            access_key_id: id,
            day,
            region,
            service,
        })
    }
}

/// Returns the time of signing that a request claims, also in the form of the string to sign. It
/// comes from `X-Amz-Date`, or else from `Date`, which may also be an HTTP date ("Elements of an
/// AWS API request signature"). The signature need not cover either header, because the string to
/// sign contains the date.
fn header_date(headers: &HeaderMap) -> Result<(Timestamp, Cow<'_, str>), SigError> {
    if let Some(text) = single(headers, &X_AMZ_DATE)? {
        let at = Timestamp::from_amz(text)
            .ok_or_else(|| incomplete("X-Amz-Date must be `YYYYMMDDTHHMMSSZ`"))?;
        return Ok((at, text.into()));
    }
    let text = single(headers, &DATE)?.ok_or_else(|| {
        incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header",
        )
    })?;
    let at = Timestamp::from_amz(text).or_else(|| Timestamp::from_http_date(text));
    let at = at.ok_or_else(|| {
        incomplete("Date must be `YYYYMMDDTHHMMSSZ` or an HTTP date (RFC 9110 section 5.6.7)")
    })?;
    Ok((at, at.to_amz().into()))
}

/// Checks that the signature covers the headers that the broker relies on: the host, the security token, and every
/// `x-brevet-` header. Each may occur only once.
fn insist_on_signed(incoming: &Incoming<'_>, signed_headers: &str) -> Result<(), SigError> {
    let is_signed = |name: &str| signed_headers.split(';').any(|signed| signed == name);
    let plain = |n: &str| {
        n.bytes()
            .all(|b| !b.is_ascii_uppercase() && b.is_ascii_graphic())
    };
    let mut last = "";
    for name in signed_headers.split(';') {
        // No name comes before the empty one, so that none is empty.
        if name <= last || !plain(name) {
            return Err(incomplete(
                "SignedHeaders must be lower-case header names in ascending order, each once",
            ));
        }
        last = name;
    }
    if !is_signed("host") {
        return Err(mismatch("'host' must be a SignedHeader"));
    }
    for name in incoming.headers.keys() {
        if *name != X_AMZ_SECURITY_TOKEN && !name.as_str().starts_with(OWN_HEADERS) {
            continue;
        }
        if !is_signed(name.as_str()) {
            return Err(mismatch(format!(
                "the header '{name}' must be a SignedHeader if it is sent"
            )));
        }
        single(incoming.headers, name)?;
    }
    Ok(())
}

/// Returns the value of a header that may occur only once; `None` if it is absent.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, SigError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(incomplete(format!("the header '{name}' is not ASCII text"))),
        },
        _ => Err(incomplete(format!("duplicate '{name}' header"))),
    }
}

pub(super) fn lower_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (slot, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *slot = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}
