//! Brevet, a self-hosted broker of temporary credentials that speaks AWS STS and gRPC.
//!
//! It says one sentence to its callers: *you are who you say, you may act as this role for a while,
//! here is the key, and it is written down.* The code reads in that order:
//!
//! ```text
//!  gRPC  ─► grpc  ─┐                                             ┌─ mfa        a code ─► a proof
//!  Query ─► query ─┼─► ops::serve ─► authn ─► ops/{sts,iam,admin} ┼─ trust      role + caller + facts ─► Grant   (asks evaluator)
//!  OAuth ─► oauth ─┘        │                                    ├─ mint       Grant ─► keys + session token
//!                           └─► audit ─► answer                  └─ sessions   the session is on record
//! ```
//!
//! A change goes the other way: [`commands`] checks it, [`store`] writes it with its number in the
//! feed, and every broker takes it from there into [`revocations`] and a new [`directory`] snapshot.
//!
//! The modules stand in five bands. Each uses its own band and those above it only, and but for a few
//! known circles no module comes back to itself by way of others than its own children; a test sees
//! to both.
//!
//! Words, which everything else is written in:
//! - [`base`]: names and ARNs that were checked when they were read, secrets, clock, randomness, digests
//!
//! Rules, which are pure:
//! - [`evaluator`]: a request and the policies in force to a decision; knows no role and no store
//! - [`proof`]: foreign bytes and keys to verified claims; knows no clock and no network
//! - [`session`]: keyring, session tokens, how long a session may live and how much it may carry
//!
//! State, which decides nothing:
//! - [`admission`]: who is served when there is not enough for everybody
//! - [`audit`]: one line for each call, on stable storage before a credential leaves
//! - [`budgets`]: how much a principal, an account and a source address may ask for
//! - [`clock_mark`]: the highest time that this node has seen
//! - [`directory`]: accounts, users, roles, policies and providers as one immutable snapshot
//! - [`error`]: one variant for each answer that a caller can act on; knows no status code
//! - [`feed`]: how much of the store's changes is in force here
//! - [`files`], [`keyring_file`]: files that hold secrets, read and written whole or not at all
//! - [`master_key`]: what long-term secrets are sealed with
//! - [`metrics`]: what monitoring reads
//! - [`revocations`]: what was revoked, ready to be asked by every call
//! - [`sessions`]: records of live sessions, in memory or in Redis; they decide nothing
//! - [`single_use`]: signatures that brought something already
//! - [`store`]: what must not be lost, in SQL
//!
//! Flow, which may wait, and knows no wire format:
//! - [`broker`]: the toolbox that every operation shares
//! - [`origin`]: where a request came from
//! - [`authn`]: evidence to a caller, one kind of proof a file
//! - [`caller`]: who calls, once that is proven
//! - [`tokens`]: session tokens that were opened, remembered
//! - [`lineage`]: whom a session comes from, and what a revocation of any of them ends
//! - [`federation`]: whom a provider outside vouches for
//! - [`mfa`]: a device and its code to a proof, and the code is spent
//! - [`trust`]: role, caller and facts to a [`trust::Grant`]
//! - [`mint`]: a grant to credentials; knows no policy
//! - [`authorization_message`]: a refusal, sealed for those who may know why
//! - [`commands`]: the one door for changes of the directory
//! - [`directory_file`]: a directory that is a file, and what ends when something goes from it
//! - [`follow`]: the change feed to revocations and a new snapshot on every broker
//! - [`upkeep`]: the store is checked and swept beside the calls
//! - [`ops`]: the door for calls, and one file for each action
//!
//! Faces, which know a wire or an operator and hold no rule: see each.

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

// Rules and faces for other programs as well: a feature each, with nothing of the broker.
#[cfg(feature = "client")]
pub mod api;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "evaluator")]
pub mod evaluator;
#[cfg(feature = "client")]
pub mod proof;

#[cfg(feature = "broker")]
mod cli;
#[cfg(feature = "broker")]
pub use cli::main;

/// What the broker is made of: private, so that the compiler finds what nothing uses. The tests of this
/// package see it by the feature `internals`.
#[cfg(feature = "broker")]
#[path = ""]
mod parts {
    // Rules: pure; bytes, keys and `now` in, a verdict out.
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
    pub mod directory_file;
    pub mod federation;
    pub mod follow;
    pub mod lineage;
    pub mod mfa;
    pub mod mint;
    pub mod ops;
    pub mod origin;
    pub mod tokens;
    pub mod trust;
    pub mod upkeep;

    // Faces: know a wire or an operator; hold no rule.
    pub mod config;
    pub mod grpc;
    pub mod oauth;
    pub mod query;
    pub mod request_body;
    pub mod routes;
    pub mod server;
    pub mod tls;
}
#[cfg(all(feature = "broker", not(feature = "internals")))]
use parts::*;
#[cfg(feature = "internals")]
pub use parts::*;
