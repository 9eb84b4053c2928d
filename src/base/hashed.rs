//! Maps and sets whose keys are hashes already, so that nothing is hashed a second time.

use std::hash::{BuildHasher, Hasher};

/// Makes hashers for keys that are already hashes: a key writes a number, and that number is the
/// hash. The key must be the result of a keyed hash function such as [`std::hash::RandomState`]'s,
/// or others could choose keys that collide.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hashed;

/// A hasher whose result is the number that the key has written.
#[derive(Debug)]
pub struct AsItIs(u64);

impl BuildHasher for Hashed {
    type Hasher = AsItIs;

    fn build_hasher(&self) -> AsItIs {
        AsItIs(0)
    }
}

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        // A key that is more than one number is found as well, only more slowly.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_own_hash() {
        for hash in [0, 1, u64::MAX, 1 << 57] {
            assert_eq!(Hashed.hash_one(hash), hash);
        }
        assert_ne!(Hashed.hash_one("a"), Hashed.hash_one("b"));
    }
}
