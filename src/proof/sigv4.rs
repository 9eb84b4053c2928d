//! AWS Signature Version 4: reads the signature of a request and verifies it.
//!
//! It knows methods, paths, headers and bytes, but no HTTP server, no key store and no clock. The
//! rules are in the IAM User Guide, "AWS Signature Version 4 for API requests". Everything on which
//! the broker acts is signed (the host, the security token, its own headers), derived (the date is
//! part of the string to sign) or compared (the payload, by its hash), and must not be duplicated.
//! Headers on which it does not act may be unsigned, since AWS's own SDKs leave some unsigned.

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
/// How far the date of a request may be from the server's clock, which is AWS's own window. A
/// presigned request is valid for this long after its date, whatever its `X-Amz-Expires` says.
pub const MAX_SKEW: Duration = Duration::from_secs(900);
/// The maximum length of a session token in bytes.
pub const MAX_TOKEN_BYTES: usize = 16_384;

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// The prefix of headers that only Brevet uses.
const OWN_HEADERS: &str = "x-brevet-";
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigError {
    /// The signature is missing a part, malformed or ambiguous.
    #[error("{0}")]
    Incomplete(String),
    /// The signature is complete but wrong.
    #[error("{0}")]
    Mismatch(String),
    /// The request is too old, or dated in the future.
    #[error("{0}")]
    Expired(String),
}

/// A request as it was received.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    pub method: &'a str,
    /// The path as sent, still encoded.
    pub path: &'a str,
    /// The decoded parameters of the query in the order in which they were sent.
    pub query: &'a [(String, String)],
    /// All headers of the request, of which SignedHeaders names those that are covered.
    pub headers: &'a HeaderMap,
    /// The name by which the client called this server: `Host` or `:authority`.
    pub host: &'a str,
    /// The SHA-256 of the payload: of the body in the Query API, and of the message's bytes in
    /// gRPC.
    pub payload_sha256: [u8; 32],
}

/// How the path of a request appears in its canonical request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathForm {
    /// As it was sent. Every path of the broker itself consists of unreserved characters; any other is
    /// refused.
    Own,
    /// Each segment is encoded once more, as all services but S3 do it. Empty segments, `.` and `..` are
    /// refused, because not everybody understands them in the same way.
    EncodedAgain,
}

/// The configurable rules of a verifier.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The regions that a signature may name. If [`ANY_REGION`] is among them, all are accepted.
    pub regions: Vec<String>,
    /// How far the request's date may be off, at most [`MAX_SKEW`].
    pub skew: Duration,
    /// The STS actions that a presigned request may call, besides GetCallerIdentity.
    pub presigned_actions: Vec<String>,
}

/// The entry of [`Rules::regions`] that accepts any region.
pub const ANY_REGION: &str = "*";

impl Rules {
    fn takes_region(&self, region: &str) -> bool {
        is_region(region) && self.regions.iter().any(|r| r == region || r == ANY_REGION)
    }
}

/// Whether a text is a valid region name: up to 64 lower-case letters, digits and hyphens.
pub fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether a query parameter belongs to the signature and not to the action: its name begins with
/// `X-Amz-`, in any case.
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
