//! Signs people in at a SAML identity provider: SAML Profiles 2.0 section 4.1, Web Browser SSO.
//!
//! A page of the identity provider posts the answer, and browsers do not send this broker's cookies with such a
//! request. Therefore the posted answer alone signs nobody in. It is verified, marked as used and kept for a minute,
//! and the browser is redirected to a page of this broker.
//!
//! The redirected request carries the cookie. The person is signed in only if the sign-in was begun in the browser with
//! this cookie. This also keeps attackers from signing their victims in as themselves.
//!
//! If the identity provider began the sign-in, there is no such cookie, so a page asks the person for consent.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Browser, Kind, Offered, Refused, SignedIn, factors_of, spend};
use crate::authn::saml::{Expected, sign_in as verify};
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::directory::SamlProvider;
use crate::federation::FederatedIdentity;
use crate::federation::kept::Kept;
use crate::federation::saml::CONSUMER_PATH;
use crate::origin::Origin;
use crate::proof::saml::{AuthnRequest, unverified_sender};
use crate::sign_in::{self, NewSignIn, pending};
use crate::signed_in::{Factor, Who};

/// The kind of pending value for a request that was sent to the identity provider.
const WAITING: &str = "saml";
/// The kind of pending value for an answer that was verified.
const ANSWERED: &str = "saml-answered";
/// The kind of pending value for a verified answer whose sign-in needs the person's consent.
const ASKED: &str = "saml-asked";
/// How long a browser may be at the identity provider.
const LIVES: Duration = Duration::from_secs(600);
/// How long the browser may take to follow the redirect after the posted answer.
const FOLLOWS: Duration = Duration::from_secs(60);
/// How long the person may take to answer whether to sign in.
const ANSWERS: Duration = Duration::from_secs(300);
/// The maximum length of a session index, in bytes.
const MAX_SESSION_INDEX: usize = 512;
/// The maximum length of RelayState in bytes: SAML Bindings 2.0 section 3.4.3.
const MAX_RELAY_STATE: usize = 80;

/// The state of a sign-in that is kept while the browser is at the identity provider. The ID of the request to the
/// provider is an underscore followed by the handle of this value.
#[derive(Serialize, Deserialize)]
struct Waiting {
    arn: String,
    browser: Browser,
    destination: String,
}

/// An answer that was verified and marked as used.
#[derive(Serialize, Deserialize)]
struct Answered {
    arn: String,
    kept: Kept,
    factors: Vec<Factor>,
    ends_by: Option<Timestamp>,
    session_index: Option<String>,
    /// The browser in which the sign-in must be finished. This is the browser that began the sign-in or, once a person
    /// was asked for consent, the browser in which they were asked. `None` if the identity provider began the sign-in
    /// and nobody was asked yet.
    browser: Option<Browser>,
    destination: Option<String>,
}

/// Begins a sign-in. Returns the URL to which the browser is sent. `again` asks the identity provider for a
/// new authentication.
///
/// # Errors
/// [`Refused`] if the identity provider cannot be used, the broker is not configured completely for SAML, or the begun
/// sign-in cannot be stored.
pub async fn start(
    broker: &Broker,
    offered: &Offered,
    browser: Browser,
    destination: &str,
    again: bool,
    origin: &Origin,
) -> Result<String, Refused> {
    let provider = provider(broker, offered)?;
    let unfit = |what: &str| Refused::NotSetUp(what.to_owned());
    let metadata = provider.metadata.as_ref();
    let metadata = metadata
        .map_err(|_| unfit("the broker does not accept the provider's metadata document"))?;
    let url = metadata.redirect_endpoint();
    let url = url.ok_or_else(|| {
        unfit(
            "the provider's metadata has no SingleSignOnService for redirects with an http or https URL",
        )
    })?;
    let here = &broker.service_provider;
    let entity_id = here.entity_id.as_deref();
    let entity_id = entity_id.ok_or_else(|| unfit("[saml] entity_id is not set"))?;
    let consumer = consumer(broker)?;
    let waiting = Waiting {
        arn: offered.arn.to_string(),
        browser,
        destination: destination.to_owned(),
    };
    let handle = pending::keep(broker, WAITING, &waiting, LIVES, origin).await?;
    let request = AuthnRequest {
        id: &format!("_{}", handle.expose()),
        issue_instant: broker.clock.now(),
        destination: url,
        issuer: entity_id,
        consumer: &consumer,
        force: again,
    };
    let signer = here.request_signer.as_ref();
    let signer = signer.filter(|_| metadata.wants_signed_requests());
    let url = request.url(handle.expose(), signer);
    url.map_err(|_| Refused::Broker(crate::error::Error::InternalFailure))
}

