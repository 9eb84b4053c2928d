//! Computes hashes of passwords, each of which occupies a processor and much memory for a while. Only a limited number
//! is computed at once, on threads that serve no calls. A single user or role cannot fill the whole queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::password::hash::{self, Cost, HashError, OUTPUT_BYTES, SALT_BYTES};
use crate::password::text::prepared;
use crate::store::unless_abandoned;

/// The number of computations that may wait for others.
const WAITING: usize = 16;
/// The number of computations that may run or wait for the same user or role.
const OF_ONE: usize = 4;

/// Why a hash was not computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashingError {
    /// Too many computations are waiting already, in total or for the same user or role, or the client of the call has
    /// gone.
    #[error("too many hashes of passwords are being computed, in total or for this user or role")]
    Busy,
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// Computes hashes of passwords, a limited number at once.
pub struct Hashing {
    /// One permit for each computation that runs or waits.
    admitted: Arc<Semaphore>,
    /// One permit for each computation that runs.
    running: Arc<Semaphore>,
    of_each: Arc<OfEach>,
    cost: Cost,
    /// A random salt and output, of which [`Hashing::compared`] makes hashes that no password matches.
    decoy: ([u8; SALT_BYTES], [u8; OUTPUT_BYTES]),
}

impl Hashing {
    /// Creates the queue of computations. At most `at_once` hashes are computed at the same time, and new hashes have
    /// this cost.
    ///
    /// # Errors
    /// [`NoEntropy`] if the operating system gives no random bytes.
    pub fn new(at_once: usize, cost: Cost, entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let decoy = (entropy::bytes(entropy)?, entropy::bytes(entropy)?);
        Ok(Self {
            admitted: Arc::new(Semaphore::new(at_once + WAITING)),
            running: Arc::new(Semaphore::new(at_once)),
            of_each: Arc::default(),
            cost,
            decoy,
        })
    }

    /// Computes the hash of a new password. `of` is the user or role for which it is computed.
    ///
    /// # Errors
    /// [`HashingError`] if too many hashes wait already, the client of the call has gone, or the hash cannot be
    /// computed, for example because there is no memory for it.
    pub async fn hash(
        &self,
        of: &str,
        password: &Zeroizing<String>,
        entropy: &dyn Entropy,
    ) -> Result<Zeroizing<String>, HashingError> {
        let salt = entropy::bytes::<SALT_BYTES>(entropy)?;
        let (password, cost) = (prepared(password), self.cost);
        let hash = self.run(of, move || hash::hash(&password, &salt, cost));
        Ok(hash.await??)
    }

    /// Whether a hash is a hash of the password; `false` if the user has no hash. One hash is computed for each of
    /// `costs`, the costs that occur in the directory. The time therefore does not tell whether the user has a hash,
    /// and which cost it has, unless the cost is not among `costs`.
    ///
    /// # Errors
    /// [`HashingError`] if too many hashes wait already, the client of the call has gone, or the hash cannot be
    /// computed, for example because there is no memory for it.
    pub async fn is_of(
        &self,
        of: &str,
        password: &Zeroizing<String>,
        hash: Option<&str>,
        costs: &[Cost],
    ) -> Result<bool, HashingError> {
        let compared = self.compared(hash, costs)?;
        let password = prepared(password);
        let found = self.run(of, move || {
            let mut found = false;
            for (hash, is_own) in compared {
                found |= hash::matches(&password, &hash)? && is_own;
            }
            Ok(found)
        });
        Ok(found.await??)
    }

    /// Lists the hashes to compute for a comparison. The flag marks the user's own hash; no password matches the
    /// others.
    fn compared(
        &self,
        hash: Option<&str>,
        costs: &[Cost],
    ) -> Result<Vec<(Zeroizing<String>, bool)>, HashError> {
        let costs = match costs {
            [] => std::slice::from_ref(&self.cost),
            costs => costs,
        };
        let own = hash.map(Cost::of).transpose()?;
        let others = costs.iter().filter(|cost| Some(**cost) != own);
        let (salt, output) = &self.decoy;
        let decoys =
            others.map(|cost| Ok::<_, HashError>((hash::text(salt, output, *cost)?, false)));
        let own = hash.map(|hash| Ok((Zeroizing::new(hash.to_owned()), true)));
        decoys.chain(own).collect()
    }

