//! What an action is about, before it is known whether the caller may know of it.

use std::sync::Arc;

use super::action::Resource;
use crate::base::field::FieldError;
use crate::base::names::Tag;
use crate::directory::User;
use crate::error::Error;
use crate::ops::context::Context;

/// A user that an action is about.
pub(super) struct Target {
    name: String,
    /// As the directory has it; of a user that there is not, as it would be.
    pub(super) arn: String,
    user: Option<Arc<User>>,
}

impl Target {
    /// The user of that name in the caller's account; nothing named: the calling user. No store is
    /// asked: whether the caller may know is not decided yet.
    ///
    /// # Errors
    /// When no name is given, and the caller is no user.
    pub(super) fn find(cx: &Context<'_>, user_name: Option<&str>) -> Result<Self, Error> {
        let own = cx.caller().user();
        let name = match (user_name, own) {
            (Some(name), _) => name,
            (None, Some(user)) => &user.name,
            (None, None) => {
                let rule = "must not be null: the caller is no user";
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

    /// The tags of the user, as far as there is one.
    pub(super) fn tags(&self) -> &[Tag] {
        self.user.as_ref().map(|u| &*u.tags).unwrap_or_default()
    }

    /// The user.
    ///
    /// # Errors
    /// [`Error::NotFound`], in AWS's words. Comes after the authorisation: who may not know learns
    /// nothing.
    pub(super) fn user(&self) -> Result<&Arc<User>, Error> {
        let missing =
            || Error::NotFound(format!("The user with name {} cannot be found.", self.name));
        self.user.as_ref().ok_or_else(missing)
    }

    /// What the action is authorised on.
    pub(super) fn resource(&self) -> Resource<'_> {
        Resource::new(&self.arn, self.tags())
    }
}
