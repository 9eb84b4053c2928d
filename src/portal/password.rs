//! The page on which a user changes its password, voluntarily or because it has to.

use askama::Template;
use http::StatusCode;

use super::account::{self, Refused};
use super::answer::Answer;
use super::approval::decided;
use super::confirmation::{confirm, form_status};
use super::destination::Destination;
use super::form::Form;
use super::frame::Frame;
use super::problem::{Problem, retry_after, text_of};
use super::texts::Texts;
use super::visit::{SignedInUser, Visit};
use crate::directory::Directory;
use crate::error::Error;
use crate::ops::iam::login_profiles::ChangePassword;
use crate::password::policy::{Characters, PasswordPolicy};
use crate::password::text::has_control;
use crate::sign_in::{self, password};

#[derive(Template)]
#[template(path = "password.html", config = "src/portal/askama.toml")]
struct Page<'a> {
    frame: Frame<'a>,
    title: &'a str,
    /// The reason why the user has to change its password; `None` if the user does so voluntarily.
    why: Option<&'a str>,
    user_name: &'a str,
    /// The rules of the account's password policy, as [`rule`] returns them.
    rule: String,
    asks_code: bool,
    to: Option<&'a str>,
}

/// Shows the form for a new password.
pub(super) fn page(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    let signed_in = match visit.must_be_signed_in() {
        Ok(signed_in) => signed_in,
        Err(answer) => return Ok(*answer),
    };
    let me = visit.user_of(&signed_in.sign_in)?;
    let to = visit.parameter("to")?;
    let to = to.as_deref().and_then(Destination::parse);
    form_again(visit, &me, &to.unwrap_or_default(), None)
}

fn form_again(
    visit: &Visit<'_>,
    me: &SignedInUser,
    to: &Destination,
    alert: Option<String>,
) -> Result<Answer, Problem> {
    let (t, directory) = (visit.t, visit.broker.directory.load());
    let must = me.sign_in.must_change_password;
    Ok(Answer::page(&Page {
        title: if must {
            t.new_password_title
        } else {
            t.change_password
        },
        why: must.then(|| why(t, &directory, &me.user.arn)),
        user_name: &me.user.name,
        rule: rule(directory.password_policy(me.account)),
        asks_code: !must && password::has_device(&directory, &me.user.arn),
        to: Some(to.as_str()).filter(|_| !to.is_default()),
        frame: visit.frame().narrow().alert(alert),
    })?)
}

fn why(t: &'static Texts, directory: &Directory, user_arn: &str) -> &'static str {
    match directory.login_profile(user_arn) {
        Some(profile) if profile.must_be_reset => t.reset_required,
        _ => t.password_expired,
    }
}

/// Returns the rules of a password policy, in one to three sentences.
fn rule(policy: &PasswordPolicy) -> String {
    let wants = match policy.characters {
        Characters::ThreeKinds => {
            " The password must contain three of these: an upper-case letter, a lower-case letter, a digit, a symbol."
                .to_owned()
        }
        Characters::Each {
            uppercase,
            lowercase,
            number,
            symbol,
        } => {
            let kinds = [
                (uppercase, "an upper-case letter"),
                (lowercase, "a lower-case letter"),
                (number, "a digit"),
                (symbol, "a symbol"),
            ];
            let wanted: Vec<&str> = kinds
                .into_iter()
                .filter_map(|(is_wanted, kind)| is_wanted.then_some(kind))
                .collect();
            match wanted.as_slice() {
                [] => String::new(),
                wanted => format!(" The password must contain each of these: {}.", wanted.join(", ")),
            }
        }
    };
    let length = policy.minimum_length;
    let reused = match policy.remembered() {
        0 => String::new(),
        1 => " The password must differ from the current one.".to_owned(),
        last => format!(" The password must differ from the last {last} passwords."),
    };
    format!("At least {length} characters; spaces are allowed.{wants}{reused}")
}

/// Changes the password. This browser's sign-in continues; all other sign-ins of the user end.
pub(super) async fn submit(visit: &mut Visit<'_>, mut form: Form) -> Result<Answer, Problem> {
    let Some(signed_in) = visit.signed_in.clone() else {
        return Err(Problem::ended());
    };
    let mut me = visit.user_of(&signed_in.sign_in)?;
    let to = Destination::parse(&form.take("to")).unwrap_or_default();
    let (old, new) = (form.secret("old_password"), form.secret("new_password"));
    let code = form.code("code");
    if has_control(&new) {
        let answer = form_again(visit, &me, &to, Some(visit.t.password_control.to_owned()))?;
        return Ok(answer.with_status(StatusCode::BAD_REQUEST));
    }
    // Who must choose another password has given a code a moment ago, if it has a device.
    if !me.sign_in.must_change_password
        && password::has_device(&visit.broker.directory.load(), &me.user.arn)
        && let Err(refused) = confirm(visit, &mut me, &code, &old).await
    {
        return refuse(visit, &me, &to, refused);
    }
    let passwords = [("OldPassword", &**old), ("NewPassword", &**new)];
    let changed = account::call::<ChangePassword>(visit, &me, &[], &passwords).await;
    if let Err(refused) = changed {
        return refuse(visit, &me, &to, refused);
    }
    let handle = sign_in::password_changed(visit.broker, &me.sign_in).await;
    let handle = handle.map_err(|error| Problem::refused(&error, None))?;
    me.sign_in.must_change_password = false;
    visit.rotate(&handle, &me.sign_in);
    if signed_in.sign_in.must_change_password || !to.is_default() {
        return Ok(Answer::go_to(to.as_str()));
    }
    let t = visit.t;
    decided(visit, t.change_password, t.password_changed)
}

fn refuse(
    visit: &mut Visit<'_>,
    me: &SignedInUser,
    to: &Destination,
    refused: Refused,
) -> Result<Answer, Problem> {
    if !refused.request_id.is_empty() {
        visit.request_id = refused.request_id;
    }
    let error = refused.error;
    let text = match &error {
        Error::Validation(_) => visit.t.password_too_long.to_owned(),
        error => text_of(visit.t, error),
    };
    let answer = form_again(visit, me, to, Some(text))?;
    Ok(answer
        .with_status(form_status(&error))
        .with_retry_after(retry_after(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_one_sentence_each() {
        let policy = PasswordPolicy::DEFAULT;
        assert!(rule(&policy).starts_with(
            "At least 8 characters; spaces are allowed. The password must contain three"
        ));
        let strict = PasswordPolicy {
            minimum_length: 15,
            characters: Characters::Each {
                uppercase: false,
                lowercase: false,
                number: true,
                symbol: true,
            },
            reuse_prevention: 3,
            ..PasswordPolicy::DEFAULT
        };
        assert_eq!(
            rule(&strict),
            "At least 15 characters; spaces are allowed. The password must contain each of these: a digit, a symbol. The password must differ \
             from the last 3 passwords."
        );
    }
}
