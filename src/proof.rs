//! Verifies proofs of identity: signatures, tokens, assertions and certificates. The input is
//! untrusted bytes and keys, and the output verified claims. Nothing here uses a clock, the network
//! or the directory.

#[cfg(feature = "broker")]
pub mod certificate;
#[cfg(feature = "broker")]
pub mod jwt;
#[cfg(feature = "broker")]
pub mod saml;
pub mod sigv4;
