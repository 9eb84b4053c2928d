//! Signing people in at SAML identity providers.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brevet::config::Config;
use brevet::sign_in::{self, SignIn};
use brevet::sign_ins::{ProviderDetails, ProviderShown, Settings};
use brevet::signed_in::Who;
use brevet::upstream::offered::slug;
use serde_json::{Value, json};

use crate::harness::*;
use crate::oidc_idp::{Browser, field, location, parameters};
use crate::saml_idp::{Idp, Says};

const ROLE: &str = "arn:aws:iam::111122223333:role/Saml";
const PROVIDER: &str = "arn:aws:iam::111122223333:saml-provider/corp";
const ENTITY: &str = "https://idp.example.com";

async fn broker_with(idp: &Idp, change: impl FnOnce(&mut Config)) -> Broker {
    let home = home();
    let mut directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    directory["RoleDetailList"]
        .as_array_mut()
        .unwrap()
        .push(json!({
            "Path": "/", "RoleName": "Saml", "RoleId": "AROASAMLSAMLSAMLSAM1", "Arn": ROLE,
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
                "Principal": {"Federated": PROVIDER}, "Action": "sts:AssumeRoleWithSAML"}]},
        }));
    let metadata = idp
        .metadata()
        .replace("HTTP-POST\" Location", "HTTP-Redirect\" Location");
    directory["Brevet"]["SAMLProviders"] =
        json!([{"Arn": PROVIDER, "SAMLMetadataDocument": metadata}]);
    let path = home.path().join("directory.json");
    brevet::files::write_private(&path, directory.to_string().as_bytes()).unwrap();
    let key = home.path().join("master.key");
    let entropy = brevet::base::entropy::SystemEntropy::new();
    brevet::master_key::MasterKey::create(&key, &entropy).unwrap();
    let shown = ProviderShown {
        arn: PROVIDER.to_owned(),
        name: "Corp".to_owned(),
        details: ProviderDetails {
            roles_by_trust_policies: true,
            ..ProviderDetails::default()
        },
    };
    let settings = Settings {
        providers: Some(vec![shown]),
        ..Settings::at("http://{address}")
    };
    Broker::start_in(home, |config| {
        config.master_key = Some(key);
        config.sign_in = Some(settings);
        // These tests let minutes pass in no time.
        config.refuse_after = Duration::from_secs(1_000_000);
        change(config);
    })
    .await
}

/// The request with which the browser was sent to the identity provider.
struct Asked {
    id: String,
    relay_state: String,
    xml: String,
}

async fn begin(broker: &Broker, browser: &mut Browser, query: &str) -> Asked {
    let start = format!("/sign-in/saml/{}{query}", slug(PROVIDER));
    let url = location(&browser.get(broker, &start).await);
    assert!(
        url.starts_with("https://idp.example.com/sso?SAMLRequest="),
        "{url}"
    );
    let parameters: BTreeMap<String, String> = parameters(&url);
    let octets = STANDARD.decode(&parameters["SAMLRequest"]).unwrap();
    let xml = miniz_oxide::inflate::decompress_to_vec(&octets).unwrap();
    let xml = String::from_utf8(xml).unwrap();
    let id = xml
        .split_once(" ID=\"")
        .unwrap()
        .1
        .split('"')
        .next()
        .unwrap();
    Asked {
        id: id.to_owned(),
        relay_state: parameters["RelayState"].clone(),
        xml,
    }
}

/// What the identity provider says to a request, or unasked. It names no role.
fn says(broker: &Broker, id: &str, asked: Option<&Asked>) -> Says {
    let consumer = format!("{}/saml/acs", broker.url());
    Says {
        attributes: Vec::new(),
        recipient: consumer.clone(),
        destination: Some(consumer),
        in_response_to: asked.map(|asked| asked.id.clone()),
        ..Says::new(id, ROLE, PROVIDER, broker_now(broker))
    }
}

fn broker_now(broker: &Broker) -> brevet::base::clock::Timestamp {
    use brevet::base::clock::Clock;
    broker.clock.now()
}

