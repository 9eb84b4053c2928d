//! Actions for an account's administrators to list, describe and revoke sessions, and to list and end
//! sign-ins of people, one file each.
//! AWS has no such actions.

pub mod describe_session;
pub mod end_sign_in;
pub mod list_sessions;
pub mod list_sign_ins;
pub mod preview_revocation;
pub mod revoke_sessions;
pub mod session_view;
