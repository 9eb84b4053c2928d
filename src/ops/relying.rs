//! The actions for programs that accept sessions or give them to others, named as in the gRPC
//! service, and those for gateways to object stores.

pub mod authorize;
pub mod derive_signing_key;
pub mod evaluate_policy;
pub mod keys;
pub mod resolve_identity;
pub mod subject;
pub mod verify_request;
pub mod verify_string_to_sign;
pub mod watch_revocations;
