//! Session records in Redis: one node, Sentinel or Cluster. No Redis type or key name leaves here.
//!
//! A record is `key id ‖ HMAC-SHA256 ‖ bytes`; the MAC covers the record's key name, so that a
//! record that was altered, or moved to another name, is told. Every call has a deadline, and after
//! a failure the next second's calls are not made at all, so that a dead Redis costs nobody time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError,
    RedisResult, TlsCertificates, Value,
};
use ring::hmac;
use tokio::sync::Mutex;

use super::{SessionId, SessionRecord, SessionsError, Standing};
use crate::base::clock::Timestamp;
use crate::base::host_names::is_loopback;
use crate::base::secret::Secret;
use crate::metrics::Metrics;
use crate::session::keyring::Keyring;

/// The longest wait for one answer.
pub const DEADLINE: Duration = Duration::from_millis(250);
/// How long after a failure no call is made but the probe.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a Redis that does not answer is asked by [`RedisSessions::examine`].
const EXAMINED: u32 = 3;
/// How many probes come between two looks at whether Redis is fit.
const CHECK_EVERY: u64 = 5;
/// Answers that say: this Redis is not set up for a broker. They do not pass by themselves.
const UNFIT: &[&str] = &["NOAUTH", "WRONGPASS", "NOPERM", "READONLY", "DENIED"];
/// The answer that says: what is under this name is not of the kind that a broker puts there. It says
/// nothing of other names.
const WRONG_TYPE: &str = "WRONGTYPE";
/// What a counter that is no number, or too large a one, is answered with.
const NO_COUNTER: &str = "ERR";
/// How long a wrong type shows in the standing.
const ODD_FOR: Duration = Duration::from_secs(10);
/// How long a counter is kept without a call.
const KEEP_COUNTER: Duration = Duration::from_secs(60);
/// A broker is counted until it has been silent for so long, and if its clock is ahead by no more.
const BROKER_GONE: Duration = Duration::from_secs(10);
/// The most announcements of brokers that are looked at.
const MAX_ANNOUNCEMENTS: usize = 1_024;
/// The longest record looked at, in bytes: tags of [`crate::session::packing::MAX_UNPACKED`] and a whole chain
/// of sessions, with room for records of earlier versions, which had up to 77 KB of tags. Whatever is
/// longer was not written by a broker.
const MAX_RECORD_BYTES: usize = 262_144;
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

/// The value of `[sessions.redis] unverified_off_loopback`: what is given up where a Redis beyond this
/// machine is spoken to in clear.
pub const UNVERIFIED_SENTENCE: &str =
    "whoever is on the network in between can read and change session records";

