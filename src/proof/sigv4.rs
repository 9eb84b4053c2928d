//! AWS Signature Version 4: what a request presents, and whether the signature is right.
//!
//! Knows methods, paths, headers and bytes; knows no HTTP server, no key store and no clock.
//! Source: "AWS Signature Version 4 for API requests" (IAM User Guide). What the broker acts on is
//! signed (the host, the security token, its own headers), derived (the date is part of the string
//! to sign) or compared (the payload by its hash), and none of it may be there twice. Headers that it
//! does not act on may be unsigned, as AWS's own SDKs leave some of them.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderName};
use ring::hmac;

use crate::base::digest::{hex, sha256};
use zeroize::Zeroizing;

use crate::base::clock::Timestamp;

mod signing_secret;

pub use signing_secret::SigningSecret;

/// The only algorithm.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a request's date may be from the server's clock: AWS's own window. A presigned request is
/// good for as long from its date, whatever its `X-Amz-Expires` says.
pub const MAX_SKEW: Duration = Duration::from_secs(900);
/// The longest session token looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16_384;

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// Headers that only this broker reads.
const OWN_HEADERS: &str = "x-brevet-";
/// The parameters of a presigned request that are its proof.
const PROOF_PARAMETERS: &[&str] = &[
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// Why a signature was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigError {
    /// Something is missing, malformed or there twice.
    #[error("{0}")]
    Incomplete(String),
    /// Complete, and not right.
    #[error("{0}")]
    Mismatch(String),
    /// Too old, or from the future.
    #[error("{0}")]
    Expired(String),
}

/// A request as it came over the wire.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// The path as sent, still encoded.
    pub path: &'a str,
    /// The query's parameters, decoded, in the order sent.
    pub query: &'a [(String, String)],
    /// All headers.
    pub headers: &'a HeaderMap,
    /// What the client called this server: `Host` or `:authority`.
    pub host: &'a str,
    /// SHA-256 of the payload: the body on Query, the message's bytes on gRPC.
    pub payload_sha256: [u8; 32],
}

/// The proof that a request carries, taken off the wire and not yet checked.
#[derive(Clone)]
pub struct Presented {
    access_key_id: String,
    session_token: Option<String>,
    region: String,
    service: String,
    signed_at: Timestamp,
    amz_date: String,
    /// Whom the client meant to call: the `host` that was signed, as it was sent.
    host: String,
    /// Whether the proof is in the query.
    presigned: bool,
    canonical_request_sha256: [u8; 32],
    signature: [u8; 32],
}

/// What a verifier insists on.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The regions that a scope may name; [`ANY_REGION`] among them takes each.
    pub regions: Vec<String>,
    /// How far the request's date may be off; at most [`MAX_SKEW`].
    pub skew: Duration,
    /// The actions of STS that a presigned request may ask for, besides GetCallerIdentity.
    pub presigned_actions: Vec<String>,
}

/// In [`Rules::regions`]: a scope may name any region.
pub const ANY_REGION: &str = "*";

impl Rules {
    fn takes_region(&self, region: &str) -> bool {
        is_region(region) && self.regions.iter().any(|r| r == region || r == ANY_REGION)
    }
}

/// Whether a text can be a region's name: up to 64 lower-case letters, digits and `-`.
pub fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether a parameter of a URL's query belongs to the signer and not to the action: its name begins
/// with `X-Amz-`, in any case.
pub fn is_signers_parameter(name: &str) -> bool {
    name.get(..6)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-amz-"))
}

