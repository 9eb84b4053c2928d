//! The page with the access keys of the signed-in user, on which the user can also create one.

use askama::Template;

use super::account;
use super::answer::Answer;
use super::confirmation::{Change, again};
use super::frame::{Frame, Moment};
use super::problem::{Problem, text_of};
use super::visit::{SignedInUser, Visit, encoded};
use crate::ops::iam::access_keys::{CreateAccessKey, ListAccessKeys};

#[derive(Template)]
#[template(path = "keys.html", config = "src/portal/askama.toml")]
struct Page<'a> {
    frame: Frame<'a>,
    keys: Vec<Key>,
}

struct Key {
    id: String,
    encoded: String,
    is_active: bool,
    since: Option<Moment>,
}

#[derive(Template)]
#[template(path = "new_key.html", config = "src/portal/askama.toml")]
struct NewKeyPage<'a> {
    frame: Frame<'a>,
    id: &'a str,
    secret: &'a str,
    text: String,
}

/// Shows the page with the user's access keys.
pub(super) async fn page(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    let signed_in = match visit.must_be_signed_in() {
        Ok(signed_in) => signed_in,
        Err(answer) => return Ok(*answer),
    };
    let me = visit.user_of(&signed_in.sign_in)?;
    let of = [("UserName", &*me.user.name)];
    let listed = account::call::<ListAccessKeys>(visit, &me, &of, &[]).await;
    let (keys, alert) = match listed {
        Ok(listed) => (keys(&listed), None),
        Err(refused) => {
            visit.request_id = refused.request_id;
            (Vec::new(), Some(text_of(visit.t, &refused.error)))
        }
    };
    Ok(Answer::page(&Page {
        keys,
        frame: visit.frame().alert(alert).done(Change::done(visit)?),
    })?)
}

fn keys(listed: &serde_json::Value) -> Vec<Key> {
    let all = listed
        .get("AccessKeyMetadata")
        .and_then(|all| all.as_array());
    let key = |key: &serde_json::Value| {
        let text = |name: &str| key.get(name).and_then(|value| value.as_str());
        let id = text("AccessKeyId")?;
        Some(Key {
            id: id.to_owned(),
            encoded: encoded(id),
            is_active: text("Status") == Some("Active"),
            since: text("CreateDate").map(Moment::of),
        })
    };
    all.into_iter().flatten().filter_map(key).collect()
}

/// Creates an access key, and shows its secret. Reloading the page does not show it again.
pub(super) async fn make(visit: &mut Visit<'_>, me: &SignedInUser) -> Result<Answer, Problem> {
    let of = [("UserName", &*me.user.name)];
    let made = match account::call::<CreateAccessKey>(visit, me, &of, &[]).await {
        Ok(made) => made,
        Err(refused) => return again(visit, me, Change::MakeKey, "", refused),
    };
    let text = |name: &str| made.pointer(name).and_then(|value| value.as_str());
    let (Some(id), Some(secret)) = (
        text("/AccessKey/AccessKeyId"),
        text("/AccessKey/SecretAccessKey"),
    ) else {
        return Err(Problem::fault("the answer of CreateAccessKey has no key"));
    };
    Ok(Answer::page(&NewKeyPage {
        id,
        secret,
        text: format!(
            "[{}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\nendpoint_url = {}",
            me.user.name, visit.settings.public_url
        ),
        frame: visit.frame(),
    })?)
}
