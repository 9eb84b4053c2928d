//! Signs people in at an OpenID Connect provider by the authorization code flow with PKCE: OpenID Connect Core 1.0
//! section 3.1, RFC 7636, RFC 9207, RFC 9700.

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::{Browser, Offered, Refused, SignedIn, challenge, random, spend};
use crate::authn::web_identity;
use crate::base::clock::Timestamp;
use crate::base::form::Parameters;
use crate::base::secret::Secret;
use crate::broker::Broker;
use crate::directory::{OidcProvider, SignInClient};
use crate::federation::FederatedIdentity;
use crate::federation::kept::Kept;
use crate::federation::providers::{Code, Metadata, Tokens};
use crate::origin::Origin;
use crate::proof::jwt::{Rounded, Unverified, Verified};
use crate::sign_in::{self, NewSignIn, pending};
use crate::signed_in::{Factor, Who};

/// The kind of pending value that is kept while a browser is at the provider.
const WAITING: &str = "oidc";
/// How long a browser may be at the provider.
const LIVES: Duration = Duration::from_secs(600);
/// By how many seconds the clocks of the provider and of this broker may differ.
const LEEWAY_SECONDS: i64 = 60;
/// The maximum length of a session id of a provider, in bytes.
const MAX_SID: usize = 512;
/// The maximum length of a provider's error text that is shown, in characters.
const MAX_FOREIGN: usize = 200;

/// The state of a sign-in that is kept while the browser is at the provider. Its handle is the value of `state` in the
/// request.
#[derive(Serialize, Deserialize)]
struct Waiting {
    arn: String,
    client_id: String,
    nonce: String,
    verifier: String,
    browser: Browser,
    destination: String,
    /// The `max_age` that was sent to the provider, in seconds; `None` if none was sent.
    max_age: Option<u64>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.verifier);
    }
}

/// Begins a sign-in. Returns the URL to which the browser is sent. `again` asks the provider for a new
/// authentication, for people who want to use another account.
///
/// # Errors
/// [`Refused`] if the provider cannot be used or does not answer.
pub async fn start(
    broker: &Broker,
    offered: &Offered,
    browser: Browser,
    destination: &str,
    again: bool,
    origin: &Origin,
) -> Result<String, Refused> {
    let provider = provider(broker, offered)?;
    let client = client(offered, &provider)?;
    let metadata = metadata(broker, &provider).await?;
    let (nonce, verifier) = (random(broker)?, random(broker)?);
    let waiting = Waiting {
        arn: offered.arn.to_string(),
        client_id: client.id.to_string(),
        nonce: nonce.expose().clone(),
        verifier: verifier.expose().clone(),
        browser,
        destination: destination.to_owned(),
        max_age: max_age(broker, offered),
    };
    let state = pending::keep(broker, WAITING, &waiting, LIVES, origin).await?;
    let redirect_uri = redirect_uri(broker, offered)?;
    let challenge = challenge(verifier.expose());
    let scopes = offered.details.scopes.join(" ");
    let acr_values: Vec<&str> = offered.details.acr.keys().map(String::as_str).collect();
    let acr_values = acr_values.join(" ");
    let max_age = waiting.max_age.map(|age| age.to_string());
    let mut parameters = vec![
        ("response_type", "code"),
        ("client_id", &*client.id),
        ("redirect_uri", redirect_uri.as_str()),
        ("scope", scopes.as_str()),
        ("state", state.expose()),
        ("nonce", nonce.expose()),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ];
    parameters.extend(again.then_some(("prompt", "login")));
    parameters.extend(max_age.as_deref().map(|age| ("max_age", age)));
    parameters.extend((!acr_values.is_empty()).then_some(("acr_values", acr_values.as_str())));
    Ok(with_query(&metadata.authorization_endpoint, &parameters))
}

/// The answer of the provider, which the browser brings in the query of the redirect URI: RFC 6749 section 4.1.2.
pub struct Answer {
    state: String,
    code: Option<Secret<String>>,
    error: Option<String>,
    error_description: Option<String>,
    iss: Option<String>,
}

