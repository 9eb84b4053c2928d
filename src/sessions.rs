//! Session records: which principals have which sessions, and until when. They are kept in memory by default, or in
//! Redis if several brokers share them.
//!
//! The records serve the lists of sessions. They are not needed to verify a session, for which its token is enough.
//! Therefore a missing record never causes a refusal, and neither does a Redis that does not answer, unless the caller
//! sends no session token or its signature may be used only once.

mod memory;
mod record;
mod redis;
mod tokens_by_key;

use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::metrics::Metrics;
use crate::session::keyring::Keyring;

pub use self::memory::Bounds;
pub use self::record::{Narrowing, SessionId, SessionRecord, session_id};
pub use self::redis::{Mode, RedisOptions, UNVERIFIED_SENTENCE, check_redis_url};
use memory::MemorySessions;
use record::answer_bytes;
use redis::RedisSessions;
use tokens_by_key::TokensByKey;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionsError {
    /// The store did not answer, or answered with an error. The record may exist.
    #[error("the session store is unavailable: {0}")]
    Unreachable(String),
    /// No broker of this cluster wrote the record under this name: it was altered, or copied from another name.
    #[error("the session record fails authentication: no broker of this cluster wrote it")]
    Forged,
    /// The keyring has no usable current key, without which nothing can be written or claimed.
    #[error(
        "the keyring has no usable current key, so nothing can be written to the session store"
    )]
    WithoutKey,
}

/// The state of the store of records, as `/readyz` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Up,
    /// The store does not answer. Sessions continue without records.
    Down,
    /// The store answers, but a key of the broker holds a value of another type. That record,
    /// counter or list cannot be read.
    Odd,
    /// The store answers, but its settings do not suit a broker: it may drop records, or does not
    /// accept them. Holds the reason.
    Unfit(String),
}

/// The records of sessions that have not ended.
pub struct Sessions {
    kind: Kind,
    metrics: Arc<Metrics>,
    /// The tokens in the memory of this process; unused if Redis keeps them.
    tokens: TokensByKey,
}

enum Kind {
    Memory(MemorySessions),
    Redis(Box<RedisSessions>),
}

impl Sessions {
    /// Keeps records in this process, within bounds, until it ends.
    pub fn in_memory(bounds: Bounds, metrics: Arc<Metrics>) -> Self {
        Self {
            kind: Kind::Memory(MemorySessions::new(bounds)),
            metrics,
            tokens: TokensByKey::default(),
        }
    }

    /// Keeps records in Redis, under the cluster's name. Does not wait for a connection.
    ///
    /// # Errors
    /// [`RedisError`](::redis::RedisError) if the options cannot be used.
    pub fn in_redis(
        options: &RedisOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ::redis::RedisError> {
        Ok(Self {
            kind: Kind::Redis(Box::new(RedisSessions::new(options, metrics.clone())?)),
            metrics,
            tokens: TokensByKey::default(),
        })
    }

    /// Records a session until it ends. If Redis does not answer, the session is valid nevertheless;
    /// the loss is counted, shown in readiness, and does not fail the call.
    pub async fn record(&self, keyring: &Keyring, record: &SessionRecord, now: Timestamp) {
        match &self.kind {
            Kind::Memory(memory) => {
                let lost = memory.record(record, now);
                self.metrics.sessions_lost.inc_by(lost);
            }
            Kind::Redis(redis) => {
                if let Err(error) = Box::pin(redis.record(keyring, record, now)).await {
                    self.metrics.sessions_lost.inc();
                    tracing::debug!(%error, "a session record could not be written to redis; the session is valid without it");
                }
            }
        }
    }

    /// Keeps the token of a session until it expires, so that it is found by the session's access key id. If Redis does
    /// not answer, the token is lost, and requests that carry only the access key id are refused.
    pub async fn keep_token(
        &self,
        keyring: &Keyring,
        key: &str,
        token: &str,
        expires_at: i64,
        now: Timestamp,
    ) {
        match &self.kind {
            Kind::Memory(_) => self.tokens.add(key, token, expires_at, now),
            Kind::Redis(redis) => {
                let kept = Box::pin(redis.keep_token(keyring, key, token, expires_at, now)).await;
                if let Err(error) = kept {
                    self.metrics.sessions_lost.inc();
                    tracing::debug!(%error, "a session token could not be stored in redis; requests that carry only the access key id \
                        of the session are refused");
                }
            }
        }
    }

    /// The token of the session with this access key; `None` if it is not kept.
    ///
    /// # Errors
    /// [`SessionsError::Unreachable`] if Redis does not answer, and [`SessionsError::Forged`] if no broker of this
    /// cluster wrote the value that Redis has.
    pub async fn token_of(
        &self,
        keyring: &Keyring,
        key: &str,
    ) -> Result<Option<Secret<String>>, SessionsError> {
        match &self.kind {
            Kind::Memory(_) => Ok(self.tokens.find(key)),
            Kind::Redis(redis) => Box::pin(redis.token_of(keyring, key)).await,
        }
    }

    /// Adds to counters that brokers on the same Redis share, and returns their new values. A value is `None` if the
    /// Redis key does not hold a counter. All values are `None` if there is no Redis or it does not answer.
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

    /// Marks a signature as used for a time. Returns `false` if another broker has marked the signature before. If the
    /// records are in memory, no other broker shares them, so the answer is always `true`.
    ///
    /// # Errors
    /// [`SessionsError::Unreachable`] if Redis does not answer, and [`SessionsError::Forged`] if something other than a
    /// broker wrote the mark; it is then unknown whether the signature was used. [`SessionsError::WithoutKey`] if the
    /// keyring has no usable current key.
    pub async fn claim_signature(
        &self,
        keyring: &Keyring,
        signature: &[u8; 16],
        span: std::time::Duration,
    ) -> Result<bool, SessionsError> {
        match &self.kind {
            // Boxed, as with all of Redis: every call would make room for it otherwise.
            Kind::Redis(redis) => Box::pin(redis.claim_signature(keyring, signature, span)).await,
            Kind::Memory(_) => Ok(true),
        }
    }

    /// Undoes [`Sessions::claim_signature`]. If Redis does not answer, the signature stays marked
    /// there.
    pub async fn release_signature(&self, keyring: &Keyring, signature: &[u8; 16]) {
        if let Kind::Redis(redis) = &self.kind
            && let Err(error) = Box::pin(redis.release_signature(keyring, signature)).await
        {
            tracing::debug!(%error, "a call with a single-use signature failed, and its mark in redis could not be \
                removed: the signature may count as used");
        }
    }

    /// Announces this broker, and returns how many brokers on the same Redis have announced themselves lately,
    /// including this one.
    ///
    /// # Errors
    /// [`SessionsError::Unreachable`] if Redis does not answer, and [`SessionsError::WithoutKey`] if the keyring has
    /// no usable current key.
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

    /// The record of a session that has not ended; `None` if there is none.
    ///
    /// # Errors
    /// [`SessionsError::Unreachable`] if Redis does not answer, and [`SessionsError::Forged`] if
    /// no broker of this cluster wrote the record. Neither means that the session does not exist.
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
        // The expiry in the store only frees space; whether a session has ended is decided here.
        Ok(found.filter(|r| now.seconds() < r.expires_at))
    }

