//! Brevet, a self-hosted broker of temporary credentials that speaks AWS STS and gRPC.
//!
//! It says one sentence to its callers: *you are who you say, you may act as this role for a while, here is the key,
//! and it is written down.* The code reads in that order:
//!
//! ```text
//!  gRPC  ─► grpc  ─┐                                             ┌─ mfa        a code ─► a proof
//!  Query ─► query ─┼─► ops::serve ─► authn ─► ops/{sts,iam,admin} ┼─ trust      role + caller + facts ─► Grant   (asks evaluator)
//!  OAuth ─► oauth ─┘        │                                    ├─ mint       Grant ─► keys + session token
//!                           └─► audit ─► answer                  └─ sessions   the session is on record
//! ```
//!
//! A change goes the other way: [`commands`] checks it, [`store`] writes it with its number in the feed, and every
//! broker takes it from there into [`revocations`] and a new [`directory`] snapshot.
//!
//! The modules are in five bands. A module uses only modules of its own band and of the bands above it, and modules do
//! not depend on each other in a circle, except a module and its children. A test checks both.
//!
//! Words, the types that all other modules use:
//! - [`base`]: names and ARNs that are checked when they are parsed, secrets, clock, randomness, digests
//!
//! Rules, which are pure functions:
//! - [`evaluator`]: decides a request by the policies in force; reads no clock and no store
//! - [`proof`]: verifies signatures, tokens and assertions, and returns their claims; knows no clock and no network
//! - [`key_ages`]: how old and how long unused an access key may become
//! - [`password`]: hashes of passwords, and the rules of password policies
//! - [`s3`]: requests to object stores: the action and the resource of each, and how it is signed
//! - [`session`]: the keyring, session tokens, and the limits of a session's duration and size
//!
//! State, which makes no decisions:
//! - [`admission`]: which calls are served if there is not enough capacity for all
//! - [`audit`]: one line for each call, on stable storage before a credential is returned
//! - [`budgets`]: how many calls and sessions a principal, an account and a source address may have
//! - [`clock_mark`]: the highest time that this node has seen
//! - [`directory`]: accounts, users, roles, policies and providers as one immutable snapshot
//! - [`error`]: one variant for each answer that a caller can act on; knows no status code
//! - [`feed`]: which change of the store's change feed is the last in force on this node
//! - [`files`], [`keyring_file`]: files with secrets, which are read and written completely or not at all
//! - [`hashing`]: computes the hashes of passwords, a bounded number at once
//! - [`master_key`]: the key that seals long-term secrets
//! - [`metrics`]: the values for monitoring
//! - [`revocations`]: what has been revoked, ready for lookup by every call
//! - [`sessions`]: records of live sessions, in memory or in Redis, on which no decision depends
//! - [`sign_ins`]: how people may sign in, and the device flows that are open on this node
//! - [`single_use`]: signatures that were used for calls for which a signature is accepted only once
//! - [`store`]: everything that must not be lost, in SQL
//! - [`watches`]: how many streams of revocations are open
//!
//! Flow, which may wait and knows no wire format:
//! - [`broker`]: the state that all operations share
//! - [`origin`]: where a request came from
//! - [`administrators`]: the principals that can administer the directory
//! - [`authn`]: authenticates a caller, with one file for each kind of proof
//! - [`unproven`]: why a caller could not be authenticated
//! - [`caller`]: the authenticated caller
//! - [`tokens`]: a cache of opened session tokens
//! - [`lineage`]: the principals behind a session, each of which can be revoked
//! - [`login`]: checks the password of a user
//! - [`federation`]: identities for which an external provider vouches
//! - [`signed_in`]: a person who signed in
//! - [`mfa`]: checks the code of an MFA device, and records that it was used
//! - [`trust`]: decides whether a caller may assume a role, and makes a [`trust::Grant`]
//! - [`mint`]: makes credentials from a grant; knows no policies
//! - [`authorization_message`]: the reason of a refusal, sealed for those who may know it
//! - [`commands`]: the only way to change the directory
//! - [`directory_file`]: a directory that is managed in a file, and the sessions that end when an entry is removed
//! - [`follow`]: follows the change feed, and puts revocations and new snapshots in force
//! - [`upkeep`]: checks and sweeps the store in the background
//! - [`ops`]: runs every call, with one file for each action
//! - [`upstream`]: signs people in at an identity provider of the directory
//! - [`sign_in`]: begins and ends sign-ins of people, and gives tokens and credentials to the programs that they use
//!
//! The [`agent`] is a program of its own, which runs on the machines of workloads and gives them credentials. It uses
//! [`client`], and shares [`files`], [`log`], [`process`] and [`service_manager`] with the broker.
//!
//! Faces are the interfaces to callers and operators. Each has a wire format or a command line, and no rules; see the
//! documentation of each module.

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

