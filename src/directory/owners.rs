//! The unique ids of users and roles, by the ARNs with which trust policies name them.

use std::collections::HashMap;

use crate::base::arn::Arn;
use crate::base::names::RoleSessionName;

/// A principal that a policy names by ARN and the store by unique id: a user, a role, or a session of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Named<'a> {
    /// A user, `arn:aws:iam::ACCOUNT:user/PATH/NAME`.
    User {
        account: &'a str,
        /// The whole ARN as written.
        arn: &'a str,
    },
    /// A role, `arn:aws:iam::ACCOUNT:role/PATH/NAME`.
    Role {
        account: &'a str,
        /// The whole ARN as written.
        arn: &'a str,
    },
    /// A session of a role, `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    Session {
        account: &'a str,
        /// The role's name without its path.
        role: &'a str,
        /// The name of the session. In rows of the store it follows the unique id of the role.
        session: &'a str,
    },
}

impl<'a> Named<'a> {
    /// Parses an ARN. Returns `None` for any other text, and for a principal without a unique id, such as an account, a
    /// federated user, a principal of another partition, or a session with an impossible name.
    pub fn parse(principal: &'a str) -> Option<Self> {
        let arn =
            Arn::parse(principal).filter(|arn| arn.partition == "aws" && arn.region.is_empty());
        let Arn {
            service,
            account,
            resource,
            ..
        } = arn?;
        match (service, resource.split_once('/')?) {
            ("iam", ("user", _)) => Some(Self::User {
                account,
                arn: principal,
            }),
            ("iam", ("role", _)) => Some(Self::Role {
                account,
                arn: principal,
            }),
            ("sts", ("assumed-role", rest)) => {
                let (role, session) = rest.split_once('/')?;
                RoleSessionName::parse("RoleSessionName", session).ok()?;
                Some(Self::Session {
                    account,
                    role,
                    session,
                })
            }
            _ => None,
        }
    }

    pub fn account(&self) -> &'a str {
        match self {
            Self::User { account, .. }
            | Self::Role { account, .. }
            | Self::Session { account, .. } => account,
        }
    }

    /// Returns the text with which rows of the store name the principal: `id`, which is the unique id of the user or
    /// role, and for a session `id:SESSION`.
    pub fn bound(&self, id: &str) -> String {
        match self {
            Self::User { .. } | Self::Role { .. } => id.to_owned(),
            Self::Session { session, .. } => format!("{id}:{session}"),
        }
    }
}

/// The unique ids of the users and roles in a file, by the names that trust policies use.
#[derive(Debug, Default)]
pub struct Owners {
    users: HashMap<String, String>,
    roles: HashMap<String, String>,
    /// The unique ids of roles, by account and name, for principals that are sessions of roles.
    role_names: HashMap<(String, String), String>,
}

impl Owners {
    pub fn add_user(&mut self, arn: &str, id: &str) {
        self.users.insert(arn.to_owned(), id.to_owned());
    }

    /// Adds a role; `name` is without its path.
    pub fn add_role(&mut self, account: &str, name: &str, arn: &str, id: &str) {
        let name = (account.to_owned(), name.to_owned());
        self.role_names.insert(name, id.to_owned());
        self.roles.insert(arn.to_owned(), id.to_owned());
    }

    /// Returns the text with which rows of the store name the principal that has this ARN: `ID`, or `ID:SESSION` for a
    /// session of a role. Returns `None` if the file has no such user or role.
    pub fn bound(&self, principal: &str) -> Option<String> {
        let named = Named::parse(principal)?;
        let id = match named {
            Named::User { arn, .. } => self.users.get(arn)?,
            Named::Role { arn, .. } => self.roles.get(arn)?,
            Named::Session { account, role, .. } => self
                .role_names
                .get(&(account.to_owned(), role.to_owned()))?,
        };
        Some(named.bound(id))
    }
}
