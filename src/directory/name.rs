//! How one resource is named: its kind, and an id that is unique in its kind.

use std::fmt;

use super::registry::every_kind;
use crate::base::arn::IamArn;

macro_rules! define_kinds {
    ($($variant:ident: $form:ty as $inner:ty = $name:literal in $list:literal;)*) => {
        /// What kind of resource. Kinds are in the order of their references: each comes after those
        /// that it refers to.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Kind {
            $($variant,)*
        }

        impl Kind {
            /// All of them, each after those that it refers to.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// As rows and people name it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The list of a directory file that holds resources of this kind.
            pub(super) fn list(self) -> &'static str {
                match self {
                    $(Self::$variant => $list,)*
                }
            }
        }
    };
}

every_kind!(define_kinds);

impl Kind {
    /// Reverses [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names one resource: its kind, and its ARN, access key id, serial number or account id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// What kind of resource.
    pub kind: Kind,
    /// Unique in its kind.
    pub id: String,
}

impl Name {
    /// The name of that kind and id.
    pub fn new(kind: Kind, id: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// `ACCOUNT/name` in lower case: names are unique in their account and kind without regard to case.
pub fn folded(account: &str, name: &str) -> String {
    format!("{account}/{}", name.to_ascii_lowercase())
}

/// The account and the name of an ARN as the folded name that must be unique.
pub fn folded_arn(arn: &str) -> Option<String> {
    IamArn::parse(arn).map(|a| folded(a.account.as_str(), a.name))
}
