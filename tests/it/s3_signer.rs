//! Clients that hold a bearer token and no key: the token endpoint of OAuth 2.0, and the S3 Signer API of Iceberg.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brevet::api::sts::v1 as pb;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::harness::*;
use crate::s3_proxies::{STORE_SECRET, ask, directory, question, started_with};

const SIGN: &str = "/v1/aws/s3/sign";
const TOKEN: &str = "/oauth2/token";
/// As clients call the proxy, and the store itself.
const PROXY: &str = "https://s3.example.com:8443";
const STORE: &str = "http://store:8333";

async fn started() -> Broker {
    started_with(&directory(), |store| store.remote_signing = true).await
}

async fn token(broker: &Broker, basic: Option<&str>, form: &[(&str, &str)]) -> Answer {
    let mut headers = form_headers();
    if let Some(basic) = basic {
        let value = format!("Basic {}", STANDARD.encode(basic));
        headers.insert("authorization", value.parse().unwrap());
    }
    let body = encode(form).into_bytes();
    broker.send("POST", TOKEN, headers, body).await
}

fn form(keys: &Keys) -> Vec<(&str, &str)> {
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_id", keys.id.as_str()),
        ("client_secret", keys.secret.as_str()),
        ("scope", "catalog"),
    ];
    form.extend(keys.token.as_deref().map(|token| ("session_token", token)));
    form
}

/// A bearer token for this key.
pub async fn bearer(broker: &Broker, keys: &Keys) -> String {
    let answer = token(broker, None, &form(keys)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        (&body["token_type"], &body["expires_in"]),
        (&json!("bearer"), &json!(3_600))
    );
    assert!(!answer.body.contains(&keys.secret));
    body["access_token"].as_str().unwrap().to_owned()
}

fn asked(method: &str, uri: &str) -> Value {
    json!({"region": "us-east-1", "method": method, "uri": uri, "headers": {"User-Agent": ["test"]}})
}

async fn sign(broker: &Broker, token: &str, asked: &Value) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    let body = asked.to_string().into_bytes();
    broker.send("POST", SIGN, headers, body).await
}

/// What a client sends after it got this answer: the headers that it asked about, and those of the answer.
fn added(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["cache-control"], "no-cache, no-store");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let headers = body["headers"].as_object().unwrap().iter();
    headers
        .map(|(name, values)| (name.clone(), values[0].as_str().unwrap().to_owned()))
        .collect()
}

/// Asks as the proxy does that got the signed request.
async fn at_the_proxy(
    broker: &Broker,
    method: &str,
    path: &str,
    added: &[(String, String)],
) -> Answer {
    let mut headers = question(method, path);
    for (name, value) in added {
        let name: HeaderName = name.parse().unwrap();
        headers.insert(name, value.parse().unwrap());
    }
    ask(broker, headers).await
}

#[tokio::test]
async fn a_request_to_a_proxy_is_signed_with_the_clients_own_key_and_judged_there() {
    let broker = started().await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let token = bearer(&broker, &session).await;
    let uri = format!("{PROXY}/data/home/x");
    let signed = added(&sign(&broker, &token, &asked("GET", &uri)).await);
    let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "authorization",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    let answer = at_the_proxy(&broker, "GET", "/data/home/x", &signed).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    // It is good for this request only, and nobody else's signature: what the policies do not allow is refused.
    for (method, path) in [("PUT", "/data/home/x"), ("GET", "/data/home/y")] {
        let answer = at_the_proxy(&broker, method, path, &signed).await;
        assert!(answer.body.contains("SignatureDoesNotMatch"), "{path}");
    }
    let bobs = bearer(&broker, &user("bob")).await;
    let uri = format!("{PROXY}/data/other/x");
    let signed = added(&sign(&broker, &bobs, &asked("GET", &uri)).await);
    let answer = at_the_proxy(&broker, "GET", "/data/other/x", &signed).await;
    assert!(
        answer.status == 403 && answer.body.contains("user/bob"),
        "{}",
        answer.body
    );
    // The session ends, and what was signed before with it.
    let selector = pb::revoke_sessions_request::Selector::RoleArn(OPEN.into());
    let uri = format!("{PROXY}/data/home/x");
    let signed = added(&sign(&broker, &token, &asked("GET", &uri)).await);
    let change = broker.revoke(&user("admin"), selector).await.unwrap();
    broker.reaches(change).await;
    let answer = at_the_proxy(&broker, "GET", "/data/home/x", &signed).await;
    assert_eq!(answer.status, 403, "{}", answer.body);
}

