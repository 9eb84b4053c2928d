//! The building blocks of declared forms: structures of AWS that several kinds share, and how their
//! fields are read and written.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

macro_rules! shape {
    ($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
        pub struct $name {
            $(
                $(#[$attr])*
                #[serde(skip_serializing_if = "crate::directory::shape::Absent::is_absent")]
                pub $field: $type,
            )*
        }

        impl $crate::directory::shape::Absent for $name {
            fn is_absent(&self) -> bool {
                use $crate::directory::shape::Absent;
                $(Absent::is_absent(&self.$field))&&*
            }
        }
    };
}

pub(super) use shape;

/// A value of a field that is left out of the written form if it is missing or empty.
pub(super) trait Absent {
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for String {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for bool {
    /// Returns false: a field with the value `false` is written like one with `true`.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A field of AWS's answers that has no meaning in Brevet. Any value is accepted and dropped; only
/// whether the field was given is kept (see `Declaration::unsupported`). The names are those of
/// botocore's model, so that a misspelt field is still an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ignored(pub bool);

impl Absent for Ignored {
    fn is_absent(&self) -> bool {
        true
    }
}

impl Serialize for Ignored {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

shape! {
    /// An inline policy of a user, group or role.
    InlinePolicy {
        policy_name: String,
        policy_document: Option<Document>,
    }
}

shape! {
    /// A managed policy that is attached to a user, group or role.
    Attached {
        policy_name: Option<String>,
        policy_arn: String,
    }
}

shape! {
    /// A permissions boundary, by the ARN of a managed policy.
    Boundary {
        permissions_boundary_type: Option<String>,
        permissions_boundary_arn: String,
    }
}

/// A tag. Keys are unique in a resource, ignoring case. An empty value is written too, because AWS's
/// clients require one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Tag {
    pub key: String,
    pub value: String,
}

impl Absent for Tag {
    fn is_absent(&self) -> bool {
        self.key.is_empty() && self.value.is_empty()
    }
}

/// A policy document: a JSON object, or a string that contains one, URL-encoded (as the IAM API
/// sends it) or plain.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(Box<RawValue>);

impl Document {
    /// Creates a document from its text.
    ///
    /// # Errors
    /// [`serde_json::Error`] if the text is not JSON.
    pub fn new(text: &str) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.to_owned()).map(Self)
    }

    /// The text of the document, decoded.
    ///
    /// # Errors
    /// The rule that the document breaks, if it is a string that is not valid Unicode or not URL-encoded UTF-8.
    pub fn text(&self) -> Result<Cow<'_, str>, &'static str> {
        let raw = self.0.get();
        if !raw.starts_with('"') {
            return Ok(Cow::Borrowed(raw));
        }
        let text: String =
            serde_json::from_str(raw).map_err(|_| "must be a JSON object or string")?;
        if text.trim_start().starts_with('{') {
            return Ok(Cow::Owned(text));
        }
        let decoded = percent_decode_str(&text)
            .decode_utf8()
            .map_err(|_| "must be URL-encoded UTF-8")?;
        Ok(Cow::Owned(decoded.into_owned()))
    }
}
