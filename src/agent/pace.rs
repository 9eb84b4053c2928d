//! Limits how many unknown tokens an address may try, because each costs a call to the broker.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;

/// How many tokens an address may try in a window without one of them being accepted. A pod has one token.
const MAX_TOKENS: usize = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// The maximum number of addresses that are counted separately; all others are counted as one. A node has a few
/// hundred pods.
const MAX_ADDRESSES: usize = 4_096;

/// Counts, for each address, the tokens that it has tried without success.
pub struct Pace {
    clock: Arc<dyn Clock>,
    addresses: Mutex<HashMap<IpAddr, Tried>>,
}

/// The tokens that an address has tried, by their SHA-256 digests.
struct Tried {
    since: Duration,
    tokens: HashSet<[u8; 32]>,
}

impl Pace {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            addresses: Mutex::default(),
        }
    }

    /// Whether an address may try a token. The token counts as tried until the broker accepts it. It counts only once,
    /// however often it is shown, because the broker's answer is remembered.
    pub fn may_try(&self, address: IpAddr, token: [u8; 32]) -> bool {
        let now = self.clock.monotonic();
        let mut addresses = self.lock();
        let is_over = |tried: &Tried| now.saturating_sub(tried.since) >= WINDOW;
        let mut address = address.to_canonical();
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&address) {
            addresses.retain(|_, tried| !is_over(tried));
            if addresses.len() >= MAX_ADDRESSES {
                address = Ipv6Addr::UNSPECIFIED.into();
            }
        }
        let tried = addresses.entry(address).or_insert_with(|| Tried {
            since: now,
            tokens: HashSet::new(),
        });
        if is_over(tried) {
            tried.since = now;
            tried.tokens.clear();
        }
        if tried.tokens.contains(&token) {
            return true;
        }
        tried.tokens.len() < MAX_TOKENS && tried.tokens.insert(token)
    }

    /// Records that the broker accepted a token, which then no longer counts.
    pub fn accepted(&self, address: IpAddr, token: [u8; 32]) {
        let mut addresses = self.lock();
        for address in [address.to_canonical(), Ipv6Addr::UNSPECIFIED.into()] {
            if let Some(tried) = addresses.get_mut(&address) {
                tried.tokens.remove(&token);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Tried>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{ManualClock, Timestamp};

    fn token(number: usize) -> [u8; 32] {
        let mut token = [0; 32];
        token[..8].copy_from_slice(&number.to_be_bytes());
        token
    }

    #[test]
    fn ag_05_an_address_that_tries_many_tokens_is_held_back_and_others_are_not() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(0)));
        let pace = Pace::new(clock.clone());
        let [one, other]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        // Those that are accepted do not count, and one that is shown again counts once.
        for number in 100..200 {
            assert!(pace.may_try(one, token(number)));
            pace.accepted(one, token(number));
        }
        for number in 0..MAX_TOKENS {
            for _ in 0..5 {
                assert!(pace.may_try(one, token(number)));
            }
        }
        assert!(!pace.may_try(one, token(999)) && pace.may_try(other, token(999)));
        assert!(
            !pace.may_try("::ffff:10.0.0.1".parse().unwrap(), token(998)),
            "it is the same address"
        );
        assert!(pace.may_try(one, token(3)), "its answer is remembered");
        clock.pass(WINDOW);
        assert!(pace.may_try(one, token(999)));
    }

    #[test]
    fn addresses_beyond_the_limit_share_what_one_may_do() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(0)));
        let pace = Pace::new(clock.clone());
        let address = |number: usize| {
            let bits = 0xfd00_u128 << 112 | u128::try_from(number).unwrap();
            IpAddr::from(Ipv6Addr::from_bits(bits))
        };
        let tries = (0..MAX_ADDRESSES + 500)
            .filter(|number| pace.may_try(address(*number), token(*number)))
            .count();
        assert!(tries <= MAX_ADDRESSES + MAX_TOKENS, "{tries}");
        assert!(pace.lock().len() <= MAX_ADDRESSES + 1);
        clock.pass(WINDOW);
        assert!(pace.may_try(address(9_999), token(9_999)));
        assert!(pace.lock().len() <= 2);
    }
}
