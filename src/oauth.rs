//! The OAuth 2.0 and OpenID Connect face: token exchange, and the broker's documents as an OpenID provider.
//! Holds no rule.

mod fault;
pub mod token;
pub mod well_known;
