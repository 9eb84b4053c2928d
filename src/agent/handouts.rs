//! The sessions that the agent holds. The endpoints get them from memory. Sessions are renewed before they expire, by
//! one fetch at a time for each, and are kept through an outage until shortly before they expire. Revoked sessions are
//! dropped.

mod slot;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::cache::KeptSession;
use super::metrics::Metrics;
use super::refusal::Refusal;
use super::session::RoleSession;
use super::source::Source;
use super::wanted::Wanted;
use crate::base::clock::{Clock, Timestamp};
use crate::base::entropy::{self, Entropy};
use crate::client::WatchedSession;

pub use slot::Slot;

/// The number of slots from which on a new slot displaces another one. Pinned slots count as well, but are neither
/// limited nor displaced.
const MAX_SLOTS: usize = 1_000;
/// The interval at which the agent looks for sessions that are due for renewal.
const ROUND: Duration = Duration::from_millis(250);

/// The dependencies that all slots share: the source of sessions, the clock, randomness and metrics.
struct Shared {
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: Arc<Metrics>,
    /// A counter that is increased by each change of the sessions, which wakes those who watch it.
    changed: watch::Sender<u64>,
}

impl Shared {
    /// Tells those who wait on [`Handouts::changes`] that a session was added or dropped.
    fn note_change(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A random number, so that agents do not all call at the same time; a fixed one if the operating system gives
    /// none.
    fn random(&self) -> u16 {
        entropy::bytes::<2>(&*self.entropy).map_or(u16::MAX / 2, u16::from_be_bytes)
    }
}

/// The sessions that the agent holds: pinned ones, and those for which workloads have asked.
pub struct Handouts {
    shared: Arc<Shared>,
    slots: Mutex<HashMap<Wanted, Arc<Slot>>>,
}

impl Handouts {
    /// Creates an empty set of sessions.
    pub fn new(
        source: Arc<dyn Source>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let shared = Shared {
            source,
            clock,
            entropy,
            metrics,
            changed: watch::Sender::new(0),
        };
        Self {
            shared: Arc::new(shared),
            slots: Mutex::default(),
        }
    }

    /// Adds a session that is held as long as the agent runs, even if nobody asks for it. [`Slot::get`] hands it
    /// out.
    pub fn pin(&self, wanted: Wanted) -> Arc<Slot> {
        let mut slots = self.lock();
        let slot = slots.entry(wanted.clone()).or_insert_with(|| {
            let random = self.shared.random();
            Arc::new(Slot::new(self.shared.clone(), wanted, random))
        });
        slot.pin();
        slot.clone()
    }

    /// The session of a workload that asks at `now`. It is held as long as somebody keeps asking for it.
    ///
    /// # Errors
    /// [`Refusal::Denied`] if the broker refuses the session for good, [`Refusal::Unavailable`] if there is no
    /// session in memory and none arrives in time.
    pub async fn get(&self, wanted: Wanted, now: Timestamp) -> Result<Arc<RoleSession>, Refusal> {
        self.slot(wanted, now)?.get(now).await
    }

    fn slot(&self, wanted: Wanted, now: Timestamp) -> Result<Arc<Slot>, Refusal> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(&wanted) {
            return Ok(slot.clone());
        }
        if slots.len() >= MAX_SLOTS {
            slots.retain(|_, slot| slot.is_kept(now));
        }
        if slots.len() >= MAX_SLOTS {
            // Whoever is missed least makes room: what has no session, then what was asked for longest ago.
            let least = slots
                .iter()
                .filter_map(|(wanted, slot)| Some((slot.worth(now)?, wanted)))
                .min_by_key(|(worth, _)| *worth)
                .map(|(_, wanted)| wanted.clone());
            let Some(least) = least else {
                return Err(Refusal::Unavailable {
                    reason: format!(
                        "this agent already serves {MAX_SLOTS} configured workloads, which is the maximum; run \
                            another agent for the others"
                    ),
                });
            };
            slots.remove(&least);
        }
        let random = self.shared.random();
        let slot = Arc::new(Slot::new(self.shared.clone(), wanted.clone(), random));
        slots.insert(wanted, slot.clone());
        Ok(slot)
    }

    /// Whether there is a session that can be handed out without calling the broker.
    pub fn holds(&self, wanted: &Wanted) -> bool {
        let slot = self.lock().get(wanted).cloned();
        slot.is_some_and(|slot| slot.session().is_some())
    }

    /// Whether any session is one that was kept over a restart and has not been renewed since.
    pub fn holds_restored(&self) -> bool {
        self.lock().values().any(|slot| slot.is_restored())
    }

    /// Makes every session due for renewal at once, because the broker no longer reports which sessions have ended.
    pub fn renew_all(&self) {
        let now = self.shared.clock.now();
        for slot in self.lock().values() {
            slot.renew_now(now);
        }
    }

    /// The sessions that can be handed out now.
    #[cfg(test)]
    pub fn sessions(&self) -> Vec<Arc<RoleSession>> {
        self.lock()
            .values()
            .filter_map(|slot| slot.session())
            .collect()
    }

    /// The sessions about whose end the broker can inform this agent.
    pub fn watchable(&self) -> Vec<WatchedSession> {
        self.lock()
            .values()
            .filter_map(|slot| slot.watched())
            .collect()
    }

    /// The sessions of configured roles, which [`Self::restore`] takes back after a restart.
    pub fn kept(&self) -> Vec<KeptSession> {
        self.lock()
            .values()
            .filter_map(|slot| slot.kept())
            .collect()
    }

    /// Restores a session that was kept over a restart, if its role is still configured and it can still be handed
    /// out.
    pub fn restore(&self, kept: &KeptSession) {
        for slot in self.lock().values() {
            slot.restore(kept);
        }
    }

    /// A receiver that is notified of each change of the sessions.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Drops the sessions with these access keys, because the broker has ended them. New ones are fetched.
    pub fn ended(&self, access_key_ids: &[String]) {
        for slot in self.lock().values() {
            slot.ended(access_key_ids);
        }
    }

    /// Renews the sessions that are due, and forgets those that nobody asks for.
    pub fn tend(&self) {
        let now = self.shared.clock.now();
        let mut slots = self.lock();
        slots.retain(|_, slot| slot.is_kept(now));
        for slot in slots.values() {
            slot.tend(now);
        }
        let held = slots.values().filter(|slot| slot.session().is_some());
        let held = i64::try_from(held.count()).unwrap_or(i64::MAX);
        self.shared.metrics.sessions.set(held);
    }

    /// Calls [`Self::tend`] at intervals until the agent ends.
    pub async fn keep_fresh(&self) {
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            round.tick().await;
            self.tend();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Wanted, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
