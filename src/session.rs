//! Sessions: the keys that sign them, the content of their tokens, their duration, and the size of
//! their policies and tags.

pub mod batch;
pub mod durations;
pub mod envelope;
pub mod key_state;
pub mod keyring;
pub mod lifted_claims;
pub mod merkle;
pub mod packing;
pub mod policies;
pub mod signing_key;
pub mod token;
