//! Parsers of flag values whose messages say what to write instead.

use super::{Failure, input};

const MAX_POLICY_BYTES: u64 = 64 << 10;

/// Parses a number of seconds. For text with a unit, such as `1h`, the message has the number to write.
pub(super) fn seconds(text: &str) -> Result<i32, String> {
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
        Some(seconds) => format!("must be a number of seconds; write {seconds}"),
        None => "must be a number of seconds, such as 3600".to_owned(),
    })
}

/// Parses a tag: `KEY=VALUE`, or as AWS's CLI has it, `Key=KEY,Value=VALUE`.
pub(super) fn tag(text: &str) -> Result<(String, String), String> {
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

/// Reads a policy: JSON, or `file://PATH` for a file that holds it.
pub(super) fn policy(text: &str) -> Result<String, String> {
    let text = match text.strip_prefix("file://") {
        Some(path) => input::read_text(std::path::Path::new(path), MAX_POLICY_BYTES)
            .map_err(|error: Failure| error.to_string())?,
        None => text.to_owned(),
    };
    match text.trim_start().starts_with('{') {
        true => Ok(text),
        false if std::path::Path::new(&text).is_file() => {
            Err(format!("must be JSON; to read a file, write file://{text}"))
        }
        false => Err(
            "must be JSON, such as {\"Version\":\"2012-10-17\",\"Statement\":[…]}, or file://PATH"
                .to_owned(),
        ),
    }
}

/// Parses an instant in RFC 3339.
pub(super) fn instant(text: &str) -> Result<jiff::Timestamp, String> {
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
