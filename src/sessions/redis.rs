//! Session records in Redis: one node, Sentinel or Cluster. No Redis type or key name leaves here.
//!
//! A record is `key id ‖ HMAC-SHA256 ‖ bytes`; the MAC covers the record's key name, so that a
//! record that was altered, or moved to another name, is found out. Every call has a deadline, and after
//! a failure the next second's calls are not made at all, so that a Redis that is down costs nobody time.

mod ask;
mod authentic;
mod brokers;
mod connection;
mod names;
mod options;
mod probe;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prost::Message;
use redis::{RedisResult, Value};
use tokio::sync::Mutex;

use self::ask::WRONG_TYPE;
use self::authentic::{authenticated, is_of_revoked, open};
use self::connection::{Connection, Servers};
use self::names::{index_name, is_member, kind, members, name};
use super::record::member;
use super::{SessionId, SessionRecord, SessionsError};
use crate::base::clock::Timestamp;
use crate::metrics::Metrics;
use crate::session::keyring::Keyring;

pub use self::options::{Mode, RedisOptions, UNVERIFIED_SENTENCE, check_redis_url};

/// The longest wait for one answer.
pub const DEADLINE: Duration = Duration::from_millis(250);

/// The records, counters and marks of one cluster.
pub(super) struct RedisSessions {
    servers: Servers,
    connection: Mutex<Option<Connection>>,
    metrics: Arc<Metrics>,
    born: Instant,
    /// Milliseconds after `born` until which no call is made; 0: Redis answers.
    paused_until: AtomicU64,
    /// Why it must not be used as it is; found by the probe, or by an answer.
    unfit: std::sync::Mutex<Option<String>>,
    /// Milliseconds after `born` until which something of a wrong type is remembered.
    odd_until: AtomicU64,
    probes: AtomicU64,
}

impl RedisSessions {
    pub fn new(options: &RedisOptions, metrics: Arc<Metrics>) -> RedisResult<Self> {
        Ok(Self {
            servers: Servers::new(options)?,
            connection: Mutex::default(),
            metrics,
            born: Instant::now(),
            paused_until: AtomicU64::new(0),
            unfit: std::sync::Mutex::default(),
            odd_until: AtomicU64::new(0),
            probes: AtomicU64::new(0),
        })
    }

    /// A missing Redis means: the record is lost, the session is not.
    pub async fn record(
        &self,
        keyring: &Keyring,
        record: &SessionRecord,
        now: Timestamp,
    ) -> Result<(), SessionsError> {
        let left = record.expires_at.saturating_sub(now.seconds());
        let name = name(keyring, &record.session_id);
        let value =
            authenticated(keyring, &name, &record.encode_to_vec()).ok_or(SessionsError::Forged)?;
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(value).arg("EX").arg(left.max(1));
        let mut index = redis::cmd("ZADD");
        index
            .arg(index_name(keyring))
            .arg(0)
            .arg(member(record.expires_at, &record.session_id));
        self.ask(&[set, index]).await.map(|_| ())
    }

    /// A missing Redis means: unknown, which is an error and never "absent".
    pub async fn find(
        &self,
        keyring: &Keyring,
        id: &SessionId,
    ) -> Result<Option<SessionRecord>, SessionsError> {
        let name = name(keyring, id);
        let mut command = redis::cmd("GET");
        command.arg(&name);
        let answer = self.ask_each(&[command], &[WRONG_TYPE]).await?.pop();
        let bytes = match answer {
            // Made by a key that was revoked: nobody can say any more whether it is what was written.
            Some(Ok(Value::BulkString(bytes))) if is_of_revoked(keyring, &bytes) => {
                return Ok(None);
            }
            Some(Ok(Value::BulkString(bytes))) => bytes,
            Some(Ok(Value::Nil)) => return Ok(None),
            None => return Err(SessionsError::Unreachable("GET was not answered".into())),
            Some(Ok(other)) => {
                return Err(SessionsError::Unreachable(format!(
                    "GET answered a {}",
                    kind(&other)
                )));
            }
            Some(Err(_)) => {
                self.metrics.sessions_forged.inc();
                tracing::warn!(session = %crate::base::digest::hex(id), "something else is in the place of a session record");
                return Err(SessionsError::Forged);
            }
        };
        let opened = open(keyring, &name, &bytes).and_then(|body| SessionRecord::decode(body).ok());
        let record = opened.filter(|r| r.session_id == id);
        if record.is_none() {
            // Altered, moved, or the answer to another question: that connection is not asked again.
            self.connection.lock().await.take();
            self.metrics.sessions_forged.inc();
            tracing::warn!(session = %crate::base::digest::hex(id), "a session record fails authentication");
        }
        record.map(Some).ok_or(SessionsError::Forged)
    }

    /// The members of the index behind `after`, ordered by expiry: what is found of the
    /// next `limit`, and where they end. No end: there are no more. What no broker has put there is
    /// passed over, and taken out, so that it is in nobody's way the next time.
    pub async fn list(
        &self,
        keyring: &Keyring,
        after: &[u8],
        limit: usize,
        now: Timestamp,
    ) -> Result<(Vec<String>, Option<Vec<u8>>), SessionsError> {
        let index = index_name(keyring);
        let floor = member(now.seconds() + 1, &[]).into_bytes();
        let start = if after < floor.as_slice() {
            [b"[", floor.as_slice()]
        } else {
            [b"(", after]
        }
        .concat();
        let mut command = redis::cmd("ZRANGE");
        command
            .arg(&index)
            .arg(start)
            .arg("+")
            .arg("BYLEX")
            .arg("LIMIT")
            .arg(0)
            .arg(limit);
        let found = members(self.ask_one(command).await?)?;
        let end = if found.len() < limit {
            None
        } else {
            found.last().cloned()
        };
        let (mut names, mut foreign) = (Vec::with_capacity(found.len()), Vec::new());
        for member in found {
            match String::from_utf8(member) {
                Ok(name) if is_member(&name) => names.push(name),
                Ok(name) => foreign.push(name.into_bytes()),
                Err(error) => foreign.push(error.into_bytes()),
            }
        }
        if !foreign.is_empty() {
            tracing::warn!(
                members = foreign.len(),
                "the index of sessions had members that name no session"
            );
            let remove = foreign.iter().map(|member| {
                let exactly = [b"[", member.as_slice()].concat();
                let mut remove = redis::cmd("ZREMRANGEBYLEX");
                remove.arg(&index).arg(&exactly).arg(&exactly);
                remove
            });
            self.ask(&remove.collect::<Vec<_>>()).await?;
        }
        Ok((names, end))
    }
}
