//! [`Entropy`]: the only reader of system randomness.

use ring::rand::{SecureRandom, SystemRandom};

/// The system gave no randomness; nothing may be issued without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random source gave nothing")]
pub struct NoEntropy;

/// Where keys, identifiers and salts come from.
pub trait Entropy: Send + Sync {
    /// Fills the whole buffer with unpredictable bytes.
    ///
    /// # Errors
    /// [`NoEntropy`] when the source fails; the buffer's content is then of no use.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy>;
}

/// So many unpredictable bytes.
///
/// # Errors
/// [`NoEntropy`] when the source fails.
pub fn bytes<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], NoEntropy> {
    let mut buffer = [0; N];
    entropy.fill(&mut buffer)?;
    Ok(buffer)
}

/// The system's generator for signatures and keys of ring's, which take no other.
#[allow(clippy::disallowed_methods)]
pub fn system() -> SystemRandom {
    SystemRandom::new()
}

/// The operating system's generator.
#[derive(Debug, Clone)]
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    /// Opens it.
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
