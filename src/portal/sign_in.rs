//! The pages for signing in with a name, a password and an MFA code, and for signing out.

use std::time::Duration;

use askama::Template;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::cookies;
use super::destination::Destination;
use super::form::Form;
use super::frame::Frame;
use super::problem::{Problem, retry_after, status_of, text_of};
use super::texts::Texts;
use super::upstream::Provider;
use super::visit::Visit;
use crate::base::arn::AccountId;
use crate::base::digest::{hex, sha256};
use crate::base::secret::Secret;
use crate::error::{Error, MfaError};
use crate::login::Refused;
use crate::sign_in::password::{self, Given, Proven};
use crate::sign_in::record::{Draft, Event};
use crate::sign_in::{ending, pending};
use crate::store::{Attempt, Lockout};

/// The kind of [`pending`] value for a sign-in whose password was accepted and whose MFA code is
/// missing.
const WAITS_FOR_CODE: &str = "waits for a code";
/// Limits the sign-ins of one user that wait for a code: 20, and one more for every 30 seconds that
/// pass.
const WAITING: Lockout = Lockout {
    failures: 20,
    forgiven_after_seconds: 30,
};
/// The time limit for entering the MFA code after the password.
const CODE_WITHIN: Duration = Duration::from_secs(600);
/// The `Retry-After` in seconds for a user with too many wrong passwords.
const RETRY_PASSWORD: u64 = 300;
/// The `Retry-After` in seconds for a user with too many wrong codes.
const RETRY_CODE: u64 = 900;

#[derive(Template)]
#[template(path = "sign_in.html", config = "src/portal/askama.toml")]
struct SignInPage<'a> {
    frame: Frame<'a>,
    why: Option<&'a str>,
    providers: &'a [Provider],
    passwords: bool,
    to: Option<&'a str>,
    account: &'a str,
    user_name: &'a str,
}

#[derive(Template)]
#[template(path = "code.html", config = "src/portal/askama.toml")]
struct CodePage<'a> {
    frame: Frame<'a>,
    pending: &'a str,
}

#[derive(Template)]
#[template(path = "signed_out.html", config = "src/portal/askama.toml")]
struct SignedOutPage<'a> {
    frame: Frame<'a>,
    provider: Option<&'a Provider>,
}

/// A sign-in whose password was accepted and whose MFA code is missing, as it is kept between the
/// two forms.
#[derive(Serialize, Deserialize)]
struct WaitsForCode {
    proven: Proven,
    to: String,
    /// The digest of the cookie of the browser that sent the password. Only this browser may send
    /// the code.
    browser: String,
}

/// Shows the page with all ways to sign in.
pub(super) fn page(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    let to = visit.parameter("to")?;
    let to = to.as_deref().and_then(Destination::parse);
    let to = to.unwrap_or_default();
    if visit.signed_in.is_some() {
        return Ok(Answer::go_to(to.as_str()));
    }
    let why = (!to.is_default()).then_some(visit.t.to_continue);
    form_again(visit, &Entered::new(&to), why, None)
}

/// The fields that the person filled in, to show the form with them again.
struct Entered<'a> {
    to: &'a Destination,
    account: &'a str,
    user_name: &'a str,
}

impl<'a> Entered<'a> {
    fn new(to: &'a Destination) -> Self {
        Self {
            to,
            account: "",
            user_name: "",
        }
    }
}

fn form_again(
    visit: &mut Visit<'_>,
    entered: &Entered<'_>,
    why: Option<&'static str>,
    alert: Option<&str>,
) -> Result<Answer, Problem> {
    visit.before()?;
    let providers = super::upstream::offered(visit, entered.to);
    Ok(Answer::page(&SignInPage {
        frame: visit.frame().narrow().alert(alert),
        why,
        providers: &providers,
        passwords: visit.settings.passwords,
        to: Some(entered.to.as_str()).filter(|_| !entered.to.is_default()),
        account: entered.account,
        user_name: entered.user_name,
    })?)
}

/// Checks the name and the password, and the MFA code if the person entered one.
pub(super) async fn submit(visit: &mut Visit<'_>, mut form: Form) -> Result<Answer, Problem> {
    let t = visit.t;
    let to = Destination::parse(&form.take("to")).unwrap_or_default();
    let (account, user_name) = (form.take("account"), form.take("user_name"));
    let (password, code) = (form.secret("password"), form.code("code"));
    if !visit.settings.passwords {
        let (title, what) = (t.passwords_off_title, t.passwords_off);
        return Err(
            Problem::new(StatusCode::FORBIDDEN, title, what, t.passwords_off_next)
                .leading_to("/sign-in", t.to_sign_in)
                .recorded_as(Error::Malformed(what.to_owned())),
        );
    }
    let headers = &visit.head.headers;
    let given = Given {
        account: &account,
        user_name: &user_name,
        password: &password,
        known_browser: cookies::read(headers, cookies::KNOWN).unwrap_or_default(),
    };
    let entered = Entered {
        to: &to,
        account: &account,
        user_name: &user_name,
    };
    let mut proven = match password::check(visit.broker, &given, visit.origin).await {
        Ok(proven) => proven,
        Err(refused) => {
            let refusal = refusal(t, &refused);
            record(visit, &refused, &account, &user_name).await;
            let answer = form_again(visit, &entered, None, Some(&refusal.text))?;
            return Ok(refusal.on(answer));
        }
    };
    if !proven.needs_code(visit.broker) {
        return finish(visit, &proven, &to).await;
    }
    if code.is_empty() {
        let handle = wait_for_code(visit, &proven, &to).await?;
        return code_page(visit, handle.expose(), None);
    }
    match proven.add_code(visit.broker, &code).await {
        Ok(()) => finish(visit, &proven, &to).await,
        Err(error) => {
            let handle = wait_for_code(visit, &proven, &to).await?;
            code_refused(visit, &proven.user_name, handle.expose(), error).await
        }
    }
}

