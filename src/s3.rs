//! The API of Amazon S3, as far as the head of a request shows it: the operation, the bucket and the object, the
//! permissions that they need, and the signature of the same request for the store. This module has pure rules: it
//! reads no network and no directory, and awaits nothing.
//!
//! A request that the broker and the store could understand in two different ways is refused. A path and a query are
//! never normalised: the store gets them as the client sent them.

pub mod actions;
mod canonical;
mod copy_source;
pub mod cors;
mod delete_objects;
mod head;
mod key;
mod operations;
mod payload;
mod refusal;
mod route;
mod sign;
mod store;
mod tagging;

#[cfg(any(test, feature = "internals"))]
pub use copy_source::CopySource;
pub use head::Head;
#[cfg(any(test, feature = "internals"))]
pub use key::ObjectKey;
#[cfg(any(test, feature = "internals"))]
pub use operations::Operation;
pub use payload::Payload;
pub use refusal::{Code, S3Refusal};
pub use route::{Routed, decoded, route};
pub use sign::{SignedForStore, sign};
pub use store::{Bucket, DataEvents, S3Store, StoreKey, StoreRules, Style};

#[cfg(test)]
mod tests;
