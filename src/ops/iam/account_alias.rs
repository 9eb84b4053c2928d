//! The alias of an account: IAM API Reference, "CreateAccountAlias", "DeleteAccountAlias",
//! "ListAccountAliases". An account has at most one, and no two accounts of the directory have the
//! same.

use serde::{Deserialize, Serialize};

use super::action::{Action, Resource, permit};
use super::change::change;
use super::page::{PageEnd, PageRequest};
use crate::base::field::FieldError;
use crate::commands::{Command, Edit};
use crate::directory::is_account_alias;
use crate::directory::resource::{Name, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;

/// Sets the alias of the caller's account and replaces the earlier one.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateAccountAlias {
    account_alias: String,
}

impl Action for CreateAccountAlias {
    const NAME: &'static str = "CreateAccountAlias";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        if !is_account_alias(&self.account_alias) {
            let rule = "must satisfy regular expression pattern: ^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$, and must not be 12 digits";
            return Err(FieldError::new("AccountAlias", rule).into());
        }
        change(cx, Self::NAME, |cx| {
            permit::<Self>(cx, &Resource::any())?;
            let owner = cx.directory.account_with_alias(&self.account_alias);
            if owner.is_some_and(|owner| owner != cx.caller().account()) {
                return Err(Error::EntityAlreadyExists(format!(
                    "The account alias {} already exists.",
                    self.account_alias
                )));
            }
            Ok(vec![set(cx, Some(self.account_alias.clone()))])
        })
        .await
    }
}

/// Deletes the alias of the caller's account.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteAccountAlias {
    account_alias: String,
}

impl Action for DeleteAccountAlias {
    const NAME: &'static str = "DeleteAccountAlias";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        change(cx, Self::NAME, |cx| {
            permit::<Self>(cx, &Resource::any())?;
            if alias(cx) != Some(&*self.account_alias) {
                return Err(Error::NotFound(format!(
                    "The account alias {} cannot be found.",
                    self.account_alias
                )));
            }
            Ok(vec![set(cx, None)])
        })
        .await
    }
}

/// Returns the alias of the caller's account as a list, which is empty if it has none.
#[derive(Deserialize)]
pub struct ListAccountAliases {
    #[serde(flatten)]
    page: PageRequest,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Aliases {
    account_aliases: Vec<String>,
    #[serde(flatten)]
    end: PageEnd,
}

impl Action for ListAccountAliases {
    const NAME: &'static str = "ListAccountAliases";
    const READ_ONLY: bool = true;
    type Output = Aliases;

    async fn run(self, cx: &mut Context<'_>) -> Result<Aliases, Error> {
        permit::<Self>(cx, &Resource::any())?;
        let alias = alias(cx).map(str::to_owned);
        let (account_aliases, end) = self.page.take(alias.into_iter(), |alias| alias)?;
        Ok(Aliases {
            account_aliases,
            end,
        })
    }
}

fn alias<'a>(cx: &'a Context<'_>) -> Option<&'a str> {
    let settings = cx.directory.account_settings(cx.caller().account());
    settings.and_then(|settings| settings.alias.as_deref())
}

fn set(cx: &Context<'_>, alias: Option<String>) -> Command {
    Command::edit(
        Name::new(ResourceKind::Account, cx.caller().account().as_str()),
        Edit::SetAlias(alias),
    )
}
