//! Session records in Redis, which may be a single node, Sentinel or Cluster. No Redis type or key name is visible
//! outside this module.
//!
//! A record is `key id ‖ HMAC-SHA256 ‖ bytes`. The MAC covers the name of the Redis key, so that a record that was
//! altered, or moved to another name, is detected. Every call has a deadline, and for about a second after a failure no
//! calls are made, so that a Redis that is down delays nobody.

mod ask;
mod authentic;
mod brokers;
mod connection;
mod names;
mod options;
mod probe;
mod tokens;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prost::Message;
use redis::{RedisResult, Value};

use self::ask::WRONG_TYPE;
use self::authentic::{authenticated, is_of_revoked, open};
use self::connection::{Connections, Servers};
use self::names::{index_name, is_member, kind, members, name, sign_in_name};
use super::record::member;
use super::{SessionId, SessionRecord, SessionsError};
use crate::base::clock::Timestamp;
use crate::metrics::Metrics;
use crate::session::durations;
use crate::session::keyring::Keyring;

pub use self::options::{Mode, RedisOptions, UNVERIFIED_SENTENCE, check_redis_url};

/// How long a call waits for the answer of Redis before it counts as a failure. Time in which the thread did something
/// else does not count.
pub const DEADLINE: Duration = Duration::from_millis(250);

/// The session records, counters and revocation marks that one cluster of brokers keeps in Redis.
pub(super) struct RedisSessions {
    servers: Servers,
    connections: Connections,
    metrics: Arc<Metrics>,
    born: Instant,
    /// The time until which no calls are made, in milliseconds after `born`; 0 if Redis answers.
    paused_until: AtomicU64,
    /// The reason why the settings of Redis do not suit a broker, which the probe or an answer has shown; `None` if
    /// they do.
    unfit: std::sync::Mutex<Option<String>>,
    /// Until when `Standing::Odd` is reported, in milliseconds after `born`.
    odd_until: AtomicU64,
    probes: AtomicU64,
    /// Random bytes by which this process recognizes its own marks of used signatures.
    claimant: [u8; 8],
}

impl RedisSessions {
    pub fn new(options: &RedisOptions, metrics: Arc<Metrics>) -> RedisResult<Self> {
        Ok(Self {
            servers: Servers::new(options)?,
            connections: Connections::default(),
            metrics,
            born: Instant::now(),
            paused_until: AtomicU64::new(0),
            unfit: std::sync::Mutex::default(),
            odd_until: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            claimant: RandomState::new().hash_one(()).to_be_bytes(),
        })
    }

    /// Records a session. An error means that the record is lost, not the session.
    pub async fn record(
        &self,
        keyring: &Keyring,
        record: &SessionRecord,
        now: Timestamp,
    ) -> Result<(), SessionsError> {
        let left = record.expires_at.saturating_sub(now.seconds());
        let name = name(keyring, &record.session_id);
        let value = authenticated(keyring, &name, &record.encode_to_vec())
            .ok_or(SessionsError::WithoutKey)?;
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(value).arg("EX").arg(left.max(1));
        let mut index = redis::cmd("ZADD");
        index
            .arg(index_name(keyring))
            .arg(0)
            .arg(member(record.expires_at, &record.session_id));
        let mut commands = vec![set, index];
        if let Some(sign_in) = record.sign_in() {
            let name = sign_in_name(keyring, &sign_in);
            let mut own = redis::cmd("ZADD");
            own.arg(&name)
                .arg(0)
                .arg(member(record.expires_at, &record.session_id));
            // No session lasts longer.
            let mut expire = redis::cmd("EXPIRE");
            expire.arg(&name).arg(durations::MAX.as_secs());
            commands.extend([own, expire]);
        }
        self.ask(&commands).await.map(|_| ())
    }

    /// Reads a record. An error means that it is unknown whether Redis has the record.
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
            // The key was revoked, so that nobody can tell whether the record is authentic.
            Some(Ok(Value::BulkString(bytes))) if is_of_revoked(keyring, &bytes) => {
                return Ok(None);
            }
            Some(Ok(Value::BulkString(bytes))) => bytes,
            Some(Ok(Value::Nil)) => return Ok(None),
            None => {
                return Err(SessionsError::Unreachable(
                    "redis did not answer GET".into(),
                ));
            }
            Some(Ok(other)) => {
                return Err(SessionsError::Unreachable(format!(
                    "GET answered a {}",
                    kind(&other)
                )));
            }
            Some(Err(_)) => {
                self.metrics.sessions_forged.inc();
                tracing::warn!(session = %crate::base::digest::hex(id), "the redis key of a session record \
                    holds a value of a type that brokers do not write; the session is still valid, but its record is \
                    not used");
                return Err(SessionsError::Forged);
            }
        };
        let opened = open(keyring, &name, &bytes).and_then(|body| SessionRecord::decode(body).ok());
        let record = opened.filter(|r| r.session_id == id);
        if record.is_none() {
            // The record was altered or moved, or the answer belongs to another request: the
            // connection is closed.
            self.connections.forget();
            self.metrics.sessions_forged.inc();
            tracing::warn!(session = %crate::base::digest::hex(id), "a session record in redis fails authentication: \
                no broker of this cluster wrote it. The session is still valid, but the record is not used");
        }
        record.map(Some).ok_or(SessionsError::Forged)
    }

    /// Lists at most `limit` members of an index after the member `after`, ordered by expiry. The index is that of all
    /// sessions, or that of the sessions that came from the sign-in `of`.
    ///
    /// Returns the members, and the last member that was read, or `None` at the end of the index. Members that do not
    /// have the form that brokers write are skipped and removed.
    pub async fn list(
        &self,
        keyring: &Keyring,
        of: Option<&SessionId>,
        after: &[u8],
        limit: usize,
        now: Timestamp,
    ) -> Result<(Vec<String>, Option<Vec<u8>>), SessionsError> {
        let index = match of {
            None => index_name(keyring),
            Some(sign_in) => sign_in_name(keyring, sign_in),
        };
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
                "the index of sessions in redis contained entries that are not sessions; the broker removed them"
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
