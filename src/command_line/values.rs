//! Parsers of flag values. Their errors say what to write instead.

use super::{Failure, input};

const MAX_POLICY_BYTES: u64 = 64 << 10;

/// Parses a number of seconds. If the text has a unit, such as `1h`, the error says which number to
/// write.
pub(crate) fn seconds(text: &str) -> Result<i32, String> {
    if let Ok(seconds) = text.parse::<i32>() {
        return Ok(seconds);
    }
    let unit = |suffix: &str, seconds: i32| {
        let number = text.strip_suffix(suffix)?.trim().parse::<i32>().ok()?;
        number.checked_mul(seconds)
    };
    let meant = unit("h", 3_600)
        .or_else(|| unit("m", 60))
        .or_else(|| unit("min", 60))
        .or_else(|| unit("d", 86_400));
    Err(match meant.or_else(|| unit("s", 1)) {
        Some(seconds) => format!("must be a number of seconds without a unit; write {seconds}"),
        None => "must be a whole number of seconds up to 2147483647, such as 3600".to_owned(),
    })
}

/// Parses a tag in the form `KEY=VALUE`, or in that of AWS's CLI, `Key=KEY,Value=VALUE`.
pub(crate) fn tag(text: &str) -> Result<(String, String), String> {
    if let Some((key, value)) = text
        .strip_prefix("Key=")
        .and_then(|rest| rest.split_once(",Value="))
    {
        return Ok((key.to_owned(), value.to_owned()));
    }
    let (key, value) = text
        .split_once('=')
        .ok_or("must be KEY=VALUE, such as team=payments")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads a policy, given as JSON or as the path of a file, with or without `file://` before it.
pub(crate) fn policy(text: &str) -> Result<String, String> {
    let is_json = |text: &str| text.trim_start().starts_with('{');
    if is_json(text) {
        return Ok(text.to_owned());
    }
    let rule = "must be JSON, such as {\"Version\":\"2012-10-17\",\"Statement\":[…]}, or a file that holds it";
    let path = text.strip_prefix("file://").unwrap_or(text);
    let text = input::read_text(std::path::Path::new(path), MAX_POLICY_BYTES)
        .map_err(|error: Failure| format!("{error}; {rule}"))?;
    match is_json(&text) {
        true => Ok(text),
        false => Err(format!("{path}: {rule}")),
    }
}

/// Parses an instant in RFC 3339, such as `2026-01-02T03:04:05Z`.
pub(crate) fn instant(text: &str) -> Result<jiff::Timestamp, String> {
    text.parse()
        .map_err(|_| "must be a time such as 2026-01-02T03:04:05Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_with_a_unit_is_told_in_seconds() {
        assert_eq!(seconds("3600"), Ok(3_600));
        for (text, meant) in [
            ("1h", "3600"),
            ("15m", "900"),
            ("15min", "900"),
            ("2d", "172800"),
            ("90s", "90"),
        ] {
            assert!(
                seconds(text)
                    .unwrap_err()
                    .ends_with(&format!("write {meant}")),
                "{text}"
            );
        }
        assert!(seconds("soon").unwrap_err().contains("such as 3600"));
    }

    #[test]
    fn tags_are_taken_in_both_forms() {
        let pair = |k: &str, v: &str| Ok((k.to_owned(), v.to_owned()));
        assert_eq!(tag("Team=a=b"), pair("Team", "a=b"));
        assert_eq!(tag("Key=Team,Value=a,b"), pair("Team", "a,b"));
        assert!(tag("Team").is_err());
    }
}
