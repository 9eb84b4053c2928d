//! How many refused requests an address may make: each of them costs a call to the broker.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;

/// After this many refusals in a window, an address gets no more answers.
const MAX_REFUSALS: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// The most addresses that are counted. A node has a few hundred pods.
const MAX_ADDRESSES: usize = 4_096;

/// Counts refusals by address.
pub struct Pace {
    clock: Arc<dyn Clock>,
    counts: Mutex<HashMap<IpAddr, (Duration, u32)>>,
}

impl Pace {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            counts: Mutex::default(),
        }
    }

    /// Whether an address may ask.
    pub fn allows(&self, address: IpAddr) -> bool {
        let now = self.clock.monotonic();
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .get(&address.to_canonical())
            .is_none_or(|(since, count)| {
                now.saturating_sub(*since) >= WINDOW || *count < MAX_REFUSALS
            })
    }

    /// Notes that an address was refused.
    pub fn count(&self, address: IpAddr) {
        let now = self.clock.monotonic();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |since: &Duration| now.saturating_sub(*since) >= WINDOW;
        if counts.len() >= MAX_ADDRESSES {
            counts.retain(|_, (since, _)| !is_over(since));
        }
        if counts.len() >= MAX_ADDRESSES {
            return;
        }
        let entry = counts.entry(address.to_canonical()).or_insert((now, 0));
        if is_over(&entry.0) {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{ManualClock, Timestamp};

    #[test]
    fn an_address_is_held_back_for_a_while_and_others_are_not() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(0)));
        let pace = Pace::new(clock.clone());
        let [one, other]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        for _ in 0..MAX_REFUSALS {
            assert!(pace.allows(one));
            pace.count(one);
        }
        assert!(!pace.allows(one) && pace.allows(other));
        assert!(
            !pace.allows("::ffff:10.0.0.1".parse().unwrap()),
            "it is the same address"
        );
        clock.pass(WINDOW);
        assert!(pace.allows(one));
    }
}
