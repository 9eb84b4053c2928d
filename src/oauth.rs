//! The OAuth 2.0 and OpenID Connect endpoints: token exchange, client credentials, sign-ins, and
//! the documents that the broker publishes as an OpenID provider. They only convert requests and
//! answers; the operations make all decisions.

mod answer;
mod client_credentials;
mod fault;
pub mod sign_in;
pub mod token;
pub mod well_known;
