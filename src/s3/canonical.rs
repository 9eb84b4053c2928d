//! Percent-decodes paths and queries exactly once, and refuses texts that servers could decode
//! differently. Signatures are checked and made over the decoded text, which is encoded again.

use std::borrow::Cow;

/// Why a text is not accepted by [`decode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undecodable {
    #[error("`{0}` must be percent-encoded")]
    Raw(char),
    #[error("a `%` must be followed by two hexadecimal digits")]
    Percent,
    #[error("an encoded slash (`%2F`) is read as a slash by some stores and not by others")]
    EncodedSlash,
    #[error("the text is not UTF-8")]
    Utf8,
    #[error("control characters are not accepted")]
    Control,
}

/// The part of a URL that a text comes from, which determines the characters that need no encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The path. A slash separates segments, and must not be encoded.
    Path,
    /// The value of a query parameter.
    Query,
}

impl Place {
    /// Returns whether a byte may occur without encoding. `+` may not, since some servers read it
    /// as a space, and `;` may not, since some read it as a separator.
    fn takes(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric()
            || b"-._~/!$'()*,:@".contains(&byte)
            || match self {
                Self::Path => matches!(byte, b'&' | b'='),
                Self::Query => matches!(byte, b'?' | b'='),
            }
    }
}

/// Percent-decodes a text once.
///
/// # Errors
/// [`Undecodable`] if the text is not correctly encoded UTF-8, contains a control character, or could be decoded
/// differently by another server.
pub(super) fn decode(text: &str, place: Place) -> Result<Cow<'_, str>, Undecodable> {
    let raw = |byte: &u8| *byte != b'%' && !place.takes(*byte);
    if let Some(at) = text.bytes().position(|b| raw(&b)) {
        let c = text.get(at..).and_then(|rest| rest.chars().next());
        return Err(Undecodable::Raw(c.unwrap_or('\u{fffd}')));
    }
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(Undecodable::Percent);
        };
        let byte = u8::try_from(high << 4 | low).map_err(|_| Undecodable::Percent)?;
        if byte == b'/' && place == Place::Path {
            return Err(Undecodable::EncodedSlash);
        }
        bytes.push(byte);
    }
    let text = String::from_utf8(bytes).map_err(|_| Undecodable::Utf8)?;
    if text.chars().any(char::is_control) {
        return Err(Undecodable::Control);
    }
    Ok(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_decoded_once_or_not_at_all() {
        for (text, place, expected) in [
            ("/a/b", Place::Path, Ok("/a/b")),
            ("/%61%C3%BC%c3%bc", Place::Path, Ok("/aüü")),
            ("/a%20b%2Bc", Place::Path, Ok("/a b+c")),
            ("/p%252Fq", Place::Path, Ok("/p%2Fq")),
            ("/a%5Cb", Place::Path, Ok("/a\\b")),
            ("/a&b=c", Place::Path, Ok("/a&b=c")),
            ("/a%2Fb", Place::Path, Err(Undecodable::EncodedSlash)),
            ("/a%2fb", Place::Path, Err(Undecodable::EncodedSlash)),
            ("/a+b", Place::Path, Err(Undecodable::Raw('+'))),
            ("/a;b", Place::Path, Err(Undecodable::Raw(';'))),
            ("/a#b", Place::Path, Err(Undecodable::Raw('#'))),
            ("/a\\b", Place::Path, Err(Undecodable::Raw('\\'))),
            ("/a b", Place::Path, Err(Undecodable::Raw(' '))),
            ("/ü", Place::Path, Err(Undecodable::Raw('ü'))),
            ("/a\u{0}", Place::Path, Err(Undecodable::Raw('\u{0}'))),
            ("/a%", Place::Path, Err(Undecodable::Percent)),
            ("/a%4", Place::Path, Err(Undecodable::Percent)),
            ("/a%zz", Place::Path, Err(Undecodable::Percent)),
            ("/a%+1", Place::Path, Err(Undecodable::Raw('+'))),
            // Overlong forms of `/` and `.`, a lone surrogate, and half a character.
            ("/%c0%af", Place::Path, Err(Undecodable::Utf8)),
            ("/%c0%ae", Place::Path, Err(Undecodable::Utf8)),
            ("/%ed%a0%80", Place::Path, Err(Undecodable::Utf8)),
            ("/%c3", Place::Path, Err(Undecodable::Utf8)),
            ("/%00", Place::Path, Err(Undecodable::Control)),
            ("/%0d%0a", Place::Path, Err(Undecodable::Control)),
            ("/%7f", Place::Path, Err(Undecodable::Control)),
            ("/%c2%85", Place::Path, Err(Undecodable::Control)),
            ("a%2Fb/c", Place::Query, Ok("a/b/c")),
            ("a=b?c", Place::Query, Ok("a=b?c")),
            ("a+b", Place::Query, Err(Undecodable::Raw('+'))),
            ("a;b", Place::Query, Err(Undecodable::Raw(';'))),
            ("%ff", Place::Query, Err(Undecodable::Utf8)),
        ] {
            assert_eq!(
                decode(text, place).as_deref(),
                expected.as_ref().copied(),
                "{text}"
            );
        }
    }
}
