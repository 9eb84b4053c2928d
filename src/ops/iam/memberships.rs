//! Memberships of users in groups: IAM API Reference, "AddUserToGroup", "RemoveUserFromGroup",
//! "ListGroupsForUser".

use serde::Deserialize;

use super::action::{Action, permit};
use super::change::change;
use super::groups::Groups;
use super::page::PageRequest;
use super::rows;
use super::target::Target;
use crate::base::arn::name_of;
use crate::commands::{Command, Edit};
use crate::directory::resource::{Resource, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;

/// Adds a user to a group. Succeeds if the user is a member already.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddUserToGroup {
    group_name: String,
    user_name: String,
}

impl Action for AddUserToGroup {
    const NAME: &'static str = "AddUserToGroup";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        edit::<Self>(cx, &self.group_name, &self.user_name, Edit::AddToGroup).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RemoveUserFromGroup {
    group_name: String,
    user_name: String,
}

impl Action for RemoveUserFromGroup {
    const NAME: &'static str = "RemoveUserFromGroup";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        edit::<Self>(cx, &self.group_name, &self.user_name, Edit::RemoveFromGroup).await
    }
}

/// Adds a user to a group or removes it. The action is authorized on the group, because its members
/// get its policies.
async fn edit<A: Action>(
    cx: &mut Context<'_>,
    group_name: &str,
    user_name: &str,
    edit: fn(String) -> Edit,
) -> Result<(), Error> {
    change(cx, A::NAME, |cx| {
        let group = Target::group(cx, group_name);
        permit::<A>(cx, &group.resource())?;
        group.name()?;
        let user = Target::user(cx, Some(user_name))?;
        Ok(vec![Command::edit(
            user.name()?,
            edit(name_of(&group.arn).to_owned()),
        )])
    })
    .await
}

/// Lists the groups of a user, page by page.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListGroupsForUser {
    user_name: String,
    #[serde(flatten)]
    page: PageRequest,
}

impl Action for ListGroupsForUser {
    const NAME: &'static str = "ListGroupsForUser";
    const READ_ONLY: bool = true;
    type Output = Groups;

    async fn run(self, cx: &mut Context<'_>) -> Result<Groups, Error> {
        let target = Target::user(cx, Some(&self.user_name))?;
        let Resource::User(user) = rows::one::<Self>(cx, &target).await? else {
            return Err(Error::InternalFailure);
        };
        let names = user.group_list.iter().map(|name| name.to_ascii_lowercase());
        let (names, end) = self.page.take(names, |name| name.as_str())?;
        let account = cx.caller().account();
        let arns: Vec<String> = names
            .iter()
            .filter_map(|name| cx.directory.group_named(account, name))
            .map(|group| group.arn.to_string())
            .collect();
        let mut found = rows::by_id(cx, ResourceKind::Group, arns.clone()).await?;
        permit::<Self>(cx, &target.resource())?;
        let groups = arns.iter().filter_map(|arn| found.remove(arn)).collect();
        Groups::new(groups, end)
    }
}
