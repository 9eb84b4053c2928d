//! The names that callers pass: each charset and length rule once, at parse.
//!
//! The bounds are those of botocore's published `sts` model (API version 2011-06-15).

use std::fmt;

use crate::base::arn::AccountId;
use crate::base::field::{FieldError, length};

/// A validated name: what it is, its length in characters, its other characters beside `\w`.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $min:literal ..= $max:literal, $others:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Box<str>);

        impl $type {
            /// Checks length and characters.
            ///
            /// # Errors
            /// Names the field and the rule.
            pub fn parse(field: &'static str, text: &str) -> Result<Self, FieldError> {
                length(field, text, $min, $max)?;
                let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || $others.as_bytes().contains(&b);
                if !text.bytes().all(legal) {
                    let rule = concat!("must satisfy regular expression pattern: [\\w", $others, "]*");
                    return Err(FieldError::new(field, rule));
                }
                Ok(Self(text.into()))
            }

            /// As it was given.
            pub fn as_str(&self) -> &str {
                &self.0
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
    /// What the caller calls a role session: 2 to 64 characters.
    RoleSessionName, 2..=64, "+=,.@-"
);
name!(
    /// Who stands behind a chain of sessions: 2 to 64 characters, not beginning with `aws:`
    /// (a colon is not among its characters).
    SourceIdentity, 2..=64, "+=,.@-"
);
name!(
    /// Whom a user vouches for: 2 to 32 characters.
    FederatedUserName, 2..=32, "+=,.@-"
);
name!(
    /// The shared identifier of a third party's customer: 2 to 1224 characters. It is not a secret.
    ExternalId, 2..=1224, "+=,.@:/-"
);
name!(
    /// A long-term (`AKIA…`) or temporary (`ASIA…`) access key id: 16 to 128 characters.
    AccessKeyId, 16..=128, ""
);
name!(
    /// An MFA device, by serial number or ARN: 9 to 256 characters.
    SerialNumber, 9..=256, "+=/:,.@-"
);

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

impl AccessKeyId {
    /// An id that carries its account as AWS's do: sixteen base32 characters, whose bits are one 1,
    /// forty of the account's number and thirty-nine of chance.
    pub fn mint(prefix: AccessKeyKind, account: AccountId, chance: [u8; 5]) -> Self {
        let tail = chance.iter().fold(0u128, |n, b| n << 8 | u128::from(*b)) & ((1 << 39) - 1);
        let bits = 1 << 79 | u128::from(account.number()) << 39 | tail;
        let mut text = String::with_capacity(20);
        text.push_str(prefix.as_str());
        for i in (0..16).rev() {
            let index = usize::try_from(bits >> (5 * i) & 31).unwrap_or_default();
            text.push(BASE32.get(index).map_or('A', |b| char::from(*b)));
        }
        Self(text.into())
    }

    /// The account that an id of AWS's form carries; none in other ids.
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

    /// Whether the id says that it is a temporary one.
    pub fn is_temporary(&self) -> bool {
        self.0.starts_with(AccessKeyKind::Temporary.as_str())
    }
}

/// What kind of credential an access key id belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKeyKind {
    /// `AKIA`
    LongTerm,
    /// `ASIA`
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

/// Whether a text can be the name of a user, group, role, policy or instance profile of so many
/// characters at most: `[\w+=,.@-]+`. IAM User Guide, "IAM name requirements".
pub fn is_iam_name(text: &str, longest: usize) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    (1..=longest).contains(&text.len()) && text.bytes().all(legal)
}

/// A session tag. Keys compare without case and keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// 1 to 128 characters.
    pub key: String,
    /// 0 to 256 characters.
    pub value: String,
}

/// The most session tags, and the most transitive tag keys, of one request.
pub const MAX_TAGS: usize = 50;

/// Checks one tag key. `[\p{L}\p{Z}\p{N}_.:/=+\-@]+`, and not AWS's reserved prefix.
///
/// # Errors
/// Names the field and the rule.
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

/// Checks one tag value.
///
/// # Errors
/// Names the field and the rule.
pub fn tag_value(field: &'static str, text: &str) -> Result<(), FieldError> {
    length(field, text, 0, 256)?;
    tag_characters(field, text)
}

fn tag_characters(field: &'static str, text: &str) -> Result<(), FieldError> {
    // `char::is_numeric` is \p{N}; \p{Z} is white space less the controls.
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

/// The tags of a request: each well-formed, no key twice, and at most [`MAX_TAGS`].
///
/// # Errors
/// Names the rule that is broken.
pub fn tags(tags: Vec<Tag>) -> Result<Vec<Tag>, FieldError> {
    if tags.len() > MAX_TAGS {
        return Err(FieldError::new(
            "Tags",
            format!("must have at most {MAX_TAGS} items"),
        ));
    }
    for (i, tag) in tags.iter().enumerate() {
        tag_key("Tags", &tag.key)?;
        tag_value("Tags", &tag.value)?;
        let mut earlier = tags.iter().take(i);
        if earlier.any(|t| t.key.eq_ignore_ascii_case(&tag.key)) {
            let rule = "must not repeat a key; keys are compared without case";
            return Err(FieldError::new("Tags", rule));
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
