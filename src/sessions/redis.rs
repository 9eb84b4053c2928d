//! Session records in Redis: one node, Sentinel or Cluster. No Redis type or key name leaves here.
//!
//! A record is `key id ‖ HMAC-SHA256 ‖ bytes`; the MAC covers the record's key name, so that a
//! record that was altered, or moved to another name, is told. Every call has a deadline, and after
//! a failure the next second's calls are not made at all, so that a dead Redis costs nobody time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prost::Message;
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, IntoConnectionInfo, RedisError, RedisResult, TlsCertificates,
    Value,
};
use ring::hmac;
use tokio::sync::Mutex;

use super::{SessionId, SessionRecord, SessionsError};
use crate::clock::Timestamp;
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::secret::Secret;

/// The longest wait for one answer.
pub const DEADLINE: Duration = Duration::from_millis(250);
/// How long after a failure no call is made but the probe.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest record looked at, in bytes.
const MAX_RECORD_BYTES: usize = 65_536;
const KEY_ID: usize = 4;
const MAC: usize = 32;

/// How the Redis servers are arranged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// One server.
    Single,
    /// The URLs are Sentinels; they name the server.
    Sentinel {
        /// The name that the Sentinels know the primary by.
        primary: String,
    },
    /// The URLs are nodes of a cluster.
    Cluster,
}

/// Where the records are.
#[derive(Debug)]
pub struct RedisOptions {
    /// How the servers are arranged.
    pub mode: Mode,
    /// `redis://HOST:PORT/DB` or `rediss://…`; no password in it.
    pub urls: Vec<String>,
    /// The ACL user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret<String>>,
    /// PEM of the CA that signed the servers' certificates; the system's roots without it.
    pub ca: Option<Vec<u8>>,
}

pub(super) struct RedisSessions {
    link: Link,
    metrics: Arc<Metrics>,
    born: Instant,
    /// Milliseconds after `born` until which no call is made; 0: Redis answers.
    paused_until: AtomicU64,
}

enum Link {
    Single(Box<ConnectionManager>),
    Sentinel { client: Mutex<SentinelClient>, connection: Mutex<Option<MultiplexedConnection>> },
    Cluster { client: ClusterClient, connection: Mutex<Option<ClusterConnection>> },
}

impl RedisSessions {
    pub fn new(options: &RedisOptions, metrics: Arc<Metrics>) -> RedisResult<Self> {
        Ok(Self { link: Link::new(options)?, metrics, born: Instant::now(), paused_until: AtomicU64::new(0) })
    }

    pub fn is_up(&self) -> bool {
        self.paused_until.load(Ordering::Relaxed) == 0
    }

    /// A missing Redis means: the record is lost, the session is not.
    pub async fn record(&self, keyring: &Keyring, record: &SessionRecord, now: Timestamp) -> Result<(), SessionsError> {
        let left = record.expires_at.saturating_sub(now.seconds());
        let name = name(keyring, &record.session_id);
        let value = authenticated(keyring, &name, &record.encode_to_vec()).ok_or(SessionsError::Forged)?;
        let mut command = redis::cmd("SET");
        command.arg(&name).arg(value).arg("EX").arg(left.max(1));
        self.ask(&command).await.map(|_| ())
    }

    /// A missing Redis means: unknown, which is an error and never "absent".
    pub async fn find(&self, keyring: &Keyring, id: &SessionId) -> Result<Option<SessionRecord>, SessionsError> {
        let name = name(keyring, id);
        let mut command = redis::cmd("GET");
        command.arg(&name);
        let bytes = match self.ask(&command).await? {
            Value::Nil => return Ok(None),
            Value::BulkString(bytes) => bytes,
            other => return Err(SessionsError::Unreachable(format!("GET answered a {}", kind(&other)))),
        };
        let opened = open(keyring, &name, &bytes).and_then(|body| SessionRecord::decode(body).ok());
        let record = opened.filter(|r| r.session_id == id);
        if record.is_none() {
            self.metrics.sessions_forged.inc();
            tracing::warn!(session = %crate::sigv4::hex(id), "a session record fails authentication");
        }
        record.map(Some).ok_or(SessionsError::Forged)
    }

