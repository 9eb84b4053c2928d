//! Names of resources: a kind, and an id that is unique among resources of the kind.

use std::fmt;

use super::registry::every_kind;
use crate::base::arn::IamArn;

macro_rules! define_kinds {
    ($($variant:ident: $form:ty as $inner:ty = $name:literal in $list:literal;)*) => {
        /// A kind of resource. The kinds are in the order of their references: each comes after
        /// those to which it refers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ResourceKind {
            $($variant,)*
        }

        impl ResourceKind {
            /// All kinds, each after those to which it refers.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name of the kind in rows and messages.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The name of the list in a directory file that contains resources of this kind.
            pub(super) fn list(self) -> &'static str {
                match self {
                    $(Self::$variant => $list,)*
                }
            }
        }
    };
}

every_kind!(define_kinds);

impl ResourceKind {
    /// The kind with this name, the reverse of [`Self::as_str`]; `None` if no kind has the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == text)
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a resource: its kind, and its id in the kind, such as an ARN, an access key id or an account id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The kind of resource, in which the id is unique.
    pub kind: ResourceKind,
    /// The id, such as an ARN, an access key id, a serial number or an account id. It is unique in the kind.
    pub id: String,
}

impl Name {
    /// Creates the name of the resource with this kind and id.
    pub fn new(kind: ResourceKind, id: impl Into<String>) -> Self {
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

/// The folded name of a resource, `ACCOUNT/name` in lower case. It is unique among resources of a
/// kind, because names are unique in an account without regard to case.
pub fn folded(account: &str, name: &str) -> String {
    format!("{account}/{}", name.to_ascii_lowercase())
}

/// The folded name of the resource with this ARN; `None` if the text is not an ARN of IAM.
pub fn folded_arn(arn: &str) -> Option<String> {
    IamArn::parse(arn).map(|a| folded(a.account.as_str(), a.name))
}