    /// Returns a new hash of the password if the cost of `hash`, its present hash, is not that of new hashes. Returns
    /// `None` if it is.
    ///
    /// # Errors
    /// [`HashingError`] if too many hashes wait already, the client of the call has gone, or the hash cannot be
    /// computed, for example because there is no memory for it.
    pub async fn anew(
        &self,
        of: &str,
        password: &Zeroizing<String>,
        hash: &str,
    ) -> Result<Option<Zeroizing<String>>, HashingError> {
        if Cost::of(hash)? == self.cost {
            return Ok(None);
        }
        let (password, cost) = (prepared(password), self.cost);
        let old = Zeroizing::new(hash.to_owned());
        let new = self.run(of, move || hash::anew(&password, &old, cost));
        Ok(Some(new.await??))
    }

    /// Whether any of these hashes is a hash of the password.
    ///
    /// # Errors
    /// [`HashingError`] if too many hashes wait already, the client of the call has gone, or the hash cannot be
    /// computed, for example because there is no memory for it.
    pub async fn is_any_of(
        &self,
        of: &str,
        password: &Zeroizing<String>,
        hashes: Vec<Zeroizing<String>>,
    ) -> Result<bool, HashingError> {
        let password = prepared(password);
        let found = self.run(of, move || {
            for hash in hashes {
                if hash::matches(&password, &hash)? {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        Ok(found.await??)
    }

    async fn run<T: Send + 'static>(
        &self,
        of: &str,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<Result<T, HashError>, HashingError> {
        let busy = |_| HashingError::Busy;
        let own = OfEach::one_more(&self.of_each, of).ok_or(HashingError::Busy)?;
        let admitted = self.admitted.clone().try_acquire_owned().map_err(busy)?;
        // A call whose client has gone does not wait.
        let running = unless_abandoned(self.running.clone().acquire_owned()).await;
        let running = running.and_then(Result::ok).ok_or(HashingError::Busy)?;
        // The permits go with the work, which runs to its end even if nobody waits for it.
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((running, admitted, own));
            result
        });
        // A panic, which is a bug.
        done.await
            .map_err(|_| HashingError::Hash(HashError::Malformed))
    }
}

/// The number of computations that run or wait for each user or role.
#[derive(Default)]
struct OfEach(Mutex<HashMap<Box<str>, usize>>);

/// A computation for a user or role. It counts toward [`OF_ONE`] until this value is dropped.
struct Own {
    all: Arc<OfEach>,
    of: Box<str>,
}

impl OfEach {
    /// Counts one more computation for the user or role `of`; `None` if it has [`OF_ONE`] already.
    fn one_more(all: &Arc<Self>, of: &str) -> Option<Own> {
        let mut counts = all.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(of) {
            Some(count) if *count >= OF_ONE => return None,
            Some(count) => *count += 1,
            None => _ = counts.insert(of.into(), 1),
        }
        Some(Own {
            all: all.clone(),
            of: of.into(),
        })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::base::entropy::SystemEntropy;

    const CHEAP: Cost = Cost {
        memory_kib: 7_168,
        passes: 5,
        lanes: 1,
    };
    const IMPORTED: Cost = Cost {
        memory_kib: 9_216,
        passes: 4,
        lanes: 2,
    };

    fn password(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_and_no_password_matches_none() {
        let entropy = SystemEntropy::new();
        let hashing = Hashing::new(1, CHEAP, &entropy).unwrap();
        let one = hashing
            .hash("AIDA1", &password("one"), &entropy)
            .await
            .unwrap();
        let two = hashing
            .hash("AIDA1", &password("two"), &entropy)
            .await
            .unwrap();
        let again = hashing
            .hash("AIDA1", &password("one"), &entropy)
            .await
            .unwrap();
        assert_ne!(one, again, "each has a salt of its own");
        let imported = hash::hash("one", &[7; SALT_BYTES], IMPORTED).unwrap();
        for costs in [&[][..], &[CHEAP], &[IMPORTED], &[CHEAP, IMPORTED]] {
            for (hash, expected) in [
                (Some(&one), true),
                (Some(&imported), true),
                (Some(&two), false),
                (None, false),
            ] {
                let hash = hash.map(|hash| hash.as_str());
                let is_of = hashing.is_of("AIDA1", &password("one"), hash, costs).await;
                assert_eq!(is_of, Ok(expected), "{hash:?} {costs:?}");
            }
        }
        let all = || vec![two.clone(), one.clone()];
        assert_eq!(
            hashing.is_any_of("AIDA1", &password("one"), all()).await,
            Ok(true)
        );
        assert_eq!(
            hashing.is_any_of("AIDA1", &password("x"), all()).await,
            Ok(false)
        );
    }

    #[tokio::test]
    async fn every_comparison_does_the_same_work_whoever_has_which_hash() {
        let hashing = Hashing::new(1, CHEAP, &SystemEntropy::new()).unwrap();
        let made = hash::hash("one", &[7; SALT_BYTES], CHEAP).unwrap();
        let imported = hash::hash("one", &[7; SALT_BYTES], IMPORTED).unwrap();
        let work = |hash: Option<&str>, costs: &[Cost]| {
            let compared = hashing.compared(hash, costs).unwrap();
            let mut work: Vec<Cost> = compared
                .iter()
                .map(|(hash, _)| Cost::of(hash).unwrap())
                .collect();
            work.sort();
            work
        };
        // Nobody has a password yet, or all have one of the same kind.
        assert_eq!(work(None, &[]), [CHEAP]);
        for costs in [vec![CHEAP], vec![CHEAP, IMPORTED], vec![IMPORTED, CHEAP]] {
            let mut all = costs.clone();
            all.sort();
            assert_eq!(work(None, &costs), all, "nobody");
            assert_eq!(work(Some(&made), &costs), all, "a hash of the broker");
            if costs.contains(&IMPORTED) {
                assert_eq!(work(Some(&imported), &costs), all, "an imported hash");
            }
        }
    }

    #[tokio::test]
    async fn only_a_hash_of_another_cost_is_made_anew() {
        let hashing = Hashing::new(1, CHEAP, &SystemEntropy::new()).unwrap();
        let made = hash::hash("one", &[7; SALT_BYTES], CHEAP).unwrap();
        let imported = hash::hash("one", &[7; SALT_BYTES], IMPORTED).unwrap();
        let one = password("one");
        assert_eq!(hashing.anew("AIDA1", &one, &made).await, Ok(None));
        let new = hashing.anew("AIDA1", &one, &imported).await.unwrap();
        let new = new.unwrap();
        assert_eq!(Cost::of(&new), Ok(CHEAP));
        assert_eq!(hash::mark(&new), hash::mark(&imported));
        let is_of = hashing.is_of("AIDA1", &one, Some(&new), &[]);
        assert_eq!(is_of.await, Ok(true));
    }

    #[tokio::test]
    async fn a_bounded_number_runs_and_waits_and_no_more() {
        let hashing = Arc::new(Hashing::new(1, CHEAP, &SystemEntropy::new()).unwrap());
        let (release, held) = mpsc::channel::<()>();
        let (begun, started) = tokio::sync::oneshot::channel();
        let first = hashing.clone();
        let first = tokio::spawn(async move {
            first
                .run("first", move || {
                    let _ = begun.send(());
                    let _ = held.recv();
                    Ok(())
                })
                .await
        });
        started.await.unwrap();
        let mut waiting = Vec::new();
        let wait = |of: String| {
            let hashing = hashing.clone();
            tokio::spawn(async move { hashing.run(&of, || Ok(())).await })
        };
        let waiting_for_all = async |left: usize| {
            while hashing.admitted.available_permits() > left {
                tokio::task::yield_now().await;
            }
        };
        // One user gets only a part of the room, whatever else it asks for.
        for _ in 0..OF_ONE {
            waiting.push(wait("greedy".to_owned()));
        }
        waiting_for_all(WAITING - OF_ONE).await;
        let refused = hashing.run("greedy", || Ok(())).await;
        assert_eq!(refused, Err(HashingError::Busy));
        for n in OF_ONE..WAITING {
            waiting.push(wait(n.to_string()));
        }
        waiting_for_all(0).await;
        let refused = hashing.run("last", || Ok(())).await;
        assert_eq!(refused, Err(HashingError::Busy));
        drop(release);
        for task in waiting.into_iter().chain([first]) {
            assert_eq!(task.await.unwrap(), Ok(Ok(())));
        }
        assert_eq!(hashing.run("greedy", || Ok(())).await, Ok(Ok(())));
        let counts = hashing.of_each.0.lock().unwrap();
        assert!(counts.is_empty(), "{counts:?}");
    }
}