/// Checks the address of a Redis: TLS beyond this machine. `names_others`: it is a Sentinel or a node of
/// a cluster, which names the servers that are called then, wherever they are. `may_be_unverified`: the
/// configuration has [`UNVERIFIED_SENTENCE`].
///
/// # Errors
/// The rule that the address breaks.
pub fn check_redis_url(
    url: &str,
    names_others: bool,
    may_be_unverified: bool,
) -> Result<(), String> {
    let secure = url.strip_prefix("rediss://");
    let rest = url.strip_prefix("redis://").or(secure);
    let rest = rest.ok_or_else(|| "must begin with `redis://` or `rediss://`".to_owned())?;
    if rest.contains('@') {
        return Err("must not hold a password; use `username` and `password_file`".to_owned());
    }
    if rest.contains('#') {
        // redis-rs reads `#insecure` as the wish not to verify.
        return Err(format!("`{}` must not hold a `#`", url.escape_debug()));
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.split_once(']') {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_near = is_loopback(host) && !names_others;
    if secure.is_some() || is_near || may_be_unverified {
        return Ok(());
    }
    let where_to = if is_loopback(host) {
        "it names the servers to call, which may be beyond this machine".to_owned()
    } else {
        format!(
            "`{}` is beyond this machine",
            host.trim_start_matches('[').escape_debug()
        )
    };
    Err(format!(
        "`{}` would be called in clear, and {where_to}: {UNVERIFIED_SENTENCE}, and its password. Use `rediss://` (if your own \
         CA signed the server's certificate, name it in `ca_file`), or accept it in [sessions.redis] with \
         unverified_off_loopback = \"{UNVERIFIED_SENTENCE}\"",
        url.escape_debug()
    ))
}

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

enum Servers {
    Single(Box<Client>),
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
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

    pub fn standing(&self) -> Standing {
        let unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        match &*unfit {
            Some(why) => Standing::Unfit(why.clone()),
            None if self.paused_until.load(Ordering::Relaxed) != 0 => Standing::Down,
            None if self.odd_until.load(Ordering::Relaxed) > self.age() => Standing::Odd,
            None => Standing::Up,
        }
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

    /// Adds to counters; their values then. `None`: it is no counter, or none that can be added to.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn add_up(
        &self,
        keyring: &Keyring,
        counters: &[(String, u64)],
    ) -> Result<Vec<Option<i64>>, SessionsError> {
        let mut commands = Vec::with_capacity(2 * counters.len());
        for (name, number) in counters {
            let name = format!("brevet:{}:calls:{name}", keyring.cluster_id());
            let mut add = redis::cmd("INCRBY");
            add.arg(&name).arg(*number);
            let mut expire = redis::cmd("EXPIRE");
            expire.arg(name).arg(KEEP_COUNTER.as_secs());
            commands.extend([add, expire]);
        }
        let answers = self.ask_each(&commands, &[WRONG_TYPE, NO_COUNTER]).await?;
        let counted = |answer: &RedisResult<Value>| match answer {
            Ok(Value::Int(total)) => Some(*total),
            _ => None,
        };
        Ok(answers.iter().step_by(2).map(counted).collect())
    }

    /// Says that the broker `own` is here; how many brokers have said so lately, this one included.
    /// An announcement carries a MAC, so that only brokers of this cluster are counted.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn announce(
        &self,
        keyring: &Keyring,
        own: &str,
        now: Timestamp,
    ) -> Result<usize, SessionsError> {
        let name = format!("brevet:{}:brokers", keyring.cluster_id());
        let at = |seconds: i64| format!("{:012x}", seconds.max(0));
        let spoken = format!("{}:{own}", at(now.seconds()));
        let authentic =
            authenticated(keyring, &name, spoken.as_bytes()).ok_or(SessionsError::Forged)?;
        let gone = i64::try_from(BROKER_GONE.as_secs()).unwrap_or(10);
        let (oldest, newest) = (at(now.seconds() - gone), at(now.seconds() + gone));
        let mut add = redis::cmd("ZADD");
        add.arg(&name).arg(0).arg(format!(
            "{}:{}",
            at(now.seconds()),
            URL_SAFE_NO_PAD.encode(authentic)
        ));
        let mut trim = redis::cmd("ZREMRANGEBYLEX");
        trim.arg(&name).arg("-").arg(format!("({oldest}"));
        let mut range = redis::cmd("ZRANGE");
        range
            .arg(&name)
            .arg(format!("[{oldest}"))
            .arg(format!("({newest}"));
        range
            .arg("BYLEX")
            .arg("LIMIT")
            .arg(0)
            .arg(MAX_ANNOUNCEMENTS);
        let found = members(
            self.ask(&[add, trim, range])
                .await?
                .pop()
                .unwrap_or(Value::Nil),
        )?;
        let mut brokers = HashSet::from([own.to_owned()]);
        for member in found {
            let text = std::str::from_utf8(&member)
                .ok()
                .and_then(|text| text.split_once(':'));
            let Some((at, authentic)) = text else {
                continue;
            };
            let Ok(authentic) = URL_SAFE_NO_PAD.decode(authentic) else {
                continue;
            };
            let spoken = open(keyring, &name, &authentic)
                .and_then(|spoken| std::str::from_utf8(spoken).ok());
            if let Some((said_at, broker)) = spoken.and_then(|spoken| spoken.split_once(':'))
                && said_at == at
            {
                brokers.insert(broker.to_owned());
            }
        }
        Ok(brokers.len())
    }

    /// Marks a signature as used for so long; whether nobody had done so before.
    ///
    /// # Errors
    /// If Redis does not answer in time.
    pub async fn claim_signature(
        &self,
        keyring: &Keyring,
        signature: &[u8; 16],
        span: Duration,
    ) -> Result<bool, SessionsError> {
        let mut set = redis::cmd("SET");
        set.arg(signature_name(keyring, signature))
            .arg(1)
            .arg("NX")
            .arg("EX")
            .arg(span.as_secs().max(1));
        // Something of another type under the name counts as used, too: SET NX does not look at types.
        Ok(self.ask_one(set).await? != Value::Nil)
    }

    /// Forgets that a signature was used.
    ///
    /// # Errors
    /// If Redis does not answer in time.
    pub async fn release_signature(
        &self,
        keyring: &Keyring,
        signature: &[u8; 16],
    ) -> Result<(), SessionsError> {
        // By a life of a millisecond: brokers need no right to delete keys.
        let mut set = redis::cmd("SET");
        set.arg(signature_name(keyring, signature))
            .arg(0)
            .arg("PX")
            .arg(1);
        self.ask_one(set).await.map(|_| ())
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

    /// The members of the index behind `after`, those that end first first: what is found of the
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

    /// Once a second: whether a Redis that went away is back, and now and then whether it is fit.
    pub async fn probe(&self, keyring: &Keyring, now: Timestamp) {
        let due = self
            .probes
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(CHECK_EVERY);
        if !due && self.standing() == Standing::Up {
            return;
        }
        match self.check(keyring, now).await {
            Ok(None) => self.fit(None),
            Ok(Some(why)) => self.fit(Some(why)),
            // It went into the pause, or what the server said is known already.
            Err(_) => {}
        }
    }

    /// Why this Redis must not be used, if it answers: it may drop records for want of room, or does
    /// not keep what is written.
    async fn check(
        &self,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<Option<String>, SessionsError> {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let mut text = String::new();
        texts(&self.ask_one(info).await?, &mut text);
        let policies = text
            .lines()
            .filter_map(|l| l.trim().strip_prefix("maxmemory_policy:"));
        for policy in policies {
            if policy != "noeviction" {
                return Ok(Some(format!(
                    "its maxmemory-policy is `{policy}`; set `noeviction`"
                )));
            }
        }
        let name = format!("brevet:{}:probe", keyring.cluster_id());
        let value = authenticated(keyring, &name, &now.millis().to_be_bytes())
            .ok_or(SessionsError::Forged)?;
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(&value).arg("EX").arg(60);
        let mut trim = redis::cmd("ZREMRANGEBYLEX");
        trim.arg(index_name(keyring))
            .arg("-")
            .arg(format!("({}", member(now.seconds() + 1, &[])));
        // An index of a wrong type is told apart, and is no reason to do without Redis.
        self.ask_each(&[set, trim], &[WRONG_TYPE]).await?;
        Ok(None)
    }

    /// Whether it answers, lets this broker in and is set up as one needs it. It may be slow at first, and is
    /// asked [`EXAMINED`] times.
    ///
    /// # Errors
    /// Why not.
    pub async fn examine(&self, keyring: &Keyring, now: Timestamp) -> Result<(), String> {
        let mut why = String::new();
        for attempt in 0..EXAMINED {
            if attempt > 0 {
                tokio::time::sleep(PAUSE + DEADLINE).await;
            }
            match (self.check(keyring, now).await, self.standing()) {
                (Ok(None), _) => return Ok(()),
                (Ok(Some(unfit)), _) | (Err(_), Standing::Unfit(unfit)) => return Err(unfit),
                (Err(error), _) => why = error.to_string(),
            }
        }
        Err(why)
    }

    fn fit(&self, why: Option<String>) {
        let mut unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        if *unfit != why {
            match &why {
                Some(why) => {
                    tracing::error!(%why, "redis must not be used as it is: this node is not ready")
                }
                None => tracing::info!("redis is fit again"),
            }
            self.metrics.sessions_fit.set(i64::from(why.is_none()));
            *unfit = why;
        }
    }

    async fn ask_one(&self, command: Cmd) -> Result<Value, SessionsError> {
        Ok(self.ask(&[command]).await?.pop().unwrap_or(Value::Nil))
    }

    /// Commands side by side, and their answers in order; all of them, or an error.
    async fn ask(&self, commands: &[Cmd]) -> Result<Vec<Value>, SessionsError> {
        let answers = self.ask_each(commands, &[WRONG_TYPE]).await?;
        answers
            .into_iter()
            .collect::<RedisResult<_>>()
            .map_err(|e| SessionsError::Unreachable(e.to_string()))
    }

    /// Commands side by side, and their answers in order. Errors with the codes of `odd` are answers
    /// too: they are the named key's, and Redis itself does what it should.
    async fn ask_each(
        &self,
        commands: &[Cmd],
        odd: &[&str],
    ) -> Result<Vec<RedisResult<Value>>, SessionsError> {
        let now = self.age();
        let paused = self.paused_until.load(Ordering::Relaxed);
        if paused > now {
            return Err(SessionsError::Unreachable("paused after a failure".into()));
        }
        if paused != 0 {
            // One call tries; the others wait for its outcome in the next pause.
            let next = now.saturating_add(millis(PAUSE));
            if self
                .paused_until
                .compare_exchange(paused, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
            {
                return Err(SessionsError::Unreachable("paused after a failure".into()));
            }
        }
        let failure = match tokio::time::timeout(DEADLINE, self.answers(commands, odd)).await {
            Ok(Ok(answers)) => {
                if self.paused_until.swap(0, Ordering::Relaxed) != 0 {
                    self.metrics.sessions_up.set(1);
                    tracing::info!("redis answers again");
                }
                let of_wrong_type = |a: &RedisResult<Value>| {
                    a.as_ref().is_err_and(|e| e.code() == Some(WRONG_TYPE))
                };
                if let Some((command, _)) = commands
                    .iter()
                    .zip(&answers)
                    .find(|(_, answer)| of_wrong_type(answer))
                {
                    let until = now.saturating_add(millis(ODD_FOR));
                    if self.odd_until.swap(until, Ordering::Relaxed) <= now {
                        let key = command
                            .args_iter()
                            .nth(1)
                            .map(|key| format!("{key:?}"))
                            .unwrap_or_default();
                        tracing::warn!(
                            key,
                            "a key in redis holds a value of another type; delete it"
                        );
                    }
                }
                return Ok(answers);
            }
            Ok(Err(error)) => {
                if error.code().is_some_and(|c| UNFIT.contains(&c))
                    || error.kind() == ErrorKind::AuthenticationFailed
                {
                    self.fit(Some(error.to_string()));
                }
                error.to_string()
            }
            Err(_) => "no answer within 250 ms".to_owned(),
        };
        // What comes late on it is nobody's answer; the next call asks anew who the primary is.
        self.connection.lock().await.take();
        let pause = now.saturating_add(millis(PAUSE + DEADLINE)).max(1);
        if self.paused_until.swap(pause, Ordering::Relaxed) == 0 {
            self.metrics.sessions_up.set(0);
            tracing::warn!(error = %failure, "redis does not do it; sessions go on without records");
        }
        Err(SessionsError::Unreachable(failure))
    }

    async fn answers(
        &self,
        commands: &[Cmd],
        odd: &[&str],
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let connection = {
            let mut slot = self.connection.lock().await;
            match slot.as_ref() {
                Some(connection) => connection.clone(),
                None => slot.insert(self.servers.connect().await?).clone(),
            }
        };
        let asked = commands.iter().map(|command| {
            let mut connection = connection.clone();
            async move {
                let value = match &mut connection {
                    Connection::One(one) => one.req_packed_command(command).await,
                    Connection::Cluster(cluster) => cluster.req_packed_command(command).await,
                };
                let error = match value {
                    Ok(Value::ServerError(error)) => RedisError::from(error),
                    Ok(value) => return Ok(Ok(value)),
                    Err(error) => error,
                };
                if error.code().is_some_and(|code| odd.contains(&code)) {
                    Ok(Err(error))
                } else {
                    Err(error)
                }
            }
        });
        // Sent one behind the other, so that one round trip serves all.
        futures_util::future::try_join_all(asked).await
    }

    /// Milliseconds since it was made.
    fn age(&self) -> u64 {
        millis(self.born.elapsed())
    }
}

impl Servers {
    fn new(options: &RedisOptions) -> RedisResult<Self> {
        let infos: Vec<ConnectionInfo> = options
            .urls
            .iter()
            .map(|u| info(options, u))
            .collect::<RedisResult<_>>()?;
        let first = infos
            .first()
            .cloned()
            .ok_or_else(|| RedisError::from((redis::ErrorKind::InvalidClientConfig, "no url")))?;
        let tls = TlsCertificates {
            client_tls: None,
            root_cert: options.ca.clone(),
        };
        let secure = options.urls.iter().all(|u| u.starts_with("rediss://"));
        match &options.mode {
            Mode::Single if secure => {
                Ok(Self::Single(Box::new(Client::build_with_tls(first, tls)?)))
            }
            Mode::Single => Ok(Self::Single(Box::new(Client::open(first)?))),
            Mode::Sentinel { primary } => {
                let addresses = infos.iter().map(|i| i.addr().clone());
                let mut builder =
                    SentinelClientBuilder::new(addresses, primary, SentinelServerType::Master)?;
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
                Ok(Self::Sentinel(Box::new(Mutex::new(builder.build()?))))
            }
            Mode::Cluster => {
                let mut builder = ClusterClientBuilder::new(infos)
                    .connection_timeout(DEADLINE)
                    .response_timeout(DEADLINE)
                    .retries(2);
                if let Some(username) = &options.username {
                    builder = builder.username(username);
                }
                if let Some(password) = &options.password {
                    builder = builder.password(password.expose());
                }
                if secure {
                    builder = builder.tls(redis::TlsMode::Secure).certs(tls);
                }
                Ok(Self::Cluster(Box::new(builder.build()?)))
            }
        }
    }

    async fn connect(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(DEADLINE));
        match self {
            Self::Single(client) => client
                .get_multiplexed_async_connection_with_config(&config)
                .await
                .map(Connection::One),
            Self::Sentinel(client) => client
                .lock()
                .await
                .get_async_connection_with_config(&config)
                .await
                .map(Connection::One),
            Self::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
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
    format!(
        "brevet:{}:session:{}",
        keyring.cluster_id(),
        crate::base::digest::hex(id)
    )
}

fn signature_name(keyring: &Keyring, signature: &[u8; 16]) -> String {
    format!(
        "brevet:{}:signature:{}",
        keyring.cluster_id(),
        crate::base::digest::hex(signature)
    )
}

/// All sessions in the order in which they end: members alone count, their scores are equal.
fn index_name(keyring: &Keyring) -> String {
    format!("brevet:{}:sessions", keyring.cluster_id())
}

/// `EXPIRY:ID`, both in hexadecimal digits of a fixed number, so that text order is time order.
pub(super) fn member(expires_at: i64, id: &[u8]) -> String {
    format!(
        "{:012x}:{}",
        expires_at.max(0),
        crate::base::digest::hex(id)
    )
}

/// Whether [`member`] has made it.
fn is_member(text: &str) -> bool {
    let digits = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    text.split_once(':')
        .is_some_and(|(at, id)| at.len() == 12 && digits(at) && super::session_id(id).is_some())
}

/// The members in an answer, whatever they are made of.
fn members(value: Value) -> Result<Vec<Vec<u8>>, SessionsError> {
    let unlike =
        |value: &Value| SessionsError::Unreachable(format!("ZRANGE answered a {}", kind(value)));
    let Value::Array(items) = value else {
        return Err(unlike(&value));
    };
    let bytes = |item| match item {
        Value::BulkString(bytes) => Ok(bytes),
        other => Err(unlike(&other)),
    };
    items.into_iter().map(bytes).collect()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Every text in an answer: a cluster's nodes each give one.
fn texts(value: &Value, into: &mut String) {
    match value {
        Value::BulkString(bytes) => into.push_str(&String::from_utf8_lossy(bytes)),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => into.push_str(text),
        Value::Array(items) | Value::Set(items) => items.iter().for_each(|v| texts(v, into)),
        Value::Map(pairs) => pairs.iter().for_each(|(_, v)| texts(v, into)),
        _ => {}
    }
    into.push('\n');
}

fn authenticated(keyring: &Keyring, name: &str, body: &[u8]) -> Option<Vec<u8>> {
    let key = keyring.current()?;
    let mac = tag(&keyring.record_mac(key).ok()?, name, body);
    Some([key.id().to_be_bytes().as_slice(), mac.as_ref(), body].concat())
}

/// Whether what was written names a key that was revoked.
fn is_of_revoked(keyring: &Keyring, bytes: &[u8]) -> bool {
    bytes
        .first_chunk::<KEY_ID>()
        .is_some_and(|id| keyring.is_revoked(u32::from_be_bytes(*id)))
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
    use crate::base::entropy::SystemEntropy;

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

    #[test]
    fn a_redis_beyond_this_machine_is_called_by_tls() {
        for near in [
            "redis://localhost",
            "redis://127.0.0.1:6379/0",
            "redis://[::1]:6379/0?protocol=resp3",
        ] {
            assert_eq!(check_redis_url(near, false, false), Ok(()), "{near}");
            let error = check_redis_url(near, true, false).unwrap_err();
            assert!(
                error.contains("names the servers") && error.contains("unverified_off_loopback"),
                "{error}"
            );
            assert_eq!(check_redis_url(near, true, true), Ok(()), "{near}");
        }
        for far in [
            "redis://cache:6379/0",
            "redis://10.0.0.1",
            "redis://[2001:db8::1]:6379",
            "redis://localhost.example",
            "redis://",
        ] {
            let error = check_redis_url(far, false, false).unwrap_err();
            assert!(
                error.contains(far) && error.contains("rediss://") && error.contains("ca_file"),
                "{error}"
            );
            assert_eq!(check_redis_url(far, false, true), Ok(()));
        }
        assert_eq!(
            check_redis_url("rediss://cache:6379/0", true, false),
            Ok(())
        );
        for (url, named) in [
            ("rediss://cache/#insecure", "#"),
            ("redis://:secret@localhost", "password_file"),
            ("rediss://u:secret@cache", "password_file"),
            ("http://localhost", "rediss://"),
        ] {
            let error = check_redis_url(url, false, true).unwrap_err();
            assert!(
                error.contains(named) && !error.contains("secret"),
                "{url}: {error}"
            );
        }
    }
}
