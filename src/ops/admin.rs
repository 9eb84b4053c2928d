//! What an account's administrators do about sessions: one file an action. AWS has no such actions.

pub mod describe_session;
pub mod list_sessions;
pub mod preview_revocation;
pub mod revoke_sessions;
pub mod session_view;
