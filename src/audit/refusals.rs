//! Counts calls instead of writing a line for each: refusals, which anybody can cause in any number, and successful
//! calls that issue nothing, beyond their rate or while the disk is nearly full. This module also limits the bytes of
//! lines per second. It does not read a clock.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::record::{Record, SourceAddress, UserIdentity, record};
use crate::base::clock::Timestamp;
use crate::budgets::Source;

/// The maximum number of kinds that are counted separately at a time.
pub const MAX_KINDS: usize = 256;

/// A limit on the bytes of lines per second. Unused bytes are saved, up to a maximum.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: i64,
    /// How much can be saved at most, in thousandths of a byte.
    most: i64,
    /// The bytes that may still be written, in thousandths. Negative after a line that was longer than the bytes that
    /// were left.
    left: i64,
    at: Duration,
}

impl Rate {
    /// Creates a rate that can save at most `burst` bytes, and has saved as many.
    pub(super) fn new(per_second: i64, burst: i64, now: Duration) -> Self {
        Self {
            per_second,
            most: burst * 1_000,
            left: burst * 1_000,
            at: now,
        }
    }

    /// Whether any bytes are left. `now` is the monotonic time.
    pub(super) fn has_room(&mut self, now: Duration) -> bool {
        let passed = i64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(i64::MAX);
        if passed > 0 {
            self.left = self
                .left
                .saturating_add(passed.saturating_mul(self.per_second))
                .min(self.most);
            self.at = now;
        }
        self.left > 0
    }

    /// Subtracts the bytes of a written line.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(
            i64::try_from(bytes)
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000),
        );
    }
}

/// The properties that calls of one kind have in common. Each kind is counted separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub event_source: &'static str,
    /// A name from a fixed set; `none` for an unknown action.
    pub action: &'static str,
    /// The error code of a refusal; empty for calls that succeeded.
    pub error_code: &'static str,
    /// The source of the calls: an address or network, as the budgets count them.
    pub source: Source,
}

/// How many calls of a kind were counted, and when the first and the last of them arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tally {
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// Counted calls: at most [`MAX_KINDS`] kinds, and the rest as one.
#[derive(Debug, Default)]
pub(super) struct Counted {
    kinds: HashMap<Kind, Tally>,
    rest: Option<Tally>,
}

/// The details in a `BrevetAggregate` record: how many calls it stands for, and when the first and
/// the last of them arrived.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Aggregate {
    count: u64,
    first_time: String,
    last_time: String,
}

impl Counted {
    pub(super) fn count(&mut self, kind: Kind, now: Timestamp) {
        self.add(
            Some(kind),
            Tally {
                count: 1,
                first: now,
                last: now,
            },
        );
    }

    fn add(&mut self, kind: Option<Kind>, tally: Tally) {
        let full = self.kinds.len() >= MAX_KINDS;
        match kind {
            Some(kind) if !full || self.kinds.contains_key(&kind) => {
                self.kinds
                    .entry(kind)
                    .and_modify(|known| known.add(tally))
                    .or_insert(tally);
            }
            _ => match &mut self.rest {
                Some(rest) => rest.add(tally),
                None => self.rest = Some(tally),
            },
        }
    }

    /// Adds the counts of `other`, whose records could not be written.
    pub(super) fn merge(&mut self, other: Self) {
        for (kind, tally) in other.kinds {
            self.add(Some(kind), tally);
        }
        if let Some(tally) = other.rest {
            self.add(None, tally);
        }
    }

    /// The number of counted calls.
    pub(super) fn total(&self) -> u64 {
        self.kinds
            .values()
            .chain(&self.rest)
            .map(|tally| tally.count)
            .fold(0, u64::saturating_add)
    }

    /// Makes one record for each kind of call, and one for all calls whose kinds are not counted separately. `id`
    /// generates the identifier of each record.
    pub(super) fn records(
        &self,
        region: &str,
        id: impl Fn() -> String,
    ) -> impl Iterator<Item = Record<'_>> {
        let kinds = self.kinds.iter().map(|(kind, tally)| (Some(kind), tally));
        let rest = self.rest.iter().map(|tally| (None, tally));
        kinds.chain(rest).map(move |(kind, tally)| {
            let mut record = record(
                kind.map_or("others", |kind| kind.action),
                tally.last,
                "",
                id(),
            );
            record.event_type = "BrevetAggregate";
            record.user_identity = UserIdentity {
                r#type: "Unknown".into(),
                ..UserIdentity::default()
            };
            record.aws_region = region.to_owned().into();
            if let Some(kind) = kind {
                record.event_source = kind.event_source;
                record.error_code = Some(kind.error_code).filter(|code| !code.is_empty());
                record.source_ip_address = SourceAddress::Network(kind.source.to_string());
            }
            let aggregate = Aggregate {
                count: tally.count,
                first_time: tally.first.to_string(),
                last_time: tally.last.to_string(),
            };
            record.additional_event_data = serde_json::value::to_raw_value(&aggregate).ok();
            record
        })
    }
}
