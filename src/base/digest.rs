//! SHA-256 digests, and hexadecimal text.

use std::fmt;
use std::ops::Deref;

use ring::digest;
use serde::{Serialize, Serializer};

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// `bytes` as lower-case hexadecimal digits, two for each byte.
pub fn hex(bytes: &[u8]) -> String {
    let mut digits = vec![0; bytes.len() * 2];
    write_hex(bytes, &mut digits);
    // Digits are UTF-8.
    String::from_utf8(digits).unwrap_or_default()
}

fn write_hex(bytes: &[u8], digits: &mut [u8]) {
    let digit = |n: u8| n + if n < 10 { b'0' } else { b'a' - 10 };
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

/// The hexadecimal digits of a SHA-256 hash, which need no allocation.
pub struct Hex([u8; 64]);

impl Hex {
    /// `hash` as lower-case hexadecimal digits.
    pub fn of(hash: &[u8; 32]) -> Self {
        let mut digits = [0; 64];
        write_hex(hash, &mut digits);
        Self(digits)
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl Deref for Hex {
    type Target = str;

    fn deref(&self) -> &str {
        // Digits are UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}