/// Posts an answer, as a page of the identity provider makes the browser do it: without cookies of ours.
async fn post(broker: &Broker, response: &str, relay_state: &str) -> Answer {
    let form = [("SAMLResponse", response), ("RelayState", relay_state)];
    let mut headers = form_headers();
    headers.insert("origin", "https://idp.example.com".parse().unwrap());
    headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
    http1(
        broker.address,
        "POST",
        "/saml/acs",
        headers,
        encode(&form).into_bytes(),
    )
    .await
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

async fn signed_in(broker: &Broker, browser: &Browser) -> Option<SignIn> {
    let handle = browser.session()?;
    let found = sign_in::of_handle(inner(broker), handle, &origin()).await;
    found.unwrap()
}

#[tokio::test]
async fn a_person_signs_in_by_a_request_and_an_answer_that_names_no_role() {
    let idp = Idp::new(ENTITY);
    let broker = broker_with(&idp, |_| {}).await;
    let mut browser = Browser::default();
    let asked = begin(&broker, &mut browser, "?to=%2Fportal%2Fsessions").await;
    let consumer = format!("{}/saml/acs", broker.url());
    for part in [
        format!("AssertionConsumerServiceURL=\"{consumer}\""),
        "Destination=\"https://idp.example.com/sso\"".to_owned(),
        "<saml:Issuer>https://sts.example.com/saml/metadata</saml:Issuer>".to_owned(),
    ] {
        assert!(asked.xml.contains(&part), "{part}: {}", asked.xml);
    }
    assert!(asked.relay_state.len() <= 80 && asked.id.len() >= 41);
    let answer = Says {
        session_until: Some(now().plus(Duration::from_secs(600))),
        ..says(&broker, "one", Some(&asked))
    };
    let posted = post(&broker, &idp.response(&answer), &asked.relay_state).await;
    let finish = location(&posted);
    assert!(finish.starts_with("/sign-in/saml/finish?h="), "{finish}");
    // Whoever posts the answer is not signed in by it.
    assert!(posted.headers.get("set-cookie").is_none());
    let arrived = browser.get(&broker, &finish).await;
    assert_eq!(location(&arrived), "/portal/sessions");
    let sign_in = signed_in(&broker, &browser).await.unwrap();
    assert_eq!(sign_in.ends_at, now().plus(Duration::from_secs(600)));
    assert!(matches!(&sign_in.who, Who::Federated(kept) if kept.subject == "alice"));
    let reply = sign_in::choose::choose(inner(&broker), sign_in, ROLE, origin()).await;
    let chosen = reply.result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        chosen.arn,
        "arn:aws:sts::111122223333:assumed-role/Saml/alice"
    );
    assert!(chosen.expires_at <= now().plus(Duration::from_secs(600)));
    // The browser goes back: the handle is spent, and the person is signed in.
    let again = browser.get(&broker, &finish).await;
    assert_eq!(again.status, 403, "{}", again.body);
    let again = begin(&broker, &mut Browser::default(), "?again=1").await;
    assert!(again.xml.contains("ForceAuthn=\"true\""));
}

#[tokio::test]
async fn an_answer_that_names_roles_gives_no_others() {
    let idp = Idp::new(ENTITY);
    let broker = broker_with(&idp, |_| {}).await;
    let strict = broker_with(&idp, |config| {
        let providers = config.sign_in.as_mut().unwrap().providers.as_mut();
        providers.unwrap()[0].details.roles_by_trust_policies = false;
    })
    .await;
    let pair = |role: &str| Some(format!("{role},{PROVIDER}"));
    let other = "arn:aws:iam::111122223333:role/Other";
    for (number, broker, pair, is_given) in [
        (1, &broker, pair(ROLE), true),
        (2, &broker, pair(other), false),
        // A value that cannot be read is no missing attribute.
        (3, &broker, Some("Saml".to_owned()), false),
        (4, &broker, None, true),
        (5, &strict, pair(ROLE), true),
        (6, &strict, None, false),
    ] {
        let mut browser = Browser::default();
        let asked = begin(broker, &mut browser, "").await;
        let mut answer = says(broker, &format!("a{number}"), Some(&asked));
        if let Some(pair) = &pair {
            answer = answer.with("Role", &[pair]);
        }
        let posted = post(broker, &idp.response(&answer), &asked.relay_state).await;
        browser.get(broker, &location(&posted)).await;
        let sign_in = signed_in(broker, &browser).await.unwrap();
        let listed = sign_in::roles::roles(inner(broker), &sign_in, None, &origin()).await;
        assert_eq!(listed.unwrap().len(), usize::from(is_given), "{number}");
        let chosen = sign_in::choose::choose(inner(broker), sign_in, ROLE, origin()).await;
        assert_eq!(chosen.result.is_ok(), is_given, "{number}");
    }
}

