//! Strict verification of foreign JSON Web Tokens: RFC 7519, RFC 7515, RFC 7517, RFC 8725, OpenID
//! Connect Core 1.0 section 3.1.3.7. It knows bytes and keys, but no clock, no network and no
//! provider.
//!
//! No decision relies on what a token says about itself: the key is the provider's own, and the key
//! determines the algorithm. The bytes whose signature was checked are parsed once.

mod adapter;
mod claims;
mod key_set;
mod strict_json;
mod unverified;

pub use claims::{Flat, Rounded, Verified};
pub use key_set::{KeySet, MAX_KEY_SET_BYTES, VerifyingKey};
pub use unverified::{MAX_CHARACTERS, Unverified};

/// The maximum length of a key id in bytes.
const MAX_KEY_ID: usize = 512;

/// Why a token was refused. The reasons are coarse, except where a caller can act on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is not three parts of strict base64url with strict JSON in the first two.
    #[error("the token is malformed")]
    Malformed,
    /// The header requires something that is not supported, or an algorithm that is not accepted.
    #[error("the token's header is not accepted")]
    Header,
    /// The key did not make the signature.
    #[error("the token's signature is not valid")]
    Signature,
}

#[cfg(test)]
mod tests;
