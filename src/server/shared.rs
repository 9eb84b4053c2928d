//! What every connection shares, and whether the daemon is ready.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::clock::{self, Timekeeper};
use super::{certificate, descriptors, handshake, memory};
use crate::admission::{Admission, Bounds};
use crate::broker::Broker;
use crate::config::{Config, Limits, Listener};
use crate::directory_file::{Serves, Serving};
use crate::feed::Standing;
use crate::sessions;
use crate::store::Node;
use crate::tls::Identity;

/// What every connection shares.
pub(super) struct Shared {
    pub(super) broker: Arc<Broker>,
    pub(super) admission: Arc<Admission>,
    pub(super) limits: Limits,
    pub(super) listener: Listener,
    pub(super) reflection: bool,
    pub(super) tls: ArcSwapOption<ServerConfig>,
    pub(super) certificate: certificate::Ends,
    /// Places for TLS handshakes that are worked on.
    pub(super) handshakes: Arc<Semaphore>,
    pub(super) watermark: Option<PathBuf>,
    pub(super) timekeeper: Timekeeper,
    pub(super) node: Node,
    pub(super) serving: Arc<Serving>,
    /// Where calls are served, and work is done that is not urgent.
    pub(super) ordinary: Handle,
    pub(super) stop: watch::Receiver<bool>,
}

impl Shared {
    /// What connections share from the start.
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
            certificate: certificate::Ends::new(validity, &broker.metrics),
            tls: ArcSwapOption::from(identity.map(|i| i.config)),
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

    /// Whether it can issue safely; else why not.
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
        if !self.broker.tokens.can_sign() {
            return Err(WITHOUT_SIGNING_KEY.to_owned());
        }
        if let sessions::Standing::Unfit(why) = self.broker.sessions.standing() {
            return Err(format!("redis must not be used as it is: {why}"));
        }
        let age = match self.broker.feed.standing(self.broker.clock.monotonic()) {
            Standing::Fresh => return Ok(()),
            Standing::Stale(age) | Standing::Cut(age) => age.as_secs(),
            Standing::Distrusted => {
                return Err(self
                    .broker
                    .feed
                    .fault()
                    .unwrap_or_else(|| "the store is not as brokers left it".to_owned()));
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

/// What is wrong with a node whose signing key was revoked, and what to do.
const WITHOUT_SIGNING_KEY: &str = "the keyring's current key was revoked, so that no session can be issued; take the keyring \
                                   file that `brevet keyring revoke` or `brevet keyring rotate` has written since then";

/// Puts in force what the store says of signing keys.
pub(super) fn bind_revoked_keys(broker: &Broker) {
    if broker.tokens.revoke(&broker.revocations.signing_keys()) {
        say_without_signing_key(broker);
    }
}

/// Says so in the log, if no session can be issued.
pub(super) fn say_without_signing_key(broker: &Broker) {
    if !broker.tokens.can_sign() {
        tracing::error!("{WITHOUT_SIGNING_KEY}");
    }
}
