//! AWS Signature Version 4: reads the signature of a request and verifies it.
//!
//! This module works on methods, paths, headers and bytes, and does not depend on an HTTP server, a
//! key store or a clock. The rules are in the IAM User Guide, "AWS Signature Version 4 for API
//! requests". Every part of a request that the broker acts on is protected: the signature covers
//! the host, the security token and the broker's own headers, the date is part of the string to
//! sign, and the payload is compared by its hash. None of these may occur twice. Other headers may
//! be unsigned, since AWS's own SDKs leave some unsigned.

mod canonical;
mod presented;
pub mod s3;
mod signer;
mod signing_secret;

use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderName;

pub use presented::Presented;
pub use presented::read::Announced;
pub use presented::s3::{S3Presented, S3SigError};
pub use signer::Signer;
pub use signing_secret::SigningSecret;

pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The maximum difference between a request's date and the server's clock, which is the same as in
/// AWS. A presigned request is valid for this long after its date; the value of its `X-Amz-Expires`
/// is ignored.
pub const MAX_SKEW: Duration = Duration::from_secs(900);
/// The maximum length of a session token in bytes. Requests with a longer one are refused.
pub const MAX_TOKEN_BYTES: usize = 16_384;

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// The prefix of Brevet's own headers, which must be signed if they are present.
const OWN_HEADERS: &str = "x-brevet-";
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigError {
    /// The signature is missing a part, malformed or ambiguous.
    #[error("{0}")]
    Incomplete(String),
    /// The signature is complete, but was not made with this key for this request, has another scope, or leaves out a
    /// header that must be signed.
    #[error("{0}")]
    Mismatch(String),
    /// The request is too old, or dated in the future.
    #[error("{0}")]
    Expired(String),
}

/// A request as the server received it, before its signature is read.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    pub method: &'a str,
    /// The path as the client sent it, still percent-encoded.
    pub path: &'a str,
    /// The decoded query parameters in the order of the request.
    pub query: &'a [(String, String)],
    /// All headers of the request. The signature covers those that SignedHeaders names.
    pub headers: &'a HeaderMap,
    /// The server that the client called: the value of `Host` or `:authority`.
    pub host: &'a str,
    /// The SHA-256 of the payload: of the body in the Query API, and of the message's bytes in
    /// gRPC.
    pub payload_sha256: [u8; 32],
}

/// The encoding of a request's path in its canonical request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathForm {
    /// As the client sent it. All paths of the broker itself consist of unreserved characters; any
    /// other path is refused.
    Own,
    /// Each segment is percent-encoded once more, as for all AWS services but S3. Empty segments,
    /// `.` and `..` are refused, because servers resolve them differently.
    EncodedAgain,
}

/// The rules for signatures that the configuration sets.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The regions that a signature may name. [`ANY_REGION`] accepts all of them.
    pub regions: Vec<String>,
    /// The maximum difference between the request's date and the clock; at most [`MAX_SKEW`].
    pub skew: Duration,
    /// The STS actions that a presigned URL may call, besides GetCallerIdentity.
    pub presigned_actions: Vec<String>,
}

/// The entry of [`Rules::regions`] that accepts any region.
pub const ANY_REGION: &str = "*";

impl Rules {
    fn takes_region(&self, region: &str) -> bool {
        is_region(region) && self.regions.iter().any(|r| r == region || r == ANY_REGION)
    }
}

/// Returns whether a text is a valid region name: up to 64 lower-case letters, digits and hyphens.
pub fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Returns whether a query parameter belongs to the signature and not to the action: its name
/// begins with `X-Amz-`, in upper or lower case.
pub fn is_signers_parameter(name: &str) -> bool {
    name.get(..6)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-amz-"))
}

fn incomplete(text: impl Into<String>) -> SigError {
    SigError::Incomplete(text.into())
}

fn mismatch(text: impl Into<String>) -> SigError {
    SigError::Mismatch(text.into())
}

#[cfg(test)]
mod tests;
