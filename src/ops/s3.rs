//! Decisions on requests to object stores, and the signing of allowed requests for the store.

pub mod decide;
pub(super) mod refused;
mod seen;
