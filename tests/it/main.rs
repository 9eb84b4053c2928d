//! Black-box tests: the real daemon over real sockets, a clock that is moved and never waited for,
//! a real redis-server, and the built executable. Tests of the security cases carry their ID.

mod audit;
mod audit_chain;
mod authentication;
mod authorization;
mod binary;
mod cases;
mod clock;
mod condition_keys;
mod data_perimeter;
mod emergency;
mod endings;
mod federation;
mod floods;
mod front;
mod harness;
mod http2;
mod integrity;
mod legible;
mod lines_out;
mod mfa;
mod mistakes;
mod overload;
#[cfg(feature = "failpoints")]
mod panics;
mod parity;
mod policy;
mod postgres;
mod redis;
mod reference;
mod reload;
mod revocation;
mod rotation;
mod routes;
mod second_factor;
mod shutdown;
mod single_use;
mod store;
mod tokens;
mod transport;
mod trust;
mod waiting;
