//! Shares budgets of calls among brokers. In background tasks, brokers tell each other how many calls they have
//! counted, and find out how many brokers there are. No call waits for these tasks.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;

/// How often brokers exchange the numbers of calls that they have counted.
const EXCHANGE_EVERY: Duration = Duration::from_millis(200);
/// The maximum number of principals and accounts in one exchange. If there are more, only those with the most calls are
/// exchanged.
const MAX_TOLD: usize = 512;
/// How often brokers are counted and unused counters are dropped.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the last known number of brokers is used while the brokers cannot be counted.
const KEEP_COUNT: Duration = Duration::from_secs(10);
/// Live-session counters that are zero are dropped once in this many rounds of [`look_after`].
const SWEEP_SESSIONS: u64 = 30;

/// Exchanges numbers of calls with the other brokers on the same Redis, until the daemon ends.
pub(super) async fn exchange(shared: Arc<Shared>) {
    let broker = &shared.broker;
    if !broker.sessions.are_shared() {
        return;
    }
    let mut tick = tokio::time::interval(EXCHANGE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let unsent = broker.budgets.unsent(MAX_TOLD);
        if unsent.is_empty() || !broker.budgets.are_shared() {
            continue;
        }
        let counters: Vec<(String, u64)> = unsent
            .iter()
            .map(|unsent| (unsent.name(), unsent.calls))
            .collect();
        let keyring = broker.tokens.keyring();
        let totals = broker.sessions.add_up(&keyring, &counters).await;
        let now = broker.clock.monotonic();
        for (sent, total) in unsent.iter().zip(totals) {
            broker.budgets.heard(sent, total, now);
        }
    }
}

/// Counts the brokers that share the budgets, and drops unused counters, until the daemon ends.
pub(super) async fn look_after(shared: Arc<Shared>) {
    let broker = &shared.broker;
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut counted_at = broker.clock.monotonic();
    for round in 0_u64.. {
        tick.tick().await;
        let heard = brokers(&shared).await;
        if heard.is_some() {
            counted_at = broker.clock.monotonic();
        }
        let forgotten = broker.clock.monotonic().saturating_sub(counted_at) >= KEEP_COUNT;
        if let Some(brokers) = heard.or(forgotten.then_some(1)) {
            broker.budgets.share_among(brokers);
            broker
                .metrics
                .brokers
                .set(i64::try_from(brokers).unwrap_or(i64::MAX));
        }
        broker.budgets.sweep_calls(broker.clock.monotonic());
        if round.is_multiple_of(SWEEP_SESSIONS) {
            broker.budgets.sweep_sessions(broker.clock.now());
        }
    }
}

/// How many brokers have reported lately, including this one: on a shared store, the brokers on this store; otherwise,
/// those on the same Redis. `None` if neither the store nor Redis answers.
async fn brokers(shared: &Shared) -> Option<usize> {
    let broker = &shared.broker;
    if broker.store.is_shared() {
        // This uses the connection for the feed, which belongs to the urgent thread.
        let asked = broker.clone();
        let counted = broker
            .urgent
            .spawn(async move { asked.store.count_nodes().await });
        return counted.await.ok()?.ok().map(|nodes| nodes.max(1));
    }
    let keyring = broker.tokens.keyring();
    broker
        .sessions
        .announce(&keyring, &shared.node.node, broker.clock.now())
        .await
        .ok()
}
