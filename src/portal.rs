//! The pages for people: sign in, my roles and their credentials, my sessions, my devices, keys and password, and the
//! approval of programs. The pages make no decisions: they call the same operations as programs do.
//!
//! The broker renders the pages itself. They work without scripts, and load nothing from other hosts. A GET changes
//! nothing, except that the return from an identity provider signs the person in; a form is accepted only from a page
//! that was made for the same browser.

mod account;
mod answer;
mod approval;
mod assets;
mod authorize;
mod confirmation;
mod cookies;
mod credentials;
mod csrf;
mod destination;
mod device;
mod form;
mod frame;
mod keys;
mod mfa;
mod password;
mod problem;
mod roles;
mod sessions;
mod sign_in;
mod texts;
mod upstream;
mod visit;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;

use crate::base::entropy;
use crate::base::http::host;
use crate::broker::Broker;
use crate::ops::{self, CALL_TIMEOUT};
use crate::origin::Origin;
use crate::request_body;
use crate::sign_ins::Settings;
use answer::Answer;
use confirmation::Next;
use form::{Bound, Form};
use problem::Problem;
use visit::Visit;

/// Returns whether a browser requests `/`, as it does when somebody enters only the broker's host
/// name. It is then redirected to the pages.
pub fn is_front_door<B>(request: &Request<B>) -> bool {
    let accepts = request.headers().get(ACCEPT);
    *request.method() == Method::GET
        && request.uri().path() == "/"
        && request.uri().query().is_none()
        && accepts.is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"))
}

/// Serves one request to the address of a page: shows the page, or handles its form.
pub async fn serve<B>(
    broker: &Arc<Broker>,
    settings: &Settings,
    origin: Origin,
    request: Request<B>,
) -> Response<Full<Bytes>>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let late = request_body::without_texts(&origin);
    let has_body = !body.is_end_stream();
    let answer = answer(broker, settings, &origin, &head, body);
    let mut response = match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Ok(response) => response,
        Err(_) => {
            let is_secure = late.secure_transport;
            let reply = request_body::too_late(broker, late, &head.headers).await;
            let problem = Problem::refused(&reply.error, Some(reply.request_id.clone()));
            let visit = Visit::unknown(broker, settings, &origin, &head, reply.request_id);
            let answer = problem.answer(visit.frame());
            answer.finish(&visit.request_id, is_secure)
        }
    };
    if has_body && !response.status().is_success() && !response.status().is_redirection() {
        // The body may not have been read, and the start of the next request is then unknown.
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn answer<B>(
    broker: &Arc<Broker>,
    settings: &Settings,
    origin: &Origin,
    head: &Parts,
    body: B,
) -> Response<Full<Bytes>>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let is_secure = origin.secure_transport;
    let mut visit = Visit::unknown(broker, settings, origin, head, new_id(broker));
    let answer = match is_here(settings, head) {
        false => Err(Problem::misdirected(&settings.public_url)),
        true => match assets::answer(head.uri.path()) {
            Some(mut response) => {
                answer::protect(response.headers_mut(), is_secure);
                return response;
            }
            None => match visit.look_up().await {
                Ok(()) => route(&mut visit, body).await,
                Err(problem) => Err(problem),
            },
        },
    };
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(problem) => refuse(&mut visit, problem).await,
    };
    for cookie in std::mem::take(&mut visit.new_cookies) {
        answer = answer.with_cookie(cookie);
    }
    answer.finish(&visit.request_id, is_secure)
}

/// Writes a refused request to the audit log if the problem asks for that, and returns its error
/// page.
async fn refuse(visit: &mut Visit<'_>, mut problem: Problem) -> Answer {
    if let Some(error) = problem.take_record() {
        let name = format!("{} {}", visit.head.method, visit.path());
        let name = crate::audit::clip(&name);
        let origin = visit.origin.clone();
        let refusal = ops::refuse_unread(visit.broker, name, error, origin).await;
        problem = problem.was_recorded(&refusal.error, refusal.request_id);
    }
    if let Some(id) = problem.request_id() {
        visit.request_id = id.to_owned();
    }
    if let Some(fault) = problem.take_fault() {
        tracing::error!(
            request_id = visit.request_id,
            path = visit.path(),
            fault,
            "a page of the portal could not be made, which is a bug in Brevet; the browser got an error page instead"
        );
    }
    if problem.is_signed_out() {
        visit.signed_in = None;
    }
    problem.answer(visit.frame())
}

/// The methods that an address accepts: GET for its page, POST for its form, or both.
#[derive(Clone, Copy)]
enum Takes {
    Page,
    PageOrForm(Bound),
    Form(Bound),
}

impl Takes {
    /// Returns the methods that a path accepts; `None` if there is no such page.
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/" | "/portal" | "/portal/guide" | "/signed-out" => Self::Page,
            "/portal/mfa" | "/portal/keys" => Self::Page,
            "/sign-in" => Self::PageOrForm(Bound::Before),
            "/sign-in/code" => Self::Form(Bound::Before),
            "/sign-out" | "/portal/credentials" | "/portal/mfa/enrol" => Self::Form(Bound::SignIn),
            "/device" | "/device/decide" | "/authorize" | "/oauth2/authorize" => {
                Self::PageOrForm(Bound::SignIn)
            }
            "/portal/sessions" | "/portal/sessions/end-all" | "/portal/password" => {
                Self::PageOrForm(Bound::SignIn)
            }
            path if confirmation::Change::at(path).is_some() => Self::PageOrForm(Bound::SignIn),
            _ => return None,
        })
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Page => "GET, HEAD",
            Self::PageOrForm(_) => "GET, HEAD, POST",
            Self::Form(_) => "POST",
        }
    }
}

