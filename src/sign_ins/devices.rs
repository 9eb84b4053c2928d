//! The open device flows that this node knows, in memory, so that a program can poll often without a query of the store
//! each time. The store has the same flows and is authoritative.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::budgets::Source;

/// The maximum number of device flows that a node keeps in memory at a time.
const MAX_OPEN: usize = 10_000;
/// The maximum number of device flows that one source address may have open.
const MAX_OF_SOURCE: usize = 1_000;
/// How often a program may ask whether its flow was decided.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How often this node asks the store which flows were decided on other nodes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// There are too many open device flows in total, or too many from one source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The answer to a program that asks whether its flow was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poll {
    /// This node does not know the flow, so the caller must ask the store.
    Unknown,
    /// The program has polled more than twice within [`INTERVAL`].
    TooOften,
    /// As far as this node knows, nobody has decided yet.
    Pending,
    /// Somebody has decided, or the time is up, so the caller must ask the store.
    Decided,
}

/// The SHA-256 of a device code, by which its flow is found.
pub type DeviceId = [u8; 32];

/// The open device flows of a node. Times are readings of the monotonic clock.
#[derive(Default)]
pub struct Devices {
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    flows: HashMap<DeviceId, Flow>,
    of_source: HashMap<Source, usize>,
    looked_at: Option<Duration>,
}

struct Flow {
    /// The source address that opened the flow on this node; `None` if it was opened on another
    /// one.
    source: Option<Source>,
    until: Duration,
    /// The time of the last poll that did not come too early: within [`INTERVAL`] of the last such poll before it.
    /// `since` counts the polls that have come too early after this time.
    accepted_at: Option<Duration>,
    since: u32,
    is_decided: bool,
}

impl Devices {
    /// Adds a flow that this node opens.
    ///
    /// # Errors
    /// [`Full`] if there are too many already.
    pub fn open(
        &self,
        id: DeviceId,
        source: Source,
        until: Duration,
        now: Duration,
    ) -> Result<(), Full> {
        let mut all = self.all();
        let is_full = |all: &All| {
            all.flows.len() >= MAX_OPEN
                || all
                    .of_source
                    .get(&source)
                    .is_some_and(|n| *n >= MAX_OF_SOURCE)
        };
        if is_full(&all) {
            all.sweep(now);
        }
        if is_full(&all) {
            return Err(Full);
        }
        *all.of_source.entry(source).or_default() += 1;
        all.flows.insert(id, Flow::new(Some(source), until));
        Ok(())
    }

    /// Adds a flow of another node, which this node has found in the store. If there is no room for the flow, the store
    /// is queried at each of its polls.
    pub fn learn(&self, id: DeviceId, until: Duration, now: Duration) {
        let mut all = self.all();
        if all.flows.len() >= MAX_OPEN {
            all.sweep(now);
        }
        if all.flows.len() < MAX_OPEN {
            let flow = all.flows.entry(id);
            let flow = flow.or_insert_with(|| Flow::new(None, until));
            flow.accepted_at = Some(now);
        }
    }

    /// Counts a poll of a program, and answers it from memory.
    pub fn poll(&self, id: &DeviceId, now: Duration) -> Poll {
        let mut all = self.all();
        let Some(flow) = all.flows.get_mut(id) else {
            return Poll::Unknown;
        };
        let is_early = flow
            .accepted_at
            .is_some_and(|at| now.saturating_sub(at) < INTERVAL);
        if is_early {
            // Clients ask twice before they wait for the first time.
            flow.since = flow.since.saturating_add(1);
            if flow.since > 1 {
                return Poll::TooOften;
            }
        } else {
            flow.accepted_at = Some(now);
            flow.since = 0;
        }
        if flow.is_decided || now >= flow.until {
            Poll::Decided
        } else {
            Poll::Pending
        }
    }

