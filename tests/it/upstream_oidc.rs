//! Signing people in at OpenID Connect providers.

use std::collections::BTreeMap;
use std::sync::Arc;

use brevet::config::Config;
use brevet::sign_in::{self, Method, SignIn};
use brevet::sign_ins::{ProviderDetails, ProviderShown, Settings};
use brevet::signed_in::Who;
use brevet::upstream::offered::slug;
use serde_json::{Value, json};

use crate::harness::*;
use crate::oidc_idp::{Browser, OidcIdp, location, parameters};

const ROLE: &str = "arn:aws:iam::111122223333:role/Web";
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// A broker at which people sign in with these providers, and a role that trusts the first of them.
async fn broker_of(providers: &[Value], change: impl FnOnce(&mut Config)) -> Broker {
    let home = home();
    let mut directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    directory["RoleDetailList"].as_array_mut().unwrap().push(json!({
        "Path": "/", "RoleName": "Web", "RoleId": "AROAWEBWEBWEBWEBWEB1", "Arn": ROLE,
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"Federated": providers[0]["Arn"]}, "Action": "sts:AssumeRoleWithWebIdentity"}]},
    }));
    directory["Brevet"]["OpenIDConnectProviders"] = providers.into();
    let path = home.path().join("directory.json");
    brevet::files::write_private(&path, directory.to_string().as_bytes()).unwrap();
    let key = home.path().join("master.key");
    let entropy = brevet::base::entropy::SystemEntropy::new();
    brevet::master_key::MasterKey::create(&key, &entropy).unwrap();
    let shown = providers.iter().map(|provider| ProviderShown {
        arn: provider["Arn"].as_str().unwrap().to_owned(),
        name: "Corp".to_owned(),
        details: ProviderDetails::default(),
    });
    let settings = Settings {
        providers: Some(shown.collect()),
        ..Settings::at("http://{address}")
    };
    Broker::start_in(home, |config| {
        config.master_key = Some(key);
        config.sign_in = Some(settings);
        // These tests let minutes pass in no time.
        config.refuse_after = std::time::Duration::from_secs(1_000_000);
        change(config);
    })
    .await
}

async fn broker(idp: &OidcIdp) -> Broker {
    broker_of(&[idp.declared()], |_| {}).await
}

fn details(config: &mut Config) -> &mut ProviderDetails {
    let providers = config.sign_in.as_mut().unwrap().providers.as_mut();
    &mut providers.unwrap()[0].details
}

/// Begins a sign-in, and returns what the browser was sent to the provider with.
async fn begin(broker: &Broker, browser: &mut Browser, idp: &OidcIdp) -> BTreeMap<String, String> {
    let start = format!("/sign-in/oidc/{}", slug(&idp.arn()));
    let url = location(&browser.get(broker, &start).await);
    assert!(
        url.starts_with(&format!("{}/authorize?tenant=1&", idp.url())),
        "{url}"
    );
    parameters(&url)
}

/// The address at which the browser comes back with a code.
fn callback(idp: &OidcIdp, asked: &BTreeMap<String, String>, code: &str) -> String {
    let path = format!("/sign-in/oidc/{}/callback", slug(&idp.arn()));
    format!(
        "{path}?{}",
        encode(&[("code", code), ("state", &asked["state"])])
    )
}

/// Signs in with the claims of the provider, changed.
async fn sign_in_with(
    broker: &Broker,
    idp: &OidcIdp,
    change: impl FnOnce(&mut Value),
) -> (Browser, Answer) {
    let mut browser = Browser::default();
    let asked = begin(broker, &mut browser, idp).await;
    let mut claims = idp.claims(&asked);
    change(&mut claims);
    let code = idp.issue(&asked, claims);
    let answer = browser.get(broker, &callback(idp, &asked, &code)).await;
    (browser, answer)
}

fn inner(broker: &Broker) -> &Arc<brevet::broker::Broker> {
    &broker.running.as_ref().unwrap().broker
}

fn origin() -> brevet::origin::Origin {
    brevet::origin::Origin {
        source_ip: [127, 0, 0, 1].into(),
        secure_transport: false,
        user_agent: None,
        referer: None,
        certificate: None,
        call: None,
    }
}

