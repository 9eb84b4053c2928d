//! [`Entropy`]: the source of random bytes. This is the only module that uses the system's random
//! number generator.

use ring::rand::{SecureRandom, SystemRandom};

/// The system's random number generator failed, so nothing may be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random number generator failed")]
pub struct NoEntropy;

/// A source of random bytes for keys, identifiers and salts.
pub trait Entropy: Send + Sync {
    /// Fills the whole buffer with unpredictable bytes.
    ///
    /// # Errors
    /// [`NoEntropy`] if the source fails; the content of the buffer must not be used then.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy>;
}

/// Returns `N` unpredictable bytes.
///
/// # Errors
/// [`NoEntropy`] if the source fails.
pub fn bytes<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], NoEntropy> {
    let mut buffer = [0; N];
    entropy.fill(&mut buffer)?;
    Ok(buffer)
}

/// The system's generator for the signatures and keys of `ring`, which accept no other.
#[allow(clippy::disallowed_methods)]
pub fn system() -> SystemRandom {
    SystemRandom::new()
}

/// The operating system's random number generator.
#[derive(Debug, Clone)]
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    /// Creates a handle to the generator.
    pub fn new() -> Self {
        Self(system())
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        self.0.fill(buffer).map_err(|_| NoEntropy)
    }
}
