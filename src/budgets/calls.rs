//! Calls per second by key: one leaky bucket for each key, in a table of bounded size.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::digest::sha256;

/// The amount that one call adds to a bucket. The unit is a thousandth of a call per second, times
/// a microsecond.
const CALL: u64 = 1_000_000_000;
/// How many seconds' worth of calls may come at once.
const BURST_SECONDS: u64 = 2;
const SHARDS: usize = 16;
/// The maximum number of keys that one shard counts separately, 65,536 in a whole table. All others
/// share a bucket.
const MAX_KEYS: usize = 4_096;
/// A key that is longer than this is replaced by its digest, so that the size of the table in bytes
/// is bounded.
const MAX_KEY_BYTES: usize = 64;
/// The minimum interval between searches of a full shard for empty buckets.
const SEARCH_EVERY: Duration = Duration::from_millis(100);
/// How long a key must have had no call until the reports of the other brokers about it are
/// forgotten.
const IDLE: Duration = Duration::from_secs(10);
/// The period over which the calls of the other brokers are averaged.
const AVERAGED: Duration = Duration::from_secs(1);

/// The calls that were counted under one limit: a bucket for each key.
pub(super) struct Calls {
    /// The limit in thousandths of a call per second.
    limit: u64,
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    buckets: HashMap<Box<[u8]>, Bucket>,
    /// The bucket shared by all keys for which there is no room.
    others: Bucket,
    searched_at: Option<Duration>,
}

/// A leaky bucket. Instants are in microseconds of the monotonic clock.
#[derive(Default)]
struct Bucket {
    /// The level at the instant `at`. A full bucket admits no call.
    level: u64,
    at: u64,
    /// Calls that the other brokers have not been told about.
    unsent: u64,
    exchange: Option<Exchange>,
}

/// The calls of one key at the other brokers, as far as they have been reported.
struct Exchange {
    /// The total that all brokers had reported at the instant `at`.
    total: i64,
    at: u64,
    /// Calls that this broker has reported since.
    sent: u64,
    /// The rate of the other brokers, in thousandths of a call per second; `None` if it is not
    /// known.
    others: Option<u64>,
}

impl Calls {
    pub fn new(calls_per_second: NonZeroU32) -> Self {
        Self {
            limit: u64::from(calls_per_second.get()) * 1_000,
            shards: Default::default(),
            hasher: RandomState::new(),
        }
    }

    /// Counts a call as `amount` calls and returns true, unless this broker's share of the limit is used up. There must
    /// be room for one; the rest uses up what comes later, so that a call which counts as more than the whole share is
    /// possible as well.
    pub fn take(&self, key: &[u8], amount: u64, brokers: u64, now: Duration) -> bool {
        self.in_bucket(key, brokers, now, |bucket| {
            bucket.take(self.limit, amount, 1, brokers, micros(now))
        })
    }

    /// Counts a call as `amount` calls and returns true, unless more than `part` of the limit, in thousandths of a call
    /// per second, would be used up. Unlike [`Calls::take`], there must be room for all of the calls, or the key has
    /// made one call at most lately. The part is this broker's alone. If brokers share the limit, keys are remembered
    /// for as long as a share of it needs.
    pub fn take_whole(
        &self,
        key: &[u8],
        amount: u64,
        part: u64,
        brokers: u64,
        now: Duration,
    ) -> bool {
        let limit = self.limit.min(part);
        self.in_bucket(key, brokers, now, |bucket| {
            bucket.take_whole(limit, amount, micros(now))
        })
    }

    /// This broker's part of the limit for a key, in thousandths of a call per second.
    pub fn share(&self, key: &[u8], brokers: u64) -> u64 {
        let key = bounded(key);
        let shard = &*self.shard(&key);
        let bucket = shard.buckets.get(&*key).unwrap_or(&shard.others);
        bucket.share(self.limit, brokers)
    }

