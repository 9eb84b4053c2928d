//! Foreign bytes and keys in, verified claims out: no clock, no network, nothing of the directory.

#[cfg(feature = "broker")]
pub mod certificate;
#[cfg(feature = "broker")]
pub mod jwt;
#[cfg(feature = "broker")]
pub mod saml;
pub mod sigv4;
