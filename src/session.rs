//! What a session is: the keys that sign it, what its token says, how long it may live, and how much
//! its policies and tags may take up.

pub mod durations;
pub mod envelope;
pub mod key_state;
pub mod keyring;
pub mod packing;
pub mod signing_key;
pub mod token;
