//! Requests to object stores: whether they are allowed, and their signature for the store.

pub mod decide;
pub(super) mod refused;
mod seen;
