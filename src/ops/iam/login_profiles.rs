//! Passwords of users: IAM API Reference, "CreateLoginProfile", "GetLoginProfile",
//! "UpdateLoginProfile", "DeleteLoginProfile", "ChangePassword".

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::action::{self, Action, permit};
use super::change::{change, master_key};
use super::entities::date;
use super::fresh::fresh;
use super::rows;
use super::target::{Target, permitted_user};
use crate::base::secret::Secret;
use crate::commands::{Command, Edit};
use crate::directory::User;
use crate::directory::declaration::LoginProfileDetail;
use crate::directory::resource::{Name, Resource, ResourceKind};
use crate::error::Error;
use crate::login::{self, Place, Refused};
use crate::ops::context::Context;
use crate::password::hash;

/// Sets the first password of a user.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateLoginProfile {
    user_name: Option<String>,
    password: Option<Zeroizing<String>>,
    #[serde(default)]
    password_reset_required: bool,
    max_signin_session_duration: Option<IgnoredAny>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Answer {
    login_profile: Shown,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    user_name: String,
    create_date: String,
    password_reset_required: bool,
}

impl Action for CreateLoginProfile {
    const NAME: &'static str = "CreateLoginProfile";
    const READ_ONLY: bool = false;
    type Output = Answer;

    async fn run(self, cx: &mut Context<'_>) -> Result<Answer, Error> {
        unsupported(self.max_signin_session_duration.is_some())?;
        let Some(password) = &self.password else {
            let text = "Password is required.";
            return Err(Error::Malformed(text.to_owned()));
        };
        let decide = |cx: &mut Context<'_>| {
            let user = permitted_user::<Self>(cx, self.user_name.as_deref())?;
            fresh::<Self>(cx, &user)?;
            if cx.directory.login_profile(&user.arn).is_some() {
                return Err(Error::EntityAlreadyExists(format!(
                    "Login Profile for User {} already exists.",
                    user.name
                )));
            }
            check(cx, &user, password)?;
            Ok(user)
        };
        let user = decide(cx)?;
        let hash = hashed(cx, password).await?;
        let date = cx.now.to_string();
        change(cx, Self::NAME, |cx| {
            let user = decide(cx)?;
            let profile = LoginProfileDetail {
                user_arn: user.arn.to_string(),
                password_hash: Some(hash.clone()),
                password_reset_required: Some(self.password_reset_required),
                create_date: Some(date.clone()),
                password_last_changed: Some(date.clone()),
                ..LoginProfileDetail::default()
            };
            Ok(vec![Command::Create(Resource::LoginProfile(profile))])
        })
        .await?;
        Ok(Answer {
            login_profile: Shown {
                user_name: user.name.to_string(),
                create_date: date,
                password_reset_required: self.password_reset_required,
            },
        })
    }
}

/// Returns when a user first got a password, and whether the user must choose another; NotFound if the user has none.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetLoginProfile {
    user_name: Option<String>,
}

impl Action for GetLoginProfile {
    const NAME: &'static str = "GetLoginProfile";
    const READ_ONLY: bool = true;
    type Output = Answer;

    async fn run(self, cx: &mut Context<'_>) -> Result<Answer, Error> {
        let target = Target::user(cx, self.user_name.as_deref())?;
        permit::<Self>(cx, &target.resource())?;
        let user = target.existing_user(cx)?;
        let arn = user.arn.to_string();
        let mut found = rows::by_id(cx, ResourceKind::LoginProfile, vec![arn.clone()]).await?;
        permit::<Self>(cx, &target.resource())?;
        let Some(Resource::LoginProfile(profile)) = found.remove(&arn) else {
            return Err(missing(&user));
        };
        Ok(Answer {
            login_profile: Shown {
                user_name: user.name.to_string(),
                create_date: date(profile.create_date),
                password_reset_required: profile.password_reset_required.unwrap_or(false),
            },
        })
    }
}

/// Replaces a user's password, or changes whether the user must choose a new one at the next
/// sign-in.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateLoginProfile {
    user_name: String,
    password: Option<Zeroizing<String>>,
    password_reset_required: Option<bool>,
    max_signin_session_duration: Option<IgnoredAny>,
    reset_max_signin_session_duration: Option<IgnoredAny>,
}

