//! Session records: who holds what until when. In memory by default, in Redis where brokers share
//! them. The record decides nothing: a session is verified by its token alone, so a missing record
//! or a missing Redis refuses nobody. It is what listing and last use are made of.

mod memory;
mod redis;

use std::sync::Arc;

use prost::Message;

use crate::clock::Timestamp;
use crate::metrics::Metrics;
use crate::token::TagClaim;

pub use self::redis::{Mode, RedisOptions};
use memory::MemorySessions;
use redis::RedisSessions;

/// Sixteen random bytes.
pub type SessionId = [u8; 16];

/// What is on record about a session; never its secret. Times are in seconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct SessionRecord {
    /// Its name.
    #[prost(bytes = "vec", tag = "1")]
    pub session_id: Vec<u8>,
    /// `ASIA…`
    #[prost(string, tag = "2")]
    pub access_key_id: String,
    /// The assumed role.
    #[prost(string, tag = "3")]
    pub role_arn: String,
    /// `AROA…`
    #[prost(string, tag = "4")]
    pub role_id: String,
    /// What the caller called it.
    #[prost(string, tag = "5")]
    pub role_session_name: String,
    /// Empty: none.
    #[prost(string, tag = "6")]
    pub source_identity: String,
    /// Session tags.
    #[prost(message, repeated, tag = "7")]
    pub tags: Vec<TagClaim>,
    /// When it was issued.
    #[prost(int64, tag = "8")]
    pub issued_at: i64,
    /// When it ends.
    #[prost(int64, tag = "9")]
    pub expires_at: i64,
    /// The principal that assumed the role.
    #[prost(string, tag = "10")]
    pub assumed_by: String,
    /// The key that signed for it.
    #[prost(string, tag = "11")]
    pub assumed_by_access_key_id: String,
}

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
    /// In this process: at most `max_records`, gone when it ends.
    pub fn in_memory(max_records: usize, metrics: Arc<Metrics>) -> Self {
        Self { kind: Kind::Memory(MemorySessions::new(max_records)), metrics }
    }

    /// In Redis, under the cluster's name. Does not wait for it to be there.
    ///
    /// # Errors
    /// When the options cannot be used.
    pub fn in_redis(options: &RedisOptions, metrics: Arc<Metrics>) -> Result<Self, ::redis::RedisError> {
        Ok(Self { kind: Kind::Redis(Box::new(RedisSessions::new(options, metrics.clone())?)), metrics })
    }

    /// Puts a session on record until it ends. Without Redis the session is valid all the same:
    /// the loss is counted and shown in readiness, and the answer goes out.
    pub async fn record(&self, keyring: &crate::keyring::Keyring, record: &SessionRecord, now: Timestamp) {
        match &self.kind {
            Kind::Memory(memory) => {
                let lost = memory.record(record, now);
                self.metrics.sessions_lost.inc_by(lost);
            }
            Kind::Redis(redis) => {
                if let Err(error) = redis.record(keyring, record, now).await {
                    self.metrics.sessions_lost.inc();
                    tracing::debug!(%error, "session record lost");
                }
            }
        }
    }

    /// The record of a session that has not ended. `None`: there is none.
    ///
    /// # Errors
    /// When the store does not answer or the record is forged: never "absent".
    pub async fn find(
        &self,
        keyring: &crate::keyring::Keyring,
        id: &SessionId,
        now: Timestamp,
    ) -> Result<Option<SessionRecord>, SessionsError> {
        let found = match &self.kind {
            Kind::Memory(memory) => memory.find(id),
            Kind::Redis(redis) => redis.find(keyring, id).await?,
        };
        // The store's own expiry is the broom, not the judge.
        Ok(found.filter(|r| now.seconds() < r.expires_at))
    }

    /// Whether the store answered last time.
    pub fn is_up(&self) -> bool {
        match &self.kind {
            Kind::Memory(_) => true,
            Kind::Redis(redis) => redis.is_up(),
        }
    }

    /// Asks a store that did not answer last time again, within its deadline.
    pub async fn probe(&self) {
        if let Kind::Redis(redis) = &self.kind {
            redis.probe().await;
        }
    }
}
