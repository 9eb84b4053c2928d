//! Checks the names of objects, buckets, versions and uploads. Names of objects come from a path, a
//! copy source or a list of objects to delete.

use std::borrow::Cow;

use super::refusal::{Code, S3Refusal};
use super::store::StoreRules;
use crate::base::names::is_bucket;

/// The maximum length of an object's name in bytes: Amazon S3 User Guide, "Naming Amazon S3
/// objects".
const MAX_KEY_BYTES: usize = 1024;

/// The name of an object, which is known to mean the same object in every store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectKey<'a> {
    name: Cow<'a, str>,
    /// Whether the store may treat the name with and without its trailing slash as the same object.
    is_also_bare: bool,
}

impl<'a> ObjectKey<'a> {
    /// Checks the decoded name of an object.
    ///
    /// # Errors
    /// [`S3Refusal`] if the name is empty, too long, reserved or has control characters, or if a store could take it
    /// for another object.
    pub fn new(name: Cow<'a, str>, rules: &StoreRules) -> Result<Self, S3Refusal> {
        let invalid = |message: &str| Err(S3Refusal::new(Code::InvalidUri, message));
        if name.is_empty() {
            return invalid("The name of the object is empty.");
        }
        if name.len() > MAX_KEY_BYTES {
            return Err(S3Refusal::new(
                Code::KeyTooLong,
                "Your key is too long: the maximum length is 1024 bytes.",
            ));
        }
        if name.chars().any(char::is_control) {
            return invalid("The name of an object must not have control characters.");
        }
        if name.split(['/', '\\']).any(|s| matches!(s, "." | "..")) {
            return invalid("The name of an object must not have the segments `.` and `..`.");
        }
        // SeaweedFS stores `a\b` as `a/b`.
        if !rules.keeps_slashes && name.contains('\\') {
            return invalid(
                "The name of an object must not have backslashes, which this store may take for slashes.",
            );
        }
        let bare = name.strip_suffix('/');
        if !rules.keeps_slashes {
            let mut segments = bare.unwrap_or(&name).split('/');
            if segments.clone().any(is_private) {
                return invalid(
                    "The name of the object is reserved: stores that keep objects as files have data of their own in the segments `.uploads`, `*.versions` and `*__XLDIR__`.",
                );
            }
            if segments.any(str::is_empty) {
                return invalid(
                    "The name of an object must not have empty segments (`//`), which some object stores \
                     remove. If this object store keeps them, set `keeps_slashes` of [[s3.stores]].",
                );
            }
        }
        Ok(Self {
            is_also_bare: bare.is_some() && !rules.keeps_slashes,
            name,
        })
    }

    /// The decoded name as the request has it.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Returns all names under which the store may find the object. The caller needs permission for
    /// each of them.
    pub fn readings(&self) -> impl Iterator<Item = &str> {
        let bare = self.name.strip_suffix('/').filter(|_| self.is_also_bare);
        std::iter::once(&*self.name).chain(bare)
    }
}

/// Returns whether stores that keep objects as files use a segment like this for their own data,
/// such as uploads and versions. A request for it would bypass the permission for the object's own
/// name.
fn is_private(segment: &str) -> bool {
    segment == ".uploads" || segment.ends_with(".versions") || segment.ends_with("__XLDIR__")
}

/// Refuses a name that is not valid for a general purpose bucket: Amazon S3 User Guide, "General
/// purpose bucket naming rules".
pub(super) fn check_bucket(bucket: &str) -> Result<(), S3Refusal> {
    if is_bucket(bucket) {
        return Ok(());
    }
    Err(S3Refusal::new(
        Code::InvalidBucketName,
        "The specified bucket is not valid.",
    ))
}

/// Returns whether a text is a valid id of a version or an upload. Some stores use such ids in
/// paths of files, so they must not contain slashes or `..`.
pub(super) fn is_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+=".contains(&b);
    (1..=1024).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('.')
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::store::Style;

    #[test]
    fn a_name_means_one_object_to_every_store() {
        let rules = |keeps_slashes| StoreRules {
            style: Style::Path,
            names: Vec::new(),
            keeps_slashes,
            takes_trailers: false,
            region: "us-east-1".into(),
        };
        let readings = |name: &str, keeps: bool| {
            let key = ObjectKey::new(name.to_owned().into(), &rules(keeps)).ok()?;
            Some(key.readings().map(str::to_owned).collect::<Vec<_>>())
        };
        let same = |name: &str| Some(vec![name.to_owned()]);
        for name in [
            "a", "a/b", "a b", "a+b", "ü/x", "q?x", "p%2Fq", "%", "...", "a/.b", ".a", "a..b",
        ] {
            assert_eq!(readings(name, false), same(name), "{name}");
            assert_eq!(readings(name, true), same(name), "{name}");
        }
        for name in ["a//b", "/a", "//", "a//", "/", "a\\b", "\\"] {
            assert_eq!(readings(name, false), None, "{name}");
            assert_eq!(readings(name, true), same(name), "{name}");
        }
        for name in [
            ".uploads/x/0001.part",
            "a.txt.versions/v_1",
            "a/.versions",
            "a__XLDIR__",
        ] {
            assert_eq!(readings(name, false), None, "{name}");
            assert_eq!(readings(name, true), same(name), "{name}");
        }
        assert_eq!(readings("a/", false), Some(vec!["a/".into(), "a".into()]));
        assert_eq!(readings("a/", true), same("a/"));
        for name in [
            "", ".", "..", "a/../b", "a/./b", "../a", "a/..", "a\\..\\b", "a/..\\b", "a\nb",
            "a\u{0}", "a\u{85}",
        ] {
            assert_eq!(readings(name, false), None, "{name:?}");
            assert_eq!(readings(name, true), None, "{name:?}");
        }
        assert!(readings(&"x".repeat(1024), false).is_some());
        assert!(readings(&"x".repeat(1025), false).is_none());
        assert!(readings(&"ü".repeat(513), false).is_none());
    }
}
