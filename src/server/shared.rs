//! The state that connections and background tasks share. It tells whether the daemon is ready.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::clock::{self, Timekeeper};
use super::s3_parts::S3Parts;
use super::{certificate, descriptors, handshake, memory};
use crate::admission::{Admission, Bounds};
use crate::broker::Broker;
use crate::config::{Config, Limits, Listener};
use crate::directory_file::{Serves, Serving};
use crate::feed::Standing;
use crate::follow::FollowContext;
use crate::sessions;
use crate::store::Node;
use crate::tls::Identity;
use crate::tokens::WITHOUT_SIGNING_KEY;
use crate::upkeep::SaveTime;

/// The state of a running daemon, which all its connections and background tasks share.
pub(super) struct Shared {
    pub(super) broker: Arc<Broker>,
    pub(super) admission: Arc<Admission>,
    pub(super) limits: Limits,
    pub(super) listener: Listener,
    pub(super) reflection: bool,
    pub(super) tls: ArcSwapOption<ServerConfig>,
    /// The SHA-256 of the file with the CA of client certificates; `None` without such a file. A certificate counts
    /// only if it was verified by this CA.
    pub(super) client_ca: ArcSwapOption<[u8; 32]>,
    pub(super) certificate: certificate::Ends,
    /// The listener for proxies in front of object stores, if there are stores.
    pub(super) s3: Option<Arc<S3Parts>>,
    /// Permits for TLS handshakes, which limit how many of them the processors work on at the same time.
    pub(super) handshakes: Arc<Semaphore>,
    pub(super) watermark: Option<PathBuf>,
    pub(super) timekeeper: Timekeeper,
    pub(super) node: Node,
    pub(super) serving: Arc<Serving>,
    /// The runtime for work that is not urgent, except for the connections of callers.
    pub(super) ordinary: Handle,
    pub(super) stop: watch::Receiver<bool>,
}

impl Shared {
    /// Makes the state of a daemon that has just started.
    pub(super) fn new(
        config: &Config,
        broker: Arc<Broker>,
        identity: Option<Identity>,
        timekeeper: Timekeeper,
        node: Node,
        serves: Serves,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let limits = Limits {
            connections: memory::fitting(descriptors::fitting(config.limits.connections)),
            ..config.limits
        };
        let validity = identity.as_ref().and_then(|i| i.validity);
        Self {
            admission: Admission::new(Bounds {
                connections: limits.connections,
                calls: limits.calls,
                bytes: limits.request_memory_bytes,
            }),
            limits,
            listener: config.listener.clone(),
            reflection: config.reflection,
            certificate: certificate::Ends::new(validity, &broker.metrics.certificate_expiration),
            client_ca: ArcSwapOption::from_pointee(identity.as_ref().and_then(|i| i.client_ca)),
            tls: ArcSwapOption::from(identity.map(|i| i.config)),
            s3: None,
            handshakes: handshake::places(),
            watermark: config.watermark.clone(),
            timekeeper,
            node,
            serving: Arc::new(Serving::new(serves)),
            ordinary: Handle::current(),
            stop,
            broker,
        }
    }

    /// The parts of the state that are needed to follow the change feed.
    pub(super) fn follow_context(&self) -> FollowContext {
        FollowContext {
            broker: self.broker.clone(),
            node: self.node.clone(),
            serving: self.serving.clone(),
            watermark: self.watermark.clone(),
            ordinary: self.ordinary.clone(),
        }
    }

    /// Makes the function that background tasks call to write the highest time that this node has seen to the disk.
    pub(super) fn time_saver(self: &Arc<Self>) -> SaveTime {
        let shared = self.clone();
        Arc::new(move || shared.timekeeper.save())
    }

    /// Whether the broker can issue credentials safely.
    ///
    /// # Errors
    /// The reason why the broker is not ready, which `/readyz` shows.
    pub(super) fn is_ready(&self) -> Result<(), String> {
        if *self.stop.borrow() {
            return Err("shutting down".to_owned());
        }
        if !self.broker.audit.is_up() {
            return Err("the audit log cannot be written".to_owned());
        }
        if let Some(lag) = self.broker.clock.is_behind() {
            return Err(clock::why(&self.broker.clock, lag));
        }
        if let Some(why) = self.serving.why_not_kept() {
            return Err(format!(
                "the store cannot record the entries of the directory file, so this broker applies only their \
                 removals: {why}"
            ));
        }
        if !self.broker.tokens.can_sign() {
            return Err(WITHOUT_SIGNING_KEY.to_owned());
        }
        if let sessions::Standing::Unfit(why) = self.broker.sessions.standing() {
            return Err(format!(
                "redis is not configured as a broker needs it: {why}"
            ));
        }
        let age =
            match self.broker.feed.standing(self.broker.clock.monotonic()) {
                Standing::Fresh => return Ok(()),
                Standing::Stale(age) | Standing::Cut(age) => age.as_secs(),
                Standing::Distrusted => {
                    return Err(self.broker.feed.fault().unwrap_or_else(|| {
                        "the content of the store cannot be verified".to_owned()
                    }));
                }
            };
        let why = self
            .broker
            .feed
            .fault()
            .unwrap_or_else(|| "no answer yet".to_owned());
        Err(format!(
            "the change feed has not been confirmed for {age} s: {why}"
        ))
    }
}
