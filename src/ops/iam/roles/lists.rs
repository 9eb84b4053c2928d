//! Lists the roles of an account.

use serde::{Deserialize, Serialize};

use super::shown;
use crate::directory::resource::ResourceKind;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::iam::action::{Action, Resource, permit};
use crate::ops::iam::entities::{Extent, Role};
use crate::ops::iam::page::{PageEnd, PageRequest};
use crate::ops::iam::rows;

/// Lists the account's roles whose path begins with a prefix.
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
        let all = Resource::any();
        let (kind, prefix) = (ResourceKind::Role, self.path_prefix.as_deref());
        let (page, end) = rows::page_in_path::<Self>(cx, &all, kind, prefix, &self.page).await?;
        let roles = shown(cx, page, Extent::Listed).await?;
        permit::<Self>(cx, &all)?;
        Ok(Roles { roles, end })
    }
}
