//! Reads the sections `[limits]`, `[budgets]` and `[credentials]`, and the bounds in `[sessions]`.

use std::num::NonZeroU32;
use std::time::Duration;

use super::document::{BudgetsSection, CredentialsSection, LimitsSection, SessionsSection};
use super::{ConfigError, ranged};
use crate::budgets::BudgetLimits;
use crate::key_ages::KeyAges;
use crate::sessions;
use crate::tokens::TokenBounds;

/// The maximum numbers of connections and calls, and the memory and time, that one broker spends.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum number of connections that are open at the same time.
    pub connections: usize,
    /// The maximum number of calls that are in progress at the same time.
    pub calls: usize,
    /// The maximum number of bytes that requests and unsent answers take in memory.
    pub request_memory_bytes: usize,
    /// The maximum number of simultaneous calls on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// The maximum time between the start of a connection and its first complete request.
    pub handshake: Duration,
    /// A connection without calls is closed after this time.
    pub idle: Duration,
    /// A connection is closed after this time once its calls are done, so that no TLS session outlives a replaced
    /// certificate by more than this time.
    pub connection_age: Duration,
    /// How long calls in progress may take after the first signal to stop.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            calls: 4_096,
            request_memory_bytes: 128 << 20,
            streams_per_connection: 256,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            connection_age: Duration::from_secs(3_600),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

pub(super) fn limits(section: Option<LimitsSection>) -> Result<Limits, ConfigError> {
    let Some(section) = section else {
        return Ok(Limits::default());
    };
    let default = Limits::default();
    let seconds = |key, asked, default: Duration, range| {
        ranged(key, asked, default.as_secs(), range).map(Duration::from_secs)
    };
    Ok(Limits {
        connections: ranged(
            "[limits] connections",
            section.connections,
            default.connections,
            1..=1_000_000,
        )?,
        calls: ranged(
            "[limits] calls",
            section.calls,
            default.calls,
            16..=1_000_000,
        )?,
        request_memory_bytes: ranged(
            "[limits] request_memory_mib",
            section.request_memory_mib,
            default.request_memory_bytes >> 20,
            16..=65_536,
        )? << 20,
        streams_per_connection: ranged(
            "[limits] streams_per_connection",
            section.streams_per_connection,
            default.streams_per_connection,
            1..=10_000,
        )?,
        handshake: seconds(
            "[limits] handshake_seconds",
            section.handshake_seconds,
            default.handshake,
            1..=60,
        )?,
        idle: seconds(
            "[limits] idle_seconds",
            section.idle_seconds,
            default.idle,
            1..=3_600,
        )?,
        connection_age: seconds(
            "[limits] connection_age_seconds",
            section.connection_age_seconds,
            default.connection_age,
            1..=86_400,
        )?,
        shutdown_grace: seconds(
            "[limits] shutdown_grace_seconds",
            section.shutdown_grace_seconds,
            default.shutdown_grace,
            0..=300,
        )?,
    })
}

/// Reads the ages at which the broker deactivates access keys. A setting that is left out means that there is no limit.
pub(super) fn key_ages(section: &CredentialsSection) -> Result<KeyAges, ConfigError> {
    const DAY: Duration = Duration::from_secs(86_400);
    let limit = |key, days: Option<u32>| {
        days.map(|days| ranged(key, Some(days), days, 1..=36_500).map(|days| DAY * days))
            .transpose()
    };
    Ok(KeyAges {
        max_age: limit(
            "[credentials] access_key_max_age_days",
            section.access_key_max_age_days,
        )?,
        unused_after: limit(
            "[credentials] access_key_unused_days",
            section.access_key_unused_days,
        )?,
        notice: DAY
            * ranged(
                "[credentials] access_key_notice_days",
                section.access_key_notice_days,
                7,
                0..=365,
            )?,
    })
}

/// The budgets of the file. A value of 0 means that there is no limit.
pub(super) fn budgets(section: &BudgetsSection) -> BudgetLimits {
    let BudgetsSection {
        principal,
        account,
        source,
    } = section;
    let default = BudgetLimits::default();
    let limit = |asked: Option<u32>, default| asked.map_or(default, NonZeroU32::new);
    BudgetLimits {
        principal_calls: limit(principal.calls_per_second, default.principal_calls),
        principal_reads: limit(principal.reads_per_second, default.principal_reads),
        principal_object_requests: limit(
            principal.object_requests_per_second,
            default.principal_object_requests,
        ),
        principal_sessions: limit(principal.live_sessions, default.principal_sessions),
        account_calls: limit(account.calls_per_second, default.account_calls),
        account_sessions: limit(account.live_sessions, default.account_sessions),
        unproven_calls: limit(source.unproven_calls_per_second, default.unproven_calls),
    }
}

pub(super) fn session_records(section: &SessionsSection) -> Result<sessions::Bounds, ConfigError> {
    let default = sessions::Bounds::default();
    let mib = ranged(
        "[sessions] records_mib",
        section.records_mib,
        default.max_bytes >> 20,
        1..=65_536,
    )?;
    Ok(sessions::Bounds {
        max_records: ranged(
            "[sessions] max_records",
            section.max_records,
            default.max_records,
            1..=100_000_000,
        )?,
        max_bytes: mib << 20,
    })
}

pub(super) fn opened_tokens(section: &SessionsSection) -> Result<TokenBounds, ConfigError> {
    let default = TokenBounds::default();
    let mib = ranged(
        "[sessions] opened_tokens_mib",
        section.opened_tokens_mib,
        default.max_bytes >> 20,
        0..=65_536,
    )?;
    Ok(TokenBounds {
        max_tokens: ranged(
            "[sessions] opened_tokens",
            section.opened_tokens,
            default.max_tokens,
            0..=10_000_000,
        )?,
        max_bytes: mib << 20,
    })
}