/// Checks the MFA code of a user whose password was accepted before.
pub(super) async fn code(visit: &mut Visit<'_>, mut form: Form) -> Result<Answer, Problem> {
    let (handle, code) = (form.take("pending"), form.code("code"));
    let waits = pending::look::<WaitsForCode>(visit.broker, WAITS_FOR_CODE, &handle).await;
    let waits = waits.map_err(|error| Problem::refused(&error, None))?;
    let Some(mut waits) = waits.filter(|waits| waits.browser == browser(visit)) else {
        return too_late(visit);
    };
    if code.is_empty() {
        let alert = Some(visit.t.missing_code);
        return Ok(code_page(visit, &handle, alert)?.with_status(StatusCode::BAD_REQUEST));
    }
    if let Err(error) = waits.proven.add_code(visit.broker, &code).await {
        return code_refused(visit, &waits.proven.user_name, &handle, error).await;
    }
    // Once, on all nodes.
    let taken = pending::take::<WaitsForCode>(visit.broker, WAITS_FOR_CODE, &handle).await;
    match taken.map_err(|error| Problem::refused(&error, None))? {
        Some(_) => {
            let to = Destination::parse(&waits.to).unwrap_or_default();
            finish(visit, &waits.proven, &to).await
        }
        None => too_late(visit),
    }
}

fn too_late(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    let (to, late) = (Destination::default(), visit.t.took_too_long);
    let answer = form_again(visit, &Entered::new(&to), None, Some(late))?;
    Ok(answer.with_status(StatusCode::BAD_REQUEST))
}

/// Records a code that was not accepted, and shows the form for the code again.
async fn code_refused(
    visit: &mut Visit<'_>,
    user_name: &str,
    handle: &str,
    error: Error,
) -> Result<Answer, Problem> {
    if !matches!(error, Error::Mfa(_) | Error::Validation(_)) {
        return Err(Problem::refused(&error, None));
    }
    let is_locked = error == Error::Mfa(MfaError::Locked);
    record(visit, &Refused::Unavailable(error), "", user_name).await;
    let t = visit.t;
    Ok(match is_locked {
        true => code_page(visit, handle, Some(t.code_locked))?
            .with_status(StatusCode::TOO_MANY_REQUESTS)
            .with_retry_after(Some(RETRY_CODE)),
        false => code_page(visit, handle, Some(t.wrong_code))?.with_status(StatusCode::BAD_REQUEST),
    })
}

/// Keeps the accepted password's proof until the code comes. Returns the handle for the form that
/// asks for the code.
async fn wait_for_code(
    visit: &mut Visit<'_>,
    proven: &Proven,
    to: &Destination,
) -> Result<Secret<String>, Problem> {
    visit.before()?;
    let waits = WaitsForCode {
        proven: proven.clone(),
        to: to.as_str().to_owned(),
        browser: browser(visit),
    };
    // Nobody's own sign-ins may take the place of those of others.
    let (store, now) = (&visit.broker.store, visit.broker.clock.now());
    let whose = format!("waits for a code {}", proven.user_id);
    let counted = store.attempt(&whose, None, WAITING, now).await;
    match counted.map_err(Error::from) {
        Ok(Attempt::Locked) => return Err(Problem::refused(&Error::Throttling, None)),
        Ok(_) => {}
        Err(error) => return Err(Problem::refused(&error, None)),
    }
    let (broker, origin) = (visit.broker, visit.origin);
    let kept = pending::keep(broker, WAITS_FOR_CODE, &waits, CODE_WITHIN, origin).await;
    kept.map_err(|error| Problem::refused(&error, None))
}

fn code_page(
    visit: &mut Visit<'_>,
    handle: &str,
    alert: Option<&'static str>,
) -> Result<Answer, Problem> {
    Ok(Answer::page(&CodePage {
        frame: visit.frame().narrow().alert(alert),
        pending: handle,
    })?)
}

