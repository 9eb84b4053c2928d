//! Normalizes passwords before they are hashed and compared, so that they match on every keyboard:
//! the profile OpaqueString of RFC 8265 section 4.2.

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// The maximum length in bytes of a password that is hashed. It has room for IAM's limit of 128
/// characters of up to four bytes.
pub const MAX_BYTES: usize = 1_024;

/// Returns the normalized password: other spaces become U+0020, and the result is in NFC. Case
/// stays as it is, and nothing is cut off.
pub fn prepared(password: &str) -> Zeroizing<String> {
    // NFC makes a text at most three times as long, so the buffer never moves and leaves no copy behind.
    let mut prepared = Zeroizing::new(String::with_capacity(password.len().saturating_mul(3)));
    let spaced = password.chars().map(|c| if is_space(c) { ' ' } else { c });
    prepared.extend(spaced.nfc());
    prepared
}

/// Returns whether a password contains a control character: RFC 8264 section 4.2.3. IAM's API
/// accepts tabs and line breaks; the pages do not, because nobody can type them.
pub fn has_control(password: &str) -> bool {
    password.chars().any(char::is_control)
}

/// Returns whether a character is in Unicode's general category `Zs`.
fn is_space(c: char) -> bool {
    matches!(
        c,
        '\u{20}' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_the_same_is_the_same() {
        for (typed, expected) in [
            ("Cafe\u{301}", "Caf\u{e9}"),
            ("a\u{a0}b\u{3000}c", "a b c"),
            (" kept ", " kept "),
            ("CASE", "CASE"),
            // NFKC would change these, which IAM's passwords may have.
            ("\u{aa}\u{b2}\u{b5}\u{bd}", "\u{aa}\u{b2}\u{b5}\u{bd}"),
            ("\u{fb01}", "\u{fb01}"),
            ("", ""),
        ] {
            assert_eq!(*prepared(typed), expected, "{typed:?}");
            assert_eq!(*prepared(&prepared(typed)), expected, "{typed:?}");
        }
        // The longest text in NFC for its length.
        let long = "\u{1d160}".repeat(100);
        let text = prepared(&long);
        assert!(text.len() <= long.len() * 3 && text.capacity() <= long.len() * 3);
    }

    #[test]
    fn controls_are_found() {
        assert!(has_control("a\tb") && has_control("\u{7f}") && has_control("\u{85}"));
        assert!(!has_control("Caf\u{e9} \u{1f600}"));
    }
}
