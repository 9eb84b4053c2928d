//! Strict verification of foreign JSON Web Tokens: RFC 7519, RFC 7515, RFC 7517, RFC 8725, OpenID Connect Core 1.0
//! section 3.1.3.7. This module works on bytes and keys; it does not use a clock, the network or the directory.
//!
//! A token does not choose how it is verified: the key comes from the provider, and the key determines which algorithms
//! are accepted. A token is parsed only once, so the parsed claims are those that were signed.

mod adapter;
mod claims;
mod key_set;
mod strict_json;
mod unverified;

pub use claims::{Flat, Rounded, Verified};
pub use key_set::{KeySet, MAX_KEY_SET_BYTES, VerifyingKey};
pub use unverified::{MAX_CHARACTERS, Unverified};

/// The maximum length in bytes of a key id in a token's header.
const MAX_KEY_ID: usize = 512;

/// The reasons for refusing a token. They are detailed only where a caller can act on the detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is not three parts of strict base64url with strict JSON in the first two, is too long, or has control
    /// characters in its claims.
    #[error("the token does not have the form of a JWT")]
    Malformed,
    /// A field of the header is missing or has a value that is not accepted, or must not be there at all.
    #[error("the field `{field}` of the token's header {fault}")]
    Header {
        field: &'static str,
        /// What is wrong with the field, as the end of a sentence about it.
        fault: &'static str,
    },
    /// The signature was not made with the key, or there is no suitable key.
    #[error("the token's signature is not valid")]
    Signature,
}

#[cfg(test)]
mod tests;