    /// Lists records of sessions that have not ended and that `wanted` accepts, ordered by expiry. The list begins
    /// after `marker` (empty for the beginning) and has at most `limit` records, and no more than fit in an answer of
    /// [`MAX_PAGE_BYTES`].
    ///
    /// A record that fails authentication is left out and counted in [`Listed::unreadable`].
    ///
    /// # Errors
    /// [`SessionsError::Unreachable`] if Redis does not answer.
    pub async fn list(
        &self,
        keyring: &Keyring,
        marker: &str,
        limit: usize,
        now: Timestamp,
        wanted: impl Fn(&SessionRecord) -> bool + Send,
    ) -> Result<Listed, SessionsError> {
        self.list_in(keyring, None, marker, limit, now, wanted)
            .await
    }

    /// Lists records like [`Sessions::list`], but only those of the sessions that came from one sign-in.
    ///
    /// # Errors
    /// [`SessionsError::Unreachable`] if Redis does not answer.
    pub async fn list_of_sign_in(
        &self,
        keyring: &Keyring,
        (sign_in, marker): (&SessionId, &str),
        limit: usize,
        now: Timestamp,
        wanted: impl Fn(&SessionRecord) -> bool + Send,
    ) -> Result<Listed, SessionsError> {
        self.list_in(keyring, Some(sign_in), marker, limit, now, wanted)
            .await
    }

    async fn list_in(
        &self,
        keyring: &Keyring,
        of: Option<&SessionId>,
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
        // The number of records that are read is limited, whatever `wanted` accepts.
        for _ in 0..MAX_LOOKS {
            let (names, end) = match &self.kind {
                Kind::Memory(memory) => {
                    let names = memory.list(of, &listed.marker, PAGE, now);
                    let end = names
                        .last()
                        .filter(|_| names.len() == PAGE)
                        .map(|name| name.clone().into_bytes());
                    (names, end)
                }
                Kind::Redis(redis) => Box::pin(redis.list(keyring, of, &after, PAGE, now)).await?,
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

    /// Checks once that Redis, if it keeps the records, answers and has settings that suit a broker.
    ///
    /// # Errors
    /// The reason why Redis cannot be used, as a sentence.
    pub async fn examine(&self, keyring: &Keyring, now: Timestamp) -> Result<(), String> {
        match &self.kind {
            Kind::Redis(redis) => Box::pin(redis.examine(keyring, now)).await,
            Kind::Memory(_) => Ok(()),
        }
    }

    /// Whether the records are in Redis, so that other brokers see them.
    pub fn are_shared(&self) -> bool {
        matches!(self.kind, Kind::Redis(_))
    }

    pub fn standing(&self) -> Standing {
        match &self.kind {
            Kind::Memory(_) => Standing::Up,
            Kind::Redis(redis) => redis.standing(),
        }
    }

    /// Asks Redis, if it keeps the records, whether it answers again and whether its settings suit a broker.
    pub async fn probe(&self, keyring: &Keyring, now: Timestamp) {
        if let Kind::Redis(redis) = &self.kind {
            Box::pin(redis.probe(keyring, now)).await;
        }
    }
}

/// One page of a list of records, with the marker of the next page.
#[derive(Debug, Default)]
pub struct Listed {
    pub records: Vec<SessionRecord>,
    /// The marker to continue with; empty at the end of the list.
    pub marker: String,
    /// The number of records that failed authentication. It is unknown whose sessions they were.
    pub unreadable: usize,
}

/// The number of records that one step of a list reads.
const PAGE: usize = 250;
const MAX_LOOKS: usize = 20;
/// The longest page of a list, in bytes of the answer; a single session may be longer.
pub const MAX_PAGE_BYTES: usize = 1 << 20;
