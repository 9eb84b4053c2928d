//! Splits a command line into words, as a POSIX shell does and as AWS's tools do with `credential_process`:
//! only quotes and backslashes are special. No shell is run.

/// Splits a command line.
///
/// # Errors
/// A text about an unclosed quote or a backslash at the end, which continues a sentence such as "The
/// command line …".
pub(crate) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("contains a quote that is not closed")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("contains a quote that is not closed")? {
                        '"' => break,
                        '\\' => match chars.next().ok_or("contains a quote that is not closed")? {
                            c @ ('"' | '\\') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word
                .get_or_insert_default()
                .push(chars.next().ok_or("ends with a backslash")?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        for (text, expected) in [
            (
                "/bin/x  --a 'b c' \"d e\"",
                vec!["/bin/x", "--a", "b c", "d e"],
            ),
            (
                r#"a\ b "c\"d" 'e\f' g"h"i"#,
                vec!["a b", "c\"d", "e\\f", "ghi"],
            ),
            (r#""\n" '' "" x"#, vec!["\\n", "", "", "x"]),
            (
                "$HOME `ls` ; # x\ny",
                vec!["$HOME", "`ls`", ";", "#", "x", "y"],
            ),
            ("  ", vec![]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        for bad in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
