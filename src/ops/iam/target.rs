//! The user that an action concerns, before it is known whether the caller may know that user.

use std::sync::Arc;

use super::action::Resource;
use crate::base::field::FieldError;
use crate::base::names::Tag;
use crate::directory::User;
use crate::error::Error;
use crate::ops::context::Context;

/// A user that an action concerns.
pub(super) struct Target {
    name: String,
    /// The user's ARN in the directory, or the ARN that it would have if it existed.
    pub(super) arn: String,
    user: Option<Arc<User>>,
}

impl Target {
    /// The user with this name in the caller's account, or the calling user if no name is given.
    /// This does not ask the store, because it is not decided yet whether the caller may know the
    /// answer.
    ///
    /// # Errors
    /// [`Error`] for `UserName` if no name is given and the caller is not a user.
    pub(super) fn find(cx: &Context<'_>, user_name: Option<&str>) -> Result<Self, Error> {
        let own = cx.caller().user();
        let name = match (user_name, own) {
            (Some(name), _) => name,
            (None, Some(user)) => &user.name,
            (None, None) => {
                let rule = "must be given, because the caller is not a user";
                return Err(FieldError::new("UserName", rule).into());
            }
        };
        let account = cx.caller().account();
        let user = cx.directory.user_named(account, name).cloned();
        let arn = user.as_ref().map_or_else(
            || format!("arn:aws:iam::{account}:user/{name}"),
            |u| u.arn.to_string(),
        );
        Ok(Self {
            name: name.to_owned(),
            arn,
            user,
        })
    }

    /// The tags of the user, if it exists.
    pub(super) fn tags(&self) -> &[Tag] {
        self.user.as_ref().map(|u| &*u.tags).unwrap_or_default()
    }

    /// The user. Must be called after the authorization, so that a caller without permission learns
    /// nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] in AWS's words if there is no such user.
    pub(super) fn user(&self) -> Result<&Arc<User>, Error> {
        let missing =
            || Error::NotFound(format!("The user with name {} cannot be found.", self.name));
        self.user.as_ref().ok_or_else(missing)
    }

    /// The resource on which the action is authorized.
    pub(super) fn resource(&self) -> Resource<'_> {
        Resource::new(&self.arn, self.tags())
    }
}
