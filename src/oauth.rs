//! The OAuth 2.0 and OpenID Connect face: token exchange, client credentials, the flows of sign-ins, and the
//! broker's documents as an OpenID provider.
//! Holds no rule.

mod answer;
mod client_credentials;
mod fault;
pub mod sign_in;
pub mod token;
pub mod well_known;
