//! The actions for programs that accept sessions or give them to others, named as in the gRPC
//! service.

pub mod authorize;
pub mod keys;
pub mod subject;
pub mod verify_request;
pub mod verify_string_to_sign;
pub mod watch_revocations;
