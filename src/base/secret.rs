//! [`Secret`]: wiped on drop, redacted in `Debug`. Nothing compares secrets: a signature made with
//! one is checked by ring, in constant time.

use std::fmt;

use zeroize::Zeroize;

/// A value that never prints, never serializes and is overwritten when it is dropped.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes a value into safe keeping.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the line that hands it to cryptography or to its owner. Every call is
    /// a place to review.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_nothing() {
        assert_eq!(
            format!("{:?}", Secret::new(String::from("hunter2"))),
            "[redacted]"
        );
    }
}
