//! OAuth 2.0 and OpenID Connect over HTTP: forms and JSON, both ways. Holds no rule.

mod fault;
pub mod token;
pub mod well_known;
