//! The metrics, in Prometheus's text format. Labels come from fixed sets, except for those that name a SAML provider,
//! and never name a person.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Call {
    /// The action, such as `AssumeRole`; `none` if it is unknown.
    pub action: &'static str,
    /// The outcome: `ok`, or the AWS error code.
    pub outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reload {
    /// What the broker read from disk again: `directory`, `keyring`, `certificate`, `master key`, or `configuration of
    /// object stores`.
    pub what: &'static str,
    /// `ok` if the new content is in use, or `failed` if it was refused and the earlier content
    /// stays in use.
    pub outcome: &'static str,
}

/// The label of an MFA code that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MfaRefused {
    /// Why the code was refused: `wrong`, `spent` (used before) or `locked` (too many failures).
    pub outcome: &'static str,
}

/// The label of a call that exceeded a budget or another limit on calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Throttled {
    /// The limit: a budget, such as `principal`, `reads`, `account`, `source` or `sessions`, or another limit on calls,
    /// such as `signature` (the signature was used before) or `passwords`.
    pub budget: &'static str,
}

/// The label of a call that was refused because a resource was exhausted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Shed {
    /// The resource: `store_queue` (too many callers wait for the database; the answer is `Throttling`),
    /// `store_deadline`, `audit`, `calls`, `memory`, or the share of a `source` or a `principal`.
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SamlProviderLabel {
    pub provider: String,
}

/// The label of one of the store's connection pools.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StorePool {
    /// The name of the pool, after the work that it is for: `feed`, `revocation`, `read`, `write`
    /// or `background`.
    pub pool: &'static str,
}

/// An empty set of labels. A [`Family`] with it has no value, and is not shown, until a value is
/// first set.
pub type Unlabelled = [(&'static str, &'static str); 0];

pub struct Metrics {
    registry: Registry,
    pub calls: Family<Call, Counter>,
    /// Seconds from the complete request to the answer.
    pub call_seconds: Histogram,
    pub connections: Gauge,
    /// Connections that were refused or closed because of a limit.
    pub connections_refused: Counter,
    pub calls_in_flight: Gauge,
    /// Bytes of memory that requests and unsent answers take.
    pub request_memory_bytes: Gauge,
    /// Bytes of the memory budget for long requests that are in use.
    pub long_request_bytes: Gauge,
    /// 0 from a failed call to the session store (Redis) until the next one succeeds, else 1; always 1 if there is no
    /// such store.
    pub sessions_up: Gauge,
    /// 0 if the session store (Redis) was last seen configured otherwise than a broker needs it, for example to evict
    /// records, else 1; always 1 if there is no such store.
    pub sessions_fit: Gauge,
    /// Session records and tokens that could not be written to Redis, and session records that were dropped from memory
    /// because there was no room.
    pub sessions_lost: Counter,
    /// Entries in Redis that fail authentication, so no broker of this cluster wrote them.
    pub sessions_forged: Counter,
    /// Seconds by which the clock is behind the latest time that this node has ever seen; 0 on a
    /// correct clock.
    pub clock_behind_seconds: Gauge,
    /// 1 if the last attempt to follow the change feed of the store succeeded, so that this broker knows of every
    /// revocation; else 0.
    pub feed_up: Gauge,
    /// The number of the last change that this broker has applied.
    pub feed_sequence: Gauge,
    /// The first 48 bits of the digest of the last applied change and of all changes before it.
    pub feed_digest: Gauge,
    /// Seconds since the integrity of all rows in the store was last checked.
    pub store_unverified_seconds: Gauge,
    /// Seconds since the store last confirmed that this broker has every change of the feed.
    pub feed_age_seconds: Gauge,
    /// The number of brokers that had not confirmed the last revocation when the call was answered. A revocation after
    /// which the store did not say which brokers have confirmed it leaves the number unchanged.
    pub revocations_pending_nodes: Gauge,
    /// Callers that are waiting for a connection to the database.
    pub store_waiting: Family<StorePool, Gauge>,
    /// 1 while audit records can be written, else 0. While it is 0, calls that need a record are
    /// refused.
    pub audit_up: Gauge,
    /// The number of the last line of the audit log's hash chain.
    pub audit_sequence: Gauge,
    /// Calls, most of them refused, that the audit log counts without a line of their own.
    pub audit_aggregated: Counter,
    /// Signatures of session tokens. One signature can cover several tokens that were issued
    /// together.
    pub token_signatures: Counter,
    /// Free bytes of the audit log's file system; not set if the log is not a file.
    pub audit_free_bytes: Family<Unlabelled, Gauge>,
    /// When the broker's certificate expires, in seconds since 1970; not set without a certificate.
    pub certificate_expiration: Family<Unlabelled, Gauge>,
    /// When the certificate of the listener for proxies expires, in seconds since 1970; not set without a certificate.
    pub s3_certificate_expiration: Family<Unlabelled, Gauge>,
    /// Seconds until the broker accepts no more responses of a SAML provider: until its metadata or
    /// its last signing certificate expires, whichever is earlier.
    pub saml_provider_usable_seconds: Family<SamlProviderLabel, Gauge>,
    /// Calls that were refused because a resource was exhausted.
    pub shed: Family<Shed, Counter>,
    /// Refused MFA codes, by outcome: wrong, already used, or the device is locked.
    pub mfa_refused: Family<MfaRefused, Counter>,
    /// Brokers that share the budgets, this one included.
    pub brokers: Gauge,
    /// Access keys that the broker will deactivate within the configured time of notice, because of their age or
    /// because nobody uses them.
    pub access_keys_ending: Gauge,
    pub throttled: Family<Throttled, Counter>,
    /// Signatures that were accepted although the broker could not ask the shared store whether
    /// another broker had seen them.
    pub signatures_unshared: Counter,
    pub reloads: Family<Reload, Counter>,
}

