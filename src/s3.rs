//! The API of Amazon S3, as far as the head of a request shows it: which operation is asked for, on
//! which bucket and object, which permissions it needs, and how the same request is signed for the
//! store. Pure rules: no network, no directory, nothing awaited.
//!
//! A request is refused wherever two readers could understand it in two ways, since the store is the
//! second reader. A path and a query are never normalised: the store gets them as the client sent them.

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
