//! The actions for programs that accept or hand out sessions. AWS has no such actions.

pub mod watch_revocations;