/// Verifies a posted answer and keeps it; this signs nobody in. Returns the handle with which the browser is redirected
/// to [`finish`].
///
/// # Errors
/// [`Refused`] if no browser waits for this answer, or the answer does not prove the person's identity.
pub async fn answered(
    broker: &Broker,
    offered: &[Offered],
    response: Secret<String>,
    relay_state: Option<&str>,
    origin: &Origin,
) -> Result<Secret<String>, Refused> {
    let sender = unverified_sender(response.expose());
    let sender = sender.map_err(|refusal| Refused::NotProven(refusal.to_string()))?;
    let (answered_request, waiting) = match &sender.in_response_to {
        None => (None, None),
        Some(request) => {
            let handle = request.strip_prefix('_').ok_or(Refused::NotWaiting)?;
            let echoed = relay_state.is_none_or(|state| state.is_empty() || state == handle);
            if !echoed || handle.len() > MAX_RELAY_STATE {
                return Err(Refused::NotWaiting);
            }
            // Whatever follows, this request is answered.
            let waiting: Option<Waiting> = pending::take(broker, WAITING, handle).await?;
            let waiting = waiting.ok_or(Refused::NotWaiting)?;
            (Some(request.clone()), Some(waiting))
        }
    };
    let is_saml = |offered: &&Offered| offered.kind == Kind::Saml;
    let offered = match &waiting {
        Some(waiting) => offered
            .iter()
            .filter(is_saml)
            .find(|offered| *offered.arn == *waiting.arn),
        None => offered.iter().filter(is_saml).find(|offered| {
            let provider = provider(broker, offered).ok();
            let metadata = provider.as_ref().and_then(|p| p.metadata.as_ref().ok());
            metadata.is_some_and(|idp| sender.issuer.as_deref() == Some(idp.entity_id()))
        }),
    };
    let offered = offered.ok_or(Refused::Unknown)?;
    if waiting.is_none() && !offered.details.idp_initiated {
        return Err(Refused::Unsolicited);
    }
    let provider = provider(broker, offered)?;
    let expected = Expected {
        consumer: consumer(broker)?,
        request: answered_request,
    };
    let identity = verify(broker, response, provider, expected).await?;
    spend(broker, &identity).await?;
    let (browser, destination) = match waiting {
        Some(waiting) => (Some(waiting.browser), Some(waiting.destination)),
        None => (None, None),
    };
    let answered = Answered {
        arn: offered.arn.to_string(),
        kept: kept(offered, &identity)?,
        factors: factors(offered, &identity, broker.clock.now()),
        ends_by: identity.session_ends_by,
        session_index: session_index(&identity),
        browser,
        destination,
    };
    Ok(pending::keep(broker, ANSWERED, &answered, FOLLOWS, origin).await?)
}

/// The result of [`finish`]: the person is signed in, or must be asked first.
pub enum Finished {
    SignedIn(SignedIn),
    /// The identity provider began the sign-in, so the page asks the person whether to continue.
    Asks(Question),
}

/// The question whether the person at the browser wants to sign in as `subject`.
pub struct Question {
    /// The handle with which [`go_on`] finishes the sign-in.
    pub handle: Secret<String>,
    /// The name of the identity provider in the configuration.
    pub provider: String,
    /// The name for which the identity provider vouches. The person would be signed in under this name.
    pub subject: String,
}

