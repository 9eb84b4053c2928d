//! Groups: IAM API Reference, "CreateGroup", "GetGroup", "UpdateGroup", "DeleteGroup", "ListGroups".

use serde::{Deserialize, Serialize};

use super::action::{Action, Resource, permit};
use super::change::{change, delete};
use super::creation::filled;
use super::entities::{Group, User};
use super::page::{PageEnd, PageRequest};
use super::rename::Rename;
use super::rows::{self, List};
use super::target::Target;
use super::users;
use crate::base::arn::{IamArn, name_of};
use crate::commands::Command;
use crate::directory::declaration::GroupDetail;
use crate::directory::resource::{self, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateGroup {
    path: Option<String>,
    group_name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OneGroup {
    group: Group,
}

impl Action for CreateGroup {
    const NAME: &'static str = "CreateGroup";
    const READ_ONLY: bool = false;
    type Output = OneGroup;

    async fn run(self, cx: &mut Context<'_>) -> Result<OneGroup, Error> {
        let path = self.path.unwrap_or_else(|| "/".to_owned());
        let account = cx.caller().account();
        let arn = IamArn::text(account.as_str(), "group", &path, &self.group_name);
        let group = GroupDetail {
            arn: arn.clone(),
            path: Some(path),
            group_name: self.group_name,
            ..GroupDetail::default()
        };
        let created = filled(cx, resource::Resource::Group(group))?;
        change(cx, Self::NAME, |cx| {
            permit::<Self>(cx, &Resource::new(&arn, &[]))?;
            Ok(vec![Command::Create(created.clone())])
        })
        .await?;
        Ok(OneGroup {
            group: shown(created)?,
        })
    }
}

/// Returns a group with its users, page by page.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetGroup {
    group_name: String,
    #[serde(flatten)]
    page: PageRequest,
}

/// A group with one page of its users.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GroupWithUsers {
    group: Group,
    users: Vec<User>,
    #[serde(flatten)]
    end: PageEnd,
}

impl Action for GetGroup {
    const NAME: &'static str = "GetGroup";
    const READ_ONLY: bool = true;
    type Output = GroupWithUsers;

    async fn run(self, cx: &mut Context<'_>) -> Result<GroupWithUsers, Error> {
        let target = Target::group(cx, &self.group_name);
        let group = shown(rows::one::<Self>(cx, &target).await?)?;
        let list = List::Referring(ResourceKind::User, &target);
        let name = name_of(&target.arn);
        let is_in = |entry: &resource::Resource| match entry {
            resource::Resource::User(user) => {
                let mut groups = user.group_list.iter();
                groups.any(|group| group.eq_ignore_ascii_case(name))
            }
            _ => false,
        };
        let (page, end) =
            rows::page::<Self>(cx, &target.resource(), &list, &self.page, is_in).await?;
        Ok(GroupWithUsers {
            group,
            users: users::listed(page),
            end,
        })
    }
}

/// Changes the name or the path of a group. Its users stay members.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateGroup {
    group_name: String,
    new_path: Option<String>,
    new_group_name: Option<String>,
}

impl Action for UpdateGroup {
    const NAME: &'static str = "UpdateGroup";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let rename = Rename {
            name: self.new_group_name,
            path: self.new_path,
        };
        let group = |cx: &Context<'_>| Ok(Target::group(cx, &self.group_name));
        rename.run::<Self>(cx, group).await
    }
}

/// Deletes a group that has neither users nor policies.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteGroup {
    group_name: String,
}

impl Action for DeleteGroup {
    const NAME: &'static str = "DeleteGroup";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        delete::<Self>(cx, |cx| Ok(Target::group(cx, &self.group_name))).await
    }
}

/// Lists the account's groups whose path begins with a prefix.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListGroups {
    path_prefix: Option<String>,
    #[serde(flatten)]
    page: PageRequest,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Groups {
    groups: Vec<Group>,
    #[serde(flatten)]
    end: PageEnd,
}

impl Groups {
    /// Builds the answer from a page of stored groups.
    pub(super) fn new(entries: Vec<resource::Resource>, end: PageEnd) -> Result<Self, Error> {
        let groups = entries.into_iter().map(shown).collect::<Result<_, _>>()?;
        Ok(Self { groups, end })
    }
}

impl Action for ListGroups {
    const NAME: &'static str = "ListGroups";
    const READ_ONLY: bool = true;
    type Output = Groups;

    async fn run(self, cx: &mut Context<'_>) -> Result<Groups, Error> {
        let prefix = self.path_prefix.as_deref();
        let kind = ResourceKind::Group;
        let (page, end) =
            rows::page_in_path::<Self>(cx, &Resource::any(), kind, prefix, &self.page).await?;
        Groups::new(page, end)
    }
}

fn shown(entry: resource::Resource) -> Result<Group, Error> {
    match entry {
        resource::Resource::Group(group) => Ok(Group::new(group)),
        _ => Err(Error::InternalFailure),
    }
}