/// The sign-in of a browser.
async fn signed_in(broker: &Broker, browser: &Browser) -> Option<SignIn> {
    let handle = browser.session()?;
    let found = sign_in::of_handle(inner(broker), handle, &origin()).await;
    found.unwrap()
}

/// Credentials of the role for the person of a sign-in.
async fn keys(broker: &Broker, sign_in: SignIn) -> Keys {
    let reply = sign_in::choose::choose(inner(broker), sign_in, ROLE, origin()).await;
    let chosen = reply.result.unwrap_or_else(|error| panic!("{error}"));
    Keys {
        id: chosen.credentials.access_key_id.as_str().to_owned(),
        secret: chosen.credentials.secret_access_key.expose().clone(),
        token: Some(chosen.credentials.session_token.expose().clone()),
    }
}

#[tokio::test]
async fn a_person_signs_in_by_a_code_and_has_the_roles_of_the_trust_policies() {
    let idp = OidcIdp::start().await;
    let mut broker = broker(&idp).await;
    let mut browser = Browser::default();
    // The page leads there, and back to where the person wanted to go.
    let page = browser
        .get(&broker, "/sign-in?to=%2Fportal%2Fsessions")
        .await;
    let start = format!("/sign-in/oidc/{}?to=", slug(&idp.arn()));
    assert!(
        page.body.contains(&start) && page.body.contains("Corp"),
        "{}",
        page.body
    );
    let start = format!("/sign-in/oidc/{}?to=%2Fportal%2Fsessions", slug(&idp.arn()));
    let url = location(&browser.get(&broker, &start).await);
    let asked = parameters(&url);
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "brevet"),
        ("scope", "openid profile email"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(asked[name], value, "{name}");
    }
    assert_eq!(
        asked["redirect_uri"],
        format!(
            "{}/sign-in/oidc/{}/callback",
            broker.url(),
            slug(&idp.arn())
        )
    );
    assert!(asked["state"].len() >= 43 && asked["nonce"].len() >= 43);
    let code = idp.issue(&asked, idp.claims(&asked));
    let answer = browser.get(&broker, &callback(&idp, &asked, &code)).await;
    assert_eq!(location(&answer), "/portal/sessions");
    assert_eq!(idp.client(), "basic brevet:s3cr~t");
    assert!(!browser.cookies.contains_key("__Host-brevet-pre"));

    let sign_in = signed_in(&broker, &browser).await.unwrap();
    let Who::Federated(kept) = &sign_in.who else {
        panic!("federated");
    };
    assert_eq!((kept.subject.as_str(), kept.name()), ("alice-1", "alice"));
    assert_eq!(sign_in.provider_session.as_deref(), Some("s1"));
    assert_eq!(sign_in.factors.len(), 1);
    let keys = keys(&broker, sign_in).await;
    let who = broker.client(&keys).get_caller_identity().await.unwrap();
    assert_eq!(who.arn, "arn:aws:sts::111122223333:assumed-role/Web/alice");

    broker.stop().await;
    let log = std::fs::read_to_string(broker.audit_path()).unwrap();
    let login = log
        .lines()
        .find(|line| line.contains("\"UserAuthentication\""))
        .unwrap();
    assert!(
        login.contains("\"Success\"") && login.contains("alice-1"),
        "{login}"
    );
    for secret in ["s3cr~t", &code, &asked["state"]] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn oi_08_another_state_browser_provider_or_verifier_signs_nobody_in() {
    let (idp, other) = (OidcIdp::start().await, OidcIdp::start().await);
    let broker = broker_of(&[idp.declared(), other.declared()], |_| {}).await;
    let refused = |answer: &Answer, browser: &Browser, status: u16, text: &str| {
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body.contains(text), "{text}: {}", answer.body);
        assert!(browser.session().is_none(), "{text}");
    };

    // An attacker's own code and state, in a victim's browser (login CSRF), with and without a cookie.
    let mut attacker = Browser::default();
    let asked = begin(&broker, &mut attacker, &idp).await;
    let code = idp.issue(&asked, idp.claims(&asked));
    let mut victim = Browser::default();
    begin(&broker, &mut victim, &idp).await;
    let answer = victim.get(&broker, &callback(&idp, &asked, &code)).await;
    refused(&answer, &victim, 403, "another browser");
    // The state is spent with that, so that the attacker cannot use it either.
    let answer = attacker.get(&broker, &callback(&idp, &asked, &code)).await;
    refused(&answer, &attacker, 403, "finished before");
    let asked = begin(&broker, &mut attacker, &idp).await;
    let answer = Browser::default()
        .get(&broker, &callback(&idp, &asked, "code"))
        .await;
    refused(&answer, &Browser::default(), 403, "another browser");

    // A state that was never given out, none at all, or two.
    let mut browser = Browser::default();
    let asked = begin(&broker, &mut browser, &idp).await;
    let path = format!("/sign-in/oidc/{}/callback", slug(&idp.arn()));
    for (query, status, text) in [
        (
            "code=x&state=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            403,
            "finished before",
        ),
        ("code=x", 400, "`state`"),
        ("code=x&state=a&state=b", 400, "occurs twice"),
    ] {
        let answer = browser.get(&broker, &format!("{path}?{query}")).await;
        refused(&answer, &browser, status, text);
    }

    // Mix-up: the answer of one provider at the address of another one.
    let code = idp.issue(&asked, idp.claims(&asked));
    let answer = browser.get(&broker, &callback(&other, &asked, &code)).await;
    refused(&answer, &browser, 403, "another identity provider");
    // Mix-up by the issuer that the answer names, whether the provider promises to name it or not.
    for (promises, named) in [
        (false, other.url()),
        (true, other.url()),
        (true, String::new()),
    ] {
        idp.says(json!({"authorization_response_iss_parameter_supported": promises}));
        broker.clock.pass(std::time::Duration::from_secs(301));
        let asked = begin(&broker, &mut browser, &idp).await;
        let code = idp.issue(&asked, idp.claims(&asked));
        let mut target = callback(&idp, &asked, &code);
        if !named.is_empty() {
            target = format!("{target}&{}", encode(&[("iss", &named)]));
        }
        let answer = browser.get(&broker, &target).await;
        refused(&answer, &browser, 403, "another identity provider");
    }
    idp.says(json!({}));

    // A stolen code in the attacker's own sign-in: the verifier is another one.
    broker.clock.pass(std::time::Duration::from_secs(301));
    let stolen = begin(&broker, &mut Browser::default(), &idp).await;
    let code = idp.issue(&stolen, idp.claims(&stolen));
    let own = begin(&broker, &mut attacker, &idp).await;
    let answer = attacker.get(&broker, &callback(&idp, &own, &code)).await;
    refused(&answer, &attacker, 403, "did not sign you in");
    // The provider's words are shown as theirs, and are no HTML.
    assert!(
        answer.body.contains("invalid_grant") && answer.body.contains("&#60;b&#62;no"),
        "{}",
        answer.body
    );

    // A provider that reports an error.
    let asked = begin(&broker, &mut browser, &idp).await;
    let said = [
        ("error", "access_denied"),
        ("error_description", "<script>"),
        ("state", &asked["state"]),
    ];
    let answer = browser
        .get(&broker, &format!("{path}?{}", encode(&said)))
        .await;
    refused(&answer, &browser, 403, "access_denied");
    assert!(!answer.body.contains("<script>"), "{}", answer.body);

    // Ten minutes later.
    let asked = begin(&broker, &mut browser, &idp).await;
    let code = idp.issue(&asked, idp.claims(&asked));
    // The broker's clock is ahead of the wall clock by now, and runs slower.
    broker.clock.pass(std::time::Duration::from_secs(660));
    let answer = browser.get(&broker, &callback(&idp, &asked, &code)).await;
    refused(&answer, &browser, 403, "finished before");

    // Nobody offers this provider.
    let answer = browser.get(&broker, "/sign-in/oidc/nobody").await;
    refused(&answer, &browser, 404, "does not offer");
    // HEAD begins nothing.
    let start = format!("/sign-in/oidc/{}", slug(&idp.arn()));
    let head = http1(
        broker.address,
        "HEAD",
        &start,
        http::HeaderMap::new(),
        Vec::new(),
    )
    .await;
    assert_eq!(head.status, 405);
}