impl Answer {
    /// Reads the query of the redirect URI. Unknown parameters are ignored.
    ///
    /// # Errors
    /// [`Refused::Malformed`] if a parameter occurs twice or cannot be decoded, or if `state` is missing or empty.
    pub fn read(query: &str) -> Result<Self, Refused> {
        let parameters = Parameters::read(query.as_bytes());
        let mut parameters = parameters
            .map_err(|_| Refused::Malformed("a parameter occurs twice, or cannot be read"))?;
        let state = parameters.take("state").filter(|state| !state.is_empty());
        Ok(Self {
            state: state.ok_or(Refused::Malformed("`state` is missing"))?,
            code: parameters.take("code").map(Secret::new),
            error: parameters.take("error"),
            error_description: parameters.take("error_description"),
            iss: parameters.take("iss"),
        })
    }
}

/// Finishes a sign-in with the provider's answer.
///
/// # Errors
/// [`Refused`] if the sign-in was not begun in this browser at this provider, or if the answer does not prove the
/// person's identity.
pub async fn finish(
    broker: &Broker,
    offered: &Offered,
    browser: Option<Browser>,
    answer: Answer,
    origin: &Origin,
) -> Result<SignedIn, Refused> {
    // Whatever follows, this state is spent.
    let waiting: Option<Waiting> = pending::take(broker, WAITING, &answer.state).await?;
    let waiting = waiting.ok_or(Refused::NotWaiting)?;
    if browser != Some(waiting.browser) {
        return Err(Refused::OtherBrowser);
    }
    if *waiting.arn != *offered.arn {
        return Err(Refused::OtherProvider);
    }
    let provider = provider(broker, offered)?;
    let client = client(offered, &provider)?;
    if *client.id != *waiting.client_id {
        return Err(Refused::NotWaiting);
    }
    let metadata = metadata(broker, &provider).await?;
    match &answer.iss {
        Some(iss) if *iss == *provider.url => {}
        None if !metadata.names_issuer => {}
        _ => return Err(Refused::OtherProvider),
    }
    if let Some(code) = answer.error {
        let clip = |text: String| text.chars().take(MAX_FOREIGN).collect();
        return Err(Refused::Denied {
            code: clip(code),
            description: clip(answer.error_description.unwrap_or_default()),
        });
    }
    let code = answer.code.ok_or(Refused::Malformed("`code` is missing"))?;
    let redirect_uri = redirect_uri(broker, offered)?;
    let code = Code {
        code: code.expose(),
        verifier: &waiting.verifier,
        redirect_uri: &redirect_uri,
    };
    let exchanged = broker
        .providers
        .exchange(&provider, &metadata, &client, &code);
    let tokens = exchanged.await?;
    let identity = prove(broker, &provider, &tokens).await?;
    let (now, expected) = (
        broker.clock.now(),
        Expected {
            client_id: &client.id,
            nonce: &waiting.nonce,
            max_age: waiting.max_age,
            at_hash: at_hash(&tokens),
        },
    );
    let claims = identity
        .id_token()
        .ok_or(Refused::Malformed("the ID token is missing"))?;
    let authenticated_at = expected
        .check(claims, now)
        .map_err(|reason| Refused::NotProven(reason.to_owned()))?;
    spend(broker, &identity).await?;
    let new = NewSignIn {
        who: Who::Federated(Arc::new(Kept::of(&identity)?)),
        factors: factors(offered, claims, authenticated_at.unwrap_or(now)),
        ends_by: None,
        provider_session: sid(claims),
        password: None,
        must_change_password: false,
    };
    let (_, handle) = sign_in::begin(broker, new, origin).await?;
    Ok(SignedIn {
        handle,
        destination: waiting.destination.clone(),
    })
}

/// The URL that signs the person out at the provider, for a link on a page (OpenID Connect RP-Initiated Logout 1.0).
/// `None` if the provider has no such URL, does not answer, or is not set up for signing in. The person decides whether
/// to follow the link, because it also ends the sessions of other programs.
///
/// The URL contains the client id instead of `id_token_hint`. The ID token is not kept, because it would be a
/// credential by itself.
pub async fn end_session_url(broker: &Broker, offered: &Offered) -> Option<String> {
    let provider = provider(broker, offered).ok()?;
    let client = client(offered, &provider).ok()?;
    let metadata = broker.providers.metadata(&provider).await.ok()?;
    let after = format!("{}/sign-in", public_url(broker)?);
    let parameters = [
        ("client_id", &*client.id),
        ("post_logout_redirect_uri", after.as_str()),
    ];
    let endpoint = metadata.end_session_endpoint.as_deref()?;
    Some(with_query(endpoint, &parameters))
}

