//! The actions of the Security Token Service. Each has a file of its own with AWS's name.

pub mod assume_role;
pub mod assume_role_for_workload;
pub mod assume_role_with_saml;
pub mod assume_role_with_web_identity;
pub mod decode_authorization_message;
pub mod federated_session;
pub mod get_access_key_info;
pub mod get_caller_identity;
pub mod get_federation_token;
pub mod get_scoped_credentials;
pub mod get_session_token;
pub mod get_web_identity_token;
pub mod seen;
mod session_input;
