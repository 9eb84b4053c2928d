//! Receives the authorization code at the end of `brevet login`: listens on the loopback address until the broker
//! redirects the browser there (RFC 8252 section 7.3).

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::base::form::Parameters;
use crate::base::secret::{Secret, is_same_secret};
use crate::command_line::Failure;

const PATH: &str = "/oauth/callback";
/// The maximum number of characters of an error from the broker that are shown to the person.
const MAX_FOREIGN: usize = 200;

/// The result of the redirect: the authorization code, or a text that says why there is none.
type Outcome = Result<Secret<String>, String>;

/// A listener on a free port of the loopback address, to which the broker redirects the browser.
pub(super) struct Callback {
    listener: TcpListener,
    port: u16,
    state: Arc<Secret<String>>,
}

impl Callback {
    /// Opens the listener. It accepts only a redirect with this `state`.
    ///
    /// # Errors
    /// No port of the loopback address is free.
    pub(super) async fn listen(state: String) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        Ok(Self {
            port: listener.local_addr()?.port(),
            listener,
            state: Arc::new(Secret::new(state)),
        })
    }

    /// The address to which the broker redirects the browser.
    pub(super) fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// Waits for the code. Other requests are refused without ending the wait, because any web page
    /// can send them.
    ///
    /// # Errors
    /// The broker sent the browser back with an error, or the listener failed.
    pub(super) async fn code(self) -> Result<Secret<String>, Failure> {
        let (sender, mut receiver) = oneshot::channel::<Outcome>();
        let sender = Arc::new(Mutex::new(Some(sender)));
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => accepted?.0,
                outcome = &mut receiver => {
                    let outcome = outcome.map_err(|_| "the local listener that waits for the browser stopped \
                        unexpectedly; run the command again")?;
                    return outcome.map_err(Into::into);
                }
            };
            let (state, sender) = (self.state.clone(), sender.clone());
            tokio::spawn(async move {
                let service =
                    hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
                        let (response, outcome) = answer(&request, &state);
                        if let Some(outcome) = outcome {
                            let mut sender = sender.lock().unwrap_or_else(PoisonError::into_inner);
                            // The first answer counts. If nobody waits any more, nothing is missing.
                            let _ = sender.take().map(|sender| sender.send(outcome));
                        }
                        std::future::ready(Ok::<_, Infallible>(response))
                    });
                let connection = hyper::server::conn::http1::Builder::new()
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service);
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection from the browser failed");
                }
            });
        }
    }
}

/// Makes the page for a request. Returns it with the result of the sign-in, if the request has one.
fn answer<B>(
    request: &Request<B>,
    state: &Secret<String>,
) -> (Response<Full<Bytes>>, Option<Outcome>) {
    if *request.method() != Method::GET || request.uri().path() != PATH {
        return (
            page(StatusCode::NOT_FOUND, "There is no page at this address."),
            None,
        );
    }
    let query = request.uri().query().unwrap_or_default();
    let refused = || {
        let text = "This page is not the result of the sign-in for which a command on this computer waits. Run the \
            command again.";
        (page(StatusCode::BAD_REQUEST, text), None)
    };
    let Ok(mut parameters) = Parameters::read(query.as_bytes()) else {
        return refused();
    };
    let given = parameters.take("state").unwrap_or_default();
    if !is_same_secret(state.expose().as_bytes(), given.as_bytes()) {
        return refused();
    }
    if let Some(error) = parameters.take("error") {
        let said = parameters.take("error_description").unwrap_or_default();
        let said: String = format!("{error} {said}")
            .chars()
            .take(MAX_FOREIGN)
            .collect();
        let text = "You are not signed in. You can close this page; the terminal says why.";
        let outcome = format!("the broker did not sign you in: {}", said.trim_end());
        return (page(StatusCode::OK, text), Some(Err(outcome)));
    }
    match parameters.take("code").filter(|code| !code.is_empty()) {
        Some(code) => {
            let text = "You have allowed the sign-in. You can close this page and go back to the terminal.";
            (page(StatusCode::OK, text), Some(Ok(Secret::new(code))))
        }
        None => refused(),
    }
}

/// Makes a plain HTML page that shows `text`.
fn page(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>brevet login</title><h1>brevet login</h1><p>{text}</p></html>"
    );
    let mut response = Response::new(Full::new(Bytes::from(html)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, uri: &str) -> (StatusCode, Option<Outcome>) {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let (response, outcome) = answer(&request, &Secret::new("right".to_owned()));
        (response.status(), outcome)
    }

    #[test]
    fn oi_08_only_the_answer_with_its_state_counts() {
        let (status, outcome) = ask(Method::GET, "/oauth/callback?code=abc&state=right&iss=x");
        assert_eq!(status, StatusCode::OK);
        assert_eq!(outcome.unwrap().unwrap().expose(), "abc");
        let (_, outcome) = ask(
            Method::GET,
            "/oauth/callback?error=access_denied&state=right",
        );
        assert!(outcome.unwrap().unwrap_err().contains("access_denied"));
        for (method, uri) in [
            (Method::GET, "/oauth/callback?code=abc&state=wrong"),
            (Method::GET, "/oauth/callback?code=abc"),
            (Method::GET, "/oauth/callback?error=access_denied"),
            (
                Method::GET,
                "/oauth/callback?code=abc&state=right&state=right",
            ),
            (Method::GET, "/oauth/callback?code=&state=right"),
            (Method::GET, "/oauth/callback"),
            (Method::GET, "/?code=abc&state=right"),
            (Method::POST, "/oauth/callback?code=abc&state=right"),
        ] {
            let (status, outcome) = ask(method.clone(), uri);
            assert!(
                status.is_client_error() && outcome.is_none(),
                "{method} {uri}"
            );
        }
    }
}
