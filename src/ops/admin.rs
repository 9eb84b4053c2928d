//! Actions for an account's administrators to list, describe and revoke sessions, one file each.
//! AWS has no such actions.

pub mod describe_session;
pub mod list_sessions;
pub mod preview_revocation;
pub mod revoke_sessions;
pub mod session_view;
