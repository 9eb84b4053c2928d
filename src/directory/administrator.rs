//! Principals that can administer the directory.

/// A principal that can administer the directory, given by ARN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Administrator {
    /// A user with an active access key.
    User(String),
    /// A role, and a user with an active access key who may assume it.
    RoleOfUser(String, String),
    /// A role, and an identity provider that its trust policy names.
    RoleOfProvider(String, String),
}
