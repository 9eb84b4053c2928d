//! Session records: who holds what until when. In memory by default, in Redis where brokers share
//! them. The record decides nothing: a session is verified only by its token, so a missing record
//! or a missing Redis refuses nobody. It is what listing and last use are made of.

mod memory;
mod record;
mod redis;

use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::metrics::Metrics;
use crate::session::keyring::Keyring;

pub use self::memory::Bounds;
pub use self::record::{SessionId, SessionRecord, session_id};
pub use self::redis::{Mode, RedisOptions, UNVERIFIED_SENTENCE, check_redis_url};
use memory::MemorySessions;
use record::answer_bytes;
use redis::RedisSessions;

/// Why a record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionsError {
    /// The store does not answer, or answers with an error: nothing is known, not "absent".
    #[error("the session store does not answer: {0}")]
    Unreachable(String),
    /// The record is not what this cluster wrote under this name.
    #[error("the session record fails authentication")]
    Forged,
}

/// What a store of records is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It answers.
    Up,
    /// It does not answer: sessions go on without records.
    Down,
    /// It answers, and something under a name of ours is not of the kind that a broker puts there:
    /// that record, counter or listing is not to be had.
    Odd,
    /// It answers, and is not set up as a broker needs it: it would lose records unnoticed, or does
    /// not take them.
    Unfit(String),
}

/// The live sessions.
pub struct Sessions {
    kind: Kind,
    metrics: Arc<Metrics>,
}

enum Kind {
    Memory(MemorySessions),
    Redis(Box<RedisSessions>),
}

impl Sessions {
    /// In this process: within bounds, gone when it ends.
    pub fn in_memory(bounds: Bounds, metrics: Arc<Metrics>) -> Self {
        Self {
            kind: Kind::Memory(MemorySessions::new(bounds)),
            metrics,
        }
    }

    /// In Redis, under the cluster's name. Does not wait for it to be there.
    ///
    /// # Errors
    /// When the options cannot be used.
    pub fn in_redis(
        options: &RedisOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ::redis::RedisError> {
        Ok(Self {
            kind: Kind::Redis(Box::new(RedisSessions::new(options, metrics.clone())?)),
            metrics,
        })
    }

    /// Puts a session on record until it ends. Without Redis the session is valid all the same:
    /// the loss is counted and shown in readiness, and the answer goes out.
    pub async fn record(&self, keyring: &Keyring, record: &SessionRecord, now: Timestamp) {
        match &self.kind {
            Kind::Memory(memory) => {
                let lost = memory.record(record, now);
                self.metrics.sessions_lost.inc_by(lost);
            }
            Kind::Redis(redis) => {
                if let Err(error) = Box::pin(redis.record(keyring, record, now)).await {
                    self.metrics.sessions_lost.inc();
                    tracing::debug!(%error, "session record lost");
                }
            }
        }
    }

    /// Adds to counters that brokers on the same Redis share; their values then. `None` for one that
    /// is no counter, for all of them without Redis or without its answer.
    pub async fn add_up(&self, keyring: &Keyring, counters: &[(String, u64)]) -> Vec<Option<i64>> {
        let totals = match &self.kind {
            Kind::Redis(redis) => Box::pin(redis.add_up(keyring, counters))
                .await
                .unwrap_or_default(),
            Kind::Memory(_) => Vec::new(),
        };
        if totals.len() == counters.len() {
            totals
        } else {
            vec![None; counters.len()]
        }
    }

    /// Marks a signature as used for so long. False: another broker has done so before. Where records are
    /// in memory there is no other broker to ask.
    ///
    /// # Errors
    /// When Redis does not answer: nobody knows.
    pub async fn claim_signature(
        &self,
        keyring: &Keyring,
        signature: &[u8; 16],
        span: std::time::Duration,
    ) -> Result<bool, SessionsError> {
        match &self.kind {
            Kind::Redis(redis) => redis.claim_signature(keyring, signature, span).await,
            Kind::Memory(_) => Ok(true),
        }
    }

    /// Takes back [`Sessions::claim_signature`], if Redis answers; else the signature stays used there.
    pub async fn release_signature(&self, keyring: &Keyring, signature: &[u8; 16]) {
        if let Kind::Redis(redis) = &self.kind
            && let Err(error) = redis.release_signature(keyring, signature).await
        {
            tracing::debug!(%error, "a signature that brought nothing stays used");
        }
    }

    /// Says that this broker is here; how many brokers on the same Redis have said so lately, this one
    /// included.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn announce(
        &self,
        keyring: &Keyring,
        own: &str,
        now: Timestamp,
    ) -> Result<usize, SessionsError> {
        match &self.kind {
            Kind::Redis(redis) => Box::pin(redis.announce(keyring, own, now)).await,
            Kind::Memory(_) => Ok(1),
        }
    }