/// The upper bounds of the buckets of [`Metrics::call_seconds`]: 50 µs to 2.5 s.
const CALL_SECONDS: [f64; 13] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5,
];

impl Metrics {
    /// Registers all metrics. They start at 0, except for those that report a healthy state, such
    /// as `feed_up`, and the number of brokers: these start at 1.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("brevet");
        let of = &mut registry;
        let metrics = Self {
            calls: made(of, "calls", "Calls answered"),
            call_seconds: registered(
                of,
                "call_seconds",
                "Seconds from the arrival of a whole request to the answer",
                Histogram::new(CALL_SECONDS),
            ),
            connections: made(of, "connections", "Open connections"),
            connections_refused: made(
                of,
                "connections_refused",
                "Connections refused or closed because of a limit",
            ),
            calls_in_flight: made(of, "calls_in_flight", "Calls in progress"),
            request_memory_bytes: made(
                of,
                "request_memory_bytes",
                "Bytes of memory in use by requests and unsent answers",
            ),
            long_request_bytes: made(
                of,
                "long_request_bytes",
                "Bytes in use of the memory budget for long requests",
            ),
            sessions_up: made(
                of,
                "session_store_up",
                "0 from a failed call to Redis until the next one succeeds, otherwise 1; always 1 without Redis",
            ),
            sessions_fit: made(
                of,
                "session_store_fit",
                "0 if Redis was last seen configured otherwise than a broker needs it, otherwise 1; always 1 without Redis",
            ),
            sessions_lost: made(
                of,
                "session_records_lost",
                "Session records that were dropped for lack of memory, and session records and tokens that could not be \
                    written to Redis",
            ),
            sessions_forged: made(
                of,
                "session_records_forged",
                "Entries in Redis that no broker of this cluster wrote",
            ),
            clock_behind_seconds: made(
                of,
                "clock_behind_seconds",
                "Seconds by which this machine's clock is behind the latest time that this broker has seen",
            ),
            feed_up: made(
                of,
                "feed_up",
                "1 if the last attempt of this broker to follow the change feed of the store succeeded, otherwise 0",
            ),
            feed_sequence: made(
                of,
                "feed_sequence",
                "The number of the last change that this broker has applied",
            ),
            feed_digest: made(
                of,
                "feed_digest",
                "The first 48 bits of the digest of the last applied change and all before it; equal on brokers at the same change",
            ),
            store_unverified_seconds: made(
                of,
                "store_unverified_seconds",
                "Seconds since all rows of the store were last checked against their MACs and sums",
            ),
            feed_age_seconds: made(
                of,
                "feed_age_seconds",
                "Seconds since this broker last confirmed that it knows the whole change feed of the store",
            ),
            revocations_pending_nodes: made(
                of,
                "revocations_pending_nodes",
                "Brokers that had not confirmed the last revocation when its call was answered; unchanged by a revocation \
                 after which the store did not say which brokers have confirmed it",
            ),
            store_waiting: made(
                of,
                "store_waiting",
                "Callers that are waiting for a connection to the database",
            ),
            audit_up: made(
                of,
                "audit_up",
                "1 while this broker can write to the audit log, otherwise 0",
            ),
            audit_sequence: made(
                of,
                "audit_sequence",
                "The number of the last line of the audit log's hash chain",
            ),
            audit_aggregated: made(
                of,
                "audit_aggregated",
                "Calls, most of them refused, that the audit log counts without a line of their own",
            ),
            token_signatures: made(
                of,
                "token_signatures",
                "Signatures of session tokens, each for one or several tokens",
            ),
            audit_free_bytes: made(
                of,
                "audit_free_bytes",
                "Free bytes of the audit log's file system",
            ),
            certificate_expiration: made(
                of,
                "tls_certificate_expiration_timestamp_seconds",
                "When the broker's certificate expires, in seconds since 1970",
            ),
            s3_certificate_expiration: made(
                of,
                "s3_tls_certificate_expiration_timestamp_seconds",
                "When the certificate of the listener for proxies expires, in seconds since 1970",
            ),
            saml_provider_usable_seconds: made(
                of,
                "saml_provider_usable_seconds",
                "Seconds for which responses of a SAML provider are accepted without interruption; 0 if none is accepted now",
            ),
            shed: made(of, "shed", "Calls refused because a resource was exhausted"),
            mfa_refused: made(of, "mfa_codes_refused", "MFA codes refused"),
            brokers: made(
                of,
                "brokers",
                "Brokers that share the rate limits of [budgets], including this one",
            ),
            access_keys_ending: made(
                of,
                "access_keys_ending",
                "Access keys that the broker will switch off within access_key_notice_days",
            ),
            throttled: made(
                of,
                "throttled",
                "Calls refused because of the limit in the label `budget`",
            ),
            signatures_unshared: made(
                of,
                "signatures_unshared",
                "Single-use signatures accepted although Redis could not tell whether another broker had seen them",
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

    /// Renders all metrics in Prometheus's text format, for `/metrics`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

/// Registers a metric with its default value under a name and a help text.
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
