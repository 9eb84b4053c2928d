//! The object that a request copies, in the header `x-amz-copy-source`. Stores parse this header
//! differently, so the broker accepts only values that all of them read in the same way.

use std::borrow::Cow;

use super::canonical::{Place, decode};
use super::key::{ObjectKey, check_bucket, is_id};
use super::refusal::{Code, S3Refusal};
use super::store::StoreRules;

/// The source of a copy: its bucket, its name, and its version if the header names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource<'a> {
    pub bucket: &'a str,
    pub key: ObjectKey<'a>,
    pub version: Option<&'a str>,
}

impl<'a> CopySource<'a> {
    /// Parses `BUCKET/KEY` or `/BUCKET/KEY`, percent-encoded as in a path, with
    /// `?versionId=VERSION` for one version.
    ///
    /// # Errors
    /// [`S3Refusal`] if the text has another form, or a store could take it for another object.
    pub fn parse(text: &'a str, rules: &StoreRules) -> Result<Self, S3Refusal> {
        let invalid = |message: &str| {
            let message = format!("The header 'x-amz-copy-source' {message}.");
            S3Refusal::new(Code::InvalidArgument, message)
        };
        if text.starts_with("arn:") || text.starts_with("/arn:") {
            return Err(invalid(
                "names its source by an ARN, such as that of an access point, which is not supported: write `BUCKET/KEY`",
            ));
        }
        let (path, version) = match text.split_once('?') {
            None => (text, None),
            Some((path, query)) => {
                let version = query.strip_prefix("versionId=").ok_or_else(|| {
                    invalid("may have `?versionId=…` after the object and nothing else")
                })?;
                (path, Some(version))
            }
        };
        let plain = |v: &str| is_id(v) && !v.contains(['+', '=']);
        if version.is_some_and(|v| !plain(v)) {
            return Err(invalid(
                "must have a version id of 1 to 1,024 letters, digits, `-`, `_`, `~` and `.`, without `..` and without \
                 a `.` at the beginning",
            ));
        }
        let path = path.strip_prefix('/').unwrap_or(path);
        let (bucket, key) = path
            .split_once('/')
            .ok_or_else(|| invalid("must be `BUCKET/KEY`"))?;
        check_bucket(bucket)?;
        let key = decode(key, Place::Path)
            .map_err(|error| invalid(&format!("is not accepted: {error}")))?;
        // Some stores look for the version after decoding, and some decode twice.
        if key.contains('?') || has_escape(&key) {
            return Err(invalid(
                "names an object with a `?`, or with a `%` before two hexadecimal digits, which some object \
                 stores would take for another object",
            ));
        }
        Ok(Self {
            bucket,
            key: ObjectKey::new(key, rules)?,
            version,
        })
    }

    /// Returns the value of the condition key `s3:x-amz-copy-source`: the decoded bucket and name,
    /// without a leading slash.
    pub fn as_condition(&self) -> Cow<'a, str> {
        [self.bucket, "/", self.key.as_str()].concat().into()
    }

    /// Returns the source for the audit record: the value of the condition key, and
    /// `?versionId=VERSION` if there is a version. The name of a source never contains a `?`.
    pub fn recorded(&self) -> String {
        let version = self
            .version
            .map(|version| ["?versionId=", version].concat());
        [&*self.as_condition(), &version.unwrap_or_default()].concat()
    }
}

/// Returns whether a decoded text contains another percent escape, which some stores would decode,
/// too.
fn has_escape(text: &str) -> bool {
    let hex = |b: &u8| b.is_ascii_hexdigit();
    text.as_bytes()
        .windows(3)
        .any(|w| matches!(w, [b'%', a, b] if hex(a) && hex(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::store::Style;

    #[test]
    fn only_what_all_stores_read_alike_is_a_source() {
        let rules = StoreRules {
            style: Style::Path,
            names: Vec::new(),
            keeps_slashes: false,
            takes_trailers: false,
            region: "us-east-1".into(),
        };
        let parse = |text: &str| {
            let source = CopySource::parse(text, &rules).ok()?;
            Some((
                source.bucket.to_owned(),
                source.key.as_str().to_owned(),
                source.version.map(str::to_owned),
            ))
        };
        for (text, bucket, key, version) in [
            ("data/a", "data", "a", None),
            ("/data/a", "data", "a", None),
            ("data/a/b%20c", "data", "a/b c", None),
            ("data/a%2Bb", "data", "a+b", None),
            ("data/%C3%BC", "data", "ü", None),
            ("data/100%25", "data", "100%", None),
            ("data/a%2Cb", "data", "a,b", None),
            ("data/a?versionId=null", "data", "a", Some("null")),
            (
                "/data/a?versionId=3HL4kqtJ_vjVBH40.Nr8X8",
                "data",
                "a",
                Some("3HL4kqtJ_vjVBH40.Nr8X8"),
            ),
        ] {
            assert_eq!(
                parse(text),
                Some((bucket.into(), key.into(), version.map(str::to_owned))),
                "{text}"
            );
        }
        for text in [
            "",
            "/",
            "data",
            "/data",
            "data/",
            "//data/a",
            "data//a",
            "data/a//b",
            "/Data/a",
            "data%2Fa",
            "data/a%2Fb",
            "data/a%2fb",
            "data/../secret/a",
            "data/a/../b",
            "data/%2e%2e/b",
            "data/.",
            "data/a+b",
            "data/a b",
            "data/ü",
            "data/a;b",
            "data/a#b",
            "data/a\\b",
            "data/a%3FversionId=x",
            "data/a%3FversionId%3Dx",
            "data/a?versionId=",
            "data/a?versionid=x",
            "data/a?versionId=x&y",
            "data/a?versionId=x?versionId=y",
            "data/a?versionId=%78",
            "data/a?acl",
            "data/a?",
            "data/a%2541",
            "data/a%",
            "data/a%c0%af",
            "data/a%00",
            "data/a%0a",
            "arn:aws:s3:us-east-1:111122223333:accesspoint/p/object/a",
            "/arn:aws:s3:::data/a",
            "https://s3.example.com/data/a",
            "data.s3.example.com/a?x",
            "data/a,data/b\u{0}",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
