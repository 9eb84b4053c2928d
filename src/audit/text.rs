//! Limits the length of texts in records that a caller chose.

use serde::Serialize;

use super::line;
use crate::base::digest;

/// Limits a caller's text to 512 characters. Only the lines of refusals are shortened as a whole, so the texts of other
/// records are limited one by one.
pub fn clip(text: &str) -> String {
    match text.char_indices().nth(line::MAX_TEXT) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
        None => text.to_owned(),
    }
}

/// Limits a text to a number of bytes as written, where a character beyond ASCII takes up to twelve.
pub fn clip_written(text: &str, bytes: usize) -> &str {
    let mut written = 0;
    let end = text.char_indices().find(|(_, c)| {
        written += if c.is_ascii() { 1 } else { 6 * c.len_utf16() };
        written > bytes
    });
    end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// Identifies a document that a caller chose, such as a session policy, without its text, which may
/// be long.
#[derive(Debug, Serialize)]
pub struct Digest {
    /// The SHA-256 hash of the document's bytes in hexadecimal.
    sha256: String,
    /// The document's length in bytes.
    length: usize,
}

impl Digest {
    /// Computes the digest of a document.
    pub fn of(document: &str) -> Self {
        Self {
            sha256: digest::hex(&digest::sha256(document.as_bytes())),
            length: document.len(),
        }
    }
}
