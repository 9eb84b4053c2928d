//! The kinds of entities that have policies: users, groups and roles.

use super::target::Target;
use crate::directory::declaration::{Attached, Boundary, InlinePolicy};
use crate::directory::resource::{Resource, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;

/// A kind of entity that has inline and attached policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    User,
    Group,
    Role,
}

impl Owner {
    /// The same kind as a kind of entry in the directory.
    pub(super) fn kind(self) -> ResourceKind {
        match self {
            Self::User => ResourceKind::User,
            Self::Group => ResourceKind::Group,
            Self::Role => ResourceKind::Role,
        }
    }

    /// Returns the user, group or role with this name in the caller's account as the target of an
    /// action.
    ///
    /// # Errors
    /// The same as for [`Target::user`].
    pub(super) fn target(self, cx: &Context<'_>, name: &str) -> Result<Target, Error> {
        match self {
            Self::User => Target::user(cx, Some(name)),
            Self::Group => Ok(Target::group(cx, name)),
            Self::Role => Ok(Target::role(cx, name)),
        }
    }
}

/// The policies of a user, group or role, with its name, id and path.
#[derive(Default)]
pub(super) struct Owned {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) path: Option<String>,
    pub(super) inline: Vec<InlinePolicy>,
    pub(super) attached: Vec<Attached>,
    pub(super) boundary: Option<String>,
}

impl Owned {
    /// Copies the policies from a user, group or role; empty for any other resource.
    pub(super) fn of(resource: &Resource) -> Self {
        let boundary = |boundary: &Option<Boundary>| {
            let boundary = boundary.as_ref();
            boundary.map(|boundary| boundary.permissions_boundary_arn.clone())
        };
        match resource {
            Resource::User(user) => Self {
                name: user.user_name.clone(),
                id: user.user_id.clone(),
                path: user.path.clone(),
                inline: user.user_policy_list.clone(),
                attached: user.attached_managed_policies.clone(),
                boundary: boundary(&user.permissions_boundary),
            },
            Resource::Group(group) => Self {
                name: group.group_name.clone(),
                id: group.group_id.clone(),
                path: group.path.clone(),
                inline: group.group_policy_list.clone(),
                attached: group.attached_managed_policies.clone(),
                boundary: None,
            },
            Resource::Role(role) => Self {
                name: role.role_name.clone(),
                id: role.role_id.clone(),
                path: role.path.clone(),
                inline: role.role_policy_list.clone(),
                attached: role.attached_managed_policies.clone(),
                boundary: boundary(&role.permissions_boundary),
            },
            _ => Self::default(),
        }
    }
}
