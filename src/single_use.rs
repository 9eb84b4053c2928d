//! Remembers, in the memory of this process, signatures that may be used only once, for as long as they would otherwise
//! be accepted again. This module does not know which signatures other brokers have seen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The maximum number of signatures in memory, which take about 35 MB. A signature is remembered until 15 minutes after
/// its date, so this is enough for 1,000 signatures per second.
pub const MAX_SIGNATURES: usize = 900_000;
/// The minimum time between two searches of a full table for expired entries.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A signature, as 16 bytes of a digest.
pub type Digest = [u8; 16];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The signature was used before, or a call with it is still in progress.
    Used,
    /// There is no room to remember the signature.
    Full,
}

/// The signatures that have been used. Times are readings of the monotonic clock.
pub struct SingleUse {
    max: usize,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    /// For each signature, the time until which it would be accepted again.
    until: HashMap<Digest, Duration>,
    swept_at: Duration,
}

impl Default for SingleUse {
    fn default() -> Self {
        Self::new(MAX_SIGNATURES)
    }
}

impl SingleUse {
    fn new(max: usize) -> Self {
        Self {
            max,
            used: Mutex::default(),
        }
    }

    /// Marks a signature as used until the time `until`, from which it would not be accepted anyway.
    ///
    /// # Errors
    /// [`Refused::Used`] if it was used before, and [`Refused::Full`] if it cannot be remembered.
    pub fn claim(&self, signature: Digest, until: Duration, now: Duration) -> Result<(), Refused> {
        let mut used = self.used();
        if used
            .until
            .get(&signature)
            .is_some_and(|until| *until >= now)
        {
            return Err(Refused::Used);
        }
        if used.until.len() >= self.max && now.saturating_sub(used.swept_at) >= SWEEP_EVERY {
            used.sweep(now);
        }
        if used.until.len() >= self.max && !used.until.contains_key(&signature) {
            return Err(Refused::Full);
        }
        used.until.insert(signature, until);
        Ok(())
    }

    /// Forgets a signature whose call failed, so that it can be used again.
    pub fn release(&self, signature: &Digest) {
        self.used().until.remove(signature);
    }

    /// Forgets signatures that are too old to be accepted again.
    pub fn sweep(&self, now: Duration) {
        self.used().sweep(now);
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    fn sweep(&mut self, now: Duration) {
        self.until.retain(|_, until| *until >= now);
        self.swept_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_taken_once_in_its_window() {
        let (used, at) = (SingleUse::default(), Duration::from_secs);
        assert_eq!(used.claim([1; 16], at(900), at(0)), Ok(()));
        assert_eq!(used.claim([1; 16], at(900), at(900)), Err(Refused::Used));
        assert_eq!(used.claim([2; 16], at(900), at(0)), Ok(()));
        // A signature whose call failed may be used again.
        used.release(&[1; 16]);
        assert_eq!(used.claim([1; 16], at(900), at(0)), Ok(()));
        used.sweep(at(901));
        assert!(used.used().until.is_empty());
    }

    #[test]
    fn what_cannot_be_remembered_is_not_taken() {
        let (used, at) = (SingleUse::new(3), Duration::from_secs);
        for n in 0..3 {
            assert_eq!(used.claim([n; 16], at(900 + u64::from(n)), at(10)), Ok(()));
        }
        assert_eq!(used.claim([9; 16], at(2_000), at(20)), Err(Refused::Full));
        assert_eq!(
            used.claim([1; 16], at(2_000), at(20)),
            Err(Refused::Used),
            "and what was used is known"
        );
        // Expired signatures make room.
        assert_eq!(used.claim([9; 16], at(2_000), at(902)), Ok(()));
        assert_eq!(used.used().until.len(), 2);
    }
}
