//! Long-term access keys of users: IAM API Reference, "CreateAccessKey", "UpdateAccessKey",
//! "DeleteAccessKey", "ListAccessKeys", "GetAccessKeyLastUsed". The secret of a key is only in the
//! answer to CreateAccessKey.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::action::{self, Action, permit};
use super::change::change;
use super::entities::date;
use super::fresh::fresh;
use super::page::{PageEnd, PageRequest};
use super::rows::{self, List};
use super::target::{Target, permitted_user};
use crate::base::arn::name_of;
use crate::base::entropy;
use crate::base::field::FieldError;
use crate::base::names::{AccessKeyId, AccessKeyKind};
use crate::commands::{Command, Edit};
use crate::directory::declaration::AccessKeyDetail;
use crate::directory::resource::{Name, Resource, ResourceKind};
use crate::directory::{AccessKey, User};
use crate::error::Error;
use crate::ops::context::Context;
use crate::store::LastUse;

/// The number of random bytes in a secret key: 30 bytes are 40 characters of base64.
const SECRET_BYTES: usize = 30;

/// Creates an access key for a user. Only the answer contains its secret.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateAccessKey {
    user_name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    access_key: CreatedKey,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreatedKey {
    user_name: String,
    access_key_id: String,
    status: &'static str,
    secret_access_key: Zeroizing<String>,
    create_date: String,
}

impl Action for CreateAccessKey {
    const NAME: &'static str = "CreateAccessKey";
    const READ_ONLY: bool = false;
    const HANDS_OUT: bool = true;
    type Output = Created;

    async fn run(self, cx: &mut Context<'_>) -> Result<Created, Error> {
        let decide = |cx: &mut Context<'_>| -> Result<Arc<User>, Error> {
            let user = permitted_user::<Self>(cx, self.user_name.as_deref())?;
            fresh::<Self>(cx, &user)?;
            Ok(user)
        };
        let user = decide(cx)?;
        let random = Zeroizing::new(entropy::bytes::<SECRET_BYTES>(&*cx.broker.entropy)?);
        let secret = Zeroizing::new(STANDARD.encode(random.as_ref()));
        let access_key_id = new_id(cx)?;
        let create_date = cx.now.to_string();
        change(cx, Self::NAME, |cx| {
            let key = AccessKeyDetail {
                user_arn: decide(cx)?.arn.to_string(),
                access_key_id: access_key_id.clone(),
                secret_access_key: Some(secret.clone()),
                status: Some("Active".to_owned()),
                create_date: Some(create_date.clone()),
                ..AccessKeyDetail::default()
            };
            Ok(vec![Command::Create(Resource::AccessKey(key))])
        })
        .await?;
        Ok(Created {
            access_key: CreatedKey {
                user_name: user.name.to_string(),
                access_key_id,
                status: "Active",
                secret_access_key: secret,
                create_date,
            },
        })
    }
}

/// Returns a new access key id that no key of the directory has. The id has 39 random bits.
fn new_id(cx: &Context<'_>) -> Result<String, Error> {
    loop {
        let random = entropy::bytes(&*cx.broker.entropy)?;
        let account = cx.caller().account();
        let id = AccessKeyId::mint(AccessKeyKind::LongTerm, account, random);
        if cx.directory.access_key(id.as_str()).is_none() {
            return Ok(id.as_str().to_owned());
        }
    }
}

/// Activates or deactivates an access key. Requests that are signed with an inactive key are
/// refused.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UpdateAccessKey {
    user_name: Option<String>,
    access_key_id: String,
    status: String,
}

impl Action for UpdateAccessKey {
    const NAME: &'static str = "UpdateAccessKey";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        let active = match self.status.as_str() {
            "Active" => true,
            "Inactive" => false,
            _ => {
                let rule = "must satisfy enum value set: [Active, Inactive]";
                return Err(FieldError::new("Status", rule).into());
            }
        };
        change(cx, Self::NAME, |cx| {
            let user_name = self.user_name.as_deref();
            let name = own_key::<Self>(cx, user_name, &self.access_key_id)?;
            Ok(vec![Command::edit(name, Edit::SetActive(active))])
        })
        .await
    }
}

/// Deletes an access key and ends the sessions that were made with it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteAccessKey {
    user_name: Option<String>,
    access_key_id: String,
}

impl Action for DeleteAccessKey {
    const NAME: &'static str = "DeleteAccessKey";
    const READ_ONLY: bool = false;
    type Output = ();

    async fn run(self, cx: &mut Context<'_>) -> Result<(), Error> {
        change(cx, Self::NAME, |cx| {
            let user_name = self.user_name.as_deref();
            let name = own_key::<Self>(cx, user_name, &self.access_key_id)?;
            Ok(vec![Command::delete(name)])
        })
        .await
    }
}

