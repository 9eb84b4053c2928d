//! The actions for programs that accept or hand out sessions, named as their protocols name them.

pub mod authorize;
pub mod derive_signing_key;
pub mod evaluate_policy;
pub mod keys;
pub mod resolve_identity;
pub mod subject;
pub mod verify_request;
pub mod verify_string_to_sign;
pub mod watch_revocations;