#[tokio::test]
async fn oi_08_an_id_token_that_does_not_fit_the_sign_in_signs_nobody_in() {
    let idp = OidcIdp::start().await;
    let broker = broker(&idp).await;
    let bad: [(&str, Value); 9] = [
        ("nonce", json!("another")),
        ("nonce", Value::Null),
        ("aud", json!("other")),
        ("aud", json!(["brevet", "other"])),
        ("azp", json!("other")),
        ("iss", json!("https://idp.example.com")),
        ("exp", json!(now().seconds() - 1)),
        ("at_hash", json!("AAAA")),
        // A logout token or an access token is no ID token.
        ("events", json!({LOGOUT_EVENT: {}})),
    ];
    for (claim, value) in bad {
        let changed = |claims: &mut Value| claims[claim] = value.clone();
        let (browser, answer) = sign_in_with(&broker, &idp, changed).await;
        assert_eq!(answer.status, 403, "{claim}: {value}: {}", answer.body);
        assert!(browser.session().is_none(), "{claim}: {value}");
    }
    let (browser, answer) = sign_in_with(&broker, &idp, |_| {}).await;
    assert_eq!(location(&answer), "/portal");
    assert!(browser.session().is_some());
    // The provider is away, or answers with nonsense.
    idp.refuses(Some(json!({"odd": 1})));
    let (_, answer) = sign_in_with(&broker, &idp, |_| {}).await;
    assert_eq!(answer.status, 502, "{}", answer.body);
}

