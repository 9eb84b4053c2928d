//! The actions for programs that accept or hand out sessions, named as the gRPC service names them.

pub mod authorize;
pub mod keys;
pub mod subject;
pub mod verify_request;
pub mod verify_string_to_sign;
pub mod watch_revocations;
