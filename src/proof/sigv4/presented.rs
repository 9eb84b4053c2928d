//! The proof that a request presents: what it says, and whether it is right.

pub(super) mod read;

use ring::hmac;

use super::canonical::{signing_key, string_to_sign};
use super::{MAX_SKEW, Rules, SigError, mismatch};
use crate::base::clock::Timestamp;
use crate::base::digest::sha256;

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

impl Presented {
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
    pub(super) fn scope(&self) -> (&str, &str, &str) {
        (
            self.amz_date.get(..8).unwrap_or_default(),
            &self.region,
            &self.service,
        )
    }

    /// By a key that was derived for [`Self::scope`].
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
