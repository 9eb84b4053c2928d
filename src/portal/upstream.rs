//! The addresses for signing in at an identity provider: those that people open, and those to which
//! the provider sends its answer.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde_json::json;

use super::answer::Answer;
use super::confirmation::{Asks, ConfirmPage};
use super::cookies;
use super::destination::Destination;
use super::form::{Bound, Form};
use super::problem::{Problem, status_of};
use super::visit::{Visit, encoded};
use crate::base::form::{FORM, Parameters};
use crate::base::http::media_type;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::budgets;
use crate::error::Error;
use crate::federation::saml::CONSUMER_PATH;
use crate::origin::Origin;
use crate::request_body;
use crate::sign_in::SignIn;
use crate::sign_in::record::{Draft, Event};
use crate::signed_in::Who;
use crate::upstream::offered::{self, Kind};
use crate::upstream::{Browser, Refused, SignedIn, logout, oidc, saml};

/// The address to which the browser is redirected after it posted the answer of a SAML provider.
const FINISH: &str = "/sign-in/saml/finish";
/// The maximum number of parameters in a form that an identity provider posts.
const MAX_PARAMETERS: usize = 32;

/// The steps of a sign-in at an identity provider. Each has an address of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'p> {
    /// Redirects the browser to an identity provider. The text is the provider's name in the
    /// address.
    Start(Kind, &'p str),
    /// Receives the browser that an OpenID Connect provider redirected back.
    Callback(&'p str),
    /// Receives the answer that a page of a SAML provider posts, without cookies of this broker.
    Consume,
    /// Receives the browser after [`Self::Consume`], now with its cookies.
    Finish,
    /// Receives an OpenID Connect provider's notice that somebody signed out there.
    Logout(&'p str),
}

impl<'p> Step<'p> {
    /// Returns the step with this path; `None` for any other path.
    pub(super) fn at(path: &'p str) -> Option<Self> {
        if path == CONSUMER_PATH {
            return Some(Self::Consume);
        }
        if path == FINISH {
            return Some(Self::Finish);
        }
        let is_slug = |name: &&str| !name.is_empty() && !name.contains('/');
        if let Some(name) = path.strip_prefix("/sign-in/saml/").filter(is_slug) {
            return Some(Self::Start(Kind::Saml, name));
        }
        let rest = path.strip_prefix("/sign-in/oidc/")?;
        let (name, last) = match rest.split_once('/') {
            None => (rest, None),
            Some((name, last)) => (name, Some(last)),
        };
        Some(name).filter(is_slug)?;
        match last {
            None => Some(Self::Start(Kind::Oidc, name)),
            Some("callback") => Some(Self::Callback(name)),
            Some("logout") => Some(Self::Logout(name)),
            Some(_) => None,
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Start(..) | Self::Callback(_) => "GET",
            Self::Finish => "GET, POST",
            Self::Consume | Self::Logout(_) => "POST",
        }
    }
}

/// A link to an identity provider, for signing in or out there.
pub(super) struct Provider {
    /// The provider's name that the page shows.
    pub(super) name: String,
    /// The address where a sign-in at the provider begins or ends.
    pub(super) href: String,
}

/// Returns the links to the identity providers for the sign-in page. After the sign-in, the browser
/// goes to `to`.
pub(super) fn offered(visit: &Visit<'_>, to: &Destination) -> Vec<Provider> {
    let query = match to.is_default() {
        true => String::new(),
        false => format!("?to={}", encoded(to.as_str())),
    };
    let offered = offered::all(visit.broker).into_iter();
    let offered = offered.map(|offered| Provider {
        href: format!("{}{query}", offered.start_path()),
        name: offered.name,
    });
    offered.collect()
}

/// Serves a request to the address of a step. Each step accepts only its own methods.
pub(super) async fn serve<B>(
    visit: &mut Visit<'_>,
    step: Step<'_>,
    body: B,
) -> Result<Answer, Problem>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let method = &visit.head.method;
    let is_get = *method == Method::GET;
    let is_post = *method == Method::POST;
    match step {
        Step::Start(kind, name) if is_get => start(visit, kind, name).await,
        Step::Callback(name) if is_get => callback(visit, name).await,
        Step::Finish if is_get => finish(visit).await,
        Step::Finish if is_post => {
            let form = Form::receive(visit, body, Bound::Before).await?;
            go_on(visit, form).await
        }
        Step::Consume if is_post => {
            let posted = posted(visit, body).await?;
            consume(visit, posted).await
        }
        Step::Logout(name) if is_post => {
            let posted = posted(visit, body).await?;
            Ok(end(visit, name, posted).await)
        }
        // HEAD would begin a sign-in, or spend an answer, and show nothing.
        step => Err(Problem::method(step.methods())),
    }
}

async fn start(visit: &mut Visit<'_>, kind: Kind, name: &str) -> Result<Answer, Problem> {
    let to = visit.parameter("to")?;
    let to = to
        .as_deref()
        .and_then(Destination::parse)
        .unwrap_or_default();
    let again = visit.parameter("again")?.is_some();
    let browser = Browser::of(&visit.before()?);
    let counted = count(visit.broker, visit.origin);
    let found = offered::find(visit.broker, kind, name).ok_or(Refused::Unknown);
    let (broker, to, origin) = (visit.broker, to.as_str(), visit.origin);
    let started = match (counted, found) {
        (Err(error), _) => Err(Refused::Broker(error)),
        (_, Err(refused)) => Err(refused),
        (Ok(()), Ok(offered)) => match kind {
            Kind::Oidc => oidc::start(broker, &offered, browser, to, again, origin).await,
            Kind::Saml => saml::start(broker, &offered, browser, to, again, origin).await,
        },
    };
    match started {
        Ok(url) => Ok(Answer::go_to(url)),
        Err(refused) => Err(problem(visit, name, refused).await),
    }
}

async fn callback(visit: &mut Visit<'_>, name: &str) -> Result<Answer, Problem> {
    let finished = async {
        let offered = offered::find(visit.broker, Kind::Oidc, name).ok_or(Refused::Unknown)?;
        let query = visit.head.uri.query().unwrap_or_default();
        let answer = oidc::Answer::read(query)?;
        let browser = visit.before.as_deref().map(Browser::of);
        oidc::finish(visit.broker, &offered, browser, answer, visit.origin).await
    };
    match finished.await {
        Ok(signed_in) => Ok(arrive(visit, &signed_in)),
        Err(refused) => Err(problem(visit, name, refused).await),
    }
}

/// Handles the answer that a page of a SAML provider posts. Browsers send no cookies of this broker
/// with a request from another site, so the sign-in is only completed at [`Step::Finish`].
async fn consume(visit: &mut Visit<'_>, posted: Parameters) -> Result<Answer, Problem> {
    let mut posted = posted;
    let response = posted.take("SAMLResponse").map(Secret::new);
    let relay_state = posted.take("RelayState");
    let answered = async {
        count(visit.broker, visit.origin)?;
        let response = response.ok_or(Refused::Malformed("`SAMLResponse` is missing"))?;
        let offered = offered::all(visit.broker);
        let (broker, relay_state) = (visit.broker, relay_state.as_deref());
        saml::answered(broker, &offered, response, relay_state, visit.origin).await
    };
    match answered.await {
        Ok(handle) => Ok(Answer::go_to(format!("{FINISH}?h={}", handle.expose()))),
        Err(refused) => Err(problem(visit, CONSUMER_PATH, refused).await),
    }
}

async fn finish(visit: &mut Visit<'_>) -> Result<Answer, Problem> {
    let handle = visit.parameter("h")?.unwrap_or_default();
    if handle.is_empty() && visit.signed_in.is_some() {
        return Ok(Answer::go_to(Destination::default().as_str()));
    }
    let browser = Browser::of(&visit.before()?);
    let offered = offered::all(visit.broker);
    let finished = saml::finish(visit.broker, &offered, browser, &handle, visit.origin).await;
    match finished {
        Ok(saml::Finished::SignedIn(signed_in)) => Ok(arrive(visit, &signed_in)),
        Ok(saml::Finished::Asks(question)) => ask(visit, &question),
        Err(refused) => Err(problem(visit, FINISH, refused).await),
    }
}

/// Shows the page that asks a person to confirm a sign-in that began at the identity provider and
/// not here.
fn ask(visit: &Visit<'_>, question: &saml::Question) -> Result<Answer, Problem> {
    let text = format!("{} {}", question.provider, visit.t.ask_sign_in);
    let mut frame = visit.frame().narrow();
    // The form is that of a browser that has not signed in, even if somebody is signed in.
    frame.cookie = visit.before.as_deref().unwrap_or_default();
    Ok(Answer::page(&ConfirmPage {
        frame,
        title: visit.t.ask_sign_in_title,
        text: &text,
        name: Some(&question.subject),
        action: FINISH,
        fields: vec![("handle", question.handle.expose())],
        asks: Asks::default(),
        user_name: "",
        back: "/sign-in",
    })?)
}

async fn go_on(visit: &mut Visit<'_>, mut form: Form) -> Result<Answer, Problem> {
    let handle = form.take("handle");
    let browser = visit
        .before
        .as_deref()
        .map(Browser::of)
        .ok_or_else(Problem::forged)?;
    match saml::go_on(visit.broker, browser, &handle, visit.origin).await {
        Ok(signed_in) => Ok(arrive(visit, &signed_in)),
        Err(refused) => Err(problem(visit, FINISH, refused).await),
    }
}

/// Ends the sign-ins that a logout token names: OpenID Connect Back-Channel Logout 1.0 sections 2.7
/// and 2.8.
async fn end(visit: &mut Visit<'_>, name: &str, mut posted: Parameters) -> Answer {
    let ended = async {
        count(visit.broker, visit.origin)?;
        let offered = offered::find(visit.broker, Kind::Oidc, name).ok_or(Refused::Unknown)?;
        let token = posted.take("logout_token");
        let token = token.ok_or(Refused::Malformed("`logout_token` is missing"))?;
        logout::logout(visit.broker, &offered, &token).await
    };
    let ended = ended.await;
    let draft = Draft::new(visit.broker, Event::SIGN_OUT, visit.origin);
    let (ended, reason) = match ended {
        Ok(ended) => (Ok(ended), None),
        Err(refused) => (Err(refused.error()), refused.reason()),
    };
    let details = match &ended {
        Ok(ended) => json!({"Provider": name, "BackChannelLogout": true, "SignInsEnded": ended}),
        Err(_) => json!({"Provider": name, "BackChannelLogout": true, "Reason": reason}),
    };
    let recorded = match draft {
        Ok(draft) => {
            visit.request_id = draft.request_id().to_owned();
            draft.with(&details).conclude(visit.broker, ended).await
        }
        Err(error) => Err(error),
    };
    match recorded {
        Ok(_) => {
            visit
                .broker
                .budgets
                .proven(budgets::source(visit.origin.source_ip));
            Answer::content(StatusCode::OK, String::new())
        }
        Err(error) => {
            let status = match status_of(&error) {
                StatusCode::TOO_MANY_REQUESTS => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::BAD_REQUEST,
            };
            let text = json!({"error": "invalid_request", "error_description": error.to_string()});
            Answer::content(status, text.to_string())
        }
    }
}

/// Redirects a browser after a successful sign-in, and replaces its earlier cookies by the cookie
/// of the new sign-in.
fn arrive(visit: &mut Visit<'_>, signed_in: &SignedIn) -> Answer {
    visit
        .broker
        .budgets
        .proven(budgets::source(visit.origin.source_ip));
    visit.signed_in = None;
    visit.new_cookies.clear();
    let to = Destination::parse(&signed_in.destination).unwrap_or_default();
    Answer::go_to(to.as_str())
        .with_cookie(cookies::set(cookies::SESSION, signed_in.handle.expose()))
        .with_cookie(cookies::remove(cookies::BEFORE))
}

/// Counts a step against the budget of its source address, because nobody is authenticated yet. A
/// successful sign-in takes the count back.
fn count(broker: &Arc<Broker>, origin: &Origin) -> Result<(), Error> {
    let counted = broker
        .budgets
        .unproven(budgets::source(origin.source_ip), broker.clock.monotonic());
    counted.map_err(|exceeded| broker.throttled(exceeded.name()))
}

/// Reads a form that a page or a server of an identity provider posts. Such a form has no token of
/// this broker against cross-site request forgery.
async fn posted<B>(visit: &Visit<'_>, body: B) -> Result<Parameters, Problem>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let headers = &visit.head.headers;
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let is_form = types
        .next()
        .is_some_and(|v| media_type(v).eq_ignore_ascii_case(FORM));
    if !is_form || types.next().is_some() {
        let text = format!(
            "The content type must be `{}`.",
            String::from_utf8_lossy(FORM)
        );
        let error = Error::Malformed(text);
        return Err(Problem::form(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
    }
    let body = request_body::read(visit.broker, visit.origin, headers, body, || false).await;
    let body = body.map_err(Problem::of_request)?;
    let mut posted = Parameters::default();
    let read = posted.read_up_to(&body, MAX_PARAMETERS);
    read.map_err(|error| Problem::of_request(error.into()))?;
    Ok(posted)
}

/// Writes a refused sign-in to the audit log, and returns its error page.
async fn problem(visit: &mut Visit<'_>, name: &str, refused: Refused) -> Problem {
    let (error, reason) = (refused.error(), refused.reason());
    let details = json!({"Provider": name, "Reason": reason});
    let request_id = match Draft::new(visit.broker, Event::USER_AUTHENTICATION, visit.origin) {
        Ok(draft) => {
            let id = draft.request_id().to_owned();
            let draft = draft.with(&details);
            // The refusal is what is recorded.
            let _: Result<(), Error> = draft.conclude(visit.broker, Err(error.clone())).await;
            Some(id)
        }
        Err(_) => None,
    };
    let t = visit.t;
    let problem = match &refused {
        Refused::Broker(error) => Problem::refused(error, request_id),
        _ => {
            let status = match &refused {
                Refused::Unknown => StatusCode::NOT_FOUND,
                Refused::Unreachable(_) => StatusCode::BAD_GATEWAY,
                Refused::NotSetUp(_) => StatusCode::INTERNAL_SERVER_ERROR,
                Refused::Malformed(_) => StatusCode::BAD_REQUEST,
                _ => StatusCode::FORBIDDEN,
            };
            let (what, next) = (refused.to_string(), refused.remedy());
            let problem = Problem::new(status, t.not_signed_in_title, what, next);
            problem.was_recorded(&error, request_id.unwrap_or_default())
        }
    };
    let problem = match &refused {
        Refused::Denied { .. } => problem.said(refused.foreign().unwrap_or_default()),
        _ => problem,
    };
    problem.leading_to("/sign-in", t.to_sign_in)
}

/// Returns the name that addresses use for the OpenID Connect provider at which a person signed in;
/// `None` for all other sign-ins.
pub(super) fn provider_of(sign_in: &SignIn) -> Option<String> {
    match &sign_in.who {
        Who::Federated(kept) if !kept.is_saml() => Some(offered::slug(&kept.provider_arn)),
        _ => None,
    }
}

/// Returns the link for signing out at the provider as well; `None` if no such address of the provider is known. The
/// broker does not redirect there by itself, because that would also end the person's sessions in other programs.
pub(super) async fn end_session_link(broker: &Broker, slug: &str) -> Option<Provider> {
    let offered = offered::find(broker, Kind::Oidc, slug)?;
    let href = oidc::end_session_url(broker, &offered).await?;
    Some(Provider {
        name: offered.name,
        href,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_its_address() {
        assert_eq!(Step::at("/saml/acs"), Some(Step::Consume));
        assert_eq!(Step::at("/sign-in/saml/finish"), Some(Step::Finish));
        assert_eq!(
            Step::at("/sign-in/saml/corp-1"),
            Some(Step::Start(Kind::Saml, "corp-1"))
        );
        assert_eq!(
            Step::at("/sign-in/oidc/x.y-1"),
            Some(Step::Start(Kind::Oidc, "x.y-1"))
        );
        assert_eq!(
            Step::at("/sign-in/oidc/x/callback"),
            Some(Step::Callback("x"))
        );
        assert_eq!(Step::at("/sign-in/oidc/x/logout"), Some(Step::Logout("x")));
        for other in [
            "/sign-in",
            "/sign-in/code",
            "/sign-in/oidc/",
            "/sign-in/oidc//callback",
            "/sign-in/oidc/x/",
            "/sign-in/oidc/x/callback/",
            "/sign-in/saml/x/finish",
            "/saml/acs/",
            "/saml/metadata",
        ] {
            assert_eq!(Step::at(other), None, "{other}");
        }
        assert_eq!(Step::Consume.methods(), "POST");
        assert_eq!(Step::Callback("x").methods(), "GET");
    }
}