#[tokio::test]
async fn a_request_to_the_store_itself_is_judged_and_signed_with_the_stores_key() {
    let mut broker = started().await;
    let bob = bearer(&broker, &user("bob")).await;
    let mut question = asked("GET", &format!("{STORE}/data/home/x"));
    question["headers"] = json!({"If-None-Match": ["\"x\""], "X-Amz-Checksum-Mode": ["ENABLED"]});
    let signed = added(&sign(&broker, &bob, &question).await);
    let authorization = &signed
        .iter()
        .find(|(name, _)| name == "authorization")
        .unwrap()
        .1;
    // What is judged is signed, so that the client cannot leave it out.
    for part in [
        "Credential=STOREKEY/",
        "SignedHeaders=host;if-none-match;x-amz-checksum-mode;x-amz-content-sha256;x-amz-date,",
    ] {
        assert!(authorization.contains(part), "{authorization}");
    }
    assert!(
        !signed
            .iter()
            .any(|(name, _)| name == "x-amz-security-token")
    );
    let refused = sign(
        &broker,
        &bob,
        &asked("GET", &format!("{STORE}/data/other/x")),
    )
    .await;
    assert_eq!(refused.status, 403, "{}", refused.body);
    let error: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(error["error"]["type"], "AccessDenied");
    assert_eq!(error["error"]["code"], 403);
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("s3:GetObject") && message.contains("Encoded authorization"));
    // The names of objects to delete are judged, and their hash is signed.
    let mut delete = asked("POST", &format!("{STORE}/data?delete"));
    let answer = sign(&broker, &bob, &delete).await;
    assert_eq!(answer.status, 501, "{}", answer.body);
    delete["body"] = json!("<Delete><Object><Key>home/x</Key></Object></Delete>");
    let signed = added(&sign(&broker, &bob, &delete).await);
    let hash = &signed
        .iter()
        .find(|(name, _)| name == "x-amz-content-sha256")
        .unwrap()
        .1;
    assert_eq!(hash.len(), 64);
    for declared in ["UNSIGNED-PAYLOAD".to_owned(), "0".repeat(64)] {
        delete["headers"] = json!({"x-amz-content-sha256": [declared]});
        assert_eq!(sign(&broker, &bob, &delete).await.status, 400);
    }
    // A revocation refuses the next question.
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let alice = bearer(&broker, &session).await;
    let uri = format!("{STORE}/data/home/x");
    assert_eq!(sign(&broker, &alice, &asked("GET", &uri)).await.status, 200);
    let selector = pb::revoke_sessions_request::Selector::RoleArn(OPEN.into());
    let change = broker.revoke(&user("admin"), selector).await.unwrap();
    broker.reaches(change).await;
    assert_eq!(sign(&broker, &alice, &asked("GET", &uri)).await.status, 400);
    // Refusals are on record, and no signature is.
    broker.stop().await;
    let log = std::fs::read_to_string(broker.audit_path()).unwrap();
    assert!(log.contains("s3.amazonaws.com") && log.contains("other/x"));
    for secret in [STORE_SECRET, "Signature=", &bob, &alice] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn an_04_what_cannot_be_signed_is_refused() {
    let broker = started().await;
    let bob = bearer(&broker, &user("bob")).await;
    let good = asked("GET", &format!("{STORE}/data/home/x"));
    assert_eq!(sign(&broker, &bob, &good).await.status, 200);
    let with = |name: &str, value: Value| {
        let mut question = good.clone();
        question[name] = value;
        question
    };
    for (question, status) in [
        (with("region", json!("eu-west-1")), 400),
        (with("uri", json!("http://elsewhere:8333/data/home/x")), 400),
        (with("uri", json!("http://store:8334/data/home/x")), 400),
        (
            with("uri", json!("http://user@store:8333/data/home/x")),
            400,
        ),
        (
            with("uri", json!("http://store:8333/data/home/../other/x")),
            400,
        ),
        (
            with("uri", json!("http://store:8333/data/home/x?acl&tagging")),
            501,
        ),
        (
            with(
                "uri",
                json!("http://store:8333/data/home/x?X-Amz-Signature=0"),
            ),
            400,
        ),
        (with("uri", json!("http://store:8333/unlisted/home/x")), 403),
        (with("method", json!("OPTIONS")), 405),
        (with("method", json!("PATCH")), 405),
        (
            with("headers", json!({"Authorization": ["AWS4-HMAC-SHA256 x"]})),
            400,
        ),
        (
            with("headers", json!({"X-Amz-Date": ["20260101T000000Z"]})),
            400,
        ),
        (with("headers", json!({"x-amz-security-token": ["x"]})), 400),
        (
            with(
                "headers",
                json!({"x-amz-expected-bucket-owner": ["111122223333"]}),
            ),
            400,
        ),
        (
            with("headers", json!({"x_amz_copy_source": ["/data/other/x"]})),
            400,
        ),
        (with("headers", json!({"x-rgw-x": ["1"]})), 400),
        (
            with("headers", json!({"Range": ["a"], "range": ["b"]})),
            400,
        ),
        (with("headers", json!([])), 400),
        (json!([]), 400),
    ] {
        let answer = sign(&broker, &bob, &question).await;
        assert_eq!(answer.status, status, "{question}: {}", answer.body);
        assert!(!answer.body.contains("Signature="), "{}", answer.body);
    }
    // No token, one of another kind, one that was altered, and one that has expired.
    let mut altered = bob.clone();
    altered.replace_range(100..101, if &bob[100..101] == "A" { "B" } else { "A" });
    for (token, status) in [("", 401), ("x", 401), (&altered, 401)] {
        assert_eq!(sign(&broker, token, &good).await.status, status, "{token}");
    }
    let answer = broker.send("GET", SIGN, HeaderMap::new(), Vec::new()).await;
    assert_eq!(answer.status, 405);
    broker.elapse(3_600);
    assert_eq!(sign(&broker, &bob, &good).await.status, 419);
    // A store that is not said to take such requests, and a broker without stores.
    let broker = started_with(&directory(), |_| {}).await;
    let bob = bearer(&broker, &user("bob")).await;
    assert_eq!(sign(&broker, &bob, &good).await.status, 400);
    let broker = Broker::start().await;
    let bob = bearer(&broker, &user("bob")).await;
    assert!(sign(&broker, &bob, &good).await.status >= 400);
}