impl Action for UpdateLoginProfile {
    const NAME: &'static str = "UpdateLoginProfile";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        unsupported(self.max_signin_session_duration.is_some())?;
        unsupported(self.reset_max_signin_session_duration.is_some())?;
        let decide = |cx: &mut Context<'_>| {
            let user = permitted_user::<Self>(cx, Some(&self.user_name))?;
            changeable::<Self>(cx, &user)?;
            if let Some(password) = &self.password {
                check(cx, &user, password)?;
            }
            Ok::<_, Error>(user)
        };
        let user = decide(cx)?;
        let (password_hash, expected) = match &self.password {
            Some(password) => {
                let (hash, version) = replacement(cx, &user, password).await?;
                (Some(hash), Some(version))
            }
            None => (None, None),
        };
        change(cx, Self::NAME, |cx| {
            let user = decide(cx)?;
            let edit = Edit::UpdateLoginProfile {
                password_hash: password_hash.clone(),
                password_reset_required: self.password_reset_required,
            };
            Ok(vec![edited(&user, edit, expected)])
        })
        .await
    }
}

/// Deletes a user's password, so that the user can no longer sign in with one.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteLoginProfile {
    user_name: Option<String>,
}

impl Action for DeleteLoginProfile {
    const NAME: &'static str = "DeleteLoginProfile";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        change(cx, Self::NAME, |cx| {
            let user = permitted_user::<Self>(cx, self.user_name.as_deref())?;
            changeable::<Self>(cx, &user)?;
            Ok(vec![Command::delete(Name::new(
                ResourceKind::LoginProfile,
                &*user.arn,
            ))])
        })
        .await
    }
}

/// Replaces the calling user's own password.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChangePassword {
    old_password: Zeroizing<String>,
    new_password: Zeroizing<String>,
}

impl Action for ChangePassword {
    const NAME: &'static str = "ChangePassword";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let decide = |cx: &mut Context<'_>| {
            let Some(user) = cx.caller().user().cloned() else {
                let text = "Only IAM Users can change their own password";
                return Err(Error::InvalidUserType(text.to_owned()));
            };
            permit::<Self>(cx, &action::Resource::new(&user.arn, &user.tags))?;
            changeable::<Self>(cx, &user)?;
            Ok(user)
        };
        let user = decide(cx)?;
        master_key(cx)?;
        let (broker, name) = (cx.broker, &user.name);
        let old = &self.old_password;
        let verified = login::verify(broker, user.account, name, old, Place::Signed);
        verified.await.map_err(|refused| match refused {
            Refused::Wrong => Error::WrongPassword("The old password is not correct."),
            Refused::Locked => Error::WrongPassword(
                "Too many wrong passwords were given. Try again in five minutes.",
            ),
            Refused::Expired => Error::WrongPassword(
                "The password has expired. Ask an administrator to set another one.",
            ),
            Refused::Unavailable(error) => error,
        })?;
        cx.renew()?;
        let user = decide(cx)?;
        check(cx, &user, &self.new_password)?;
        let (password_hash, version) = replacement(cx, &user, &self.new_password).await?;
        change(cx, Self::NAME, |cx| {
            let user = decide(cx)?;
            check(cx, &user, &self.new_password)?;
            let edit = Edit::UpdateLoginProfile {
                password_hash: Some(password_hash.clone()),
                password_reset_required: Some(false),
            };
            Ok(vec![edited(&user, edit, Some(version))])
        })
        .await
    }
}

/// Returns when a user last signed in with its password; `None` if it has none or never used it.
/// Waits for the store, so the caller must be authorized again afterwards.
pub(super) async fn password_last_used(
    cx: &mut Context<'_>,
    user: &User,
) -> Result<Option<String>, Error> {
    if cx.directory.login_profile(&user.arn).is_none() {
        return Ok(None);
    }
    let stored = cx.wait(cx.broker.store.last_key_use(&user.id)).await?;
    let here = cx.broker.key_use.last(&user.id);
    let last = here.into_iter().chain(stored).max_by_key(|last| last.at);
    Ok(last.map(|last| last.at.to_string()))
}

/// Checks that the user has a password, and that the caller has given a recent MFA code if the
/// password is its own.
///
/// # Errors
/// The same as for [`fresh`], and then [`Error::NotFound`] if the user has no password.
fn changeable<A: Action>(cx: &mut Context<'_>, user: &User) -> Result<(), Error> {
    fresh::<A>(cx, user)?;
    match cx.directory.login_profile(&user.arn) {
        Some(_) => Ok(()),
        None => Err(missing(user)),
    }
}