    pub async fn probe(&self) {
        if !self.is_up() {
            // The answer is in `is_up`; the failure was logged when it began.
            let _ = self.ask(&redis::cmd("PING")).await;
        }
    }

    async fn ask(&self, command: &Cmd) -> Result<Value, SessionsError> {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let paused = self.paused_until.load(Ordering::Relaxed);
        if paused > now {
            return Err(SessionsError::Unreachable("paused after a failure".into()));
        }
        if paused != 0 {
            // One call tries; the others wait for its outcome in the next pause.
            let next = now.saturating_add(u64::try_from(PAUSE.as_millis()).unwrap_or(1_000));
            if self.paused_until.compare_exchange(paused, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                return Err(SessionsError::Unreachable("paused after a failure".into()));
            }
        }
        let failure = match tokio::time::timeout(DEADLINE, self.link.ask(command)).await {
            Ok(Ok(Value::ServerError(error))) => error.to_string(),
            Ok(Ok(value)) => {
                if self.paused_until.swap(0, Ordering::Relaxed) != 0 {
                    self.metrics.sessions_up.set(1);
                    tracing::info!("redis answers again");
                }
                return Ok(value);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 250 ms".to_owned(),
        };
        self.link.drop_connection().await;
        let pause = now.saturating_add(u64::try_from((PAUSE + DEADLINE).as_millis()).unwrap_or(1_250)).max(1);
        if self.paused_until.swap(pause, Ordering::Relaxed) == 0 {
            self.metrics.sessions_up.set(0);
            tracing::warn!(error = %failure, "redis does not answer; sessions go on without records");
        }
        Err(SessionsError::Unreachable(failure))
    }
}

impl Link {
    fn new(options: &RedisOptions) -> RedisResult<Self> {
        let infos: Vec<ConnectionInfo> = options.urls.iter().map(|u| info(options, u)).collect::<RedisResult<_>>()?;
        let first = infos
            .first()
            .cloned()
            .ok_or_else(|| RedisError::from((redis::ErrorKind::InvalidClientConfig, "no url")))?;
        let tls = TlsCertificates { client_tls: None, root_cert: options.ca.clone() };
        let secure = options.urls.iter().all(|u| u.starts_with("rediss://"));
        match &options.mode {
            Mode::Single => {
                let client = if secure { Client::build_with_tls(first, tls)? } else { Client::open(first)? };
                let config = ConnectionManagerConfig::new()
                    .set_response_timeout(Some(DEADLINE))
                    .set_connection_timeout(Some(DEADLINE))
                    .set_number_of_retries(1)
                    .set_max_delay(PAUSE);
                Ok(Self::Single(Box::new(ConnectionManager::new_lazy_with_config(client, config)?)))
            }
            Mode::Sentinel { primary } => {
                let addresses = infos.iter().map(|i| i.addr().clone());
                let mut builder = SentinelClientBuilder::new(addresses, primary, SentinelServerType::Master)?;
                if let Some(username) = &options.username {
                    builder = builder.set_client_to_redis_username(username);
                }
                if let Some(password) = &options.password {
                    builder = builder.set_client_to_redis_password(password.expose());
                }
                if secure {
                    builder = builder
                        .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
                        .set_client_to_sentinel_tls_mode(redis::TlsMode::Secure)
                        .set_client_to_redis_certificates(tls.clone())
                        .set_client_to_sentinel_certificates(tls);
                }
                Ok(Self::Sentinel { client: Mutex::new(builder.build()?), connection: Mutex::default() })
            }
            Mode::Cluster => {
                let mut builder =
                    ClusterClientBuilder::new(infos).connection_timeout(DEADLINE).response_timeout(DEADLINE).retries(2);
                if let Some(username) = &options.username {
                    builder = builder.username(username);
                }
                if let Some(password) = &options.password {
                    builder = builder.password(password.expose());
                }
                if secure {
                    builder = builder.tls(redis::TlsMode::Secure).certs(tls);
                }
                Ok(Self::Cluster { client: builder.build()?, connection: Mutex::default() })
            }
        }
    }

