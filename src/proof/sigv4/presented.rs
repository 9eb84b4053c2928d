//! The signature of a request as it was read, and its verification.

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
    access_key_id: String,
    session_token: Option<String>,
    region: String,
    service: String,
    signed_at: Timestamp,
    amz_date: String,
    /// The `host` that was signed, as it was sent: the server that the client meant to call.
    host: String,
    /// Whether the signature is in the query.
    presigned: bool,
    /// The names of the signed headers, separated by semicolons.
    signed_headers: Box<str>,
    canonical_request_sha256: [u8; 32],
    signature: [u8; 32],
}

impl Presented {
    /// The id of the access key that the caller claims to have. It must not be relied on before
    /// [`Self::verify`].
    pub fn unverified_access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The region in the signature's scope. It must not be relied on before [`Self::verify`].
    pub fn unverified_region(&self) -> &str {
        &self.region
    }

    /// The session token that was sent with the signature, if any.
    pub fn unverified_session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// The `host` that was signed, with its port if it has one: the server that the client meant to
    /// call.
    pub fn unverified_host(&self) -> &str {
        &self.host
    }

    /// When the request claims to have been signed. It must not be relied on before
    /// [`Self::verify`].
    pub fn unverified_date(&self) -> Timestamp {
        self.signed_at
    }

    /// The first 16 bytes of the signature, an HMAC-SHA256: enough to tell one that is verified from all
    /// others, and not enough to send it again.
    pub fn digest(&self) -> [u8; 16] {
        let [digest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.signature;
        digest
    }

    /// Whether the signature covers the header with this name, which must be in lower case.
    pub fn signs(&self, name: &str) -> bool {
        self.signed_headers.split(';').any(|signed| signed == name)
    }

    /// Whether the signature is in the query, so that anybody with the URL can use it.
    pub fn is_presigned(&self) -> bool {
        self.presigned
    }

    /// Checks what needs no key: the scope and the date. `service` is the service that must be
    /// named. For IAM, the region `us-east-1` is always accepted.
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

    /// Checks the signature itself in constant time.
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
            self.amz_date.get(..8).unwrap_or_default(),
            &self.region,
            &self.service,
        )
    }

    /// Checks the signature with a signing key that was derived for [`Self::scope`].
    pub(super) fn verify_by(&self, key: &hmac::Key) -> Result<(), SigError> {
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