#[tokio::test]
async fn a_list_of_roles_lets_other_tasks_run_after_an_account_with_few() {
    let idp = Idp::new(ENTITY);
    let broker = broker_with(&idp, |_| {}).await;
    let mut browser = Browser::default();
    let asked = begin(&broker, &mut browser, "").await;
    let response = idp.response(&says(&broker, "one", Some(&asked)));
    let posted = post(&broker, &response, &asked.relay_state).await;
    browser.get(&broker, &location(&posted)).await;
    let sign_in = signed_in(&broker, &browser).await.unwrap();
    let origin = origin();
    let listed = sign_in::roles::roles(inner(&broker), &sign_in, None, &origin);
    let mut listed = pin!(listed);
    let mut context = Context::from_waker(Waker::noop());
    assert!(listed.as_mut().poll(&mut context).is_pending());
    assert_eq!(listed.await.unwrap().len(), 1);
}

#[tokio::test]
async fn oi_08_an_answer_is_good_once_in_its_own_browser_for_its_own_request() {
    let idp = Idp::new(ENTITY);
    let broker = broker_with(&idp, |_| {}).await;
    let refused = |answer: &Answer, text: &str| {
        assert_eq!(answer.status, 403, "{text}: {}", answer.body);
        assert!(answer.body.contains(text), "{text}: {}", answer.body);
    };
    let mut browser = Browser::default();
    let asked = begin(&broker, &mut browser, "").await;
    let response = idp.response(&says(&broker, "one", Some(&asked)));

    // Login CSRF: an attacker's own answer, posted in a victim's browser.
    let finish = location(&post(&broker, &response, &asked.relay_state).await);
    let mut victim = Browser::default();
    begin(&broker, &mut victim, "").await;
    refused(&victim.get(&broker, &finish).await, "another browser");
    assert!(victim.session().is_none());
    refused(&browser.get(&broker, &finish).await, "finished before");
    // The replay of the post: the request was answered.
    refused(
        &post(&broker, &response, &asked.relay_state).await,
        "finished before",
    );

    // An assertion that was used, for a new request.
    let asked = begin(&broker, &mut browser, "").await;
    refused(
        &post(&broker, &response, &asked.relay_state).await,
        "finished before",
    );
    // A request that nobody made, one of another browser's RelayState, an answer to no request.
    let nobody = Asked {
        id: format!("_{}", "A".repeat(43)),
        relay_state: "A".repeat(43),
        xml: String::new(),
    };
    let forged = idp.response(&says(&broker, "two", Some(&nobody)));
    refused(
        &post(&broker, &forged, &nobody.relay_state).await,
        "finished before",
    );
    let asked = begin(&broker, &mut browser, "").await;
    let good = idp.response(&says(&broker, "three", Some(&asked)));
    refused(
        &post(&broker, &good, &nobody.relay_state).await,
        "finished before",
    );
    let unasked = idp.response(&says(&broker, "four", None));
    refused(
        &post(&broker, &unasked, &asked.relay_state).await,
        "does not accept a sign-in",
    );

    // What does not fit: the destination, the recipient, the audience, the signature, the status.
    let bad: [fn(&mut Says); 5] = [
        |says| says.destination = Some("https://sts.example.com/saml/acs".to_owned()),
        |says| says.recipient = "https://sts.example.com/saml/acs".to_owned(),
        |says| says.audience = "urn:other".to_owned(),
        |says| says.issuer = Some("https://other.example.com".to_owned()),
        |says| says.session_until = Some(now()),
    ];
    for (number, change) in bad.into_iter().enumerate() {
        let asked = begin(&broker, &mut browser, "").await;
        let mut answer = says(&broker, &format!("bad{number}"), Some(&asked));
        change(&mut answer);
        let posted = post(&broker, &idp.response(&answer), &asked.relay_state).await;
        assert_eq!(posted.status, 403, "{number}: {}", posted.body);
    }
    let asked = begin(&broker, &mut browser, "").await;
    let other = Idp::new(ENTITY).response(&says(&broker, "five", Some(&asked)));
    refused(&post(&broker, &other, "").await, "could not be accepted");

    // The browser comes back too late: for the answer, and after it.
    let asked = begin(&broker, &mut browser, "").await;
    let response = idp.response(&says(&broker, "six", Some(&asked)));
    let finish = location(&post(&broker, &response, "").await);
    broker.clock.advance(Duration::from_secs(61));
    refused(&browser.get(&broker, &finish).await, "finished before");
    let asked = begin(&broker, &mut browser, "").await;
    broker.clock.advance(Duration::from_secs(601));
    let response = idp.response(&says(&broker, "seven", Some(&asked)));
    refused(&post(&broker, &response, "").await, "finished before");

    // Other methods and content types.
    for (method, path) in [
        ("GET", "/saml/acs"),
        ("PUT", "/saml/acs"),
        ("HEAD", "/sign-in/saml/finish"),
    ] {
        let answer = http1(
            broker.address,
            method,
            path,
            http::HeaderMap::new(),
            Vec::new(),
        )
        .await;
        assert_eq!(answer.status, 405, "{method} {path}");
    }
    let json = http1(
        broker.address,
        "POST",
        "/saml/acs",
        http::HeaderMap::new(),
        b"{}".to_vec(),
    )
    .await;
    assert_eq!(json.status, 415);
    assert!(browser.session().is_none());
}

