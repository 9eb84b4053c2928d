//! Names in requests. Each character set and length is checked in one place, when the name is
//! parsed.
//!
//! The rules are those of botocore's published `sts` model (API version 2011-06-15).

use std::fmt;

use crate::base::arn::AccountId;
use crate::base::field::{FieldError, length};

/// Defines a validated name: its type, its length in characters, and the characters that it allows
/// besides `\w`.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $min:literal ..= $max:literal, $others:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Box<str>);

        impl $type {
            /// Checks the length and the characters.
            ///
            /// # Errors
            /// [`FieldError`] that names the field and the rule.
            pub fn parse(field: &'static str, text: &str) -> Result<Self, FieldError> {
                Self::check(field, text)?;
                Ok(Self(text.into()))
            }

            /// Does the same as [`Self::parse`] without copying the text.
            ///
            /// # Errors
            /// [`FieldError`] that names the field and the rule.
            pub fn from_owned(field: &'static str, text: String) -> Result<Self, FieldError> {
                Self::check(field, &text)?;
                Ok(Self(text.into()))
            }

            fn check(field: &'static str, text: &str) -> Result<(), FieldError> {
                length(field, text, $min, $max)?;
                let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || $others.as_bytes().contains(&b);
                if !text.bytes().all(legal) {
                    let rule = concat!("must satisfy regular expression pattern: [\\w", $others, "]*");
                    return Err(FieldError::new(field, rule));
                }
                Ok(())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Returns the text.
            pub fn into_text(self) -> String {
                self.0.into()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a role session: 2 to 64 characters.
    RoleSessionName, 2..=64, "+=,.@-"
);
name!(
    /// A source identity, which is set once for a chain of sessions: 2 to 64 characters. It cannot
    /// begin with `aws:`, because a colon is not allowed.
    SourceIdentity, 2..=64, "+=,.@-"
);
name!(
    /// The name of a federated user: 2 to 32 characters.
    FederatedUserName, 2..=32, "+=,.@-"
);
name!(
    /// An external id, which identifies a customer of a third party: 2 to 1224 characters. It is
    /// not a secret.
    ExternalId, 2..=1224, "+=,.@:/-"
);
name!(
    /// The id of a long-term (`AKIA…`) or temporary (`ASIA…`) access key: 16 to 128 characters.
    AccessKeyId, 16..=128, ""
);
name!(
    /// The serial number or ARN of an MFA device: 9 to 256 characters.
    SerialNumber, 9..=256, "+=/:,.@-"
);

impl RoleSessionName {
    /// Makes a session name from a name that others chose, such as that of an identity provider. Characters that are
    /// not allowed are replaced by `-`, and the name is cut to 64 characters or padded to the minimum length.
    pub fn fitted(text: &str) -> Self {
        let legal = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
        let fit = |c: char| if legal(c) { c } else { '-' };
        let mut name: String = text.chars().take(64).map(fit).collect();
        while name.len() < 2 {
            name.push('-');
        }
        Self(name.into())
    }
}

/// Whether a text has 1 to `most` letters, digits, hyphens and underscores.
pub fn is_label(text: &str, most: usize) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=most).contains(&text.len()) && text.bytes().all(legal)
}

/// Whether a text is the name of a bucket: Amazon S3 User Guide, "General purpose bucket naming rules". A text
/// that looks like an IPv4 address is not a bucket's name.
pub fn is_bucket(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let legal = |b: u8| plain(b) || b == b'-' || b == b'.';
    let ends = [text.bytes().next(), text.bytes().next_back()];
    (3..=63).contains(&text.len())
        && text.bytes().all(legal)
        && ends.into_iter().all(|end| end.is_some_and(plain))
        && !text.contains("..")
        && text.parse::<std::net::Ipv4Addr>().is_err()
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

impl AccessKeyId {
    /// Creates an id that contains its account, as AWS's do: sixteen base32 characters, whose bits
    /// are a 1, 40 bits of the account's number and 39 random bits.
    pub fn mint(prefix: AccessKeyKind, account: AccountId, random: [u8; 5]) -> Self {
        let tail = random.iter().fold(0u128, |n, b| n << 8 | u128::from(*b)) & ((1 << 39) - 1);
        let bits = 1 << 79 | u128::from(account.number()) << 39 | tail;
        let mut text = String::with_capacity(20);
        text.push_str(prefix.as_str());
        for i in (0..16).rev() {
            let index = usize::try_from(bits >> (5 * i) & 31).unwrap_or_default();
            text.push(BASE32.get(index).map_or('A', |b| char::from(*b)));
        }
        Self(text.into())
    }

    /// The account in an id of AWS's form; `None` for other ids.
    pub fn account(&self) -> Option<AccountId> {
        let payload = self.0.get(4..).filter(|p| p.len() == 16)?;
        let mut bits = 0u128;
        for byte in payload.bytes() {
            bits = bits << 5 | u128::try_from(BASE32.iter().position(|b| *b == byte)?).ok()?;
        }
        if bits >> 79 == 0 {
            return None;
        }
        AccountId::from_number(u64::try_from(bits >> 39 & ((1 << 40) - 1)).ok()?)
    }

    /// Whether the id begins with `ASIA`, which marks temporary credentials.
    pub fn is_temporary(&self) -> bool {
        self.0.starts_with(AccessKeyKind::Temporary.as_str())
    }
}

/// Whether an access key is long-term or temporary, which its id shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKeyKind {
    /// A long-term key, whose id begins with `AKIA`.
    LongTerm,
    /// A temporary key, whose id begins with `ASIA`.
    Temporary,
}

