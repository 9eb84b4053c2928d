//! What an operator's monitoring reads: Prometheus text, no name of a person in any label.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// An answered call. Both labels come from fixed sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Call {
    /// `AssumeRole`, or `none` when the action is unknown.
    pub action: &'static str,
    /// `ok`, or the AWS error code.
    pub outcome: &'static str,
}

/// A reload of something from disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reload {
    /// `directory`, `keyring`, `certificate`.
    pub what: &'static str,
    /// `ok` or `failed`.
    pub outcome: &'static str,
}

/// An MFA code that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MfaRefused {
    /// `wrong`, `spent`, `locked`.
    pub outcome: &'static str,
}

/// A call beyond a budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Throttled {
    /// `principal`, `reads`, `account`, `source`, `sessions`; `signature`: one that was used before, and
    /// `signatures`: there are too many to remember.
    pub budget: &'static str,
}

/// A call that was refused because something ran out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Shed {
    /// What ran out: `store_queue` (too many callers wait for SQL, which is `Throttling`),
    /// `store_deadline`, `audit`, `calls`, `memory`, `source`.
    pub reason: &'static str,
}

/// One of the store's sets of connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StorePool {
    /// `feed`, `revocation`, `read`, `write`, `background`.
    pub pool: &'static str,
}

/// No labels: a family of one, which is not shown before it has a value.
pub type Unlabelled = [(&'static str, &'static str); 0];

/// All counters and gauges of one broker.
pub struct Metrics {
    registry: Registry,
    /// Calls by action and outcome.
    pub calls: Family<Call, Counter>,
    /// Seconds from the whole request to the answer.
    pub call_seconds: Histogram,
    /// Open connections.
    pub connections: Gauge,
    /// Connections turned away or closed for a limit.
    pub connections_refused: Counter,
    /// Calls that are being served.
    pub calls_in_flight: Gauge,
    /// Bytes that requests and unsent answers hold.
    pub request_memory_bytes: Gauge,
    /// 1 while the session store answers.
    pub sessions_up: Gauge,
    /// 1 while the session store is set up as a broker needs it.
    pub sessions_fit: Gauge,
    /// Session records that could not be written or did not fit.
    pub sessions_lost: Counter,
    /// Session records that were not what this cluster wrote.
    pub sessions_forged: Counter,
    /// Seconds by which the clock is behind the highest time that was seen.
    pub clock_behind_seconds: Gauge,
    /// 1 while the store confirms the change feed.
    pub feed_up: Gauge,
    /// The last change that is in force here.
    pub feed_sequence: Gauge,
    /// The first 48 bits of the digest of that change and of all before it.
    pub feed_digest: Gauge,
    /// Seconds since all rows of the store were last checked.
    pub store_unverified_seconds: Gauge,
    /// Seconds since the change feed was last confirmed.
    pub feed_age_seconds: Gauge,
    /// Nodes that had not confirmed the last revocation when it was answered.
    pub revocations_pending_nodes: Gauge,
    /// Callers that wait for a connection to the database.
    pub store_waiting: Family<StorePool, Gauge>,
    /// 1 while audit records reach the disk.
    pub audit_up: Gauge,
    /// The number of the last line of the audit log's chain.
    pub audit_sequence: Gauge,
    /// Refusals that were counted in the audit log and have no line of their own.
    pub audit_aggregated: Counter,
    /// Free bytes of the audit log's file system; none where there is no such thing.
    pub audit_free_bytes: Family<Unlabelled, Gauge>,
    /// When the broker's certificate ends, in seconds since 1970; none without one.
    pub certificate_expiration: Family<Unlabelled, Gauge>,
    /// Calls that were refused because something ran out.
    pub shed: Family<Shed, Counter>,
    /// MFA codes that were refused.
    pub mfa_refused: Family<MfaRefused, Counter>,
    /// Brokers that share the budgets, this one included.
    pub brokers: Gauge,
    /// Calls beyond a budget.
    pub throttled: Family<Throttled, Counter>,
    /// Signatures of which it was not known whether another broker had seen them.
    pub signatures_unshared: Counter,
    /// Reloads from disk.
    pub reloads: Family<Reload, Counter>,
}

