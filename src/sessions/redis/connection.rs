//! Connects to a single Redis server, to the primary that Sentinels name, or to a Redis Cluster.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, IntoConnectionInfo, RedisError,
    RedisResult, TlsCertificates, Value,
};
use tokio::runtime::{self, Handle};
use tokio::sync::Mutex;

use super::options::{Mode, RedisOptions};

/// How long the library itself waits. It is longer than the deadline of calls, which does not count the time in which
/// the thread did something else, and ends only what nobody waits for any more.
const ABANDONED: Duration = Duration::from_secs(1);

/// A client of a single Redis server, of Sentinels that name the primary, or of a Redis Cluster.
pub(super) enum Servers {
    Single(Box<Client>),
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

/// A connection, which any number of calls of a runtime share.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// The connections, one for each runtime that asks. All bytes of a connection pass through the runtime that opened it,
/// so a call on another runtime would wake two threads.
#[derive(Default)]
pub(super) struct Connections(std::sync::Mutex<HashMap<Option<runtime::Id>, Arc<Slot>>>);

/// The connection of one runtime, which is opened when it is first needed.
type Slot = Mutex<Option<Connection>>;

impl Connections {
    /// The connection of the current runtime, which is opened if there is none.
    ///
    /// # Errors
    /// [`RedisError`] if it cannot be opened.
    pub async fn get(&self, servers: &Servers) -> RedisResult<Connection> {
        let runtime = Handle::try_current().ok().map(|runtime| runtime.id());
        let slot = self.all().entry(runtime).or_default().clone();
        let mut slot = slot.lock().await;
        match slot.as_ref() {
            Some(connection) => Ok(connection.clone()),
            None => Ok(slot.insert(servers.connect().await?).clone()),
        }
    }

    /// Closes all connections, once the calls that use them have ended.
    pub fn forget(&self) {
        self.all().clear();
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Option<runtime::Id>, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Sends a command to the servers and waits for the answer. The caller limits the time.
    pub async fn ask(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::One(one) => one.req_packed_command(command).await,
            Self::Cluster(cluster) => cluster.req_packed_command(command).await,
        }
    }
}

impl Servers {
    pub fn new(options: &RedisOptions) -> RedisResult<Self> {
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
                    .connection_timeout(ABANDONED)
                    .response_timeout(ABANDONED)
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

    /// Opens a new connection to these servers.
    pub async fn connect(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ABANDONED))
            .set_response_timeout(Some(ABANDONED));
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
