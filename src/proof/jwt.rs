//! JSON Web Tokens of others, strictly: RFC 7519, RFC 7515, RFC 7517, RFC 8725, OpenID Connect Core
//! 1.0 section 3.1.3.7. Knows bytes and keys; no clock, no network, no provider.
//!
//! Nothing is decided by what a token says of itself: the key is the provider's own, and the
//! algorithm is the key's. A signature is checked over the bytes that are then read, once.

mod adapter;
mod claims;
mod key_set;
mod strict_json;
mod unverified;

pub use claims::{Flat, Rounded, Verified};
pub use key_set::{Key, KeySet, MAX_KEY_SET_BYTES};
pub use unverified::{MAX_CHARACTERS, Unverified};

/// The longest key id.
const MAX_KEY_ID: usize = 512;

/// Why a token is no token. One word for every reason but those that a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of strict base64url with strict JSON in the first two.
    #[error("the token is malformed")]
    Malformed,
    /// A header that asks for something that is not done here, or an algorithm that is not taken.
    #[error("the token's header is not accepted")]
    Header,
    /// The key did not make the signature.
    #[error("the token's signature is not good")]
    Signature,
}

#[cfg(test)]
mod tests;
