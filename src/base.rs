//! The words that everything else is written in: names and ARNs that were checked when they were
//! read, secrets, the clock, randomness, digests. No input or output.

pub mod arn;
pub mod clock;
pub mod digest;
pub mod entropy;
pub mod field;
pub mod form;
pub mod host_names;
pub mod http;
pub mod legible;
pub mod names;
pub mod secret;