#[tokio::test]
async fn what_is_asked_of_a_provider_is_what_the_configuration_says() {
    let idp = OidcIdp::start().await;
    idp.says(json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]}));
    let broker = broker_of(&[idp.declared()], |config| {
        let details = details(config);
        details.max_age = Some(std::time::Duration::from_secs(60));
        details.acr.insert("gold".to_owned(), "mfa".to_owned());
        details.amr.insert("otp".to_owned(), "otp".to_owned());
    })
    .await;
    let mut browser = Browser::default();
    let asked = begin(&broker, &mut browser, &idp).await;
    assert_eq!(
        (asked["max_age"].as_str(), asked["acr_values"].as_str()),
        ("60", "gold")
    );
    let again = format!("/sign-in/oidc/{}?again=1", slug(&idp.arn()));
    let url = location(&browser.get(&broker, &again).await);
    assert_eq!(parameters(&url)["prompt"], "login");

    let (_, answer) = sign_in_with(&broker, &idp, |claims| {
        claims["auth_time"] = json!(now().seconds() - 200);
    })
    .await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    let (browser, _) = sign_in_with(&broker, &idp, |claims| {
        claims["auth_time"] = json!(now().seconds() - 50);
        claims["amr"] = json!(["pwd", "otp"]);
        claims["acr"] = json!("silver");
    })
    .await;
    let sign_in = signed_in(&broker, &browser).await.unwrap();
    let methods: Vec<Method> = sign_in.factors.iter().map(|factor| factor.method).collect();
    assert_eq!(methods, [Method::Fed, Method::Otp]);
    assert_eq!(
        sign_in.mfa_at().map(|at| at.seconds()),
        Some(now().seconds() - 50)
    );
    assert_eq!(idp.client(), "post brevet:s3cr~t");

    // A public client has no secret to send.
    let mut public = idp.declared();
    public.as_object_mut().unwrap().remove("ClientSecret");
    let broker = broker_of(&[public], |_| {}).await;
    let (browser, _) = sign_in_with(&broker, &idp, |_| {}).await;
    assert!(browser.session().is_some());
    assert_eq!(idp.client(), "none brevet");
}

/// Posts a logout token for a provider.
async fn log_out(broker: &Broker, idp: &OidcIdp, token: &str) -> Answer {
    let path = format!("/sign-in/oidc/{}/logout", slug(&idp.arn()));
    let body = encode(&[("logout_token", token)]).into_bytes();
    http1(broker.address, "POST", &path, form_headers(), body).await
}