#[tokio::test]
async fn oi_08_an_identity_provider_that_begins_a_sign_in_only_asks() {
    let idp = Idp::new(ENTITY);
    let broker = broker_with(&idp, |config| {
        let providers = config.sign_in.as_mut().unwrap().providers.as_mut();
        providers.unwrap()[0].details.idp_initiated = true;
    })
    .await;
    let unasked = |id: &str| idp.response(&says(&broker, id, None));
    // RelayState is ignored: it leads nowhere.
    let finish = location(&post(&broker, &unasked("one"), "https://evil.example/").await);
    let mut browser = Browser::default();
    let page = browser.get(&broker, &finish).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(
        page.body.contains("alice") && page.body.contains("Corp"),
        "{}",
        page.body
    );
    assert!(
        page.body.contains("Continue") && browser.session().is_none(),
        "{}",
        page.body
    );
    let (handle, token) = (field(&page.body, "handle"), field(&page.body, "csrf"));

    // Another browser cannot answer, and neither can a form without its token.
    let mut other = Browser::default();
    other.get(&broker, "/sign-in").await;
    let form = [("handle", handle.as_str()), ("csrf", token.as_str())];
    let answer = other.post(&broker, "/sign-in/saml/finish", &form).await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    let answer = browser
        .post(&broker, "/sign-in/saml/finish", &[("handle", &handle)])
        .await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    let answer = browser.post(&broker, "/sign-in/saml/finish", &form).await;
    assert_eq!(location(&answer), "/portal");
    assert!(signed_in(&broker, &browser).await.is_some());

    // The same assertion again, and one that answers a request.
    assert_eq!(post(&broker, &unasked("one"), "").await.status, 403);
    let asked = Asked {
        id: format!("_{}", "A".repeat(43)),
        relay_state: String::new(),
        xml: String::new(),
    };
    let answered = idp.response(&says(&broker, "two", Some(&asked)));
    assert_eq!(post(&broker, &answered, "").await.status, 403);
    // One whose confirmation alone names a request.
    let hidden = answered_in_confirmation_only(&idp, &broker);
    assert_eq!(post(&broker, &hidden, "").await.status, 403);
}

/// An answer whose response says that nobody asked, and whose assertion answers a request.
fn answered_in_confirmation_only(idp: &Idp, broker: &Broker) -> String {
    let asked = Asked {
        id: "_request".to_owned(),
        relay_state: String::new(),
        xml: String::new(),
    };
    let xml = idp.xml(&says(broker, "three", Some(&asked)));
    let (start, rest) = xml.split_once(" InResponseTo=\"_request\"").unwrap();
    STANDARD.encode(format!("{start}{rest}"))
}