fn provider(broker: &Broker, offered: &Offered) -> Result<Arc<OidcProvider>, Refused> {
    let directory = broker.directory.load();
    let provider = directory.oidc_provider(&offered.arn).cloned();
    provider
        .ok_or_else(|| Refused::NotSetUp("the directory does not contain the provider".to_owned()))
}

/// The client id and secret by which this broker signs people in at the provider.
///
/// # Errors
/// [`Refused::NotSetUp`] if neither the configuration nor the directory determines the client id, or the provider does
/// not have it.
pub fn client(offered: &Offered, provider: &OidcProvider) -> Result<SignInClient, Refused> {
    let declared = provider.sign_in_client.as_ref();
    let id = match (&offered.details.client_id, declared) {
        (Some(id), _) => id.as_str(),
        (None, Some(client)) => &*client.id,
        (None, None) => {
            let what = "the provider has several client ids, so [sign_in] providers must set client_id to the one for \
                this broker";
            return Err(Refused::NotSetUp(what.to_owned()));
        }
    };
    if !provider.client_ids.iter().any(|known| known == id) {
        let what = format!(
            "the client id for signing in, `{id}`, is not one of the provider's client ids"
        );
        return Err(Refused::NotSetUp(what));
    }
    // A secret belongs to its own client only.
    let secret = declared.filter(|client| *client.id == *id);
    Ok(SignInClient {
        id: id.into(),
        secret: secret.and_then(|client| client.secret.clone()),
    })
}

async fn metadata(broker: &Broker, provider: &Arc<OidcProvider>) -> Result<Arc<Metadata>, Refused> {
    let metadata = broker.providers.metadata(provider).await;
    metadata.map_err(Refused::Unreachable)
}

fn redirect_uri(broker: &Broker, offered: &Offered) -> Result<String, Refused> {
    let base = public_url(broker).ok_or(Refused::Unknown)?;
    Ok(format!("{base}{}", offered.callback_path()))
}

/// The value of `max_age`: how many seconds ago the person may have signed in at the provider. This is the lower of two
/// limits: `max_age` of the provider's settings, and `mfa_max_age` for approvals of programs.
///
/// `mfa_max_age` is included because a provider need not return `auth_time` if no `max_age` was sent.
fn max_age(broker: &Broker, offered: &Offered) -> Option<u64> {
    let sign_ins = broker.sign_ins.as_ref();
    let of_approvals = sign_ins.and_then(|sign_ins| sign_ins.settings.mfa_max_age);
    let bounds = [offered.details.max_age, of_approvals]
        .into_iter()
        .flatten();
    bounds.min().map(|age| age.as_secs())
}

fn public_url(broker: &Broker) -> Option<&str> {
    let sign_ins = broker.sign_ins.as_ref();
    sign_ins.map(|sign_ins| sign_ins.settings.public_url.as_str())
}

fn with_query(endpoint: &str, parameters: &[(&str, &str)]) -> String {
    let mut url = endpoint.to_owned();
    for (name, value) in parameters {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(name);
        url.push('=');
        url.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
    url
}

/// Verifies the ID token as strictly as AssumeRoleWithWebIdentity does.
async fn prove(
    broker: &Broker,
    provider: &OidcProvider,
    tokens: &Tokens,
) -> Result<Arc<FederatedIdentity>, Refused> {
    let directory = broker.directory.load_full();
    let token = tokens.id_token.expose();
    let identity = web_identity::identify(broker, token, provider.account, &directory).await?;
    // The issuer in the token chooses the provider, and must be the one that was asked.
    if identity.provider_arn != provider.arn {
        return Err(Refused::OtherProvider);
    }
    Ok(identity)
}

/// The value that `at_hash` must have for the access token; `None` if there is no access token.
fn at_hash(tokens: &Tokens) -> Option<String> {
    let access_token = tokens.access_token.as_ref()?;
    let token = Unverified::read(tokens.id_token.expose()).ok()?;
    Some(token.half_digest(access_token.expose()))
}

/// The values, specific to this sign-in, that the ID token must have in addition to the usual checks.
struct Expected<'a> {
    client_id: &'a str,
    nonce: &'a str,
    max_age: Option<u64>,
    at_hash: Option<String>,
}