fn logout_claims(idp: &OidcIdp, id: &str) -> Value {
    let now = now().seconds();
    json!({"iss": idp.url(), "aud": "brevet", "iat": now, "exp": now + 100, "jti": id,
        "sub": "alice-1", "sid": "s1", "events": {LOGOUT_EVENT: {}}})
}

#[tokio::test]
async fn a_logout_at_the_provider_ends_the_sign_in_and_all_that_came_from_it() {
    let (idp, other) = (OidcIdp::start().await, OidcIdp::start().await);
    let broker = broker_of(&[idp.declared(), other.declared()], |_| {}).await;
    let (one, _) = sign_in_with(&broker, &idp, |_| {}).await;
    let (two, _) = sign_in_with(&broker, &idp, |claims| claims["sid"] = json!("s2")).await;
    let (bob, _) = sign_in_with(&broker, &idp, |claims| {
        claims["sub"] = json!("bob-1");
        claims["sid"] = json!("s3");
    })
    .await;
    let (away, _) = sign_in_with(&broker, &other, |_| {}).await;
    let of_one = keys(&broker, signed_in(&broker, &one).await.unwrap()).await;
    let of_two = keys(&broker, signed_in(&broker, &two).await.unwrap()).await;
    let of_bob = keys(&broker, signed_in(&broker, &bob).await.unwrap()).await;

    let bad: [(&str, Option<Value>); 12] = [
        ("iss", Some(json!(other.url()))),
        ("aud", Some(json!("other"))),
        ("iat", Some(json!(now().seconds() - 121))),
        ("exp", Some(json!(now().seconds()))),
        ("exp", None),
        ("jti", None),
        ("events", None),
        ("events", Some(json!({LOGOUT_EVENT: true}))),
        ("nonce", Some(json!("n"))),
        ("sub", Some(json!(1))),
        ("sid", Some(json!(""))),
        ("iat", None),
    ];
    for (claim, value) in bad {
        let mut claims = logout_claims(&idp, "bad");
        match &value {
            Some(value) => claims[claim] = value.clone(),
            None => drop(claims.as_object_mut().unwrap().remove(claim)),
        }
        let answer = log_out(&broker, &idp, &idp.sign(&claims)).await;
        assert_eq!(answer.status, 400, "{claim}: {value:?}: {}", answer.body);
    }
    let good = idp.sign(&logout_claims(&idp, "one"));
    // Another provider's key, another provider's address, an altered token, an ID token.
    let forged = other.sign(&logout_claims(&idp, "forged"));
    assert_eq!(log_out(&broker, &idp, &forged).await.status, 400);
    assert_eq!(log_out(&broker, &other, &good).await.status, 400);
    assert_eq!(log_out(&broker, &idp, &good[1..]).await.status, 400);
    let id_token = idp.sign(&json!({"iss": idp.url(), "aud": "brevet", "sub": "alice-1",
        "iat": now().seconds(), "exp": now().seconds() + 100}));
    assert_eq!(log_out(&broker, &idp, &id_token).await.status, 400);
    assert_eq!(broker.who(&of_one).await, "ok");

    // One session of one person, with what came from it.
    let answer = log_out(&broker, &idp, &good).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(signed_in(&broker, &one).await.is_none());
    assert_ne!(broker.who(&of_one).await, "ok");
    assert_eq!(broker.who(&of_two).await, "ok");
    assert_eq!(
        log_out(&broker, &idp, &good).await.status,
        400,
        "the token was used"
    );

    // All sessions of one person.
    let mut claims = logout_claims(&idp, "two");
    claims.as_object_mut().unwrap().remove("sid");
    assert_eq!(log_out(&broker, &idp, &idp.sign(&claims)).await.status, 200);
    assert!(signed_in(&broker, &two).await.is_none());
    assert_ne!(broker.who(&of_two).await, "ok");
    assert_eq!(broker.who(&of_bob).await, "ok");
    assert!(signed_in(&broker, &bob).await.is_some() && signed_in(&broker, &away).await.is_some());
}