/// Calls the page for the path and the method of a request.
async fn route<B>(visit: &mut Visit<'_>, body: B) -> Result<Answer, Problem>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = visit.path();
    if let Some(step) = upstream::Step::at(path) {
        return upstream::serve(visit, step, body).await;
    }
    let takes = Takes::at(path).ok_or_else(Problem::not_found)?;
    let method = &visit.head.method;
    let is_get = matches!(*method, Method::GET | Method::HEAD);
    let form = match takes {
        Takes::Page | Takes::PageOrForm(_) if is_get => None,
        Takes::PageOrForm(bound) | Takes::Form(bound) if *method == Method::POST => {
            Some(Form::receive(visit, body, bound).await?)
        }
        takes => return Err(Problem::method(takes.methods())),
    };
    match (path, form) {
        ("/sign-in", None) => sign_in::page(visit),
        ("/sign-in", Some(form)) => sign_in::submit(visit, form).await,
        ("/sign-in/code", Some(form)) => sign_in::code(visit, form).await,
        ("/sign-out", Some(_)) => sign_in::sign_out(visit).await,
        ("/signed-out", None) => sign_in::signed_out(visit).await,
        ("/", None) => Ok(Answer::go_to("/portal")),
        ("/portal", None) => roles::page(visit).await,
        ("/portal/credentials", Some(form)) => credentials::hand_out(visit, form).await,
        ("/portal/guide", None) => credentials::guide(visit),
        ("/portal/sessions", None) => sessions::page(visit, None).await,
        ("/portal/sessions", Some(form)) => sessions::end(visit, form).await,
        ("/portal/sessions/end-all", None) => sessions::ask_all(visit),
        ("/portal/sessions/end-all", Some(_)) => sign_in::sign_out(visit).await,
        ("/portal/mfa", None) => mfa::page(visit).await,
        ("/portal/mfa/enrol", Some(form)) => mfa::enrol(visit, form).await,
        ("/portal/keys", None) => keys::page(visit).await,
        ("/portal/password", None) => password::page(visit),
        ("/portal/password", Some(form)) => password::submit(visit, form).await,
        ("/device", None) => device::page(visit).await,
        ("/device", Some(form)) => device::submit(visit, form).await,
        ("/device/decide", Some(form)) => device::decide(visit, form).await,
        ("/authorize" | "/oauth2/authorize", None) => authorize::page(visit).await,
        ("/authorize" | "/oauth2/authorize", Some(form)) => authorize::decide(visit, form).await,
        (path, form) => match (confirmation::Change::at(path), form) {
            (Some(change), None) => confirmation::page(visit, change).await,
            (Some(change), Some(form)) => match confirmation::submit(visit, change, form).await? {
                Next::Answered(answer) => Ok(answer),
                Next::AddDevice(me) => mfa::begin(visit, &me).await,
                Next::MakeKey(me) => keys::make(visit, &me).await,
            },
            (None, _) => Err(Problem::not_found()),
        },
    }
}

/// Returns whether a request's host is that of the configured public URL.
fn is_here(settings: &Settings, head: &Parts) -> bool {
    let uri: Option<Uri> = settings.public_url.parse().ok();
    let Some(authority) = uri.as_ref().and_then(Uri::authority) else {
        return false;
    };
    let default = match uri.as_ref().and_then(Uri::scheme_str) {
        Some("http") => ":80",
        _ => ":443",
    };
    let plain = |host: &str| host.trim_end_matches(default).to_ascii_lowercase();
    host(&head.uri, &head.headers).is_ok_and(|host| plain(host) == plain(authority.as_str()))
}

/// Returns a new request id: a UUID, like the ids of API calls.
fn new_id(broker: &Broker) -> String {
    let random = entropy::bytes(&*broker.entropy).unwrap_or_default();
    uuid::Builder::from_random_bytes(random)
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(host: &str) -> Parts {
        let request = Request::builder().uri("/portal").header("host", host);
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_the_host_of_the_public_url_is_here() {
        let at = |url: &str, host: &str| is_here(&Settings::at(url), &head(host));
        assert!(at("https://sts.example.com", "sts.example.com"));
        assert!(at("https://sts.example.com", "STS.example.com:443"));
        assert!(at("https://sts.example.com:443", "sts.example.com"));
        assert!(at("http://127.0.0.1:7480", "127.0.0.1:7480"));
        for host in [
            "sts.example.com:8443",
            "sts.example.com.evil.example",
            "evil.example",
            "sts.example.com@evil.example",
            "sts.example.com:80",
            "127.0.0.1",
        ] {
            assert!(!at("https://sts.example.com", host), "{host}");
        }
        assert!(!at("http://127.0.0.1:7480", "localhost:7480"));
    }

    #[test]
    fn signing_out_and_handing_out_take_forms_only() {
        for path in [
            "/sign-out",
            "/portal/credentials",
            "/sign-in/code",
            "/portal/mfa/enrol",
        ] {
            assert_eq!(Takes::at(path).unwrap().methods(), "POST", "{path}");
        }
        for path in [
            "",
            "//",
            "/portal/",
            "/Portal",
            "/sign-in/",
            "/portal/keys/x",
        ] {
            assert!(Takes::at(path).is_none(), "{path}");
        }
    }
}