    async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Single(manager) => manager.as_ref().clone().req_packed_command(command).await,
            Self::Sentinel { client, connection } => {
                let mut slot = connection.lock().await;
                let mut link = match slot.as_ref() {
                    Some(link) => link.clone(),
                    None => {
                        let config = AsyncConnectionConfig::new()
                            .set_connection_timeout(Some(DEADLINE))
                            .set_response_timeout(Some(DEADLINE));
                        let link = client.lock().await.get_async_connection_with_config(&config).await?;
                        slot.insert(link).clone()
                    }
                };
                drop(slot);
                link.req_packed_command(command).await
            }
            Self::Cluster { client, connection } => {
                let mut slot = connection.lock().await;
                let mut link = match slot.as_ref() {
                    Some(link) => link.clone(),
                    None => slot.insert(client.get_async_connection().await?).clone(),
                };
                drop(slot);
                link.req_packed_command(command).await
            }
        }
    }

    /// After a failure the next call asks anew who the primary is.
    async fn drop_connection(&self) {
        match self {
            // It reconnects by itself.
            Self::Single(_) => {}
            Self::Sentinel { connection, .. } => *connection.lock().await = None,
            Self::Cluster { connection, .. } => *connection.lock().await = None,
        }
    }
}

fn info(options: &RedisOptions, url: &str) -> RedisResult<ConnectionInfo> {
    let info = url.into_connection_info()?;
    if options.mode != Mode::Single {
        return Ok(info);
    }
    let mut settings = info.redis_settings().clone();
    if let Some(username) = &options.username {
        settings = settings.set_username(username);
    }
    if let Some(password) = &options.password {
        settings = settings.set_password(password.expose());
    }
    Ok(info.set_redis_settings(settings))
}

fn name(keyring: &Keyring, id: &[u8]) -> String {
    format!("brevet:{}:session:{}", keyring.cluster_id(), crate::sigv4::hex(id))
}

fn authenticated(keyring: &Keyring, name: &str, body: &[u8]) -> Option<Vec<u8>> {
    let key = keyring.current()?;
    let mac = tag(&keyring.record_mac(key).ok()?, name, body);
    Some([key.id().to_be_bytes().as_slice(), mac.as_ref(), body].concat())
}

fn open<'a>(keyring: &Keyring, name: &str, bytes: &'a [u8]) -> Option<&'a [u8]> {
    if bytes.len() > MAX_RECORD_BYTES {
        return None;
    }
    let (id, rest) = bytes.split_at_checked(KEY_ID)?;
    let (mac, body) = rest.split_at_checked(MAC)?;
    let key = keyring.find(u32::from_be_bytes(id.try_into().ok()?))?;
    let message = [name.as_bytes(), b"\n", body].concat();
    hmac::verify(&keyring.record_mac(key).ok()?, &message, mac).ok()?;
    Some(body)
}

fn tag(key: &hmac::Key, name: &str, body: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in [name.as_bytes(), b"\n", body] {
        context.update(part);
    }
    context.sign()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Int(_) => "number",
        Value::Array(_) => "list",
        Value::SimpleString(_) | Value::Okay => "status",
        _ => "value of another type",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn st_12_a_record_opens_under_its_own_name_alone() {
        let keyring = Keyring::generate(&SystemEntropy::new(), Timestamp::from_seconds(1)).unwrap();
        let bytes = authenticated(&keyring, "a", b"body").unwrap();
        assert_eq!(open(&keyring, "a", &bytes), Some(b"body".as_slice()));
        assert_eq!(open(&keyring, "b", &bytes), None);
        for i in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[i] ^= 1;
            assert_eq!(open(&keyring, "a", &altered), None, "byte {i}");
            assert_eq!(open(&keyring, "a", &bytes[..i]), None);
        }
        assert_eq!(open(&keyring, "a", &vec![0; MAX_RECORD_BYTES + 1]), None);
    }
}
