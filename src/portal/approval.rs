//! The page on which a person allows or denies a program. It serves both the device flow and the
//! authorization code flow.

use askama::Template;
use http::StatusCode;
use zeroize::Zeroizing;

use super::account::Refused;
use super::answer::Answer;
use super::confirmation::{self, Asks, form_status};
use super::frame::{Frame, Moment};
use super::problem::{Problem, retry_after, text_of};
use super::visit::{SignedIn, Visit};
use crate::error::Error;
use crate::sign_in::SignIn;
use crate::sign_in::password;

/// The page that asks a person whether to allow a program. It shows the program's name, its origin
/// and the person who is signed in.
#[derive(Template)]
#[template(path = "approve.html", config = "src/portal/askama.toml")]
pub(super) struct ApprovePage<'a> {
    pub(super) frame: Frame<'a>,
    /// The user code of the device flow, which the person compares with the one that the program
    /// shows.
    pub(super) code: Option<&'a str>,
    /// The program's name: the registered one, or the one that it chose itself.
    pub(super) client: &'a str,
    /// Whether an administrator has registered the program. Otherwise the program chose its name
    /// itself.
    pub(super) is_registered: bool,
    /// The program and the system that the `User-Agent` of its request names.
    pub(super) program: Option<&'a str>,
    pub(super) address: Option<&'a str>,
    pub(super) is_same_address: bool,
    pub(super) at: Option<Moment>,
    pub(super) ago: Option<String>,
    /// The origin to which the browser returns after the decision; `None` in the device flow.
    pub(super) returns: Option<&'a str>,
    pub(super) who: &'a str,
    pub(super) action: &'a str,
    pub(super) field: &'a str,
    pub(super) value: &'a str,
    pub(super) asks: Asks,
    pub(super) user_name: &'a str,
}

#[derive(Template)]
#[template(path = "decided.html", config = "src/portal/askama.toml")]
struct DecidedPage<'a> {
    frame: Frame<'a>,
    title: &'a str,
    text: &'a str,
}

/// Returns a page that confirms the person's decision.
pub(super) fn decided(visit: &Visit<'_>, title: &str, text: &str) -> Result<Answer, Problem> {
    Ok(Answer::page(&DecidedPage {
        title,
        text,
        frame: visit.frame().narrow(),
    })?)
}

/// Returns the factors that the person must give again before it may allow a program, because they are older than the
/// configuration's limit.
///
/// # Errors
/// [`Problem`] if the person must sign in again, because it signed in at an identity provider or its user was deleted.
pub(super) fn asks(visit: &Visit<'_>, sign_in: &SignIn) -> Result<Asks, Problem> {
    let now = visit.broker.clock.now();
    let limit = visit.settings.mfa_max_age;
    if limit.is_none_or(|limit| !sign_in.is_older_than(limit, now)) {
        return Ok(Asks::default());
    }
    match visit.user_of(sign_in) {
        Ok(me) => {
            let code = password::has_device(&visit.broker.directory.load(), &me.user.arn);
            Ok(Asks {
                code,
                password: !code,
            })
        }
        Err(_) => {
            let t = visit.t;
            let (title, what) = (t.too_old_title, t.too_old);
            Err(Problem::new(
                StatusCode::FORBIDDEN,
                title,
                what,
                t.too_old_next,
            ))
        }
    }
}

/// Checks the code or the password that [`asks`] requires, and adds it to the sign-in, which gets a new cookie.
///
/// # Errors
/// The inner [`Refused`] if the code or the password is not accepted; [`Problem`] if the person must sign in again.
pub(super) async fn prove(
    visit: &mut Visit<'_>,
    signed_in: &SignedIn,
    code: &str,
    given: &Zeroizing<String>,
) -> Result<Result<(), Refused>, Problem> {
    let asks = asks(visit, &signed_in.sign_in)?;
    if asks == Asks::default() {
        return Ok(Ok(()));
    }
    let mut me = visit.user_of(&signed_in.sign_in)?;
    Ok(confirmation::confirm_with(visit, &mut me, asks, code, given).await)
}

/// Sets the status of a page that shows the form again after a refused code or password.
pub(super) fn refused(answer: Answer, error: &Error) -> Answer {
    answer
        .with_status(form_status(error))
        .with_retry_after(retry_after(error))
}

/// Returns the text of a refusal, for the alert on the page.
pub(super) fn alert(visit: &Visit<'_>, refused: Option<&Refused>) -> Option<String> {
    refused.map(|refused| text_of(visit.t, &refused.error))
}

/// Summarizes a `User-Agent`: the first product with its version, and the system if it is named.
pub(super) fn program(user_agent: &str) -> Option<String> {
    let first = user_agent.split_whitespace().next()?;
    let first: String = first.replacen('/', " ", 1).chars().take(60).collect();
    let systems = [
        ("windows", "Windows"),
        ("android", "Android"),
        ("iphone", "iOS"),
        ("darwin", "macOS"),
        ("macos", "macOS"),
        ("mac os", "macOS"),
        ("linux", "Linux"),
    ];
    let lower = user_agent.to_lowercase();
    let system = systems.iter().find(|(word, _)| lower.contains(word));
    Some(match system {
        Some((_, system)) => format!("{first} on {system}"),
        None => first,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_put_into_words() {
        for (agent, words) in [
            (
                "aws-cli/2.9.19 Python/3.11.2 Linux/6.1.0 source/x86_64 prompt/off",
                "aws-cli 2.9.19 on Linux",
            ),
            (
                "aws-sdk-go-v2/1.30 os/macos#23",
                "aws-sdk-go-v2 1.30 on macOS",
            ),
            (
                "Boto3/1.44 md/Botocore#1.44 os/windows#10",
                "Boto3 1.44 on Windows",
            ),
            ("curl/8.5.0", "curl 8.5.0"),
            ("<script>alert(1)</script>", "<script>alert(1)< script>"),
        ] {
            assert_eq!(program(agent).unwrap(), words);
        }
        assert_eq!(program("  "), None);
        assert!(program(&"x".repeat(500)).unwrap().len() <= 60);
    }
}