impl Presented {
    /// Reads the signature from the `Authorization` header or from the query of a presigned URL.
    /// `None` when the request shows neither.
    ///
    /// # Errors
    /// When what it shows is incomplete, ambiguous, or leaves something unsigned.
    pub fn read(incoming: &Incoming<'_>) -> Result<Option<Self>, SigError> {
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
                "credentials in both the Authorization header and the query",
            )),
            (Some(header), false) => Self::from_header(incoming, header).map(Some),
            (None, true) => Self::from_query(incoming).map(Some),
        }
    }

    fn from_header(incoming: &Incoming<'_>, header: &str) -> Result<Self, SigError> {
        let Some(fields) = header
            .strip_prefix(ALGORITHM)
            .and_then(|r| r.strip_prefix(' '))
        else {
            return Err(incomplete(
                "Authorization must begin with `AWS4-HMAC-SHA256 `",
            ));
        };
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field
                .trim()
                .split_once('=')
                .ok_or_else(|| incomplete("Authorization header is malformed"))?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(incomplete("Authorization header has an unknown field")),
            };
            if slot.replace(value).is_some() {
                return Err(incomplete(format!(
                    "Authorization header has `{name}` twice"
                )));
            }
        }
        let need = |field: Option<_>, name: &str| {
            field.ok_or_else(|| {
                incomplete(format!("Authorization header requires '{name}' parameter"))
            })
        };
        let (signed_at, amz_date) = header_date(incoming.headers)?;
        Self::assemble(
            incoming,
            Parts {
                credential: need(credential, "Credential")?,
                signed_headers: need(signed_headers, "SignedHeaders")?,
                signature: need(signature, "Signature")?,
                signed_at,
                amz_date,
                session_token: single(incoming.headers, &X_AMZ_SECURITY_TOKEN)?,
                presigned: false,
            },
        )
    }

    fn from_query(incoming: &Incoming<'_>) -> Result<Self, SigError> {
        // In another case it would be a second form of the same parameter.
        let get = |wanted: &str| -> Result<Option<&str>, SigError> {
            let mut found = incoming
                .query
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            match (found.next(), found.next()) {
                (None, _) => Ok(None),
                (Some((name, value)), None) if name == wanted => Ok(Some(value)),
                (Some(_), None) => Err(incomplete(format!(
                    "the query must spell `{wanted}` exactly so"
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
        // What it says does not matter: see `MAX_SKEW`.
        get("X-Amz-Expires")?;
        if single(incoming.headers, &X_AMZ_SECURITY_TOKEN)?.is_some() {
            return Err(incomplete(
                "a presigned request carries its security token in the query",
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
                amz_date: amz_date.to_owned(),
                session_token: get("X-Amz-Security-Token")?,
                presigned: true,
            },
        )
    }

    fn assemble(incoming: &Incoming<'_>, parts: Parts<'_>) -> Result<Self, SigError> {
        let mut scope = parts.credential.split('/');
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
            return Err(incomplete("Credential has no well-formed access key id"));
        }
        if parts
            .session_token
            .is_some_and(|t| t.len() > MAX_TOKEN_BYTES || t.is_empty())
        {
            return Err(incomplete("the security token is empty or too long"));
        }
        if parts.amz_date.get(..8) != Some(day) {
            return Err(mismatch(
                "the date in Credential is not the day of X-Amz-Date",
            ));
        }
        let signature = lower_hex(parts.signature)
            .ok_or_else(|| incomplete("Signature must be 64 lower-case hexadecimal digits"))?;
        let signed: Vec<&str> = parts.signed_headers.split(';').collect();
        insist_on_signed(incoming, &signed)?;
        let payload = hex(&incoming.payload_sha256);
        if let Some(declared) = single(incoming.headers, &X_AMZ_CONTENT_SHA256)?
            && declared != payload
        {
            return Err(mismatch(
                "X-Amz-Content-Sha256 is not the SHA-256 of the payload",
            ));
        }
        let canonical_request_sha256 = canonical_request(
            incoming.method,
            incoming.path,
            incoming.query,
            incoming.headers,
            incoming.host,
            &signed,
            &payload,
        )?;
        Ok(Self {
            access_key_id: id.to_owned(),
            session_token: parts.session_token.map(str::to_owned),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_at: parts.signed_at,
            amz_date: parts.amz_date,
            host: incoming.host.to_owned(),
            presigned: parts.presigned,
            canonical_request_sha256,
            signature,
        })
    }

    /// The key that the caller claims to hold. Nothing may be decided by it before [`Self::verify`].
    pub fn unverified_access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The region that the signature's scope names: true once [`Self::verify`] says so.
    pub fn unverified_region(&self) -> &str {
        &self.region
    }

    /// The session token that came along, if any.
    pub fn unverified_session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// Whom the client meant to call: the `host` that it says it signed, with its port if it has one.
    pub fn unverified_host(&self) -> &str {
        &self.host
    }

    /// When it was signed, as it says: true once [`Self::verify`] says so.
    pub fn unverified_date(&self) -> Timestamp {
        self.signed_at
    }

    /// The same sixteen bytes for the same signature of the same key, and for no other.
    pub fn digest(&self) -> [u8; 16] {
        let digest = sha256(&[&self.signature, self.access_key_id.as_bytes()].concat());
        digest.first_chunk().copied().unwrap_or_default()
    }

    /// The signature itself: the same one, if the same request comes again.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Whether the proof is in the query, so that whoever has the URL has the proof.
    pub fn is_presigned(&self) -> bool {
        self.presigned
    }

    /// Checks what needs no key: scope and time. `service` is whom the request must be for; IAM's
    /// region is `us-east-1` wherever it is.
    ///
    /// # Errors
    /// [`SigError::Mismatch`] on a foreign scope, [`SigError::Expired`] outside the window.
    pub fn check_scope(
        &self,
        now: Timestamp,
        rules: &Rules,
        service: &str,
    ) -> Result<(), SigError> {
        if self.service != service {
            return Err(mismatch(format!(
                "Credential should be scoped to correct service: '{service}'."
            )));
        }
        let global = service == "iam" && self.region == "us-east-1";
        if !global && !rules.takes_region(&self.region) {
            return Err(mismatch(format!(
                "Credential should be scoped to a valid region, which is one of: {}.",
                rules.regions.join(", ")
            )));
        }
        let good_for = if self.presigned { MAX_SKEW } else { rules.skew };
        let now = now.whole_second();
        if self.signed_at > now.plus(rules.skew) {
            return Err(SigError::Expired(format!(
                "Signature not yet current: {} is still later than {} ({} + {} s.)",
                self.amz_date,
                now.plus(rules.skew).to_amz(),
                now.to_amz(),
                rules.skew.as_secs()
            )));
        }
        let last = self.signed_at.plus(good_for);
        if now > last {
            return Err(SigError::Expired(format!(
                "Signature expired: {} is now earlier than {} ({} - {} s.)",
                self.amz_date,
                now.minus(good_for).to_amz(),
                now.to_amz(),
                good_for.as_secs()
            )));
        }
        Ok(())
    }

    /// Checks the signature itself, in constant time.
    ///
    /// # Errors
    /// [`SigError::Mismatch`] when the holder of this secret did not sign this request.
    pub fn verify(&self, secret_access_key: &[u8]) -> Result<(), SigError> {
        let (day, region, service) = self.scope();
        self.verify_by(&hmac::Key::new(
            hmac::HMAC_SHA256,
            &*signing_key(secret_access_key, day, region, service),
        ))
    }

    /// The day, the region and the service that a signature is good for.
    fn scope(&self) -> (&str, &str, &str) {
        (
            self.amz_date.get(..8).unwrap_or_default(),
            &self.region,
            &self.service,
        )
    }

    /// By a key that was derived for [`Self::scope`].
    fn verify_by(&self, key: &hmac::Key) -> Result<(), SigError> {
        let (day, region, service) = self.scope();
        let text = string_to_sign(
            &self.amz_date,
            day,
            region,
            service,
            &self.canonical_request_sha256,
        );
        hmac::verify(key, text.as_bytes(), &self.signature).map_err(|_| {
            mismatch(
                "The request signature we calculated does not match the signature you provided. \
                 Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
            )
        })
    }
}

/// Signature material as it stands on the wire.
struct Parts<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    signed_at: Timestamp,
    amz_date: String,
    session_token: Option<&'a str>,
    presigned: bool,
}

/// When a request says it was signed, and the same in the form of the string to sign: from
/// `X-Amz-Date`, else from `Date`, which may also be a date of HTTP ("Elements of an AWS API request
/// signature"). Neither has to be a signed header, since the string to sign holds the date.
fn header_date(headers: &HeaderMap) -> Result<(Timestamp, String), SigError> {
    if let Some(text) = single(headers, &X_AMZ_DATE)? {
        let at = Timestamp::from_amz(text)
            .ok_or_else(|| incomplete("X-Amz-Date must be `YYYYMMDDTHHMMSSZ`"))?;
        return Ok((at, text.to_owned()));
    }
    let text = single(headers, &DATE)?.ok_or_else(|| {
        incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header",
        )
    })?;
    let at = Timestamp::from_amz(text).or_else(|| Timestamp::from_http_date(text));
    let at = at.ok_or_else(|| {
        incomplete("Date must be `YYYYMMDDTHHMMSSZ` or a date of HTTP (RFC 9110 section 5.6.7)")
    })?;
    Ok((at, at.to_amz()))
}

/// Refuses a request that leaves unsigned what the broker acts on and can neither derive nor compare:
/// the host, the security token, and every header of its own.
fn insist_on_signed(incoming: &Incoming<'_>, signed: &[&str]) -> Result<(), SigError> {
    let ordered = signed
        .windows(2)
        .all(|pair| matches!(pair, [a, b] if a < b));
    let plain = |n: &&str| {
        !n.is_empty()
            && n.bytes()
                .all(|b| !b.is_ascii_uppercase() && b.is_ascii_graphic())
    };
    if !ordered || !signed.iter().all(plain) {
        return Err(incomplete(
            "SignedHeaders must be lower-case header names in ascending order, each once",
        ));
    }
    if !signed.contains(&"host") {
        return Err(mismatch("'host' must be a SignedHeader"));
    }
    for name in incoming.headers.keys() {
        if *name != X_AMZ_SECURITY_TOKEN && !name.as_str().starts_with(OWN_HEADERS) {
            continue;
        }
        if !signed.contains(&name.as_str()) {
            return Err(mismatch(format!(
                "the header '{name}' is present and not a SignedHeader"
            )));
        }
        single(incoming.headers, name)?;
    }
    Ok(())
}

/// The SHA-256 of the canonical request: "Create a canonical request".
fn canonical_request(
    method: &str,
    path: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
    host: &str,
    signed: &[&str],
    payload_sha256_hex: &str,
) -> Result<[u8; 32], SigError> {
    // Every path that this server answers is in canonical form; another could be read in two ways.
    let segments_plain = path
        .split('/')
        .skip(1)
        .all(|s| !matches!(s, "." | "..") && s.bytes().all(unreserved));
    if !path.starts_with('/') || !segments_plain || path.contains("//") {
        return Err(incomplete("the path is not in canonical form"));
    }
    let mut text = String::with_capacity(1024);
    for part in [method, "\n", path, "\n"] {
        text.push_str(part);
    }
    let mut pairs: Vec<(String, String)> = Vec::with_capacity(query.len());
    for (name, value) in query.iter().filter(|(name, _)| name != "X-Amz-Signature") {
        pairs.push((encode(name), encode(value)));
    }
    pairs.sort();
    for (i, (name, value)) in pairs.iter().enumerate() {
        for part in [if i == 0 { "" } else { "&" }, name, "=", value] {
            text.push_str(part);
        }
    }
    text.push('\n');
    for name in signed {
        text.push_str(name);
        text.push(':');
        if *name == HOST.as_str() {
            text.push_str(host);
        } else {
            let mut values = headers.get_all(*name).iter().peekable();
            if values.peek().is_none() {
                return Err(mismatch(format!(
                    "the SignedHeader '{name}' is not in the request"
                )));
            }
            for (i, value) in values.enumerate() {
                if i > 0 {
                    text.push(',');
                }
                let value = value
                    .to_str()
                    .map_err(|_| incomplete(format!("the header '{name}' is not ASCII text")))?;
                push_trimmed(&mut text, value);
            }
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed.join(";"));
    text.push('\n');
    text.push_str(payload_sha256_hex);
    Ok(sha256(text.as_bytes()))
}

/// White space around a value goes, runs of spaces within become one.
fn push_trimmed(text: &mut String, value: &str) {
    if !value.contains("  ") {
        text.push_str(value.trim());
        return;
    }
    for (i, word) in value.split(' ').filter(|w| !w.is_empty()).enumerate() {
        if i > 0 {
            text.push(' ');
        }
        text.push_str(word);
    }
}

/// "Create a string to sign".
fn string_to_sign(
    amz_date: &str,
    day: &str,
    region: &str,
    service: &str,
    canonical: &[u8; 32],
) -> String {
    let mut text = String::with_capacity(160);
    for part in [
        ALGORITHM,
        "\n",
        amz_date,
        "\n",
        day,
        "/",
        region,
        "/",
        service,
        "/aws4_request\n",
        &hex(canonical),
    ] {
        text.push_str(part);
    }
    text
}

/// "Derive a signing key".
fn signing_key(secret: &[u8], day: &str, region: &str, service: &str) -> Zeroizing<[u8; 32]> {
    let mut first = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret);
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, &first);
    let mut derived = Zeroizing::new([0; 32]);
    for part in [day, region, service, "aws4_request"] {
        derived.copy_from_slice(hmac::sign(&key, part.as_bytes()).as_ref());
        key = hmac::Key::new(hmac::HMAC_SHA256, &*derived);
    }
    derived
}

/// What a client signs with.
#[derive(Debug)]
pub struct Signer<'a> {
    /// `AKIA…` or `ASIA…`
    pub access_key_id: &'a str,
    /// The secret of that key.
    pub secret_access_key: &'a [u8],
    /// Of a temporary credential.
    pub session_token: Option<&'a str>,
    /// The scope's region.
    pub region: &'a str,
    /// The scope's service.
    pub service: &'a str,
}

