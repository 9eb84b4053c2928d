//! Lists the roles of an account.

use serde::{Deserialize, Serialize};

use super::shown;
use crate::directory::resource::{self, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::{Action, Resource, permit};
use crate::ops::iam::entities::{Extent, Role};
use crate::ops::iam::page::{PageEnd, PageRequest};
use crate::ops::iam::rows::{self, List};
use crate::ops::iam::users::in_path;

/// Lists the roles of the account whose path begins with a prefix.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListRoles {
    path_prefix: Option<String>,
    #[serde(flatten)]
    page: PageRequest,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Roles {
    roles: Vec<Role>,
    #[serde(flatten)]
    end: PageEnd,
}

impl Action for ListRoles {
    const NAME: &'static str = "ListRoles";
    const READ_ONLY: bool = true;
    type Output = Roles;

    async fn run(self, cx: &mut Context<'_>) -> Result<Roles, Error> {
        let account = cx.caller().account();
        let list = List::Of(ResourceKind::Role, account.as_str());
        let prefix = self.path_prefix.as_deref().unwrap_or("/");
        let wanted = |entry: &resource::Resource| match entry {
            resource::Resource::Role(role) => in_path(role.path.as_deref(), prefix),
            _ => false,
        };
        let all = Resource::any();
        let (page, end) = rows::page::<Self>(cx, &all, &list, &self.page, wanted).await?;
        let roles = shown(cx, page, Extent::Listed).await?;
        permit::<Self>(cx, &all)?;
        Ok(Roles { roles, end })
    }
}