    /// Whether [`Calls::take`] would count another call of this key. It counts nothing.
    pub fn admits(&self, key: &[u8], brokers: u64, now: Duration) -> bool {
        let key = bounded(key);
        let shard = &*self.shard(&key);
        match shard.buckets.get(&*key) {
            Some(bucket) => bucket.admits(self.limit, 1, brokers, micros(now)),
            None if shard.buckets.len() < MAX_KEYS => true,
            None => shard.others.admits(self.limit, 1, brokers, micros(now)),
        }
    }

    /// Takes back one call, because its caller turns out to be counted elsewhere.
    pub fn give_back(&self, key: &[u8]) {
        let key = bounded(key);
        let shard = &mut *self.shard(&key);
        let bucket = shard.buckets.get_mut(&*key).unwrap_or(&mut shard.others);
        bucket.level = bucket.level.saturating_sub(CALL);
        bucket.unsent = bucket.unsent.saturating_sub(1);
    }

    /// The calls that the other brokers have not been told about, by key: at most `most` keys,
    /// those with the most calls, so that each key gets its turn.
    pub fn take_unsent(&self, most: usize) -> Vec<(Box<[u8]>, u64)> {
        let mut counts = Vec::new();
        for shard in &self.shards {
            counts.extend(
                locked(shard)
                    .buckets
                    .values()
                    .map(|b| b.unsent)
                    .filter(|n| *n > 0),
            );
        }
        let least = match most.checked_sub(1) {
            None => return Vec::new(),
            Some(last) if last < counts.len() => {
                *counts.select_nth_unstable_by(last, |a, b| b.cmp(a)).1
            }
            Some(_) => 1,
        };
        let mut taken = Vec::with_capacity(most.min(counts.len()));
        for shard in &self.shards {
            for (key, bucket) in &mut locked(shard).buckets {
                if bucket.unsent >= least && taken.len() < most {
                    taken.push((key.clone(), std::mem::take(&mut bucket.unsent)));
                }
            }
        }
        taken
    }

    /// Records the total that all brokers have reported for a key, including `sent` calls of this
    /// broker.
    pub fn heard(&self, key: &[u8], sent: u64, total: Option<i64>, now: Duration) {
        if let Some(bucket) = self.shard(key).buckets.get_mut(key) {
            bucket.heard(self.limit, sent, total, micros(now));
        }
    }

    /// Forgets keys that have been idle for a while.
    pub fn sweep(&self, brokers: u64, now: Duration) {
        let now = micros(now);
        for shard in &self.shards {
            let idle = |bucket: &Bucket| now.saturating_sub(bucket.at) >= micros(IDLE);
            locked(shard)
                .buckets
                .retain(|_, bucket| !(idle(bucket) && bucket.is_empty(self.limit, brokers, now)));
        }
    }

    /// Calls `take` with the bucket of a key, which is made if there is room for it.
    fn in_bucket(
        &self,
        key: &[u8],
        brokers: u64,
        now: Duration,
        take: impl FnOnce(&mut Bucket) -> bool,
    ) -> bool {
        let key = bounded(key);
        let shard = &mut *self.shard(&key);
        if let Some(bucket) = shard.buckets.get_mut(&*key) {
            return take(bucket);
        }
        let bucket = match shard.has_room(self.limit, brokers, now) {
            true => shard.buckets.entry((*key).into()).or_default(),
            false => &mut shard.others,
        };
        take(bucket)
    }

    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(key);
        let [first, ..] = &self.shards;
        // The index is below the number of shards.
        locked(self.shards.get(hash as usize % SHARDS).unwrap_or(first))
    }
}

impl Shard {
    /// Whether one more key can be counted separately.
    fn has_room(&mut self, limit: u64, brokers: u64, now: Duration) -> bool {
        if self.buckets.len() < MAX_KEYS {
            return true;
        }
        if self
            .searched_at
            .is_none_or(|at| now.saturating_sub(at) >= SEARCH_EVERY)
        {
            self.searched_at = Some(now);
            self.buckets
                .retain(|_, bucket| !bucket.is_empty(limit, brokers, micros(now)));
        }
        self.buckets.len() < MAX_KEYS
    }
}