    /// The record of a session that has not ended. `None`: there is none.
    ///
    /// # Errors
    /// When the store does not answer or the record is forged: never "absent".
    pub async fn find(
        &self,
        keyring: &Keyring,
        id: &SessionId,
        now: Timestamp,
    ) -> Result<Option<SessionRecord>, SessionsError> {
        let found = match &self.kind {
            Kind::Memory(memory) => memory.find(id),
            Kind::Redis(redis) => Box::pin(redis.find(keyring, id)).await?,
        };
        // The store's own expiry is the broom, not the judge.
        Ok(found.filter(|r| now.seconds() < r.expires_at))
    }

    /// Records of sessions that have not ended, ordered by expiry: at most `limit` of those
    /// behind the marker (empty: from the beginning) that `wanted` takes, as many as fit in an answer
    /// of [`MAX_PAGE_BYTES`], and the marker to go on with (empty: that was all). A record that fails
    /// authentication is passed over, and counted: whose it was, nobody knows.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(
        &self,
        keyring: &Keyring,
        marker: &str,
        limit: usize,
        now: Timestamp,
        wanted: impl Fn(&SessionRecord) -> bool + Send,
    ) -> Result<Listed, SessionsError> {
        let mut listed = Listed {
            marker: marker.to_owned(),
            ..Listed::default()
        };
        let mut bytes = 0;
        let mut after = listed.marker.clone().into_bytes();
        // So many are looked at, whatever is wanted of them.
        for _ in 0..MAX_LOOKS {
            let (names, end) = match &self.kind {
                Kind::Memory(memory) => {
                    let names = memory.list(&listed.marker, PAGE, now);
                    let end = names
                        .last()
                        .filter(|_| names.len() == PAGE)
                        .map(|name| name.clone().into_bytes());
                    (names, end)
                }
                Kind::Redis(redis) => Box::pin(redis.list(keyring, &after, PAGE, now)).await?,
            };
            for name in names {
                if listed.records.len() == limit {
                    return Ok(listed);
                }
                let id = name.split_once(':').and_then(|(_, id)| session_id(id));
                let record = match id {
                    None => None,
                    Some(id) => match self.find(keyring, &id, now).await {
                        Ok(record) => record.filter(&wanted),
                        Err(SessionsError::Forged) => {
                            listed.unreadable += 1;
                            None
                        }
                        Err(error) => return Err(error),
                    },
                };
                if let Some(record) = record {
                    bytes += answer_bytes(&record);
                    if bytes > MAX_PAGE_BYTES && !listed.records.is_empty() {
                        return Ok(listed);
                    }
                    listed.records.push(record);
                }
                listed.marker = name;
            }
            match end {
                Some(end) => after = end,
                None => {
                    listed.marker.clear();
                    return Ok(listed);
                }
            }
        }
        Ok(listed)
    }

    /// Asks a shared store once whether a broker can use it as it is set up.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn examine(&self, keyring: &Keyring, now: Timestamp) -> Result<(), String> {
        match &self.kind {
            Kind::Redis(redis) => redis.examine(keyring, now).await,
            Kind::Memory(_) => Ok(()),
        }
    }

    /// Whether other brokers see these records.
    pub fn are_shared(&self) -> bool {
        matches!(self.kind, Kind::Redis(_))
    }

    /// What the store is good for.
    pub fn standing(&self) -> Standing {
        match &self.kind {
            Kind::Memory(_) => Standing::Up,
            Kind::Redis(redis) => redis.standing(),
        }
    }

    /// Looks after a store that did not answer, and whether one that answers is fit.
    pub async fn probe(&self, keyring: &Keyring, now: Timestamp) {
        if let Kind::Redis(redis) = &self.kind {
            Box::pin(redis.probe(keyring, now)).await;
        }
    }
}

/// What was found of the records.
#[derive(Debug, Default)]
pub struct Listed {
    /// Those that were wanted.
    pub records: Vec<SessionRecord>,
    /// Where to go on; empty: that was all.
    pub marker: String,
    /// How many failed authentication: nobody knows what they were.
    pub unreadable: usize,
}

/// How many records are looked at in one step, and how many steps an answer takes at most.
const PAGE: usize = 250;
const MAX_LOOKS: usize = 20;
/// The longest page of a listing, in bytes of its answer; a single session may be longer.
pub const MAX_PAGE_BYTES: usize = 1 << 20;
