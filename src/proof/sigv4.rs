//! AWS Signature Version 4: what a request presents, and whether the signature is right.
//!
//! Knows methods, paths, headers and bytes; knows no HTTP server, no key store and no clock.
//! Source: "AWS Signature Version 4 for API requests" (IAM User Guide). What the broker acts on is
//! signed (the host, the security token, its own headers), derived (the date is part of the string
//! to sign) or compared (the payload by its hash), and none of it may be duplicated. Headers that it
//! does not act on may be unsigned, as AWS's own SDKs leave some of them.

mod canonical;
mod presented;
mod signer;
mod signing_secret;

use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderName;

pub use presented::Presented;
pub use signer::Signer;
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
/// Headers that only this broker reads.
const OWN_HEADERS: &str = "x-brevet-";
/// Why a signature was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigError {
    /// Something is missing, malformed or duplicated.
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

fn incomplete(text: impl Into<String>) -> SigError {
    SigError::Incomplete(text.into())
}

fn mismatch(text: impl Into<String>) -> SigError {
    SigError::Mismatch(text.into())
}

#[cfg(test)]
mod tests;