impl Expected<'_> {
    /// Checks the claims: OpenID Connect Core 1.0 section 3.1.3.7. Returns the time of the person's authentication
    /// (`auth_time`), if the token has it.
    fn check(&self, claims: &Verified, now: Timestamp) -> Result<Option<Timestamp>, &'static str> {
        if claims.text("nonce") != Some(self.nonce) {
            return Err("the claim `nonce` is not the one of this sign-in");
        }
        let audiences = claims.texts("aud").unwrap_or_default();
        if !audiences.contains(&self.client_id) {
            return Err("the claim `aud` does not contain the client id of this broker");
        }
        match claims.claims().get("azp") {
            None if audiences.len() == 1 => {}
            Some(azp) if azp.as_str() == Some(self.client_id) => {}
            _ => {
                return Err(
                    "the claim `azp` is not the client id of this broker, or is missing although there are several audiences",
                );
            }
        }
        let at_hash = claims.claims().get("at_hash");
        if let (Some(expected), Some(at_hash)) = (&self.at_hash, at_hash)
            && at_hash.as_str() != Some(expected)
        {
            return Err("the claim `at_hash` is not that of the access token");
        }
        let at = claims
            .seconds("auth_time", Rounded::Down)
            .map_err(|_| "the claim `auth_time` must be a number of seconds since 1970")?;
        if at.is_some_and(|at| at > now.seconds() + LEEWAY_SECONDS) {
            return Err("the claim `auth_time` is in the future");
        }
        if let Some(most) = self.max_age {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let at = at.ok_or(
                "the claim `auth_time` is missing, although this broker asked for max_age",
            )?;
            if now.seconds().saturating_sub(at) > most.saturating_add(LEEWAY_SECONDS) {
                return Err("the claim `auth_time` is earlier than max_age allows");
            }
        }
        Ok(at.map(|at| Timestamp::from_seconds(at.min(now.seconds()))))
    }
}

/// The factors that the token proves. The configuration alone defines which values of `acr` and `amr` prove a factor.
fn factors(offered: &Offered, claims: &Verified, at: Timestamp) -> Vec<Factor> {
    let acr = claims
        .text("acr")
        .and_then(|acr| offered.factor_of_acr(acr));
    let amr = claims.texts("amr").unwrap_or_default().into_iter();
    let amr = amr.filter_map(|method| offered.factor_of_amr(method));
    super::factors_of(acr.into_iter().chain(amr), at)
}

