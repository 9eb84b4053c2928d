//! The page that asks a person whether to allow a program that redirected the browser here: RFC
//! 6749 section 4.1.1. [`crate::sign_in::authorize`] checks the program's request before the page
//! is shown, and again when the browser submits the form with it.

use http::StatusCode;

use super::account::Refused;
use super::answer::Answer;
use super::approval::{self, ApprovePage, alert};
use super::form::Form;
use super::problem::Problem;
use super::visit::{SignedIn, Visit};
use crate::base::form;
use crate::error::Error;
use crate::sign_in::authorize::{self, Request, Wrong};

/// Shows the page that asks whether to allow the program, after the person has signed in.
pub(super) async fn page(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    let query = visit.head.uri.query().unwrap_or_default();
    // What is wrong is said before anybody signs in for it.
    let request = match check(visit, query) {
        Ok(request) => request,
        Err(answered) => return *answered,
    };
    match visit.must_be_signed_in() {
        Ok(signed_in) => approve_page(visit, &signed_in, &request, query, None),
        Err(answer) => Ok(*answer),
    }
}

/// Checks a program's request. `Err` contains the answer to a request that is not accepted.
fn check(visit: &Visit<'_>, query: &str) -> Result<Request, Box<Result<Answer, Problem>>> {
    authorize::check(visit.broker, query).map_err(|wrong| {
        Box::new(match wrong {
            Wrong::Redirect(address) => Ok(Answer::go_to(address)),
            Wrong::Page(error) => {
                let t = visit.t;
                let (title, text) = (t.client_title, error.to_string());
                Err(
                    Problem::new(StatusCode::BAD_REQUEST, title, text, t.client_next)
                        .recorded_as(error),
                )
            }
        })
    })
}

fn approve_page(
    visit: &Visit<'_>,
    signed_in: &SignedIn,
    request: &Request,
    query: &str,
    refused: Option<&Refused>,
) -> Result<Answer, Problem> {
    let sign_in = &signed_in.sign_in;
    let answer = Answer::page(&ApprovePage {
        code: None,
        client: &request.client.name,
        is_registered: is_registered(visit, query),
        program: None,
        address: None,
        is_same_address: true,
        at: None,
        ago: None,
        returns: Some(request.origin()),
        who: sign_in.arn(),
        action: visit.path(),
        field: "request",
        value: query,
        asks: approval::asks(visit, sign_in)?,
        user_name: &sign_in.name(),
        frame: visit.frame().narrow().alert(alert(visit, refused)),
    })?;
    Ok(answer.with_form_target(&request.redirect_uri))
}

/// Returns whether an administrator has registered the program. Otherwise the program chose its
/// name itself.
fn is_registered(visit: &Visit<'_>, query: &str) -> bool {
    let pairs = form::pairs(query.as_bytes()).unwrap_or_default();
    let id = pairs.into_iter().find(|(name, _)| name == "client_id");
    let clients = &visit.settings.clients;
    id.is_some_and(|(_, id)| clients.iter().any(|client| client.id == id))
}

/// Carries out the person's decision, and redirects the browser back to the program.
pub(super) async fn decide(visit: &mut Visit<'_>, mut form: Form) -> Result<Answer, Problem> {
    let (query, decision) = (form.take("request"), form.take("decision"));
    let (mfa, password) = (form.code("mfa_code"), form.secret("password"));
    let Some(signed_in) = visit.signed_in.clone() else {
        return Err(Problem::ended());
    };
    let request = match check(visit, &query) {
        Ok(request) => request,
        Err(answered) => return *answered,
    };
    let (broker, origin) = (visit.broker, visit.origin);
    let back = match decision.as_str() {
        "allow" => {
            if let Err(why) = approval::prove(visit, &signed_in, &mfa, &password).await? {
                let answer = approve_page(visit, &signed_in, &request, &query, Some(&why))?;
                return Ok(approval::refused(answer, &why.error));
            }
            authorize::allow(broker, request, &signed_in.sign_in, origin).await
        }
        "deny" => authorize::deny(broker, request, &signed_in.sign_in, origin).await,
        _ => {
            let error =
                Error::Malformed("The form must have a `decision`: `allow` or `deny`.".to_owned());
            return Err(Problem::of_request(error));
        }
    };
    let address = back.map_err(|error| Problem::refused(&error, None))?;
    Ok(Answer::go_to(address))
}
