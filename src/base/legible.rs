//! Makes foreign text safe to display: characters that could mislead a terminal or a reader of a log are escaped. This
//! module writes to no terminal and no log.
//!
//! The escaped characters are control characters (of which ESC and U+009B begin terminal commands, and a line feed
//! begins a line that its author did not write), the line and paragraph separators of Unicode, the marks that change
//! the direction of text (Unicode Technical Report 36, section 2.8), and invisible characters.

use std::fmt::{self, Write};

/// Displays text on one line, with misleading characters escaped.
pub struct Legible<'a>(pub &'a str);

impl fmt::Display for Legible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Form::Line.escape(self.0, f)
    }
}

/// How text is escaped, depending on where it is displayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// On one line: a line feed becomes `\n`, and ESC `\u{1b}`.
    Line,
    /// On several lines: line breaks are kept.
    Lines,
    /// As JSON that stays equivalent: ESC becomes `\u001b`. The strings in valid JSON are already escaped, so a
    /// line feed can only be between values.
    Json,
}

impl Form {
    /// Writes text with misleading characters escaped.
    ///
    /// # Errors
    /// [`fmt::Error`] if `out` cannot be written.
    pub fn escape(self, text: &str, out: &mut impl Write) -> fmt::Result {
        let mut plain = 0;
        for (at, c) in text.char_indices().filter(|(_, c)| self.escapes(*c)) {
            out.write_str(text.get(plain..at).unwrap_or_default())?;
            plain = at + c.len_utf8();
            match self {
                Self::Line | Self::Lines => write!(out, "{}", c.escape_default())?,
                Self::Json => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        out.write_str(text.get(plain..).unwrap_or_default())
    }

    /// Returns text with misleading characters escaped.
    pub fn of(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        // Writing to a string cannot fail.
        let _ = self.escape(text, &mut out);
        out
    }

    fn escapes(self, c: char) -> bool {
        match c {
            '\t' => false,
            '\n' => self == Self::Line,
            ' '..='~' => false,
            _ => is_obeyed(c),
        }
    }
}

/// Whether a character could mislead a reader or is invisible.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One character of each kind that is escaped.
    const HOSTILE: [char; 17] = [
        '\0',
        '\r',
        '\u{7}',
        '\u{8}',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{9b}',
        '\u{61c}',
        '\u{200b}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202e}',
        '\u{2066}',
        '\u{feff}',
        '\u{e0041}',
    ];

    #[test]
    fn what_a_reader_would_obey_is_written_out() {
        for c in HOSTILE {
            let text = format!("a{c}b");
            for form in [Form::Line, Form::Lines, Form::Json] {
                let shown = form.of(&text);
                assert!(!shown.chars().any(is_obeyed), "{form:?} {c:?}: {shown:?}");
                assert!(
                    shown.starts_with("a\\") && shown.ends_with('b'),
                    "{form:?} {c:?}: {shown}"
                );
            }
        }
        assert_eq!(
            Legible("a\nb\u{1b}[1m\tc").to_string(),
            "a\\nb\\u{1b}[1m\tc"
        );
        assert_eq!(Form::Lines.of("a\nb\u{9b}\r"), "a\nb\\u{9b}\\r");
        let plain = "arn:aws:iam::111122223333:user/é 漢字 🙂 ~";
        assert_eq!(Form::Line.of(plain), plain);
    }

    #[test]
    fn json_stays_the_same_json() {
        let hostile: String = HOSTILE.iter().collect();
        let value = serde_json::json!({ "k": hostile, "l": ["\n", "🙂"] });
        for text in [value.to_string(), format!("{value:#}")] {
            let shown = Form::Json.of(&text);
            assert!(
                !shown.chars().any(|c| c != '\n' && is_obeyed(c)),
                "{shown:?}"
            );
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
                value
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_else_is_changed(text in "\\PC*") {
            let kept: String = Form::Line.of(&text);
            if !text.chars().any(is_obeyed) {
                proptest::prop_assert_eq!(kept, text);
            }
        }
    }
}