impl AccessKeyKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::LongTerm => "AKIA",
            Self::Temporary => "ASIA",
        }
    }
}

/// Whether a text is a valid name for a user, group, role, policy or instance profile: 1 to `longest` characters of
/// `[\w+=,.@-]`. IAM User Guide, "IAM name requirements".
pub fn is_iam_name(text: &str, longest: usize) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    (1..=longest).contains(&text.len()) && text.bytes().all(legal)
}

/// A tag. Keys are compared without regard to case but keep their case.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tag {
    /// The key: 1 to 128 characters.
    pub key: String,
    /// The value: 0 to 256 characters.
    pub value: String,
}

/// The maximum number of session tags, and of transitive tag keys, in a request.
pub const MAX_TAGS: usize = 50;

/// Checks a tag key: `[\p{L}\p{Z}\p{N}_.:/=+\-@]+`, without AWS's reserved prefix `aws:`.
///
/// # Errors
/// [`FieldError`] that names the field and the rule.
pub fn tag_key(field: &'static str, text: &str) -> Result<(), FieldError> {
    length(field, text, 1, 128)?;
    if text
        .get(..4)
        .is_some_and(|p| p.eq_ignore_ascii_case("aws:"))
    {
        return Err(FieldError::new(
            field,
            "must not begin with the reserved prefix `aws:`",
        ));
    }
    tag_characters(field, text)
}

/// Checks a tag value: at most 256 characters of the same set as keys.
///
/// # Errors
/// [`FieldError`] that names the field and the rule.
pub fn tag_value(field: &'static str, text: &str) -> Result<(), FieldError> {
    length(field, text, 0, 256)?;
    tag_characters(field, text)
}

fn tag_characters(field: &'static str, text: &str) -> Result<(), FieldError> {
    // `char::is_numeric` is \p{N}; \p{Z} is white space without control characters.
    let legal = |c: char| {
        c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c)
    };
    if text.chars().all(legal) {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        "must satisfy regular expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*",
    ))
}

/// Checks the tags of a request: each is well-formed, no key is repeated, and there are at most
/// [`MAX_TAGS`].
///
/// # Errors
/// [`FieldError`] with the rule that is broken, and with the place of the key or the value as AWS names it, such as
/// `Tags.2.member.key`.
pub fn tags(tags: Vec<Tag>) -> Result<Vec<Tag>, FieldError> {
    if tags.len() > MAX_TAGS {
        return Err(FieldError::new(
            "Tags",
            format!("must have at most {MAX_TAGS} items"),
        ));
    }
    for (i, tag) in tags.iter().enumerate() {
        let at = |part: &str| format!("Tags.{}.member.{part}", i + 1);
        tag_key("Key", &tag.key).map_err(|e| FieldError::new(at("key"), e.rule))?;
        tag_value("Value", &tag.value).map_err(|e| FieldError::new(at("value"), e.rule))?;
        let mut earlier = tags.iter().take(i);
        if earlier.any(|t| t.key.eq_ignore_ascii_case(&tag.key)) {
            let rule = "must not repeat a key; keys are compared without regard to case";
            return Err(FieldError::new(at("key"), rule));
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_name_is_fitted() {
        for (text, name) in [
            ("alice@example.com", "alice@example.com"),
            ("Zoë/x y:z", "Zo--x-y-z"),
            ("a", "a-"),
            ("", "--"),
            (&"x".repeat(100), &"x".repeat(64)),
        ] {
            let fitted = RoleSessionName::fitted(text);
            assert_eq!(fitted.as_str(), name);
            assert_eq!(RoleSessionName::parse("RoleSessionName", name), Ok(fitted));
        }
    }

    #[test]
    fn an_access_key_id_carries_its_account() {
        let account = AccountId::parse("123456789012").unwrap();
        let id = AccessKeyId::mint(AccessKeyKind::Temporary, account, [255; 5]);
        assert_eq!(id.as_str().len(), 20);
        assert!(id.is_temporary());
        assert_eq!(id.account(), Some(account));
        // The example id of AWS's documentation is older than the scheme.
        assert_eq!(
            AccessKeyId::parse("AccessKeyId", "AKIAIOSFODNN7EXAMPLE")
                .unwrap()
                .account(),
            None
        );
    }

    #[test]
    fn names_have_bounds() {
        assert!(RoleSessionName::parse("RoleSessionName", "ci@build-1").is_ok());
        for bad in ["a", "a b", "a/b", "naïve", &"x".repeat(65)] {
            assert!(
                RoleSessionName::parse("RoleSessionName", bad).is_err(),
                "{bad}"
            );
        }
        assert!(is_iam_name("a+=,.@-_1", 9) && is_iam_name("a", 1));
        for bad in ["", "a b", "a/b", "é", "0123456789"] {
            assert!(!is_iam_name(bad, 9), "{bad}");
        }
        assert!(
            tag_key("Tags", "aws:x").is_err()
                && tag_key("Tags", "Équipe 1").is_ok()
                && tag_value("Tags", "a\nb").is_err()
        );
    }

    #[test]
    fn the_error_for_a_tag_says_which_one_and_which_part() {
        let error = |second: (&str, &str)| {
            let all = [("Team", "blue"), second];
            let tag = |(key, value): (&str, &str)| Tag {
                key: key.to_owned(),
                value: value.to_owned(),
            };
            tags(all.map(tag).into()).unwrap_err().field.into_owned()
        };
        assert_eq!(error(("aws:x", "")), "Tags.2.member.key");
        assert_eq!(error(("team", "")), "Tags.2.member.key");
        assert_eq!(error(("Unit", "a\nb")), "Tags.2.member.value");
    }
}
