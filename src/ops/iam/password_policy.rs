//! The password policy of an account: IAM API Reference, "UpdateAccountPasswordPolicy",
//! "GetAccountPasswordPolicy", "DeleteAccountPasswordPolicy".

use serde::{Deserialize, Serialize};

use super::action::{Action, Resource, permit};
use super::change::change;
use crate::commands::{Command, Edit};
use crate::directory::declaration::PasswordPolicyDetail;
use crate::directory::resource::{Name, ResourceKind};
use crate::error::Error;
use crate::ops::context::Context;
use crate::password::policy::{Characters, PasswordPolicy};

/// Replaces the account's password policy. Fields that the request leaves out get their default.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateAccountPasswordPolicy {
    minimum_password_length: Option<i64>,
    require_symbols: Option<bool>,
    require_numbers: Option<bool>,
    require_uppercase_characters: Option<bool>,
    require_lowercase_characters: Option<bool>,
    allow_users_to_change_password: Option<bool>,
    max_password_age: Option<i64>,
    password_reuse_prevention: Option<i64>,
    hard_expiry: Option<bool>,
}

impl Action for UpdateAccountPasswordPolicy {
    const NAME: &'static str = "UpdateAccountPasswordPolicy";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let or_not = |flag: Option<bool>| Some(flag.unwrap_or(false));
        let length = self.minimum_password_length;
        let policy = PasswordPolicyDetail {
            minimum_password_length: length.or(Some(PasswordPolicyDetail::DEFAULT_LENGTH.into())),
            require_symbols: or_not(self.require_symbols),
            require_numbers: or_not(self.require_numbers),
            require_uppercase_characters: or_not(self.require_uppercase_characters),
            require_lowercase_characters: or_not(self.require_lowercase_characters),
            allow_users_to_change_password: or_not(self.allow_users_to_change_password),
            max_password_age: self.max_password_age,
            password_reuse_prevention: self.password_reuse_prevention,
            hard_expiry: or_not(self.hard_expiry),
            ..PasswordPolicyDetail::default()
        };
        change(cx, Self::NAME, |cx| {
            permit::<Self>(cx, &Resource::any())?;
            Ok(vec![set(cx, Some(policy.clone()))])
        })
        .await
    }
}

/// Returns the password policy that the account has set; NotFound if AWS's default applies.
#[derive(Deserialize)]
pub struct GetAccountPasswordPolicy {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Answer {
    password_policy: Shown,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    minimum_password_length: usize,
    require_symbols: bool,
    require_numbers: bool,
    require_uppercase_characters: bool,
    require_lowercase_characters: bool,
    allow_users_to_change_password: bool,
    expire_passwords: bool,
    max_password_age: Option<u32>,
    password_reuse_prevention: Option<usize>,
    hard_expiry: bool,
}

impl Action for GetAccountPasswordPolicy {
    const NAME: &'static str = "GetAccountPasswordPolicy";
    const READ_ONLY: bool = true;
    type Output = Answer;

    async fn run(self, cx: &mut Context<'_>) -> Result<Answer, Error> {
        permit::<Self>(cx, &Resource::any())?;
        let account = cx.caller().account();
        let policy = own(cx).ok_or_else(|| {
            Error::NotFound(format!(
                "The Password Policy with domain name {account} cannot be found."
            ))
        })?;
        Ok(Answer {
            password_policy: shown(policy),
        })
    }
}

/// Deletes the account's password policy, so that AWS's default policy applies.
#[derive(Deserialize)]
pub struct DeleteAccountPasswordPolicy {}

impl Action for DeleteAccountPasswordPolicy {
    const NAME: &'static str = "DeleteAccountPasswordPolicy";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        change(cx, Self::NAME, |cx| {
            permit::<Self>(cx, &Resource::any())?;
            if own(cx).is_none() {
                let text = "The account policy with name PasswordPolicy cannot be found.";
                return Err(Error::NotFound(text.to_owned()));
            }
            Ok(vec![set(cx, None)])
        })
        .await
    }
}

/// Returns the password policy that the account has set; `None` if AWS's default applies.
fn own<'a>(cx: &'a Context<'_>) -> Option<&'a PasswordPolicy> {
    let settings = cx.directory.account_settings(cx.caller().account());
    settings.and_then(|settings| settings.password_policy.as_ref())
}

fn shown(policy: &PasswordPolicy) -> Shown {
    let [uppercase, lowercase, number, symbol] = match policy.characters {
        Characters::ThreeKinds => [false; 4],
        Characters::Each {
            uppercase,
            lowercase,
            number,
            symbol,
        } => [uppercase, lowercase, number, symbol],
    };
    Shown {
        minimum_password_length: policy.minimum_length,
        require_symbols: symbol,
        require_numbers: number,
        require_uppercase_characters: uppercase,
        require_lowercase_characters: lowercase,
        allow_users_to_change_password: policy.allow_users_to_change,
        expire_passwords: policy.max_age_days.is_some(),
        max_password_age: policy.max_age_days,
        password_reuse_prevention: Some(policy.reuse_prevention).filter(|count| *count > 0),
        hard_expiry: policy.hard_expiry,
    }
}

fn set(cx: &Context<'_>, policy: Option<PasswordPolicyDetail>) -> Command {
    Command::edit(
        Name::new(ResourceKind::Account, cx.caller().account().as_str()),
        Edit::SetPasswordPolicy(policy),
    )
}
