//! The parsed signature of a request, and its verification.

pub(super) mod read;
pub(super) mod s3;
mod string;

use ring::hmac;

use super::canonical::{signing_key, string_to_sign};
use super::{MAX_SKEW, Rules, SigError, mismatch};
use crate::base::clock::Timestamp;

/// The signature of a request, parsed but not verified yet.
#[derive(Clone)]
pub struct Presented {
    texts: Texts,
    signed_at: Timestamp,
    /// Whether the signature is in the query of a presigned URL.
    presigned: bool,
    canonical_request_sha256: [u8; 32],
    signature: [u8; 32],
}

/// The texts that a signature contains or covers, from which [`Presented`] is made.
struct Sent<'a> {
    access_key_id: &'a str,
    /// The session token, which is not empty; `None` for a long-term key.
    session_token: Option<&'a str>,
    region: &'a str,
    service: &'a str,
    amz_date: &'a str,
    /// The signed `host` as the client sent it: the server that the client meant to call.
    host: &'a str,
    /// The names of the signed headers, separated by semicolons.
    signed_headers: &'a str,
}

/// The texts of [`Sent`] one after the other, in one allocation.
#[derive(Clone)]
struct Texts {
    all: Box<str>,
    /// The end of each text in `all`, in the order of [`Text`].
    ends: [usize; 7],
}

#[derive(Clone, Copy)]
enum Text {
    AccessKeyId,
    SessionToken,
    Region,
    Service,
    AmzDate,
    Host,
    SignedHeaders,
}

impl Texts {
    fn new(sent: &Sent<'_>) -> Self {
        let texts = [
            sent.access_key_id,
            sent.session_token.unwrap_or_default(),
            sent.region,
            sent.service,
            sent.amz_date,
            sent.host,
            sent.signed_headers,
        ];
        let mut all = String::with_capacity(texts.iter().map(|text| text.len()).sum());
        let ends = texts.map(|text| {
            all.push_str(text);
            all.len()
        });
        Self {
            all: all.into(),
            ends,
        }
    }

    fn get(&self, text: Text) -> &str {
        let at = text as usize;
        let end = |at: usize| self.ends.get(at).copied();
        let start = at.checked_sub(1).and_then(end).unwrap_or_default();
        let text = end(at).and_then(|end| self.all.get(start..end));
        text.unwrap_or_default()
    }
}

impl Presented {
    fn new(
        sent: &Sent<'_>,
        signed_at: Timestamp,
        presigned: bool,
        canonical_request_sha256: [u8; 32],
        signature: [u8; 32],
    ) -> Self {
        Self {
            texts: Texts::new(sent),
            signed_at,
            presigned,
            canonical_request_sha256,
            signature,
        }
    }

    /// The id of the access key that the signature names. It must not be relied on before
    /// [`Self::verify`].
    pub fn unverified_access_key_id(&self) -> &str {
        self.texts.get(Text::AccessKeyId)
    }

    /// The region in the signature's scope. It must not be relied on before [`Self::verify`].
    pub fn unverified_region(&self) -> &str {
        self.texts.get(Text::Region)
    }

    /// The session token that the request contains; `None` for a long-term key. It must not be
    /// relied on before [`Self::verify`].
    pub fn unverified_session_token(&self) -> Option<&str> {
        let token = self.texts.get(Text::SessionToken);
        (!token.is_empty()).then_some(token)
    }

    /// The signed `host` with its port if it has one: the server that the client meant to call. It
    /// must not be relied on before [`Self::verify`].
    pub fn unverified_host(&self) -> &str {
        self.texts.get(Text::Host)
    }

    /// The time at which the request claims to have been signed. It must not be relied on before
    /// [`Self::verify`].
    pub fn unverified_date(&self) -> Timestamp {
        self.signed_at
    }

    /// The first 16 bytes of the signature, an HMAC-SHA256. They identify a verified signature, but
    /// are not enough to send the request again.
    pub fn digest(&self) -> [u8; 16] {
        let [digest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.signature;
        digest
    }

    /// Whether the signature covers the header with this name, which must be in lower case.
    pub fn signs(&self, name: &str) -> bool {
        let mut signed = self.texts.get(Text::SignedHeaders).split(';');
        signed.any(|signed| signed == name)
    }

    /// Whether the signature is in the query of a presigned URL, which anybody can use who gets it.
    pub fn is_presigned(&self) -> bool {
        self.presigned
    }

    /// Checks the scope and the date of the signature, which needs no key. The scope must name the
    /// service `service`. For IAM, the region `us-east-1` is always accepted.
    ///
    /// # Errors
    /// [`SigError::Mismatch`] if the scope is wrong, and [`SigError::Expired`] if the date is out
    /// of range.
    pub fn check_scope(
        &self,
        now: Timestamp,
        rules: &Rules,
        service: &str,
    ) -> Result<(), SigError> {
        let (_, region, of_service) = self.scope();
        if of_service != service {
            return Err(mismatch(format!(
                "Credential should be scoped to correct service: '{service}'."
            )));
        }
        let global = service == "iam" && region == "us-east-1";
        if !global && !rules.takes_region(region) {
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
                self.texts.get(Text::AmzDate),
                now.plus(rules.skew).to_amz(),
                now.to_amz(),
                rules.skew.as_secs()
            )));
        }
        let last = self.signed_at.plus(good_for);
        if now > last {
            return Err(SigError::Expired(format!(
                "Signature expired: {} is now earlier than {} ({} - {} s.)",
                self.texts.get(Text::AmzDate),
                now.minus(good_for).to_amz(),
                now.to_amz(),
                good_for.as_secs()
            )));
        }
        Ok(())
    }

    /// Verifies the signature with a secret key. The comparison takes constant time.
    ///
    /// # Errors
    /// [`SigError::Mismatch`] if the signature was not made with this secret.
    pub fn verify(&self, secret_access_key: &[u8]) -> Result<(), SigError> {
        let (day, region, service) = self.scope();
        self.verify_by(&hmac::Key::new(
            hmac::HMAC_SHA256,
            &*signing_key(secret_access_key, day, region, service),
        ))
    }

    /// The day, region and service for which the signature is valid.
    pub(super) fn scope(&self) -> (&str, &str, &str) {
        (
            self.texts.get(Text::AmzDate).get(..8).unwrap_or_default(),
            self.unverified_region(),
            self.texts.get(Text::Service),
        )
    }

    /// Verifies the signature with a signing key that was derived for [`Self::scope`].
    pub(super) fn verify_by(&self, key: &hmac::Key) -> Result<(), SigError> {
        let (day, region, service) = self.scope();
        let text = string_to_sign(
            self.texts.get(Text::AmzDate),
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