impl Bucket {
    /// Counts `amount` calls if there is room for `room` of them.
    fn take(&mut self, limit: u64, amount: u64, room: u64, brokers: u64, now: u64) -> bool {
        let admits = self.admits(limit, room, brokers, now);
        self.level = self.level_at(self.share(limit, brokers), now);
        self.at = self.at.max(now);
        if admits {
            self.level = self.level.saturating_add(CALL.saturating_mul(amount));
            self.unsent = self.unsent.saturating_add(amount);
        }
        admits
    }

    /// Counts `amount` calls if there is room for all of them. More than there is ever room for are possible only after
    /// at most one call, because the parts of a request may be counted one after the other.
    fn take_whole(&mut self, limit: u64, amount: u64, now: u64) -> bool {
        let is_fresh = self.level_at(self.share(limit, 1), now) <= CALL;
        let room = if is_fresh { 1 } else { amount };
        self.take(limit, amount, room, 1, now)
    }

    /// Whether there is room for so many more calls.
    fn admits(&self, limit: u64, room: u64, brokers: u64, now: u64) -> bool {
        let share = self.share(limit, brokers);
        // One call is always possible, however small the share.
        let burst = share.saturating_mul(BURST_SECONDS * 1_000_000).max(CALL);
        let room = CALL.saturating_mul(room);
        let level = self.level_at(share, now).checked_add(room);
        level.is_some_and(|level| level <= burst)
    }

    /// This broker's part of the limit: an equal share, or the calls that the others leave unused
    /// if these are more.
    fn share(&self, limit: u64, brokers: u64) -> u64 {
        let others = self.exchange.as_ref().and_then(|e| e.others);
        let left_over = others.map_or(0, |others| limit.saturating_sub(others));
        (limit / brokers.max(1)).max(left_over).max(1)
    }

    fn level_at(&self, share: u64, now: u64) -> u64 {
        self.level
            .saturating_sub(now.saturating_sub(self.at).saturating_mul(share))
    }

    /// Whether the bucket admits as many calls as a new one, so that it can be dropped.
    fn is_empty(&self, limit: u64, brokers: u64, now: u64) -> bool {
        self.level_at(self.share(limit, brokers), now) == 0
    }

    fn heard(&mut self, limit: u64, sent: u64, total: Option<i64>, now: u64) {
        let Some(total) = total else {
            self.exchange = None;
            return;
        };
        let Some(exchange) = &mut self.exchange else {
            self.exchange = Some(Exchange {
                total,
                at: now,
                sent: 0,
                others: None,
            });
            return;
        };
        exchange.sent = exchange.sent.saturating_add(sent);
        let elapsed = now.saturating_sub(exchange.at);
        if elapsed == 0 {
            return;
        }
        // What the other brokers have added meanwhile. If it is negative, something else writes to
        // the counter.
        let added = total
            .checked_sub(exchange.total)
            .and_then(|added| u64::try_from(added).ok());
        let Some(theirs) = added.and_then(|added| added.checked_sub(exchange.sent)) else {
            self.exchange = None;
            return;
        };
        let rate = (theirs.saturating_mul(CALL) / elapsed).min(limit);
        let others = match exchange.others {
            None => rate,
            Some(known) => {
                // The longer ago a rate was measured, the less it counts.
                let (new, old) = (u128::from(elapsed), u128::from(micros(AVERAGED)));
                let sum = u128::from(rate) * new + u128::from(known) * old;
                u64::try_from(sum / (new + old)).unwrap_or(u64::MAX)
            }
        };
        *exchange = Exchange {
            total,
            at: now,
            sent: 0,
            others: Some(others),
        };
    }
}

fn bounded(key: &[u8]) -> Cow<'_, [u8]> {
    if key.len() <= MAX_KEY_BYTES {
        Cow::Borrowed(key)
    } else {
        Cow::Owned(sha256(key).to_vec())
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