fn sid(claims: &Verified) -> Option<String> {
    let sid = claims.text("sid")?;
    (1..=MAX_SID).contains(&sid.len()).then(|| sid.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sign_in::Method;
    use crate::sign_ins::ProviderDetails;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn check(
        change: impl FnOnce(&mut Value),
        expected: &Expected<'_>,
    ) -> Result<Option<Timestamp>, &'static str> {
        let mut claims = json!({
            "iss": "https://idp.example.com", "sub": "alice", "aud": "brevet", "nonce": "n",
            "auth_time": NOW.seconds() - 30, "at_hash": "h",
        });
        change(&mut claims);
        let claims = claims.as_object().unwrap().clone();
        expected.check(&Verified::for_tests(claims), NOW)
    }

    fn expected() -> Expected<'static> {
        Expected {
            client_id: "brevet",
            nonce: "n",
            max_age: None,
            at_hash: Some("h".to_owned()),
        }
    }

    #[test]
    fn oi_08_an_id_token_of_another_sign_in_proves_nothing() {
        let good = check(|_| {}, &expected()).unwrap();
        assert_eq!(good, Some(Timestamp::from_seconds(NOW.seconds() - 30)));
        let bad: [(&str, Value, &str); 14] = [
            ("nonce", json!("m"), "`nonce` is not"),
            ("nonce", Value::Null, "`nonce` is not"),
            ("nonce", json!(["n"]), "`nonce` is not"),
            ("aud", json!("other"), "`aud` does not contain"),
            ("aud", json!([]), "`aud` does not contain"),
            ("aud", json!(["brevet", 1]), "`aud` does not contain"),
            ("aud", json!(["brevet", "other"]), "`azp` is not"),
            ("azp", json!("other"), "`azp` is not"),
            ("azp", json!(["brevet"]), "`azp` is not"),
            ("at_hash", json!("x"), "`at_hash` is not"),
            ("at_hash", json!(1), "`at_hash` is not"),
            ("auth_time", json!("yesterday"), "`auth_time` must be"),
            ("auth_time", json!(-1), "`auth_time` must be"),
            (
                "auth_time",
                json!(NOW.seconds() + 61),
                "`auth_time` is in the future",
            ),
        ];
        for (claim, value, reason) in bad {
            let changed = check(|claims| claims[claim] = value.clone(), &expected());
            assert!(
                changed.is_err_and(|said| said.contains(reason)),
                "{claim}: {value}"
            );
        }
        let several = |claims: &mut Value| {
            claims["aud"] = json!(["other", "brevet"]);
            claims["azp"] = json!("brevet");
        };
        assert!(check(several, &expected()).is_ok());
        // Without an access token there is nothing to compare.
        let without = Expected {
            at_hash: None,
            ..expected()
        };
        assert!(check(|claims| claims["at_hash"] = json!("x"), &without).is_ok());
    }

    #[test]
    fn a_recent_authentication_is_one_that_the_token_dates() {
        let recent = || Expected {
            max_age: Some(100),
            ..expected()
        };
        let at = |seconds: i64| move |claims: &mut Value| claims["auth_time"] = json!(seconds);
        assert!(check(at(NOW.seconds() - 160), &recent()).is_ok());
        assert!(check(at(NOW.seconds() - 161), &recent()).is_err());
        let none = |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove("auth_time"));
        assert!(check(none, &recent()).is_err());
        assert_eq!(check(none, &expected()), Ok(None));
        // A provider's clock may be a little ahead; the factor is not dated later than now.
        assert_eq!(check(at(NOW.seconds() + 60), &expected()), Ok(Some(NOW)));
    }

    #[test]
    fn what_a_provider_calls_a_factor_is_one_if_the_configuration_says_so() {
        let arn = "arn:aws:iam::111122223333:oidc-provider/idp.example.com";
        let mut offered = Offered::new(arn, "Corp", ProviderDetails::default()).unwrap();
        let claims = json!({"acr": "gold", "amr": ["pwd", "otp", "otp"]});
        let claims = Verified::for_tests(claims.as_object().unwrap().clone());
        let methods = |offered: &Offered| -> Vec<Method> {
            factors(offered, &claims, NOW)
                .iter()
                .map(|f| f.method)
                .collect()
        };
        assert_eq!(methods(&offered), [Method::Fed]);
        offered
            .details
            .amr
            .insert("otp".to_owned(), "otp".to_owned());
        offered
            .details
            .acr
            .insert("silver".to_owned(), "hwk".to_owned());
        assert_eq!(methods(&offered), [Method::Fed, Method::Otp]);
        offered
            .details
            .acr
            .insert("gold".to_owned(), "hwk".to_owned());
        assert_eq!(methods(&offered), [Method::Fed, Method::Hwk, Method::Otp]);
    }

    #[test]
    fn an_answer_is_read_strictly() {
        let read = |query: &str| Answer::read(query).map(|a| (a.state, a.code.is_some(), a.error));
        let (state, has_code, error) = read("code=c&state=s&iss=x&session_state=y").unwrap();
        assert!(state == "s" && has_code && error.is_none());
        assert_eq!(
            read("state=s&error=access_denied").unwrap().2.as_deref(),
            Some("access_denied")
        );
        for bad in [
            "",
            "code=c",
            "state=&code=c",
            "state=s&state=t&code=c",
            "state=s&code=a&code=b",
            "state=%",
        ] {
            assert!(matches!(read(bad), Err(Refused::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn a_query_is_appended() {
        let parameters = [("a", "b c&d"), ("e", "f")];
        assert_eq!(
            with_query("https://x/y", &parameters),
            "https://x/y?a=b%20c%26d&e=f"
        );
        assert_eq!(
            with_query("https://x/y?z=1", &parameters),
            "https://x/y?z=1&a=b%20c%26d&e=f"
        );
    }
}
