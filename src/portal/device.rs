//! The page on which a person enters the code that a program on another device shows, and the page that asks
//! whether to allow it: RFC 8628 section 3.3.

use askama::Template;
use http::StatusCode;

use super::account::Refused;
use super::answer::Answer;
use super::approval::{self, ApprovePage, alert, decided};
use super::form::Form;
use super::frame::{Frame, Moment, span};
use super::problem::{Problem, retry_after, status_of};
use super::visit::{SignedIn, Visit};
use crate::error::{Class, Error};
use crate::sign_in::device::{self, Asking};

#[derive(Template)]
#[template(path = "device.html", config = "src/portal/askama.toml")]
struct Page<'a> {
    frame: Frame<'a>,
    code: &'a str,
    /// The address from which the program sent its request, if it differs from the browser's
    /// address.
    asked: Option<String>,
}

/// Shows the page for the code. A link with the code fills it in only if the program's request came
/// from the same address as the browser: otherwise, somebody else may have sent the link to get an
/// approval.
pub(super) async fn page(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    let signed_in = match visit.must_be_signed_in() {
        Ok(signed_in) => signed_in,
        Err(answer) => return Ok(*answer),
    };
    must_be_on(visit)?;
    let Some(code) = visit.parameter("user_code")? else {
        return code_page(visit, "", None, None);
    };
    let sign_in = &signed_in.sign_in;
    match device::of_link(visit.broker, &code, sign_in, visit.origin).await {
        Ok(Some(asking)) if asking.from_here => code_page(visit, &asking.user_code, None, None),
        Ok(Some(asking)) => code_page(visit, "", Some(asking.source.to_string()), None),
        Ok(None) => code_page(visit, "", None, None),
        Err(error) => Err(Problem::refused(&error, None)),
    }
}

fn must_be_on(visit: &Visit<'_>) -> Result<(), Problem> {
    match visit.settings.device_flow {
        true => Ok(()),
        false => Err(Problem::not_found()),
    }
}

fn code_page(
    visit: &Visit<'_>,
    code: &str,
    asked: Option<String>,
    alert: Option<&str>,
) -> Result<Answer, Problem> {
    Ok(Answer::page(&Page {
        code,
        asked,
        frame: visit.frame().narrow().alert(alert),
    })?)
}

/// Returns the answer to a code that was refused: the page for the code again, or an error page.
fn refused(visit: &Visit<'_>, code: &str, error: &Error) -> Result<Answer, Problem> {
    let t = visit.t;
    let (status, text) = match error.class() {
        Class::Throttled => (StatusCode::TOO_MANY_REQUESTS, t.too_many),
        Class::NotFound | Class::InvalidArgument | Class::InvalidToken | Class::Gone => {
            (StatusCode::BAD_REQUEST, t.wrong_user_code)
        }
        _ => return Err(Problem::refused(error, None)),
    };
    let answer = code_page(visit, code, None, Some(text))?.with_status(status);
    Ok(answer.with_retry_after(retry_after(error)))
}

/// Looks up the program that shows the code, and asks the person whether to allow it.
pub(super) async fn submit(visit: &mut Visit<'_>, mut form: Form) -> Result<Answer, Problem> {
    must_be_on(visit)?;
    let code = form.take("code");
    let Some(signed_in) = visit.signed_in.clone() else {
        return Err(Problem::ended());
    };
    match device::look(visit.broker, &code, &signed_in.sign_in, visit.origin).await {
        Ok(asking) => approve_page(visit, &signed_in, &asking, None),
        Err(error) => refused(visit, &code, &error),
    }
}

fn approve_page(
    visit: &Visit<'_>,
    signed_in: &SignedIn,
    asking: &Asking,
    refused: Option<&Refused>,
) -> Result<Answer, Problem> {
    let sign_in = &signed_in.sign_in;
    let program = approval::program(&asking.program);
    let address = asking.source.to_string();
    let age = visit.broker.clock.now().since(asking.at).as_secs();
    let ago = i64::try_from(age)
        .ok()
        .map(|age| format!("{} {}", span(age), visit.t.ago));
    Ok(Answer::page(&ApprovePage {
        code: Some(&asking.user_code),
        client: &asking.client_name,
        is_registered: false,
        program: program.as_deref(),
        is_same_address: asking.from_here,
        address: Some(&address),
        at: Some(Moment::at(asking.at)),
        ago,
        returns: None,
        who: sign_in.arn(),
        action: "/device/decide",
        field: "code",
        value: &asking.user_code,
        asks: approval::asks(visit, sign_in)?,
        user_name: &sign_in.name(),
        frame: visit.frame().narrow().alert(alert(visit, refused)),
    })?)
}

/// Carries out the decision of the person to allow or deny the program.
pub(super) async fn decide(visit: &mut Visit<'_>, mut form: Form) -> Result<Answer, Problem> {
    must_be_on(visit)?;
    let (code, decision) = (form.take("code"), form.take("decision"));
    let (mfa, password) = (form.code("mfa_code"), form.secret("password"));
    let Some(signed_in) = visit.signed_in.clone() else {
        return Err(Problem::ended());
    };
    let allow = match decision.as_str() {
        "allow" => true,
        "deny" => false,
        _ => {
            let error =
                Error::Malformed("The form must have a `decision`: `allow` or `deny`.".to_owned());
            return Err(Problem::of_request(error));
        }
    };
    if allow && let Err(why) = approval::prove(visit, &signed_in, &mfa, &password).await? {
        let asking = device::look(visit.broker, &code, &signed_in.sign_in, visit.origin).await;
        return match asking {
            Ok(asking) => {
                let answer = approve_page(visit, &signed_in, &asking, Some(&why))?;
                Ok(approval::refused(answer, &why.error))
            }
            Err(error) => refused(visit, &code, &error),
        };
    }
    // The sign-in may have a new factor.
    let sign_in = match &visit.signed_in {
        Some(now) => now.sign_in.clone(),
        None => return Err(Problem::ended()),
    };
    let decided_now = device::decide(visit.broker, &code, &sign_in, allow, visit.origin).await;
    if let Err(error) = decided_now {
        return match status_of(&error) {
            StatusCode::SERVICE_UNAVAILABLE => Err(Problem::refused(&error, None)),
            _ => refused(visit, &code, &error),
        };
    }
    let t = visit.t;
    match allow {
        true => decided(visit, t.allowed_title, t.allowed_text),
        false => decided(visit, t.denied_title, t.denied_text),
    }
}
