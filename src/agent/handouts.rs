//! The sessions that the agent holds. A face asks for one and gets it from memory; they are renewed before they are
//! needed, by one fetch at a time for each, and kept through an outage until shortly before they expire. What was
//! revoked is dropped.

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
use crate::base::clock::Clock;
use crate::base::entropy::{self, Entropy};
use crate::client::WatchedSession;

pub use slot::Slot;

/// The most sessions of workloads that are held at once.
const MAX_SLOTS: usize = 1_000;
/// How often it is checked what has to be renewed.
const ROUND: Duration = Duration::from_millis(250);

/// What all slots share.
struct Shared {
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: Arc<Metrics>,
    /// Counts how often the sessions have changed.
    changed: watch::Sender<u64>,
}

impl Shared {
    /// Says that a session has come or gone.
    fn note_change(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A random number, so that agents do not all call at the same time; a fixed one if there is no randomness.
    fn random(&self) -> u16 {
        entropy::bytes::<2>(&*self.entropy).map_or(u16::MAX / 2, u16::from_be_bytes)
    }
}

/// The sessions that the agent holds.
pub struct Handouts {
    shared: Arc<Shared>,
    slots: Mutex<HashMap<Wanted, Arc<Slot>>>,
}

impl Handouts {
    /// Holds nothing yet.
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

    /// A session that is held as long as the agent runs, whether anybody asks for it or not. [`Slot::get`] hands it
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

    /// A session for a workload, which is held as long as somebody asks for it.
    ///
    /// # Errors
    /// [`Refusal::Denied`] if the broker refuses the session for good, [`Refusal::Unavailable`] if none is held and
    /// none arrives in time.
    pub async fn get(&self, wanted: Wanted) -> Result<Arc<RoleSession>, Refusal> {
        self.slot(wanted)?.get().await
    }

    fn slot(&self, wanted: Wanted) -> Result<Arc<Slot>, Refusal> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(&wanted) {
            return Ok(slot.clone());
        }
        let now = self.shared.clock.now();
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
                    reason: format!("this agent has {MAX_SLOTS} configured workloads already"),
                });
            };
            slots.remove(&least);
        }
        let random = self.shared.random();
        let slot = Arc::new(Slot::new(self.shared.clone(), wanted.clone(), random));
        slots.insert(wanted, slot.clone());
        Ok(slot)
    }

    /// Whether a session is held that can be handed out without a call of the broker.
    pub fn holds(&self, wanted: &Wanted) -> bool {
        let slot = self.lock().get(wanted).cloned();
        slot.is_some_and(|slot| slot.session().is_some())
    }

    /// Whether a session is held that was kept over a restart.
    pub fn holds_restored(&self) -> bool {
        self.lock().values().any(|slot| slot.is_restored())
    }

    /// Lets every session be renewed now: the broker does not say any more whether they have ended.
    pub fn renew_all(&self) {
        let now = self.shared.clock.now();
        for slot in self.lock().values() {
            slot.renew_now(now);
        }
    }

    /// The sessions that are held now.
    #[cfg(test)]
    pub fn sessions(&self) -> Vec<Arc<RoleSession>> {
        self.lock()
            .values()
            .filter_map(|slot| slot.session())
            .collect()
    }

    /// The sessions whose end the broker tells.
    pub fn watchable(&self) -> Vec<WatchedSession> {
        self.lock()
            .values()
            .filter_map(|slot| slot.watched())
            .collect()
    }

    /// The sessions of configured roles, for [`Self::restore`] after a restart.
    pub fn kept(&self) -> Vec<KeptSession> {
        self.lock()
            .values()
            .filter_map(|slot| slot.kept())
            .collect()
    }

    /// Takes a session that was kept, if it is wanted and can still be handed out.
    pub fn restore(&self, kept: &KeptSession) {
        for slot in self.lock().values() {
            slot.restore(kept);
        }
    }

    /// Sees each change of the sessions.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Drops the sessions with these access keys, which the broker has ended. New ones are fetched.
    pub fn ended(&self, access_key_ids: &[String]) {
        for slot in self.lock().values() {
            slot.ended(access_key_ids);
        }
    }

    /// Renews what is due, and forgets what nobody asks for.
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

    /// Tends the sessions until the agent ends.
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