// Rules and faces that other programs can use as well: one feature each, without the broker.
#[cfg(feature = "client")]
pub mod api;
#[cfg(feature = "client")]
#[warn(missing_docs)]
pub mod client;
#[cfg(feature = "evaluator")]
#[warn(missing_docs)]
pub mod evaluator;
#[cfg(feature = "client")]
pub mod proof;

#[cfg(feature = "broker")]
mod cli;
#[cfg(feature = "broker")]
pub use cli::main;
#[cfg(feature = "agent")]
pub use command_line::agent_main;

/// The agent, and the modules that it shares with the broker. These modules use [`client`] and no module of the
/// broker.
#[cfg(feature = "agent")]
#[path = ""]
mod of_the_agent {
    // State: in terms of words and rules; makes no decisions.
    #[cfg_attr(
        not(feature = "broker"),
        allow(
            dead_code,
            unused_imports,
            reason = "some items of this module are used by the broker but not by the agent"
        )
    )]
    pub mod files;

    // Faces: know a wire format or an operator; have no rules.
    pub mod agent;
    #[cfg_attr(
        not(feature = "broker"),
        allow(
            dead_code,
            reason = "some items of this module are used by the broker but not by the agent"
        )
    )]
    pub mod command_line;
    pub mod log;
    pub mod process;
    #[cfg_attr(
        not(feature = "broker"),
        allow(
            dead_code,
            reason = "some items of this module are used by the broker but not by the agent"
        )
    )]
    pub mod service_manager;
}
#[cfg(all(feature = "agent", not(feature = "internals")))]
use of_the_agent::*;
#[cfg(feature = "internals")]
pub use of_the_agent::*;

/// The parts of the broker. They are private, so that the compiler finds unused code. The tests of
/// this package access them through the feature `internals`.
#[cfg(feature = "broker")]
#[path = ""]
mod parts {
    // Rules: pure; bytes, keys and `now` in, a verdict out.
    pub mod key_ages;
    pub mod password;
    pub mod s3;
    pub mod session;

    // State: in terms of words and rules; makes no decisions.
    pub mod admission;
    pub mod audit;
    pub mod budgets;
    pub mod clock_mark;
    pub mod directory;
    pub mod error;
    pub mod feed;
    pub mod hashing;
    pub mod keyring_file;
    pub mod master_key;
    pub mod metrics;
    pub mod revocations;
    pub mod sessions;
    pub mod sign_ins;
    pub mod single_use;
    pub mod store;
    pub mod watches;

    // Flow: may await; knows rules and state, but no wire format.
    pub mod administrators;
    pub mod authn;
    pub mod authorization_message;
    pub mod broker;
    pub mod caller;
    pub mod commands;
    pub mod directory_file;
    pub mod federation;
    pub mod follow;
    pub mod lineage;
    pub mod login;
    pub mod mfa;
    pub mod mint;
    pub mod ops;
    pub mod origin;
    pub mod sign_in;
    pub mod signed_in;
    pub mod tokens;
    pub mod trust;
    pub mod unproven;
    pub mod upkeep;
    pub mod upstream;

    // Faces: know a wire format or an operator; have no rules.
    pub mod authzen;
    pub mod config;
    pub mod grpc;
    pub mod keystone;
    pub mod oauth;
    pub mod portal;
    pub mod query;
    pub mod request_body;
    pub mod routes;
    pub mod s3_proxy;
    pub mod s3_signer;
    pub mod server;
    pub mod sso;
    pub mod tls;
}
#[cfg(all(feature = "broker", not(feature = "internals")))]
use parts::*;
#[cfg(feature = "internals")]
pub use parts::*;