fn edited(user: &User, edit: Edit, expected: Option<i64>) -> Command {
    Command::Edit {
        name: Name::new(ResourceKind::LoginProfile, &*user.arn),
        edit,
        expected,
    }
}

fn missing(user: &User) -> Error {
    Error::NotFound(format!(
        "Login Profile for User {} cannot be found.",
        user.name
    ))
}

/// Refuses a request with `MaxSigninSessionDuration`, which would have no effect.
fn unsupported(is_given: bool) -> Result<(), Error> {
    if !is_given {
        return Ok(());
    }
    let text = "MaxSigninSessionDuration is not supported: leave it out.";
    Err(Error::InvalidInput(text.to_owned()))
}

/// Checks a new password against the account's password policy and the list of blocked passwords.
fn check(cx: &Context<'_>, user: &User, password: &str) -> Result<(), Error> {
    let settings = cx.directory.account_settings(user.account);
    let alias = settings.and_then(|settings| settings.alias.as_deref());
    let mut names = vec![
        (&*user.name, "the user name"),
        (user.account.as_str(), "the account ID"),
    ];
    names.extend(alias.map(|alias| (alias, "the account alias")));
    let policy = cx.directory.password_policy(user.account);
    policy
        .check(password, &names)
        .map_err(Error::PasswordPolicyViolation)?;
    let blocked = cx.broker.blocked_passwords.as_ref();
    if blocked.is_some_and(|list| list.has(password)) {
        let text = "Password should not be in the list of common passwords";
        return Err(Error::PasswordPolicyViolation(text.to_owned()));
    }
    Ok(())
}

/// Hashes a new password. The hash takes time, so the caller must be authorized again afterwards.
async fn hashed(
    cx: &mut Context<'_>,
    password: &Zeroizing<String>,
) -> Result<Zeroizing<String>, Error> {
    master_key(cx)?;
    let (of, entropy) = (cx.caller().budget_key(), &*cx.broker.entropy);
    let hash = cx.broker.hashing.hash(&of, password, entropy).await;
    let hash = hash.map_err(|error| login::refused(cx.broker, error))?;
    cx.renew()?;
    Ok(hash)
}

/// Hashes the new password of a user who has one already, and compares it with the passwords that the profile
/// remembers. Returns the hash and the profile's version. The caller must be authorized again afterwards.
///
/// # Errors
/// [`Error::PasswordPolicyViolation`] if the user had the password before and the account's password policy prevents
/// its reuse; [`Error::NotFound`] if the user has no password; [`Error::InternalFailure`] if the stored hashes cannot
/// be read; and the errors of [`master_key`], [`Context::wait`] and [`hashed`].
async fn replacement(
    cx: &mut Context<'_>,
    user: &User,
    password: &Zeroizing<String>,
) -> Result<(Secret<String>, i64), Error> {
    let master_key = master_key(cx)?;
    let kind = ResourceKind::LoginProfile;
    let rows = cx
        .wait(cx.broker.store.get_all(kind, vec![user.arn.to_string()]))
        .await?;
    let (_, row) = rows.into_iter().next().ok_or_else(|| missing(user))?;
    let remembered = cx.directory.password_policy(user.account).remembered();
    if remembered > 0 {
        let profile = Resource::parse(kind, &row.body).map_err(|error| {
            tracing::error!(
                %error, user = %user.arn,
                "a login profile could not be parsed, so the call was refused: run `brevet check`, which loads every row"
            );
            Error::InternalFailure
        })?;
        let secret = profile.secret();
        let sealed = secret
            .as_ref()
            .and_then(|field| Some((field, field.sealed?)));
        let (field, sealed) = sealed.ok_or(Error::InternalFailure)?;
        let hashes = master_key.open(&field.bound_to, sealed).map_err(|error| {
            tracing::error!(%error, user = %user.arn, "the stored password hashes of a user cannot be decrypted; the call was refused");
            Error::InternalFailure
        })?;
        let last = hash::each(hashes.expose()).take(remembered);
        let last = last.map(|hash| Zeroizing::new(hash.to_owned())).collect();
        let of = cx.caller().budget_key();
        let is_used = cx.broker.hashing.is_any_of(&of, password, last).await;
        if is_used.map_err(|error| login::refused(cx.broker, error))? {
            return Err(Error::PasswordPolicyViolation(format!(
                "Policy constraint violation with password reuse prevention during password change: the password is one of the last {remembered}."
            )));
        }
    }
    let hash = hashed(cx, password).await?;
    Ok((Secret::new(hash.to_string()), row.version))
}
