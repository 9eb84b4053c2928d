//! The agent: runs next to workloads, and serves the endpoints from which every AWS SDK gets credentials.
//!
//! A face (the instance metadata service, the container endpoint, the Unix socket) finds out which role a caller may
//! have, and asks [`handouts`] for a session of that role. [`handouts`] answers from memory, fetches from the broker
//! before a session is needed, and keeps the last good session through an outage. The agent uses the client, and knows
//! nothing about the broker.
//!
//! ```text
//!  SDK ─► listener ─► front ─► imds, container ─► handouts ─► source ─► client ─► the broker
//!                                    │                 ▲
//!                                    └─► audit         └── watch: what was revoked is dropped
//! ```

mod audit;
mod cache;
mod commands;
pub mod config;
mod connections;
mod container;
mod front;
mod handouts;
mod hosts;
mod imds;
mod imds_identity;
mod imds_token;
mod imds_tree;
mod listener;
mod metrics;
mod operator;
pub(crate) mod own_endpoint;
mod pace;
mod peer;
mod pod_identity;
mod pod_token;
mod refresh;
mod refusal;
pub mod run;
mod session;
pub mod source;
mod unix_socket;
mod wanted;
mod watch;
mod workload_token;
mod world;

pub(crate) use commands::{AgentArguments, run_agent};
pub(crate) use own_endpoint::OwnEndpoint;
pub(crate) use session::RoleSession;
pub(crate) use source::{Fetch, FetchError, Source};
pub(crate) use wanted::Wanted;
