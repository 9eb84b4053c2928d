//! The agent's metrics, in Prometheus's text format. Labels come from fixed sets and never name a workload.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::refusal::Refusal;
use super::session::RoleSession;
use super::source::FetchError;
use crate::client::ClientError;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandOutLabel {
    /// The kind of listener: `imds`, `container` or `unix`.
    listener: &'static str,
    /// The result of a hand-out: `ok`, `denied` (by the broker), `unavailable`, or `unproven` (the workload did not
    /// prove who it is).
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FetchLabel {
    /// The result of a call to the broker: `ok`, `refused` (by the broker), or `unreachable` for every other failure.
    pub outcome: &'static str,
}

/// Counts how often workloads have asked one listener for credentials, by outcome.
pub struct HandOuts {
    ok: Counter,
    denied: Counter,
    unavailable: Counter,
    /// How often a workload did not prove who it is.
    pub unproven: Counter,
}

impl HandOuts {
    /// Counts an answer to a workload that has proved who it is.
    pub fn count(&self, result: Result<(), &Refusal>) {
        let counter = match result {
            Ok(()) => &self.ok,
            Err(Refusal::Denied { .. }) => &self.denied,
            Err(Refusal::Unavailable { .. }) => &self.unavailable,
        };
        counter.inc();
    }
}

/// All counters and gauges of an agent, in a registry that renders them.
pub struct Metrics {
    registry: Registry,
    hand_outs: Family<HandOutLabel, Counter>,
    fetches: Family<FetchLabel, Counter>,
    pub sessions: Gauge,
    pub audit_up: Gauge,
    pub watch_up: Gauge,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("brevet_agent");
        let hand_outs = Family::<HandOutLabel, Counter>::default();
        let fetches = Family::<FetchLabel, Counter>::default();
        let [sessions, audit_up, watch_up] = std::array::from_fn(|_| Gauge::default());
        registry.register(
            "hand_outs",
            "Requests for credentials that workloads sent to this agent",
            hand_outs.clone(),
        );
        registry.register(
            "fetches",
            "Attempts to get a new session from the broker",
            fetches.clone(),
        );
        registry.register(
            "sessions",
            "Valid sessions that this agent holds for workloads",
            sessions.clone(),
        );
        registry.register(
            "audit_up",
            "1 if the last write to the audit log of this agent succeeded, otherwise 0",
            audit_up.clone(),
        );
        registry.register(
            "watch_up",
            "1 while the broker reports to this agent which of its sessions end early; 0 otherwise, and if there is \
             no session",
            watch_up.clone(),
        );
        Self {
            registry,
            hand_outs,
            fetches,
            sessions,
            audit_up,
            watch_up,
        }
    }

    /// The counters of a listener, whose name is `imds`, `container` or `unix`.
    pub fn hand_outs(&self, listener: &'static str) -> HandOuts {
        let [ok, denied, unavailable, unproven] =
            ["ok", "denied", "unavailable", "unproven"].map(|outcome| {
                let label = HandOutLabel { listener, outcome };
                self.hand_outs.get_or_create_owned(&label)
            });
        HandOuts {
            ok,
            denied,
            unavailable,
            unproven,
        }
    }

    /// Counts a call to the broker for a session.
    pub fn fetched(&self, result: &Result<RoleSession, FetchError>) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(FetchError::Client(ClientError::Refused { .. })) => "refused",
            Err(_) => "unreachable",
        };
        self.fetches.get_or_create(&FetchLabel { outcome }).inc();
    }

    /// Writes all metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}
