//! Brevet, a self-hosted broker of temporary credentials that speaks AWS STS and gRPC.
//!
//! It says one sentence to its callers: *you are who you say, you may act as this role for a while,
//! here is the key, and it is written down.* The code reads in that order:
//!
//! ```text
//!  gRPC  ─► grpc.rs  ─┐                                        ┌─ trust     role + caller + facts ─► Grant   (asks evaluator)
//!                     ├─► ops::serve ─► authn ─► ops/<one>.rs ─┼─ mint      Grant ─► keys + session token
//!  Query ─► query.rs ─┘        │                               └─ sessions  the session is on record
//!                              └─► audit ─► answer
//! ```
//!
//! A change goes the other way: [`commands`] checks it, [`store`] writes it with its number in the
//! feed, and every broker takes it from there into [`revocations`] and a new [`directory`] snapshot.
//!
//! The modules stand in five bands, and each uses its own band and those above it alone (a test
//! sees to that).

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

// Words: std and serde; no IO.
pub mod base;

// Rules: pure; bytes, keys and `now` in, a verdict out.
pub mod evaluator;
pub mod proof;
pub mod session;

// State: speaks words and rules outward; decides nothing.
pub mod admission;
pub mod audit;
pub mod budgets;
pub mod clock_mark;
pub mod directory;
pub mod error;
pub mod feed;
pub mod files;
pub mod keyring_file;
pub mod master_key;
pub mod metrics;
pub mod providers;
pub mod revocations;
pub mod sessions;
pub mod single_use;
pub mod store;

// Flow: may await; knows rules and state, never a wire format.
pub mod authn;
pub mod authorization_message;
pub mod broker;
pub mod caller;
pub mod commands;
pub mod federation;
pub mod lineage;
pub mod mfa;
pub mod mint;
pub mod ops;
pub mod origin;
pub mod tokens;
pub mod trust;

// Faces: know a wire or an operator; hold no rule.
pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod grpc;
pub mod oauth;
pub mod query;
pub mod request_body;
pub mod routes;
pub mod server;
pub mod tls;
