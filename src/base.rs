//! The basic types that all other modules use: names and ARNs that are checked when they are parsed, secrets, the
//! clock, randomness and digests. They open no file and no socket.

pub mod arn;
pub mod clock;
pub mod digest;
pub mod entropy;
pub mod field;
pub mod form;
pub mod hashed;
pub mod host_names;
pub mod http;
pub mod legible;
pub mod names;
pub mod secret;
pub mod strict_json;
