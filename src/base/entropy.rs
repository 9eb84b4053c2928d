//! [`Entropy`]: the source of random bytes. This is the only module that uses the system's random
//! number generator.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, Zeroizing};

/// How many bytes a thread draws from the system at once.
const BLOCK: usize = 512;
/// A request for more bytes than this is served by the system directly, without a block.
const MAX_FROM_BLOCK: usize = 64;
/// The rest of a block is dropped after this time, so that bytes for later use do not stay in memory.
const BLOCK_LASTS: Duration = Duration::from_secs(1);

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

    /// Fills the whole buffer with random bytes that name something, such as a request, and protect nothing. They
    /// may come from a supply in memory, so that two copies of a running machine may get the same ones.
    ///
    /// # Errors
    /// The same as those of [`Entropy::fill`].
    fn fill_name(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        self.fill(buffer)
    }
}

/// Returns `N` bytes that name something and protect nothing; see [`Entropy::fill_name`].
///
/// # Errors
/// [`NoEntropy`] if the source fails.
pub fn name<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], NoEntropy> {
    let mut buffer = [0; N];
    entropy.fill_name(&mut buffer)?;
    Ok(buffer)
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

/// The system's generator for functions of `ring` that make signatures and keys, which accept no other source.
#[allow(clippy::disallowed_methods)]
pub fn system() -> SystemRandom {
    SystemRandom::new()
}

/// The operating system's random number generator. Keys, secrets, salts and the ids of sessions are drawn from it
/// one by one, so that two copies of a running machine never share any. For names of requests, each thread draws
/// many bytes at once, because a system call for each name would cost more than the bytes.
#[derive(Debug, Clone)]
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    /// Creates a handle to the generator.
    pub fn new() -> Self {
        Self(system())
    }

    fn draw(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        self.0.fill(buffer).map_err(|_| NoEntropy)
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        self.draw(buffer)
    }

    fn fill_name(&self, buffer: &mut [u8]) -> Result<(), NoEntropy> {
        if buffer.len() > MAX_FROM_BLOCK {
            return self.draw(buffer);
        }
        let from_block = OF_THREAD.try_with(|block| {
            let mut block = block.try_borrow_mut().ok()?;
            Some(block.take(buffer, Instant::now(), |bytes| self.draw(bytes)))
        });
        match from_block {
            Ok(Some(filled)) => filled,
            // The thread is ending and has no block any more.
            Ok(None) | Err(_) => self.draw(buffer),
        }
    }
}

thread_local! {
    static OF_THREAD: RefCell<Block> = RefCell::new(Block::default());
}

/// A block of random bytes. Each byte is used once and then overwritten.
struct Block {
    bytes: Zeroizing<[u8; BLOCK]>,
    /// How many bytes at the end of the block are unused.
    left: usize,
    drawn_at: Option<Instant>,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            bytes: Zeroizing::new([0; BLOCK]),
            left: 0,
            drawn_at: None,
        }
    }
}

impl Block {
    /// Moves unused bytes into a buffer of at most [`BLOCK`] bytes. If too few are left, or they are too old,
    /// `draw` refills the block.
    fn take(
        &mut self,
        buffer: &mut [u8],
        now: Instant,
        draw: impl FnOnce(&mut [u8]) -> Result<(), NoEntropy>,
    ) -> Result<(), NoEntropy> {
        let is_fresh = self
            .drawn_at
            .is_some_and(|at| now.saturating_duration_since(at) < BLOCK_LASTS);
        if !is_fresh || self.left < buffer.len() {
            // Nothing of a block that could not be filled is used.
            self.left = 0;
            draw(&mut *self.bytes)?;
            (self.left, self.drawn_at) = (BLOCK, Some(now));
        }
        let unused = self.bytes.get_mut(BLOCK - self.left..).ok_or(NoEntropy)?;
        let next = unused.get_mut(..buffer.len()).ok_or(NoEntropy)?;
        buffer.copy_from_slice(next);
        next.zeroize();
        self.left -= buffer.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Fills with 1, 2, 3 and so on.
    fn counted(bytes: &mut [u8]) -> Result<(), NoEntropy> {
        for (byte, number) in bytes.iter_mut().zip((1..=251).cycle()) {
            *byte = number;
        }
        Ok(())
    }

    #[test]
    fn each_byte_of_a_block_is_used_once_and_then_overwritten() {
        let (mut block, now, mut draws) = (Block::default(), Instant::now(), 0);
        let (mut all, mut piece) = (Vec::new(), [0; 32]);
        for taken in 1..=BLOCK / 32 {
            let filled = block.take(&mut piece, now, |bytes| {
                draws += 1;
                counted(bytes)
            });
            filled.unwrap();
            all.extend_from_slice(&piece);
            assert_eq!(block.left, BLOCK - 32 * taken);
            assert!(block.bytes[..32 * taken].iter().all(|byte| *byte == 0));
        }
        let mut expected = vec![0; BLOCK];
        counted(&mut expected).unwrap();
        assert_eq!((all, draws), (expected, 1));
    }

    #[test]
    fn a_block_that_is_too_old_or_too_short_is_drawn_anew() {
        let (mut block, start) = (Block::default(), Instant::now());
        let mut draws = |length: usize, after: u64| {
            let (mut piece, mut drawn) = (vec![0; length], false);
            let now = start + Duration::from_millis(after);
            let filled = block.take(&mut piece, now, |bytes| {
                drawn = true;
                counted(bytes)
            });
            filled.unwrap();
            drawn
        };
        assert!(draws(400, 0));
        assert!(!draws(64, 999));
        assert!(draws(64, 999), "48 bytes are left");
        assert!(!draws(64, 1_998));
        assert!(draws(1, 1_999));
    }

    #[test]
    fn nothing_is_handed_out_if_the_system_fails() {
        let (mut block, now) = (Block::default(), Instant::now());
        let mut piece = [7; 16];
        let fails = |bytes: &mut [u8]| {
            bytes.fill(9);
            Err(NoEntropy)
        };
        // The second attempt does not use what the first one left.
        for _ in 0..2 {
            assert_eq!(block.take(&mut piece, now, fails), Err(NoEntropy));
            assert_eq!((block.left, piece), (0, [7; 16]));
        }
        block.take(&mut piece, now, counted).unwrap();
        assert_eq!(piece[0], 1);
    }

    #[test]
    fn threads_never_get_the_same_bytes() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    let entropy = SystemEntropy::new();
                    let ids = (0..1_000).map(|_| name::<16>(&entropy).unwrap());
                    ids.collect::<Vec<_>>()
                })
            })
            .collect();
        let mut seen = BTreeSet::new();
        for thread in threads {
            for id in thread.join().unwrap() {
                assert!(seen.insert(id));
            }
        }
        let mut long = [0; 4_096];
        SystemEntropy::new().fill_name(&mut long).unwrap();
        assert!(long.chunks(64).all(|chunk| chunk.iter().any(|b| *b != 0)));
    }
}
