//! Starts the background tasks of a daemon, and the thread for urgent work.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::listeners::Listeners;
use super::shared::Shared;
use super::workers::Workers;
use super::{StartError, budgets, certificate, clock, connection, operator, s3_listener};
use crate::broker::Broker;
use crate::follow;
use crate::upkeep;

/// A runtime with one thread for urgent work, which must not wait for calls: following the change feed, and revoking
/// sessions.
pub(super) struct Urgent(Option<Runtime>);

impl Urgent {
    pub(super) fn start() -> Result<Self, StartError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(1)
            .thread_name("brevet-urgent")
            .enable_all()
            .build();
        runtime
            .map(|runtime| Self(Some(runtime)))
            .map_err(StartError::Thread)
    }

    pub(super) fn handle(&self) -> Handle {
        self.0
            .as_ref()
            .map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for its end would block this thread, on which calls are served.
            runtime.shutdown_background();
        }
    }
}

/// Starts the tasks of a daemon. `loaded_in` is how long loading its directory took.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    listeners: Listeners,
    slots: Arc<Semaphore>,
    urgent: &Urgent,
    workers: &Arc<Workers>,
    loaded_in: Duration,
) -> Vec<JoinHandle<()>> {
    let broker = &shared.broker;
    let mut tasks = vec![
        tokio::spawn(connection::accept(
            listeners.service,
            shared.clone(),
            workers.clone(),
            slots,
        )),
        tokio::spawn(operator::accept(listeners.operators, shared.clone())),
        tokio::spawn(probe(shared.clone())),
        tokio::spawn(clock::watch(shared.clone())),
        tokio::spawn(certificate::watch(shared.clone())),
        urgent
            .handle()
            .spawn(follow::follow(Arc::new(shared.follow_context()))),
        tokio::spawn(upkeep::run(broker.clone(), shared.time_saver(), loaded_in)),
        tokio::spawn(budgets::look_after(shared.clone())),
        tokio::spawn(budgets::exchange(shared.clone())),
        tokio::spawn(refresh_providers(broker.clone())),
    ];
    if let (Some(proxies), Some(own)) = (listeners.proxies, shared.s3.clone()) {
        tasks.push(tokio::spawn(s3_listener::accept(
            proxies,
            shared.clone(),
            workers.clone(),
            own,
        )));
    }
    tasks
}

/// Probes Redis once a second, so that `/readyz` knows its state even if no calls arrive.
async fn probe(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let keyring = shared.broker.tokens.keyring();
        shared
            .broker
            .sessions
            .probe(&keyring, shared.broker.clock.now())
            .await;
    }
}

/// Fetches the keys of the identity providers in use anew, before the known keys are too old to be used.
async fn refresh_providers(broker: Arc<Broker>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        broker.providers.refresh();
    }
}
