//! Users: IAM API Reference, "CreateUser", "GetUser", "UpdateUser", "DeleteUser", "ListUsers".

use serde::{Deserialize, Serialize};

use super::action::{Action, Resource, permit};
use super::boundaries::{boundary, check_boundary};
use super::change::{change, delete};
use super::creation::{New, filled, permit_creation};
use super::entities::{Extent, User};
use super::login_profiles::password_last_used;
use super::page::{PageEnd, PageRequest};
use super::rename::Rename;
use super::rows;
use super::target::Target;
use crate::base::arn::IamArn;
use crate::commands::Command;
use crate::directory::declaration::{Tag, UserDetail};
use crate::directory::resource::{self, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateUser {
    path: Option<String>,
    user_name: String,
    permissions_boundary: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OneUser {
    user: User,
}

impl Action for CreateUser {
    const NAME: &'static str = "CreateUser";
    const READ_ONLY: bool = false;
    type Output = OneUser;

    async fn run(self, cx: &mut Context<'_>) -> Result<OneUser, Error> {
        let path = self.path.unwrap_or_else(|| "/".to_owned());
        let account = cx.caller().account();
        let user = UserDetail {
            arn: IamArn::text(account.as_str(), "user", &path, &self.user_name),
            path: Some(path),
            user_name: self.user_name,
            permissions_boundary: self.permissions_boundary.as_deref().map(boundary),
            tags: self.tags,
            ..UserDetail::default()
        };
        let new = New {
            arn: &user.arn,
            tags: &user.tags,
            boundary: self.permissions_boundary.as_deref(),
            tagging: "iam:TagUser",
        };
        let created = filled(cx, resource::Resource::User(user.clone()))?;
        change(cx, Self::NAME, |cx| {
            permit_creation::<Self>(cx, &new)?;
            new.boundary.map_or(Ok(()), |arn| check_boundary(cx, arn))?;
            Ok(vec![Command::Create(created.clone())])
        })
        .await?;
        answer(created)
    }
}

/// Returns a user: the calling user if the request names none.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetUser {
    user_name: Option<String>,
}

impl Action for GetUser {
    const NAME: &'static str = "GetUser";
    const READ_ONLY: bool = true;
    type Output = OneUser;

    async fn run(self, cx: &mut Context<'_>) -> Result<OneUser, Error> {
        let target = Target::user(cx, self.user_name.as_deref())?;
        let mut found = answer(rows::one::<Self>(cx, &target).await?)?;
        let user = target.existing_user(cx)?;
        found.user.password_last_used = password_last_used(cx, &user).await?;
        permit::<Self>(cx, &target.resource())?;
        Ok(found)
    }
}

/// Changes the name or the path of a user. Its policies, keys and memberships stay, and trust policies and bucket
/// policies that name it go on to name it. Policies with its ARN as a resource are not changed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateUser {
    user_name: String,
    new_path: Option<String>,
    new_user_name: Option<String>,
}

impl Action for UpdateUser {
    const NAME: &'static str = "UpdateUser";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let rename = Rename {
            name: self.new_user_name,
            path: self.new_path,
        };
        let user = |cx: &Context<'_>| Target::user(cx, Some(&self.user_name));
        rename.run::<Self>(cx, user).await
    }
}

/// Deletes a user that has no keys, devices, password, policies or groups left.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteUser {
    user_name: String,
}

impl Action for DeleteUser {
    const NAME: &'static str = "DeleteUser";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        delete::<Self>(cx, |cx| Target::user(cx, Some(&self.user_name))).await
    }
}

/// Lists the account's users whose path begins with a prefix.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListUsers {
    path_prefix: Option<String>,
    #[serde(flatten)]
    page: PageRequest,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Users {
    users: Vec<User>,
    #[serde(flatten)]
    end: PageEnd,
}

impl Action for ListUsers {
    const NAME: &'static str = "ListUsers";
    const READ_ONLY: bool = true;
    type Output = Users;

    async fn run(self, cx: &mut Context<'_>) -> Result<Users, Error> {
        let account = cx.caller().account();
        // AWS authorizes this list on the path of all users, which `*` matches as well.
        let all = IamArn::text(account.as_str(), "user", "/", "");
        let all = Resource::new(&all, &[]);
        let (kind, prefix) = (ResourceKind::User, self.path_prefix.as_deref());
        let (page, end) = rows::page_in_path::<Self>(cx, &all, kind, prefix, &self.page).await?;
        Ok(Users {
            users: listed(page),
            end,
        })
    }
}

/// Converts stored users to the form of lists.
pub(super) fn listed(entries: Vec<resource::Resource>) -> Vec<User> {
    let user = |entry| match entry {
        resource::Resource::User(user) => Some(User::new(user, Extent::Listed)),
        _ => None,
    };
    entries.into_iter().filter_map(user).collect()
}

fn answer(entry: resource::Resource) -> Result<OneUser, Error> {
    match entry {
        resource::Resource::User(user) => Ok(OneUser {
            user: User::new(user, Extent::Whole),
        }),
        _ => Err(Error::InternalFailure),
    }
}