/// Returns the name of a user's access key, after checking that the caller may change the key.
fn own_key<A: Action>(
    cx: &mut Context<'_>,
    user_name: Option<&str>,
    access_key_id: &str,
) -> Result<Name, Error> {
    let user = permitted_user::<A>(cx, user_name)?;
    fresh::<A>(cx, &user)?;
    let key = cx.directory.access_key(access_key_id);
    if key.is_none_or(|key| key.user_arn != user.arn) {
        return Err(missing(access_key_id));
    }
    Ok(Name::new(ResourceKind::AccessKey, access_key_id))
}

fn missing(access_key_id: &str) -> Error {
    Error::NotFound(format!(
        "The Access Key with id {access_key_id} cannot be found."
    ))
}

/// Lists the access keys of a user, without their secrets.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListAccessKeys {
    user_name: Option<String>,
    #[serde(flatten)]
    page: PageRequest,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Keys {
    access_key_metadata: Vec<Key>,
    #[serde(flatten)]
    end: PageEnd,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    user_name: String,
    access_key_id: String,
    status: String,
    create_date: String,
}

impl Action for ListAccessKeys {
    const NAME: &'static str = "ListAccessKeys";
    const READ_ONLY: bool = true;
    type Output = Keys;

    async fn run(self, cx: &mut Context<'_>) -> Result<Keys, Error> {
        let target = Target::user(cx, self.user_name.as_deref())?;
        permit::<Self>(cx, &target.resource())?;
        let user = target.existing_user(cx)?;
        let list = List::Referring(ResourceKind::AccessKey, &target);
        let (page, end) =
            rows::page::<Self>(cx, &target.resource(), &list, &self.page, |_| true).await?;
        let keys = page.into_iter().filter_map(|resource| match resource {
            Resource::AccessKey(key) => Some(key),
            _ => None,
        });
        let shown = keys.map(|key| Key {
            user_name: user.name.to_string(),
            access_key_id: key.access_key_id,
            status: key.status.unwrap_or_else(|| "Active".to_owned()),
            create_date: date(key.create_date),
        });
        Ok(Keys {
            access_key_metadata: shown.collect(),
            end,
        })
    }
}

/// Returns when an access key was last used, and the user that it belongs to.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetAccessKeyLastUsed {
    access_key_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Used {
    user_name: String,
    access_key_last_used: LastUsed,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LastUsed {
    last_used_date: Option<String>,
    service_name: String,
    region: String,
}

impl Action for GetAccessKeyLastUsed {
    const NAME: &'static str = "GetAccessKeyLastUsed";
    const READ_ONLY: bool = true;
    type Output = Used;

    async fn run(self, cx: &mut Context<'_>) -> Result<Used, Error> {
        self.readable_key(cx)?;
        let stored = cx
            .wait(cx.broker.store.last_key_use(&self.access_key_id))
            .await?;
        let key = self
            .readable_key(cx)?
            .ok_or_else(|| missing(&self.access_key_id))?;
        // What this broker has seen since it last wrote comes after what is written.
        let last = cx.broker.key_use.last(&self.access_key_id);
        let last = last.into_iter().chain(stored).max_by_key(|last| last.at);
        Ok(Used {
            user_name: name_of(&key.user_arn).to_owned(),
            access_key_last_used: shown(last),
        })
    }
}

impl GetAccessKeyLastUsed {
    /// Returns the key if the caller may read it; `None` if the caller's account has no such key. A
    /// missing key is authorized on `user/*` without tags, so a caller without permission gets the
    /// same refusal whether or not the key exists.
    fn readable_key(&self, cx: &mut Context<'_>) -> Result<Option<Arc<AccessKey>>, Error> {
        let account = cx.caller().account();
        let key = cx.directory.access_key(&self.access_key_id).cloned();
        let user = key
            .as_ref()
            .and_then(|key| cx.directory.user(&key.user_arn));
        let user = user.filter(|user| user.account == account).cloned();
        let unknown = format!("arn:aws:iam::{account}:user/*");
        let shown_as = format!("access key {}", self.access_key_id);
        let resource = match &user {
            Some(user) => action::Resource::new(&user.arn, &user.tags),
            None => action::Resource::new(&unknown, &[]),
        };
        let resource = action::Resource {
            shown_as: &shown_as,
            ..resource
        };
        permit::<Self>(cx, &resource)?;
        Ok(key.filter(|_| user.is_some()))
    }
}

fn shown(last: Option<LastUse>) -> LastUsed {
    match last {
        Some(last) => LastUsed {
            last_used_date: Some(last.at.to_string()),
            service_name: last.service.into(),
            region: last.region.into(),
        },
        None => LastUsed {
            last_used_date: None,
            service_name: "N/A".to_owned(),
            region: "N/A".to_owned(),
        },
    }
}