/// Returns the digest of this browser's cookie, to which a sign-in that waits for a code is bound.
fn browser(visit: &Visit<'_>) -> String {
    hex(&sha256(
        visit.before.as_deref().unwrap_or_default().as_bytes(),
    ))
}

/// Begins the sign-in of a user who has given all required factors.
async fn finish(
    visit: &mut Visit<'_>,
    proven: &Proven,
    to: &Destination,
) -> Result<Answer, Problem> {
    let begun = match proven.sign_in(visit.broker) {
        Ok(new) => visit.begin(new, to).await,
        Err(error) => Err(error),
    };
    match begun {
        Ok(answer) => Ok(answer),
        // The user was deleted meanwhile, or has another password.
        Err(Error::Ended) => too_late(visit),
        Err(error) => Err(Problem::refused(&error, None)),
    }
}

/// The status and text with which a form answers a password that was not accepted.
struct Refusal {
    status: StatusCode,
    text: String,
    retry_after: Option<u64>,
}

impl Refusal {
    fn on(self, answer: Answer) -> Answer {
        answer
            .with_status(self.status)
            .with_retry_after(self.retry_after)
    }
}

fn refusal(t: &Texts, refused: &Refused) -> Refusal {
    let with = |status, text: &str, retry_after| Refusal {
        status,
        text: text.to_owned(),
        retry_after,
    };
    match refused {
        Refused::Wrong => with(StatusCode::BAD_REQUEST, t.wrong, None),
        Refused::Locked => with(
            StatusCode::TOO_MANY_REQUESTS,
            t.too_many,
            Some(RETRY_PASSWORD),
        ),
        Refused::Expired => with(StatusCode::FORBIDDEN, t.expired_for_good, None),
        // Too many hashes are computed at this moment.
        Refused::Unavailable(Error::Throttling) => {
            with(StatusCode::SERVICE_UNAVAILABLE, t.busy, Some(2))
        }
        Refused::Unavailable(error) => {
            with(status_of(error), &text_of(t, error), retry_after(error))
        }
    }
}

/// Writes a refused sign-in to the audit log.
async fn record(visit: &mut Visit<'_>, refused: &Refused, account: &str, user_name: &str) {
    let error = match refused {
        Refused::Wrong | Refused::Locked | Refused::Expired => {
            Error::WrongPassword("Failed authentication")
        }
        Refused::Unavailable(error) => error.clone(),
    };
    let account = AccountId::parse(account).map(|account| account.to_string());
    let Ok(draft) = Draft::new(visit.broker, Event::CONSOLE_LOGIN, visit.origin) else {
        return;
    };
    draft.request_id().clone_into(&mut visit.request_id);
    let draft = draft.claimed(user_name, account.as_deref());
    // The refusal is what is recorded.
    let _: Result<(), Error> = draft.conclude(visit.broker, Err(error)).await;
}

/// Signs the person out: ends the sign-in, with all sessions and tokens that came from it.
pub(super) async fn sign_out(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    let mut page = "/signed-out".to_owned();
    if let Some(signed_in) = &visit.signed_in {
        if let Some(slug) = super::upstream::provider_of(&signed_in.sign_in) {
            page = format!("{page}?from={slug}");
        }
        let ended = ending::sign_out(visit.broker, &signed_in.sign_in, visit.origin).await;
        ended.map_err(|error| Problem::refused(&error, None))?;
    }
    visit.signed_in = None;
    Ok(Answer::go_to(page)
        .with_cookie(cookies::remove(cookies::SESSION))
        .clearing_cache())
}

/// Shows the page after signing out, with a link for signing out at the identity provider as well if the provider has
/// an address for that.
pub(super) async fn signed_out(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    if visit.signed_in.is_some() {
        return Ok(Answer::go_to("/portal"));
    }
    // The provider at which the person is still signed in, to sign out there as well.
    let provider = match visit.parameter("from")? {
        Some(slug) => super::upstream::end_session_link(visit.broker, &slug).await,
        None => None,
    };
    Ok(Answer::page(&SignedOutPage {
        frame: visit.frame().narrow(),
        provider: provider.as_ref(),
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portal::texts::ENGLISH;

    #[test]
    fn a_refused_password_is_answered_with_what_is_wrong() {
        let said = |error: Error| {
            let refusal = refusal(&ENGLISH, &Refused::Unavailable(error));
            (refusal.status.as_u16(), refusal.text, refusal.retry_after)
        };
        let (status, text, retry_after) = said(Error::ConcurrentModification("alice".to_owned()));
        assert_eq!((status, retry_after), (409, None));
        assert!(text.contains("alice") && text != ENGLISH.internal, "{text}");
        let (status, text, retry_after) = said(Error::ServiceUnavailable("the store"));
        assert_eq!((status, retry_after), (503, Some(2)));
        assert!(text.starts_with(ENGLISH.later), "{text}");
        let (status, text, retry_after) = said(Error::InternalFailure);
        assert_eq!((status, &*text, retry_after), (500, ENGLISH.internal, None));
    }
}
