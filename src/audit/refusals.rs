//! Calls that are counted instead of written one by one: refusals, which anybody can cause, as many as
//! they like, and calls that only ask who they are. How many lines they may take, and what is counted beyond that. Reads no clock.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::record::{Record, UserIdentity, record};
use crate::base::clock::Timestamp;
use crate::budgets::Source;

/// The most kinds of refusals that are counted apart at a time.
pub const MAX_KINDS: usize = 256;

/// How many bytes of lines may be written in a second. What was not used is saved, up to a bound.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: i64,
    /// The most that can be saved, in thousandths of a byte.
    most: i64,
    /// What is left now, in thousandths of a byte; below zero after a line that was larger than it.
    left: i64,
    at: Duration,
}

impl Rate {
    /// A rate with `burst` bytes saved.
    pub(super) fn new(per_second: i64, burst: i64, now: Duration) -> Self {
        Self {
            per_second,
            most: burst * 1_000,
            left: burst * 1_000,
            at: now,
        }
    }

    /// Whether anything is left. `now` is the time that only passes.
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

    /// A line of that many bytes was written.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(
            i64::try_from(bytes)
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000),
        );
    }
}

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    /// `sts.amazonaws.com`
    pub event_source: &'static str,
    /// A name from a fixed set; `none` for an action that there is not.
    pub action: &'static str,
    /// Of a refusal; empty: of calls that were answered.
    pub error_code: &'static str,
    /// From where, as budgets count it.
    pub source: Source,
}

/// How many, from when to when.
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

/// Refusals by kind: at most [`MAX_KINDS`], and the rest together.
#[derive(Debug, Default)]
pub(super) struct Counted {
    kinds: HashMap<Kind, Tally>,
    rest: Option<Tally>,
}

/// What a `BrevetAggregate` record says beyond its kind.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Aggregate {
    count: u64,
    first_time: String,
    last_time: String,
}

impl Counted {
    /// One more refusal.
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

    /// Takes back what could not be written.
    pub(super) fn merge(&mut self, other: Self) {
        for (kind, tally) in other.kinds {
            self.add(Some(kind), tally);
        }
        if let Some(tally) = other.rest {
            self.add(None, tally);
        }
    }

    /// How many refusals there are.
    pub(super) fn total(&self) -> u64 {
        self.kinds
            .values()
            .chain(&self.rest)
            .map(|tally| tally.count)
            .fold(0, u64::saturating_add)
    }

    /// One record for each kind; `id` makes the identifier of each.
    pub(super) fn records(
        &self,
        region: &str,
        id: impl Fn() -> String,
    ) -> impl Iterator<Item = Record> {
        let kinds = self.kinds.iter().map(|(kind, tally)| (Some(kind), tally));
        let rest = self.rest.iter().map(|tally| (None, tally));
        kinds.chain(rest).map(move |(kind, tally)| {
            let mut record = record(
                kind.map_or("others", |kind| kind.action),
                tally.last,
                String::new(),
                id(),
            );
            record.event_type = "BrevetAggregate";
            record.user_identity = UserIdentity {
                r#type: "Unknown".into(),
                ..UserIdentity::default()
            };
            record.aws_region = region.to_owned();
            if let Some(kind) = kind {
                record.event_source = kind.event_source;
                record.error_code = Some(kind.error_code).filter(|code| !code.is_empty());
                record.source_ip_address = kind.source.to_string();
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