impl Signer<'_> {
    /// Puts `x-amz-date`, `x-amz-security-token` and `authorization` on a request; signs the host,
    /// the content type if there is one, and everything in `x-amz-`.
    ///
    /// # Errors
    /// When the path or a header cannot be signed.
    pub fn sign(
        &self,
        method: &str,
        path: &str,
        host: &str,
        headers: &mut HeaderMap,
        payload_sha256: &[u8; 32],
        now: Timestamp,
    ) -> Result<(), SigError> {
        let value = |text: &str| {
            http::HeaderValue::from_str(text)
                .map_err(|_| incomplete("a value is not fit for a header"))
        };
        let amz_date = now.to_amz();
        headers.insert(X_AMZ_DATE, value(&amz_date)?);
        if let Some(token) = self.session_token {
            let mut token = value(token)?;
            token.set_sensitive(true);
            headers.insert(X_AMZ_SECURITY_TOKEN, token);
        }
        let mut names: Vec<String> = vec![HOST.as_str().to_owned()];
        let wanted = |n: &&HeaderName| {
            **n == CONTENT_TYPE
                || n.as_str().starts_with("x-amz-")
                || n.as_str().starts_with(OWN_HEADERS)
        };
        names.extend(headers.keys().filter(wanted).map(|n| n.as_str().to_owned()));
        names.sort();
        let signed: Vec<&str> = names.iter().map(String::as_str).collect();
        let day = amz_date.get(..8).unwrap_or_default();
        let canonical = canonical_request(
            method,
            path,
            &[],
            headers,
            host,
            &signed,
            &hex(payload_sha256),
        )?;
        let key = signing_key(self.secret_access_key, day, self.region, self.service);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*key);
        let text = string_to_sign(&amz_date, day, self.region, self.service, &canonical);
        let signature = hex(hmac::sign(&key, text.as_bytes()).as_ref());
        let header = format!(
            "{ALGORITHM} Credential={}/{day}/{}/{}/aws4_request, SignedHeaders={}, Signature={signature}",
            self.access_key_id,
            self.region,
            self.service,
            signed.join(";")
        );
        headers.insert(AUTHORIZATION, value(&header)?);
        Ok(())
    }
}

/// The value of a header that may stand at most once.
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

fn unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~".contains(&b)
}

fn encode(text: &str) -> String {
    const SET: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(text, &SET).to_string()
}

fn lower_hex(text: &str) -> Option<[u8; 32]> {
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

fn incomplete(text: impl Into<String>) -> SigError {
    SigError::Incomplete(text.into())
}

fn mismatch(text: impl Into<String>) -> SigError {
    SigError::Mismatch(text.into())
}

#[cfg(test)]
mod tests;
