//! Computes the hashes of passwords, each of which takes a processor and much memory for a while.
//! A bounded number is computed at once, on threads on which no call is served.

use std::sync::Arc;

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::base::entropy::{self, Entropy, NoEntropy};
use crate::password::hash::{self, Cost, HashError, OUTPUT_BYTES, SALT_BYTES};
use crate::store::unless_abandoned;

/// The number of computations that may wait for others.
const WAITING: usize = 16;

/// Why a hash was not computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashingError {
    /// Too many others are waiting already.
    #[error("too many passwords are being checked at once")]
    Busy,
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

/// Computes hashes of passwords.
pub struct Hashing {
    /// One permit for each computation that runs or waits.
    admitted: Arc<Semaphore>,
    /// One permit for each computation that runs.
    running: Arc<Semaphore>,
    cost: Cost,
    /// The hash of no password, which is compared for users that do not exist.
    decoy: Zeroizing<String>,
}

impl Hashing {
    /// `at_once` is the number of hashes that are computed at once.
    ///
    /// # Errors
    /// [`NoEntropy`] if there are no random bytes.
    pub fn new(at_once: usize, cost: Cost, entropy: &dyn Entropy) -> Result<Self, NoEntropy> {
        let salt = entropy::bytes::<SALT_BYTES>(entropy)?;
        let output = entropy::bytes::<OUTPUT_BYTES>(entropy)?;
        Ok(Self {
            admitted: Arc::new(Semaphore::new(at_once + WAITING)),
            running: Arc::new(Semaphore::new(at_once)),
            cost,
            decoy: hash::text(&salt, &output, cost).unwrap_or_default(),
        })
    }

    /// The hash of a new password.
    ///
    /// # Errors
    /// [`HashingError`] if too many hashes wait already, or if there is no memory for it.
    pub async fn hash(
        &self,
        password: &Zeroizing<String>,
        entropy: &dyn Entropy,
    ) -> Result<Zeroizing<String>, HashingError> {
        let salt = entropy::bytes::<SALT_BYTES>(entropy)?;
        let (password, cost) = (password.clone(), self.cost);
        let hash = self.run(move || hash::hash(&password, &salt, cost));
        Ok(hash.await??)
    }

    /// Whether a hash is that of the password. Without a hash, the answer is `false` after the same
    /// work.
    ///
    /// # Errors
    /// [`HashingError`] if too many hashes wait already, or if there is no memory for it.
    pub async fn is_of(
        &self,
        password: &Zeroizing<String>,
        hash: Option<&str>,
    ) -> Result<bool, HashingError> {
        let exists = hash.is_some();
        let hash = hash.map_or_else(|| self.decoy.clone(), |hash| hash.to_owned().into());
        let matches = self.is_any_of(password, vec![hash]).await?;
        Ok(matches && exists)
    }

    /// Whether one of these hashes is that of the password.
    ///
    /// # Errors
    /// [`HashingError`] if too many hashes wait already, or if there is no memory for it.
    pub async fn is_any_of(
        &self,
        password: &Zeroizing<String>,
        hashes: Vec<Zeroizing<String>>,
    ) -> Result<bool, HashingError> {
        let password = password.clone();
        let found = self.run(move || {
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
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<Result<T, HashError>, HashingError> {
        let busy = |_| HashingError::Busy;
        let admitted = self.admitted.clone().try_acquire_owned().map_err(busy)?;
        // A call whose client has gone does not wait.
        let running = unless_abandoned(self.running.clone().acquire_owned()).await;
        let running = running.and_then(Result::ok).ok_or(HashingError::Busy)?;
        // The permits go with the work, which runs to its end even if nobody waits for it.
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((running, admitted));
            result
        });
        // A panic, which is a bug.
        done.await
            .map_err(|_| HashingError::Hash(HashError::Malformed))
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
    };

    fn password(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_and_no_password_matches_none() {
        let entropy = SystemEntropy::new();
        let hashing = Hashing::new(1, CHEAP, &entropy).unwrap();
        let one = hashing.hash(&password("one"), &entropy).await.unwrap();
        let two = hashing.hash(&password("two"), &entropy).await.unwrap();
        let again = hashing.hash(&password("one"), &entropy).await.unwrap();
        assert_ne!(one, again, "each has a salt of its own");
        assert_eq!(hashing.is_of(&password("one"), Some(&one)).await, Ok(true));
        assert_eq!(hashing.is_of(&password("one"), Some(&two)).await, Ok(false));
        assert_eq!(hashing.is_of(&password("one"), None).await, Ok(false));
        assert!(
            hash::normal(&hashing.decoy).is_ok(),
            "the decoy costs the same"
        );
        let all = || vec![two.clone(), one.clone()];
        assert_eq!(hashing.is_any_of(&password("one"), all()).await, Ok(true));
        assert_eq!(hashing.is_any_of(&password("x"), all()).await, Ok(false));
    }

    #[tokio::test]
    async fn a_bounded_number_runs_and_waits_and_no_more() {
        let hashing = Arc::new(Hashing::new(1, CHEAP, &SystemEntropy::new()).unwrap());
        let (release, held) = mpsc::channel::<()>();
        let (begun, started) = tokio::sync::oneshot::channel();
        let first = hashing.clone();
        let first = tokio::spawn(async move {
            first
                .run(move || {
                    let _ = begun.send(());
                    let _ = held.recv();
                    Ok(())
                })
                .await
        });
        started.await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..WAITING {
            let hashing = hashing.clone();
            waiting.push(tokio::spawn(async move { hashing.run(|| Ok(())).await }));
        }
        while hashing.admitted.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = hashing.run(|| Ok(())).await;
        assert_eq!(refused, Err(HashingError::Busy));
        drop(release);
        for task in waiting.into_iter().chain([first]) {
            assert_eq!(task.await.unwrap(), Ok(Ok(())));
        }
        assert_eq!(hashing.run(|| Ok(())).await, Ok(Ok(())));
    }
}