/// The upper bounds of [`Metrics::call_seconds`]: 50 µs to 2.5 s.
const CALL_SECONDS: [f64; 13] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5,
];

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("brevet");
        let of = &mut registry;
        let metrics = Self {
            calls: made(of, "calls", "Calls answered"),
            call_seconds: registered(
                of,
                "call_seconds",
                "Time from request to answer",
                Histogram::new(CALL_SECONDS),
            ),
            connections: made(of, "connections", "Open connections"),
            connections_refused: made(
                of,
                "connections_refused",
                "Connections turned away or closed for a limit",
            ),
            calls_in_flight: made(of, "calls_in_flight", "Calls being served"),
            request_memory_bytes: made(
                of,
                "request_memory_bytes",
                "Bytes that requests and unsent answers hold",
            ),
            sessions_up: made(of, "session_store_up", "1 while the session store answers"),
            sessions_fit: made(
                of,
                "session_store_fit",
                "1 while the session store is set up as a broker needs it",
            ),
            sessions_lost: made(of, "session_records_lost", "Session records not written"),
            sessions_forged: made(
                of,
                "session_records_forged",
                "Session records that fail authentication",
            ),
            clock_behind_seconds: made(
                of,
                "clock_behind_seconds",
                "Seconds by which the clock is behind the highest time that was seen",
            ),
            feed_up: made(of, "feed_up", "1 while the store confirms the change feed"),
            feed_sequence: made(of, "feed_sequence", "The last change in force here"),
            feed_digest: made(
                of,
                "feed_digest",
                "The first 48 bits of the digest of that change and all before it: equal on brokers at the same change",
            ),
            store_unverified_seconds: made(
                of,
                "store_unverified_seconds",
                "Seconds since all rows of the store were last checked against their MACs and sums",
            ),
            feed_age_seconds: made(
                of,
                "feed_age_seconds",
                "Seconds since the change feed was last confirmed",
            ),
            revocations_pending_nodes: made(
                of,
                "revocations_pending_nodes",
                "Nodes that had not confirmed the last revocation when it was answered",
            ),
            store_waiting: made(
                of,
                "store_waiting",
                "Callers that wait for a connection to the database",
            ),
            audit_up: made(of, "audit_up", "1 while audit records reach the disk"),
            audit_sequence: made(
                of,
                "audit_sequence",
                "The number of the last line of the audit log's hash chain",
            ),
            audit_aggregated: made(
                of,
                "audit_aggregated",
                "Refusals counted in the audit log without a line of their own",
            ),
            audit_free_bytes: made(
                of,
                "audit_free_bytes",
                "Free bytes of the audit log's file system",
            ),
            certificate_expiration: made(
                of,
                "tls_certificate_expiration_timestamp_seconds",
                "When the broker's certificate ends, in seconds since 1970",
            ),
            shed: made(of, "shed", "Calls refused because something ran out"),
            mfa_refused: made(of, "mfa_codes_refused", "MFA codes refused"),
            brokers: made(
                of,
                "brokers",
                "Brokers that share the budgets, this one included",
            ),
            throttled: made(of, "throttled", "Calls beyond a budget"),
            signatures_unshared: made(
                of,
                "signatures_unshared",
                "Signatures of which it was not known whether another broker had seen them",
            ),
            reloads: made(of, "reloads", "Reloads from disk"),
            registry: Registry::default(),
        };
        metrics.sessions_up.set(1);
        metrics.sessions_fit.set(1);
        metrics.audit_up.set(1);
        metrics.feed_up.set(1);
        metrics.brokers.set(1);
        Self {
            registry,
            ..metrics
        }
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

/// A metric at zero, which the registry renders under a name with a help text.
fn made<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    registered(registry, name, help, M::default())
}

fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