/// Finishes a sign-in after its answer was posted, when the browser follows the redirect with the handle.
///
/// # Errors
/// [`Refused`] if the handle was used or is too old, or the sign-in was begun in another browser.
pub async fn finish(
    broker: &Broker,
    offered: &[Offered],
    browser: Browser,
    handle: &str,
    origin: &Origin,
) -> Result<Finished, Refused> {
    let answered: Option<Answered> = pending::take(broker, ANSWERED, handle).await?;
    let answered = answered.ok_or(Refused::NotWaiting)?;
    match answered.browser {
        Some(expected) if expected == browser => sign_in(broker, answered, origin)
            .await
            .map(Finished::SignedIn),
        Some(_) => Err(Refused::OtherBrowser),
        None => {
            let mut offered = offered.iter();
            let offered = offered.find(|offered| *offered.arn == *answered.arn);
            let provider = offered.ok_or(Refused::Unknown)?.name.clone();
            let subject = answered.kept.shown_name();
            let asked = Answered {
                browser: Some(browser),
                ..answered
            };
            let handle = pending::keep(broker, ASKED, &asked, ANSWERS, origin).await?;
            Ok(Finished::Asks(Question {
                handle,
                provider,
                subject,
            }))
        }
    }
}

/// Finishes a sign-in that the identity provider began, after the person agreed in this browser.
///
/// # Errors
/// [`Refused`] if the question was answered before or is too old, or another browser was asked.
pub async fn go_on(
    broker: &Broker,
    browser: Browser,
    handle: &str,
    origin: &Origin,
) -> Result<SignedIn, Refused> {
    let answered: Option<Answered> = pending::take(broker, ASKED, handle).await?;
    let answered = answered.ok_or(Refused::NotWaiting)?;
    if answered.browser != Some(browser) {
        return Err(Refused::OtherBrowser);
    }
    sign_in(broker, answered, origin).await
}

async fn sign_in(
    broker: &Broker,
    answered: Answered,
    origin: &Origin,
) -> Result<SignedIn, Refused> {
    let new = NewSignIn {
        who: Who::Federated(Arc::new(answered.kept)),
        factors: answered.factors,
        ends_by: answered.ends_by,
        provider_session: answered.session_index,
        password: None,
        must_change_password: false,
    };
    let (_, handle) = sign_in::begin(broker, new, origin).await?;
    Ok(SignedIn {
        handle,
        destination: answered.destination.unwrap_or_default(),
    })
}

fn provider(broker: &Broker, offered: &Offered) -> Result<Arc<SamlProvider>, Refused> {
    let directory = broker.directory.load();
    let provider = directory.saml_provider(&offered.arn).cloned();
    provider
        .ok_or_else(|| Refused::NotSetUp("the directory does not contain the provider".to_owned()))
}

/// The URL of this broker's assertion consumer service, to which answers are posted.
fn consumer(broker: &Broker) -> Result<String, Refused> {
    let sign_ins = broker.sign_ins.as_ref().ok_or(Refused::Unknown)?;
    Ok(format!("{}{CONSUMER_PATH}", sign_ins.settings.public_url))
}

/// The facts of an assertion that the sign-in keeps.
///
/// The person may assume only the roles that the assertion lists. If it has no attribute for roles and the
/// configuration allows this, the trust policies alone decide.
fn kept(offered: &Offered, identity: &FederatedIdentity) -> Result<Kept, Refused> {
    let kept = Kept::of(identity)?;
    let has_roles = identity.assertion().is_some_and(|a| a.claims.has_roles);
    Ok(
        match offered.details.roles_by_trust_policies && !has_roles {
            true => kept.by_trust_policies(),
            false => kept,
        },
    )
}

fn factors(offered: &Offered, identity: &FederatedIdentity, now: Timestamp) -> Vec<Factor> {
    let statement = identity.authentication();
    let class = statement.and_then(|statement| statement.context_class.as_ref());
    let method = class.and_then(|class| offered.factor_of_acr(class));
    let at = statement.map_or(now, |statement| statement.authn_instant.min(now));
    factors_of(method.into_iter(), at)
}

fn session_index(identity: &FederatedIdentity) -> Option<String> {
    let statement = identity.authentication()?;
    let index = statement.session_index.as_ref()?;
    (1..=MAX_SESSION_INDEX)
        .contains(&index.len())
        .then(|| index.clone())
}
