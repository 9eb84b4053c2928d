//! The authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636). A program sends a person's browser to the
//! broker, where the person allows or denies the program. The browser then brings a code back to the program.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::record::{Draft, Event};
use super::registration::{self, AUTHORIZATION_CODE, Client};
use super::seal::Sealer;
use super::tokens::{self, Tokens};
use super::{digest, of_id, scopes, secret, settings};
use crate::base::digest::sha256;
use crate::base::form::Parameters;
use crate::base::secret::is_same_secret;
use crate::broker::Broker;
use crate::error::{Error, GrantErrorKind};
use crate::origin::Origin;
use crate::signed_in::SignIn;
use crate::store::{GrantKind, GrantRow};

/// How long an authorization code can be used.
const LASTS: Duration = Duration::from_secs(60);
/// How long a code is remembered after its use, so that a second use is noticed.
const REMEMBERED: Duration = Duration::from_secs(600);
const MAX_STATE: usize = 1_024;
/// The length of a code challenge in characters: a SHA-256 in base64url.
const CHALLENGE: usize = 43;

const UNUSED: i64 = 0;
const USED: i64 = 1;
/// The state of a code that was presented again after its use.
const SHOWN_AGAIN: i64 = 2;

/// An authorization request that was found valid, and that the person must allow or deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub client: Client,
    pub redirect_uri: String,
    pub scopes: Vec<String>,
    state: Option<String>,
    challenge: String,
}

/// Why a request is refused before the person is asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The address cannot be read, its client or redirect URI is unknown, or its `state` is too long, so the broker
    /// shows the error on a page of its own.
    Page(Error),
    /// The URL of the program to which the browser is redirected; it contains the error.
    Redirect(String),
}

/// The sealed content of an authorization code.
#[derive(Debug, Serialize, Deserialize)]
struct Code {
    client: String,
    redirect_uri: String,
    challenge: String,
    scopes: Vec<String>,
}

/// Checks the query of an authorization request.
///
/// # Errors
/// [`Wrong`] with the page or the redirection to answer with.
pub fn check(broker: &Broker, query: &str) -> Result<Request, Wrong> {
    let page = |text: &str| {
        Wrong::Page(
            GrantErrorKind::InvalidRequest
                .because(text.to_owned())
                .into(),
        )
    };
    let mut parameters = Parameters::read(query.as_bytes()).map_err(|_| {
        page("The address has too many parameters, has one twice, or has one that cannot be read.")
    })?;
    let client_id = parameters.take("client_id");
    let client_id = client_id.ok_or_else(|| page("The address has no parameter client_id."))?;
    let client = registration::public(broker, &client_id).map_err(Wrong::Page)?;
    let redirect_uri = parameters.take("redirect_uri").unwrap_or_default();
    if redirect_uri.is_empty() {
        return Err(page("The address has no parameter redirect_uri."));
    }
    if !client.may_redirect_to(&redirect_uri) {
        return Err(page(
            "The program is not registered for the redirect_uri in the address.",
        ));
    }
    let state = parameters.take("state");
    if state.as_ref().is_some_and(|state| state.len() > MAX_STATE) {
        return Err(page(
            "The parameter state in the address is longer than 1,024 bytes.",
        ));
    }
    let back = |error: &Error| {
        Wrong::Redirect(answer(
            broker,
            &redirect_uri,
            state.as_deref(),
            &refusal(error),
        ))
    };
    let checked = || {
        let invalid =
            |text: &'static str| Error::from(GrantErrorKind::InvalidRequest.because(text));
        match parameters.take("response_type").as_deref() {
            Some("code") => {}
            Some(_) => {
                let text = "response_type must be `code`.";
                return Err(GrantErrorKind::UnsupportedResponseType.because(text).into());
            }
            None => return Err(invalid("response_type is missing.")),
        }
        client.may_use(AUTHORIZATION_CODE)?;
        if parameters.take("code_challenge_method").as_deref() != Some("S256") {
            return Err(invalid("code_challenge_method must be `S256`."));
        }
        let challenge = parameters.take("code_challenge").unwrap_or_default();
        if challenge.len() != CHALLENGE || URL_SAFE_NO_PAD.decode(&challenge).is_err() {
            return Err(invalid(
                "code_challenge must be 43 characters of base64url.",
            ));
        }
        // AWS's clients call it `scopes`.
        let asked = match (parameters.take("scope"), parameters.take("scopes")) {
            (Some(_), Some(_)) => {
                return Err(invalid("Only one of `scope` and `scopes` may be given."));
            }
            (one, other) => one.or(other),
        };
        let scopes = scopes::granted(&client.scopes, asked.as_deref())?;
        Ok((challenge, scopes))
    };
    let mut checked = checked;
    let (challenge, scopes) = checked().map_err(|error| back(&error))?;
    Ok(Request {
        client,
        redirect_uri,
        scopes,
        state,
        challenge,
    })
}

