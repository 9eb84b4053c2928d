//! [`Secret`]: a value that is overwritten when dropped, redacted in `Debug`, and compared only in
//! constant time ([`is_same_secret`]).

use std::fmt;

use ring::hmac;
use zeroize::Zeroize;

/// A value that is never printed or serialized, and is overwritten when it is dropped.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value. Copies that were made of it before are not wiped.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Gives access to the value, for cryptography or for its owner. Every call of this function
    /// deserves a review.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Whether two secrets are the same. It compares their MACs under one key, in constant time.
pub fn is_same_secret(one: &[u8], two: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, one);
    hmac::verify(&key, two, hmac::sign(&key, one).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_the_same_when_all_their_bytes_are() {
        assert!(is_same_secret(b"hunter2", b"hunter2") && is_same_secret(b"", b""));
        for other in ["", "hunter", "hunter3", "hunter22"] {
            assert!(!is_same_secret(b"hunter2", other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn prints_nothing() {
        assert_eq!(
            format!("{:?}", Secret::new(String::from("hunter2"))),
            "[redacted]"
        );
    }
}
