//! How a principal that may administer is named in messages and lists.

/// A principal that may administer, by ARN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Administrator {
    /// A user with an active access key.
    User(String),
    /// A role, and a user with an active access key who may assume it.
    RoleOfUser(String, String),
    /// A role, and an identity provider that its trust policy names.
    RoleOfProvider(String, String),
}