impl Request {
    /// The origin of the redirect URI, such as `http://127.0.0.1:8123`. The Content-Security-Policy of the page must
    /// name it, since the answer to the page's form redirects there.
    pub fn origin(&self) -> &str {
        let uri = &self.redirect_uri;
        let begin = uri.find("://").map_or(0, |at| at + 3);
        let end = uri.get(begin..).and_then(|rest| rest.find(['/', '?', '#']));
        end.and_then(|end| uri.get(..begin + end)).unwrap_or(uri)
    }
}

/// Allows a request. Returns the URL to which the browser is redirected, with a code for the program.
///
/// # Errors
/// [`Error::NotSignedIn`] if the sign-in is over, or [`Error`] if the code cannot be stored or recorded.
pub async fn allow(
    broker: &Broker,
    request: Request,
    sign_in: &SignIn,
    origin: &Origin,
) -> Result<String, Error> {
    let code = new_code(broker, &request, sign_in).await;
    let code = decided(broker, &request, sign_in, "Allow", origin, code).await?;
    let pairs = [("code", code)];
    Ok(answer(
        broker,
        &request.redirect_uri,
        request.state.as_deref(),
        &pairs,
    ))
}

/// Denies a request. Returns the URL to which the browser is redirected, with the refusal for the program.
///
/// # Errors
/// [`Error`] if the decision cannot be recorded.
pub async fn deny(
    broker: &Broker,
    request: Request,
    sign_in: &SignIn,
    origin: &Origin,
) -> Result<String, Error> {
    decided(broker, &request, sign_in, "Deny", origin, Ok(())).await?;
    let denied = GrantErrorKind::AccessDenied.because("The person has denied the request.");
    let pairs = refusal(&denied.into());
    Ok(answer(
        broker,
        &request.redirect_uri,
        request.state.as_deref(),
        &pairs,
    ))
}

async fn decided<T>(
    broker: &Broker,
    request: &Request,
    sign_in: &SignIn,
    decision: &str,
    origin: &Origin,
    result: Result<T, Error>,
) -> Result<T, Error> {
    let asked = json!({
        "clientName": request.client.name,
        "redirectUri": request.redirect_uri,
        "decision": decision,
    });
    let draft = Draft::new(broker, Event::AUTHORIZE, origin)?;
    draft
        .by(sign_in)
        .asked(&asked)
        .conclude(broker, result)
        .await
}

async fn new_code(broker: &Broker, request: &Request, sign_in: &SignIn) -> Result<String, Error> {
    let current = of_id(broker, &sign_in.id_text()).await?;
    let current = current.filter(|current| !current.must_change_password);
    let current = current.ok_or(Error::NotSignedIn)?;
    let code = secret(broker)?;
    let (id, now) = (digest(code.expose()), broker.clock.now());
    let body = Code {
        client: request.client.digest.clone(),
        redirect_uri: request.redirect_uri.clone(),
        challenge: request.challenge.clone(),
        scopes: request.scopes.clone(),
    };
    let sealed = Sealer::of(broker)?.seal("code", &id, &body, &*broker.entropy)?;
    let row = GrantRow {
        sign_in: Some(current.id_text()),
        ..GrantRow::new(id, now.plus(LASTS), sealed)
    };
    if !broker.store.add_grant(GrantKind::Code, row, now).await? {
        let text = "You have allowed too many programs in a short time. Try again later.";
        return Err(GrantErrorKind::AccessDenied.because(text).into());
    }
    Ok(code.expose().clone())
}

/// Issues tokens for a code. If a code is used twice, the tokens that were issued at its first use end, too.
///
/// # Errors
/// `InvalidGrant` if the code is unknown, was used before, has expired, belongs to another program or another
/// `redirect_uri`, if the verifier does not match its challenge, or if the sign-in of the person is over;
/// `UnauthorizedClient` if the program is not registered for this flow. [`Error`] also if the store does not answer, or
/// the audit log cannot be written.
pub async fn redeem(
    broker: &Broker,
    client: &Client,
    (code, verifier, redirect_uri): (&str, &str, &str),
    origin: &Origin,
) -> Result<(Tokens, String), Error> {
    client.may_use(AUTHORIZATION_CODE)?;
    let mut seen = None;
    let result = redeemed(broker, client, (code, verifier, redirect_uri), &mut seen).await;
    let draft = Draft::new(broker, Event::CREATE_TOKEN, origin)?
        .asked(&json!({"grantType": AUTHORIZATION_CODE, "clientName": client.name}));
    let draft = match &seen {
        Some(sign_in) => draft.by(sign_in),
        None => draft,
    };
    let request_id = draft.request_id().to_owned();
    Ok((draft.conclude(broker, result).await?, request_id))
}