    /// Records that a person has allowed or denied a flow.
    pub fn decided(&self, id: &DeviceId) {
        if let Some(flow) = self.all().flows.get_mut(id) {
            flow.is_decided = true;
        }
    }

    /// Forgets a flow that has ended, which makes room for another one.
    pub fn forget(&self, id: &DeviceId) {
        self.all().remove(id);
    }

    /// Whether the store should be asked now which flows were decided on other nodes. Only the caller
    /// that gets `true` asks.
    pub fn must_look(&self, now: Duration) -> bool {
        let mut all = self.all();
        let is_due = all
            .looked_at
            .is_none_or(|at| now.saturating_sub(at) >= LOOK_EVERY);
        if is_due {
            all.looked_at = Some(now);
        }
        is_due
    }

    /// Forgets flows whose time is up, which makes room for others.
    pub fn sweep(&self, now: Duration) {
        self.all().sweep(now);
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    fn new(source: Option<Source>, until: Duration) -> Self {
        Self {
            source,
            until,
            accepted_at: None,
            since: 0,
            is_decided: false,
        }
    }
}

impl All {
    fn remove(&mut self, id: &DeviceId) {
        let source = self.flows.remove(id).and_then(|flow| flow.source);
        if let Some(source) = source
            && let Some(count) = self.of_source.get_mut(&source)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_source.remove(&source);
            }
        }
    }

    fn sweep(&mut self, now: Duration) {
        let is_over = |(id, flow): (&DeviceId, &Flow)| (now >= flow.until).then_some(*id);
        let over: Vec<_> = self.flows.iter().filter_map(is_over).collect();
        for id in over {
            self.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budgets::source;

    fn id(n: u32) -> DeviceId {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        id
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_third_question_in_an_interval_is_one_too_many() {
        let devices = Devices::default();
        let here = source([127, 0, 0, 1].into());
        devices.open(id(1), here, at(600_000), at(0)).unwrap();
        assert_eq!(devices.poll(&id(2), at(0)), Poll::Unknown);
        assert_eq!(devices.poll(&id(1), at(0)), Poll::Pending);
        assert_eq!(devices.poll(&id(1), at(1)), Poll::Pending);
        assert_eq!(devices.poll(&id(1), at(2)), Poll::TooOften);
        // A busy loop gets out of it, because refused questions do not count.
        assert_eq!(devices.poll(&id(1), at(999)), Poll::TooOften);
        assert_eq!(devices.poll(&id(1), at(1_000)), Poll::Pending);
        devices.decided(&id(1));
        assert_eq!(devices.poll(&id(1), at(2_000)), Poll::Decided);
        devices.forget(&id(1));
        assert_eq!(devices.poll(&id(1), at(3_000)), Poll::Unknown);
        // One that was opened elsewhere.
        devices.learn(id(3), at(9_000), at(3_000));
        assert_eq!(devices.poll(&id(3), at(4_000)), Poll::Pending);
        assert_eq!(devices.poll(&id(3), at(9_000)), Poll::Decided);
    }

    #[test]
    fn oi_08_open_device_flows_are_bounded() {
        let devices = Devices::default();
        let mut open = 0;
        for n in 0..20_000 {
            let octets = [10, 0, 0, u8::try_from(n % 20).unwrap()];
            let from = source(octets.into());
            open += u32::from(devices.open(id(n), from, at(600_000), at(1)).is_ok());
        }
        assert_eq!(open, 10_000);
        // They make room when their time is up.
        let from = source([192, 0, 2, 1].into());
        assert_eq!(
            devices.open(id(99_999), from, at(700_000), at(2)),
            Err(Full)
        );
        assert_eq!(
            devices.open(id(99_999), from, at(1_200_000), at(600_000)),
            Ok(())
        );
        let mut own = 1;
        for n in 100_000..110_000 {
            own += u32::from(
                devices
                    .open(id(n), from, at(1_200_000), at(600_001))
                    .is_ok(),
            );
        }
        assert_eq!(own, 1_000);
    }
}