#[tokio::test]
async fn a_bearer_token_is_for_who_shows_the_key() {
    let broker = Broker::start().await;
    let bob = user("bob");
    let id_and_secret = format!("{}:{}", bob.id, bob.secret);
    let grant = [("grant_type", "client_credentials")];
    let answer = token(&broker, Some(&id_and_secret), &grant).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    bearer(&broker, &session).await;
    for wrong in [
        Keys {
            secret: "wrong".into(),
            ..bob.clone()
        },
        Keys {
            secret: String::new(),
            ..bob.clone()
        },
        Keys {
            id: "AKIAAAAAAAAAAAAAAAAA".into(),
            ..bob.clone()
        },
        // The key of a session without its token, and with that of another.
        Keys {
            token: None,
            ..session.clone()
        },
        Keys {
            token: session.token.clone(),
            ..bob.clone()
        },
        Keys {
            token: Some("x".repeat(5_000)),
            ..session.clone()
        },
    ] {
        let answer = token(&broker, None, &form(&wrong)).await;
        assert_eq!(answer.status, 401, "{}", answer.body);
        assert!(answer.body.contains("invalid_client"), "{}", answer.body);
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    let both = token(&broker, Some(&id_and_secret), &form(&bob)).await;
    let neither = token(&broker, None, &grant).await;
    let unknown = [form(&bob), vec![("x", "y")]].concat();
    let unknown = token(&broker, None, &unknown).await;
    let malformed = token(&broker, Some("no colon"), &grant).await;
    for answer in [both, neither, unknown, malformed] {
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.contains("invalid_request"), "{}", answer.body);
    }
    // It proves nothing where requests are signed.
    let bearer = bearer(&broker, &bob).await;
    let mut headers = form_headers();
    headers.insert("authorization", format!("Bearer {bearer}").parse().unwrap());
    let body = b"Action=GetCallerIdentity&Version=2011-06-15".to_vec();
    assert!(broker.send("POST", "/", headers, body).await.status >= 400);
}