async fn redeemed(
    broker: &Broker,
    client: &Client,
    (code, verifier, redirect_uri): (&str, &str, &str),
    seen: &mut Option<SignIn>,
) -> Result<Tokens, Error> {
    let invalid = || {
        let text = "The code is not valid, has expired, was used before, or belongs to another request, or the \
            sign-in has ended.";
        Error::from(GrantErrorKind::InvalidGrant.because(text))
    };
    if code.len() > tokens::MAX_TOKEN {
        return Err(invalid());
    }
    let now = broker.clock.now();
    let row = broker.store.grant(GrantKind::Code, &digest(code)).await?;
    let row = row.filter(|row| row.expires_at > now.seconds());
    let row = row.ok_or_else(invalid)?;
    let body: Option<Code> = Sealer::of(broker)?.open("code", &row.id, &row.sealed);
    let body = body.ok_or_else(invalid)?;
    let is_of_request = body.client == client.digest
        && body.redirect_uri == redirect_uri
        && is_verifier(verifier, &body.challenge);
    if !is_of_request {
        return Err(invalid());
    }
    let sign_in = match &row.sign_in {
        Some(id) => of_id(broker, id).await?,
        None => None,
    };
    let sign_in = sign_in.ok_or_else(invalid)?;
    *seen = Some(sign_in.clone());
    let family = tokens::new_family(broker)?;
    let used = GrantRow {
        state: USED,
        // What came of it is found by its own digest, since the family's id is that of the tokens.
        also: Some(family.clone()),
        expires_at: now.plus(REMEMBERED).seconds(),
        ..row.clone()
    };
    let first = row.state == UNUSED
        && broker
            .store
            .change_grant(GrantKind::Code, UNUSED, used, now)
            .await?;
    if !first {
        let again = broker.store.grant(GrantKind::Code, &row.id).await?;
        if let Some(again) = again
            && let Some(family) = again.also.clone()
        {
            // Whoever is issuing its tokens at this moment sees the mark afterwards.
            let marked = GrantRow {
                state: SHOWN_AGAIN,
                ..again
            };
            let marked = broker
                .store
                .change_grant(GrantKind::Code, USED, marked, now);
            marked.await?;
            broker.store.delete_family(&family).await?;
            tracing::warn!(
                sign_in = sign_in.id_text(),
                "an authorization code was used twice; the tokens of its first use have ended"
            );
        }
        return Err(invalid());
    }
    let tokens = tokens::issue(broker, &family, &sign_in, client, &body.scopes).await?;
    let row = broker.store.grant(GrantKind::Code, &row.id).await?;
    if row.is_none_or(|row| row.state != USED) {
        broker.store.delete_family(&family).await?;
        return Err(invalid());
    }
    Ok(tokens)
}

/// Whether a code verifier matches a code challenge: RFC 7636 section 4.6.
fn is_verifier(verifier: &str, challenge: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let is_one = (43..=128).contains(&verifier.len()) && verifier.bytes().all(legal);
    let computed = URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()));
    is_one && is_same_secret(computed.as_bytes(), challenge.as_bytes())
}

fn refusal(error: &Error) -> Vec<(&'static str, String)> {
    let code = match error {
        Error::Grant(error) => error.kind.oauth(),
        _ => "server_error",
    };
    vec![
        ("error", code.to_owned()),
        ("error_description", error.to_string()),
    ]
}

/// The URL to which the browser is redirected, with these parameters and the program's `state`. It names this broker in
/// `iss`, so that a program that uses several brokers cannot confuse them (RFC 9207).
fn answer(
    broker: &Broker,
    redirect_uri: &str,
    state: Option<&str>,
    pairs: &[(&'static str, String)],
) -> String {
    let issuer = settings(broker)
        .map(|s| s.public_url.clone())
        .unwrap_or_default();
    let state = state.map(|state| ("state", state.to_owned()));
    let pairs = pairs.iter().cloned().chain(state).chain([("iss", issuer)]);
    let encoded: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC)))
        .collect();
    let mark = if redirect_uri.contains('?') { '&' } else { '?' };
    format!("{redirect_uri}{mark}{}", encoded.join("&"))
}
