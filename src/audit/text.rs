//! What a record says of texts that a caller chose.

use serde::Serialize;

use super::line;
use crate::base::digest;

/// A caller's text for places that are not a refusal's record, where it is not cut again: at most 512
/// characters.
pub fn clip(text: &str) -> String {
    match text.char_indices().nth(line::MAX_TEXT) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
        None => text.to_owned(),
    }
}

/// At most so many bytes of a text as a line has it, where a character beyond ASCII takes up to twelve.
pub fn clip_written(text: &str, bytes: usize) -> &str {
    let mut written = 0;
    let end = text.char_indices().find(|(_, c)| {
        written += if c.is_ascii() { 1 } else { 6 * c.len_utf16() };
        written > bytes
    });
    end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// What a record says of a document that a caller chose, such as a session policy: which one it was,
/// and not its text, which may be long.
#[derive(Debug, Serialize)]
pub struct Digest {
    /// In hexadecimal, of its bytes.
    sha256: String,
    /// In bytes.
    length: usize,
}

impl Digest {
    /// Describes a document.
    pub fn of(document: &str) -> Self {
        Self {
            sha256: digest::hex(&digest::sha256(document.as_bytes())),
            length: document.len(),
        }
    }
}
