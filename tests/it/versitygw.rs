//! The S3 gateway versitygw, which asks a standalone IAM service. The requests are those of its client, header by
//! header.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use brevet::api::relying::v1 as pb;
use brevet::base::clock::Clock;
use brevet::base::digest::{hex, sha256};
use brevet::client::AssumeRole;
use brevet::config::S3;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client_certificates::{Ca, Certified, named, over_tls};
use crate::harness::*;
use crate::relying::key_of;
use crate::s3_proxies::{self, HOST, SECRET};

const DERIVE: &str = "/private/derive-signing-key";
const EVALUATE: &str = "/private/evaluate-policy";
const RESOLVE: &str = "/private/resolve-identity";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// The day of the tests.
const TODAY: &str = "20261124";

/// A broker with a listener for gateways, and the certificates of it and of its clients.
struct Served {
    broker: Broker,
    server: String,
    clients: Ca,
}

/// The directory of object stores, with a user `gateway` who may ask everything, a user `nosy` whose permissions are all
/// on itself, a user `asker` who may ask in part, a user `walled` behind a boundary, and a user `near` whose policies depend on the connection.
fn directory() -> String {
    let mut directory: Value = serde_json::from_str(&s3_proxies::directory()).unwrap();
    let arn = |name: &str| format!("arn:aws:iam::111122223333:user/{name}");
    let allow = |action: Value, resource: Value| json!({"Effect": "Allow", "Action": action, "Resource": resource});
    let own = json!("arn:aws:iam::111122223333:user/${aws:username}");
    let buckets = json!("arn:aws:s3:::*");
    for (name, id, statements) in [
        (
            "gateway",
            "AIDAGATEWAYGATEWAYG1",
            json!([
                allow(
                    json!(["brevet:DeriveSigningKey", "brevet:ResolveIdentity"]),
                    json!("*")
                ),
                allow(json!("brevet:Authorize"), buckets.clone()),
                allow(json!("brevet:VerifyRequest"), own.clone())
            ]),
        ),
        (
            "nosy",
            "AIDANOSYNOSYNOSYNOS1",
            json!([allow(json!(["s3:*", "brevet:*"]), own.clone())]),
        ),
        (
            "asker",
            "AIDAASKERASKERASKER1",
            json!([allow(
                json!("brevet:Authorize"),
                json!("arn:aws:s3:::data/*")
            )]),
        ),
        (
            "walled",
            "AIDAWALLEDWALLEDWAL1",
            json!([allow(json!("s3:*"), buckets.clone())]),
        ),
        (
            "near",
            "AIDANEARNEARNEARNEA1",
            json!([
                {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*",
                 "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}, "Bool": {"aws:SecureTransport": "true"}}},
                {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*",
                 "Condition": {"StringLike": {"s3:prefix": "home/*"}, "DateLessThan": {"aws:CurrentTime": "2027-01-01T00:00:00Z"}}},
                {"Effect": "Allow", "Action": ["s3:PutObject", "s3:DeleteObject"], "Resource": "*"},
                {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*",
                 "Condition": {"StringEquals": {"s3:ExistingObjectTag/kept": "yes"}}},
                {"Effect": "Deny", "Action": "s3:PutObject", "Resource": "*",
                 "Condition": {"StringNotEquals": {"aws:RequestedRegion": "us-east-1"}}}
            ]),
        ),
    ] {
        let mut user = json!({"Path": "/", "UserName": name, "UserId": id, "Arn": arn(name),
            "UserPolicyList": [{"PolicyName": "p", "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}}]});
        if name == "walled" {
            user["PermissionsBoundary"] = json!({"PermissionsBoundaryType": "Policy",
                "PermissionsBoundaryArn": "arn:aws:iam::111122223333:policy/Sts"});
        }
        directory["UserDetailList"]
            .as_array_mut()
            .unwrap()
            .push(user);
        let keys = key_of(name);
        directory["Brevet"]["AccessKeys"].as_array_mut().unwrap().push(
            json!({"UserArn": arn(name), "AccessKeyId": keys.id, "SecretAccessKey": keys.secret}),
        );
    }
    directory.to_string()
}

fn write(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    brevet::files::write_private(&path, text.as_bytes()).unwrap();
    path
}

async fn served() -> Served {
    served_with(|_| {}, |_| {}).await
}

async fn served_with(
    change: impl FnOnce(&mut S3),
    configure: impl FnOnce(&mut brevet::config::Config),
) -> Served {
    let (dir, own, clients) = (home(), Ca::new(), Ca::new());
    let path = dir.path();
    write(path, "directory.json", &directory());
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = own.sign(&params);
    let mut s3 = s3_proxies::settings(path);
    s3.tls = Some((
        write(path, "s3.crt", &server.certificate),
        write(path, "s3.key", &server.key),
    ));
    s3.client_ca = Some(write(path, "s3-clients.crt", &clients.pem()));
    s3.client_names = Some(vec!["CN=gateway,O=Example Inc".to_owned()]);
    s3.gateway_regions = Some(vec!["us-east-1".to_owned()]);
    change(&mut s3);
    let broker = Broker::start_in(dir, |config| {
        config.s3 = Some(s3);
        configure(config);
    })
    .await;
    Served {
        broker,
        server: own.pem(),
        clients,
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// The signing key of a scope, as the gateway computes it.
fn signing_key(secret: &str, day: &str, region: &str, service: &str) -> Vec<u8> {
    let key = mac(format!("AWS4{secret}").as_bytes(), day);
    mac(&mac(&mac(&key, region), service), "aws4_request")
}

impl Served {
    fn address(&self) -> std::net::SocketAddr {
        self.broker.running.as_ref().unwrap().s3.unwrap()
    }

    fn gateway(&self) -> Certified {
        self.clients.sign(&named("gateway"))
    }

    /// A request of the gateway's client, which signs what it sends with its own access key.
    fn signed(&self, keys: &Keys, path: &str, body: &[u8]) -> HeaderMap {
        let date = self.broker.clock.now().to_amz();
        let (host, digest) = (
            format!("localhost:{}", self.address().port()),
            hex(&sha256(body)),
        );
        let signed = "content-type;host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "POST\n{path}\n\ncontent-type:application/json\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{date}\n\n{signed}\n{digest}"
        );
        let scope = format!("{}/us-east-1/iam/aws4_request", &date[..8]);
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hex(&sha256(canonical.as_bytes()))
        );
        let key = signing_key(&keys.secret, &date[..8], "us-east-1", "iam");
        let signature = hex(&mac(&key, &text));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
            keys.id
        );
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", &*host),
            ("user-agent", "Go-http-client/1.1"),
            ("authorization", &authorization),
            ("content-type", "application/json"),
            ("x-amz-content-sha256", &digest),
            ("x-amz-date", &date),
            ("accept-encoding", "gzip"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    /// Sends a request over a connection with or without a certificate. `None` if there was no connection.
    async fn send(
        &self,
        certified: Option<&Certified>,
        method: &str,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Option<(u16, Value)> {
        let stream = TcpStream::connect(self.address()).await.unwrap();
        let stream = over_tls(stream, &self.server, certified, &[]).await.ok()?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.ok()?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        *request.headers_mut() = headers;
        let response = sender.send_request(request).await.ok()?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        connection.abort();
        let text = String::from_utf8_lossy(&body).into_owned();
        Some((status, serde_json::from_slice(&body).unwrap_or(json!(text))))
    }

    /// A question of the gateway, signed with this access key.
    async fn ask_as(&self, keys: &Keys, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string().into_bytes();
        let headers = self.signed(keys, path, &body);
        let shown = self.gateway();
        self.send(Some(&shown), "POST", path, headers, body)
            .await
            .unwrap()
    }

    async fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask_as(&key_of("gateway"), path, body).await
    }

    async fn derive(&self, keys: &Keys) -> (u16, Value) {
        self.ask(DERIVE, &asks_for(keys)).await
    }

    /// Asks for the verdicts on some actions and resources.
    async fn evaluate(
        &self,
        keys: &Keys,
        actions: &[&str],
        resources: &[&str],
        condition: Value,
    ) -> Value {
        let (status, answer) = self
            .ask(EVALUATE, &question(keys, actions, resources, condition))
            .await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The status of an S3 request that was signed with the signing key, through the broker's own check.
    async fn get_by_key(&self, keys: &Keys, key: &[u8], path: &str) -> u16 {
        let date = self.broker.clock.now().to_amz();
        let mut signed = vec![
            ("host", HOST),
            ("x-amz-content-sha256", EMPTY),
            ("x-amz-date", &date),
        ];
        signed.extend(
            keys.token
                .as_deref()
                .map(|token| ("x-amz-security-token", token)),
        );
        let lines: String = signed
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let canonical = format!("GET\n{path}\n\n{lines}\n{names}\n{EMPTY}");
        let scope = format!("{}/us-east-1/s3/aws4_request", &date[..8]);
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hex(&sha256(canonical.as_bytes()))
        );
        let signature = hex(&mac(key, &text));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
            keys.id
        );
        let mut headers = s3_proxies::question("GET", path);
        for (name, value) in signed.into_iter().skip(1) {
            headers.insert(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        headers.insert("authorization", authorization.parse().unwrap());
        headers.insert("host", "localhost".parse().unwrap());
        let shown = self.gateway();
        let answer = self
            .send(Some(&shown), "GET", "/s3/authorize", headers, Vec::new())
            .await;
        answer.unwrap().0
    }

    async fn assume(&self, policy: Option<Value>) -> Keys {
        let request = AssumeRole {
            policy: policy.map(|policy| policy.to_string()),
            ..AssumeRole::new(OPEN, "job")
        };
        let client = self.broker.client(&user("alice"));
        Keys::from(&client.assume_role(&request).await.unwrap().credentials)
    }
}

/// The body of a question for a signing key.
fn asks_for(keys: &Keys) -> Value {
    let mut body =
        json!({"accessKeyId": keys.id, "date": TODAY, "region": "us-east-1", "service": "s3"});
    if let Some(token) = &keys.token {
        body["sessionToken"] = json!(token);
    }
    body
}

fn question(keys: &Keys, actions: &[&str], resources: &[&str], condition: Value) -> Value {
    let mut body = json!({"accessKeyId": keys.id, "actions": actions, "resources": resources, "condition": condition});
    if let Some(token) = &keys.token {
        body["sessionToken"] = json!(token);
    }
    body
}

/// What the gateway sends about its client's request.
fn condition(more: Value) -> Value {
    let mut all = json!({"aws:CurrentTime": ["2031-01-01T00:00:00Z"], "aws:EpochTime": ["1924988400"],
        "aws:SecureTransport": ["true"], "aws:SourceIp": ["192.0.2.7"], "aws:UserAgent": ["aws-cli/2"]});
    all.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    all
}

fn derived(answer: &(u16, Value)) -> Vec<u8> {
    assert_eq!(answer.0, 200, "{}", answer.1);
    STANDARD
        .decode(answer.1["derivedKey"].as_str().unwrap())
        .unwrap()
}

#[tokio::test]
async fn a_gateway_gets_the_key_of_the_day_and_never_a_secret() {
    let served = served().await;
    let bob = user("bob");
    let key = derived(&served.derive(&bob).await);
    assert_eq!(key, signing_key(&bob.secret, TODAY, "us-east-1", "s3"));
    assert_eq!(served.get_by_key(&bob, &key, "/data/home/x").await, 200);
    assert_eq!(served.get_by_key(&bob, &key, "/data/other/x").await, 403);
    let session = served.assume(None).await;
    let of_session = derived(&served.derive(&session).await);
    assert_eq!(
        served.get_by_key(&session, &of_session, "/data/any").await,
        200
    );
    assert_eq!(served.get_by_key(&session, &key, "/data/any").await, 403);
    // Yesterday's key, and not that of any other scope.
    let mut body = asks_for(&bob);
    body["date"] = json!("20261123");
    let yesterday = derived(&served.ask(DERIVE, &body).await);
    assert_eq!(
        yesterday,
        signing_key(&bob.secret, "20261123", "us-east-1", "s3")
    );
    for (name, value) in [
        ("date", "20261122"),
        ("date", "20261125"),
        ("date", ""),
        ("date", "2026112"),
        ("region", "eu-central-1"),
        ("region", ""),
        ("service", "sts"),
        ("service", "iam"),
    ] {
        let mut body = asks_for(&bob);
        body[name] = json!(value);
        let (status, answer) = served.ask(DERIVE, &body).await;
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!("BadRequest")),
            "{name}={value}: {answer}"
        );
    }
    // What the gateway tells its client: an unknown key, or a token that does not fit.
    let other = served.assume(None).await;
    for (keys, code) in [
        (user("gone"), "NoSuchIdentity"),
        (user("carol"), "NoSuchIdentity"),
        (
            Keys {
                id: "AKIAUNKNOWN000000000".into(),
                ..user("bob")
            },
            "NoSuchIdentity",
        ),
        (
            Keys {
                id: "minioadmin".into(),
                ..user("bob")
            },
            "NoSuchIdentity",
        ),
        (
            Keys {
                id: String::new(),
                ..user("bob")
            },
            "NoSuchIdentity",
        ),
        (
            Keys {
                token: session.token.clone(),
                ..user("bob")
            },
            "InvalidToken",
        ),
        (
            Keys {
                token: None,
                ..session.clone()
            },
            "InvalidToken",
        ),
        (
            Keys {
                token: other.token.clone(),
                ..session.clone()
            },
            "InvalidToken",
        ),
        (
            Keys {
                token: Some("x".repeat(400)),
                ..session.clone()
            },
            "InvalidToken",
        ),
        (
            Keys {
                token: Some(String::new()),
                ..session.clone()
            },
            "InvalidToken",
        ),
        (
            Keys {
                token: Some("x".repeat(40_000)),
                ..session.clone()
            },
            "InvalidToken",
        ),
    ] {
        let (status, answer) = served.derive(&keys).await;
        assert_eq!(
            (status, &answer["code"]),
            (403, &json!(code)),
            "{}: {answer}",
            keys.id
        );
        assert!(answer.get("derivedKey").is_none());
    }
    // A session that was revoked, and one that has expired.
    let revoked = Selector::AccessKeyId(session.id.clone());
    served.broker.revoke(&user("admin"), revoked).await.unwrap();
    assert_eq!(served.derive(&session).await.1["code"], "InvalidToken");
    let asked = question(
        &session,
        &["s3:GetObject"],
        &["arn:aws:s3:::data/x"],
        json!({}),
    );
    assert_eq!(served.ask(EVALUATE, &asked).await.1["code"], "InvalidToken");
    derived(&served.derive(&other).await);
    served.broker.clock.advance(Duration::from_secs(3_600));
    assert_eq!(served.derive(&other).await.1["code"], "InvalidToken");
    // Every key that was handed out is on record, and no key is in the log.
    let audit = served.broker.into_audit().await;
    let records: Vec<&Value> = audit
        .iter()
        .filter(|l| l["eventName"] == "DeriveSigningKey")
        .collect();
    let first = records[0];
    assert_eq!(first["eventSource"], "sts.amazonaws.com");
    assert_eq!(
        first["userIdentity"]["arn"],
        "arn:aws:iam::111122223333:user/gateway"
    );
    assert_eq!(
        first["requestParameters"],
        json!({"accessKeyId": bob.id, "date": TODAY, "region": "us-east-1"})
    );
    assert_eq!(
        first["responseElements"],
        json!({"arn": "arn:aws:iam::111122223333:user/bob"})
    );
    let refusals = records
        .iter()
        .filter_map(|l| l["responseElements"]["refused"].as_str());
    let refusals: std::collections::BTreeSet<&str> = refusals.collect();
    assert!(
        refusals.contains("SessionEnded") && refusals.contains("ExpiredToken"),
        "{refusals:?}"
    );
    for secret in [&key, &of_session, &yesterday] {
        let texts = [STANDARD.encode(secret), hex(secret)];
        assert!(
            audit
                .iter()
                .all(|l| texts.iter().all(|text| !l.to_string().contains(text)))
        );
    }
}

#[tokio::test]
async fn an_06_only_a_certified_gateway_with_a_permitted_key_is_answered() {
    let served = served().await;
    let body = asks_for(&user("bob")).to_string().into_bytes();
    let headers = || served.signed(&key_of("gateway"), DERIVE, &body);
    let send = async |shown: Option<&Certified>, headers: HeaderMap| {
        served
            .send(shown, "POST", DERIVE, headers, body.clone())
            .await
    };
    let good = served.gateway();
    assert_eq!(send(Some(&good), headers()).await.unwrap().0, 200);
    // No certificate, one of another name, one of another CA, and the secret of proxies in place of one.
    let other_name = served.clients.sign(&named("envoy"));
    let other_ca = Ca::new().sign(&named("gateway"));
    assert_eq!(send(None, headers()).await.unwrap().0, 403);
    assert_eq!(send(Some(&other_name), headers()).await.unwrap().0, 403);
    assert!(send(Some(&other_ca), headers()).await.is_none());
    let mut with_secret = headers();
    with_secret.insert("x-brevet-proxy-secret", SECRET.parse().unwrap());
    for shown in [None, Some(&other_name)] {
        let (status, answer) = send(shown, with_secret.clone()).await.unwrap();
        assert_eq!(
            (status, &answer["code"]),
            (403, &json!("AccessDenied")),
            "{answer}"
        );
        assert!(
            answer["error"]
                .as_str()
                .unwrap()
                .contains("client certificate")
        );
    }
    // No signature, that of another body, and those of users who may not ask. None of them looks like a fault of
    // the gateway's client.
    let mut unsigned = headers();
    unsigned.remove("authorization");
    let of_another = served.signed(&key_of("gateway"), DERIVE, b"{}");
    let wrong = Keys {
        secret: "wrong".into(),
        ..key_of("gateway")
    };
    let unknown = Keys {
        id: "AKIAUNKNOWN000000000".into(),
        ..key_of("gateway")
    };
    for (headers, code) in [
        (unsigned, "MissingAuthenticationToken"),
        (of_another, "SignatureDoesNotMatch"),
        (
            served.signed(&wrong, DERIVE, &body),
            "SignatureDoesNotMatch",
        ),
        (
            served.signed(&unknown, DERIVE, &body),
            "InvalidClientTokenId",
        ),
        (served.signed(&user("bob"), DERIVE, &body), "AccessDenied"),
        (
            served.signed(&key_of("nosy"), DERIVE, &body),
            "AccessDenied",
        ),
    ] {
        let (status, answer) = send(Some(&good), headers).await.unwrap();
        assert_eq!((status, &answer["code"]), (403, &json!(code)), "{answer}");
    }
    let resources = |name: &str| question(&user("bob"), &["s3:GetObject"], &[name], json!({}));
    let ids = json!({"accessKeyIds": [user("bob").id]});
    for keys in [key_of("nosy"), key_of("asker"), user("bob")] {
        let elsewhere = resources("arn:aws:s3:::other/x");
        for (path, body) in [(RESOLVE, &ids), (EVALUATE, &elsewhere)] {
            let (status, answer) = served.ask_as(&keys, path, body).await;
            assert_eq!(
                (status, &answer["code"]),
                (403, &json!("AccessDenied")),
                "{} {path}",
                keys.id
            );
        }
    }
    let asker = key_of("asker");
    assert_eq!(
        served
            .ask_as(&asker, EVALUATE, &resources("arn:aws:s3:::data/x"))
            .await
            .0,
        200
    );
    // A signature is good for its call.
    let moved = served
        .send(Some(&good), "POST", RESOLVE, headers(), body.clone())
        .await;
    assert_eq!(moved.unwrap().1["code"], "SignatureDoesNotMatch");
    let got = served
        .send(Some(&good), "GET", DERIVE, headers(), Vec::new())
        .await;
    assert_eq!(got.unwrap().0, 405);
}

#[tokio::test]
async fn it_is_off_unless_regions_are_named() {
    let served = served_with(|s3| s3.gateway_regions = None, |_| {}).await;
    let (status, answer) = served.derive(&user("bob")).await;
    assert_eq!(status, 404, "{answer}");
    // On the listener for everybody there are no such paths.
    let headers = served.signed(&key_of("gateway"), DERIVE, b"{}");
    let answer = served
        .broker
        .send("POST", DERIVE, headers, b"{}".to_vec())
        .await;
    assert!(
        answer.status >= 400 && !answer.body.contains("derivedKey"),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn a_gateway_without_stores_may_make_the_same_call_again_in_a_second() {
    let served = served_with(
        |s3| {
            s3.stores.clear();
            s3.secret_files.clear();
        },
        |config| config.single_use_signatures = true,
    )
    .await;
    for _ in 0..3 {
        derived(&served.derive(&user("bob")).await);
    }
    // Without secrets, the handshake demands a certificate.
    let body = asks_for(&user("bob")).to_string().into_bytes();
    let headers = served.signed(&key_of("gateway"), DERIVE, &body);
    assert!(
        served
            .send(None, "POST", DERIVE, headers, body)
            .await
            .is_none()
    );
}

#[tokio::test]
async fn only_long_term_keys_of_the_account_are_somebodys() {
    let served = served().await;
    let session = served.assume(None).await;
    let ids = [
        user("bob").id,
        user("gone").id,
        user("carol").id,
        session.id,
        "x".to_owned(),
        user("alice").id,
    ];
    let (status, answer) = served.ask(RESOLVE, &json!({"accessKeyIds": ids})).await;
    assert_eq!(status, 200, "{answer}");
    let user = |name: &str| json!({"found": true, "kind": "user", "principalArn": format!("arn:aws:iam::111122223333:user/{name}")});
    let nobody = json!({"found": false});
    let expected = json!([user("bob"), nobody, nobody, nobody, nobody, user("alice")]);
    assert_eq!(answer, json!({"identities": expected}));
    for count in [0, 1_001] {
        let (status, _) = served
            .ask(RESOLVE, &json!({"accessKeyIds": vec!["x"; count]}))
            .await;
        assert_eq!(status, 400, "{count}");
    }
    let (_, answer) = served
        .ask(RESOLVE, &json!({"accessKeyIds": vec!["x"; 1_000]}))
        .await;
    assert_eq!(answer["identities"].as_array().unwrap().len(), 1_000);
}

#[tokio::test]
async fn az_02_a_gateway_gets_the_decisions_of_authorize() {
    let served = served().await;
    let only = |statements: Value| json!({"Version": "2012-10-17", "Statement": statements});
    let lists = only(
        json!([{"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": ["arn:aws:s3:::data", "arn:aws:s3:::data/home/*"]}]),
    );
    let denies = only(
        json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/home/x"}]),
    );
    let (whole, listing, denying) = (
        served.assume(None).await,
        served.assume(Some(lists)).await,
        served.assume(Some(denies)).await,
    );
    let actions = [
        "s3:GetObject",
        "s3:GetObjectTagging",
        "s3:DeleteObject",
        "s3:ListBucket",
    ];
    let resources = [
        "arn:aws:s3:::data",
        "arn:aws:s3:::data/home/x",
        "arn:aws:s3:::data/other",
    ];
    let mut seen = std::collections::BTreeSet::new();
    for (name, keys) in [
        ("bob", user("bob")),
        ("denied", user("denied")),
        ("bounded", user("bounded")),
        ("walled", key_of("walled")),
        ("", whole.clone()),
        ("", listing.clone()),
        ("", denying.clone()),
    ] {
        let answer = served
            .evaluate(&keys, &actions, &resources, condition(json!({})))
            .await;
        let subject = match &keys.token {
            Some(token) => pb::subject::Subject::Session(pb::SubjectSession {
                access_key_id: keys.id.clone(),
                session_token: token.clone(),
            }),
            None => {
                pb::subject::Subject::PrincipalArn(format!("arn:aws:iam::111122223333:user/{name}"))
            }
        };
        let items = resources.iter().flat_map(|resource| {
            actions.iter().map(|action| pb::AuthorizeItem {
                action: (*action).to_owned(),
                resource: (*resource).to_owned(),
                ..Default::default()
            })
        });
        let request = pb::AuthorizeRequest {
            subject: Some(pb::Subject {
                subject: Some(subject),
            }),
            items: items.collect(),
            ..Default::default()
        };
        let decided = served
            .broker
            .client(&key_of("gateway"))
            .authorize(request)
            .await
            .unwrap();
        let verdicts = answer["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap());
        let verdicts: Vec<&str> = verdicts.map(|v| v.as_str().unwrap()).collect();
        assert_eq!(verdicts.len(), decided.decisions.len());
        for (verdict, decision) in verdicts.iter().zip(&decided.decisions) {
            let fits = match decision.code.as_str() {
                "Allowed" => *verdict == "allow",
                "ExplicitDeny" => *verdict == "deny",
                "ImplicitDeny" => *verdict != "allow",
                _ => false,
            };
            assert!(fits, "{name}: {verdict} and {}", decision.code);
            seen.insert(format!("{verdict} {}", decision.code));
        }
    }
    // Behind a boundary that does not allow it, no policy of a bucket lets anybody in.
    let all = [
        "allow Allowed",
        "deny ExplicitDeny",
        "deny ImplicitDeny",
        "no_match ImplicitDeny",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

#[tokio::test]
async fn az_03_session_policies_have_verdicts_of_their_own() {
    let served = served().await;
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::data/home/*"}]});
    let limited = served.assume(Some(policy)).await;
    let actions = ["s3:GetObject", "s3:PutObject"];
    let resources = ["arn:aws:s3:::data/home/x", "arn:aws:s3:::data/y"];
    let answer = served
        .evaluate(&limited, &actions, &resources, condition(json!({})))
        .await;
    assert_eq!(
        answer,
        json!({"decisions": [["allow", "no_match"], ["no_match", "no_match"]],
            "sessionDecisions": [["allow", "allow"], ["no_match", "no_match"]], "hasSessionPolicy": true,
            "principalArn": "arn:aws:sts::111122223333:assumed-role/Open/job"})
    );
    // A session without one has none, and neither has a user.
    let whole = served.assume(None).await;
    for keys in [&whole, &user("bob")] {
        let answer = served
            .evaluate(keys, &actions, &resources, json!(null))
            .await;
        assert!(
            answer.get("sessionDecisions").is_none() && answer["hasSessionPolicy"] == false,
            "{answer}"
        );
    }
    // What narrows a session limits it as well.
    let narrow = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/y"}]});
    let client = served.broker.client(&whole);
    let narrowed = client
        .get_scoped_credentials(Some(&narrow.to_string()), None, None)
        .await
        .unwrap();
    let answer = served
        .evaluate(&Keys::from(&narrowed), &actions, &resources, json!({}))
        .await;
    assert_eq!(
        answer["decisions"],
        json!([["no_match", "no_match"], ["allow", "no_match"]])
    );
    assert_eq!(
        answer["sessionDecisions"],
        json!([["no_match", "no_match"], ["allow", "no_match"]])
    );
}

#[tokio::test]
async fn az_08_a_gateway_says_what_it_sees_of_its_client_and_nothing_else() {
    let served = served().await;
    let near = key_of("near");
    let ask = async |action: &str, condition: Value| {
        let answer = served
            .evaluate(&near, &[action], &["arn:aws:s3:::data/x"], condition)
            .await;
        answer["decisions"][0][0].as_str().unwrap().to_owned()
    };
    assert_eq!(ask("s3:GetObject", condition(json!({}))).await, "allow");
    for other in [
        json!({"aws:SourceIp": ["198.51.100.1"]}),
        json!({"aws:SecureTransport": ["false"]}),
    ] {
        assert_eq!(
            ask("s3:GetObject", condition(other.clone())).await,
            "no_match",
            "{other}"
        );
    }
    // What it does not say allows nothing, and denies. The region is the one for which it has keys.
    assert_eq!(ask("s3:GetObject", json!({})).await, "no_match");
    assert_eq!(ask("s3:DeleteObject", condition(json!({}))).await, "deny");
    assert_eq!(ask("s3:PutObject", condition(json!({}))).await, "allow");
    // Its clock does not count.
    assert_eq!(
        ask("s3:ListBucket", condition(json!({"s3:prefix": ["home/a"]}))).await,
        "allow"
    );
    assert_eq!(
        ask("s3:ListBucket", condition(json!({"s3:prefix": ["away/a"]}))).await,
        "no_match"
    );
    assert_eq!(ask("s3:ListBucket", condition(json!({}))).await, "no_match");
    let object = "arn:aws:s3:::data/x";
    for (key, value) in [
        ("aws:PrincipalArn", "arn:aws:iam::111122223333:user/admin"),
        ("AWS:principalArn", "arn:aws:iam::111122223333:user/admin"),
        ("aws:username", "admin"),
        ("aws:PrincipalTag/team", "red"),
        ("aws:MultiFactorAuthPresent", "true"),
        ("aws:RequestedRegion", "eu-central-1"),
        ("s3:ResourceAccount", "444455556666"),
        ("iam:ResourceTag/team", "red"),
    ] {
        let asked = question(
            &near,
            &["s3:GetObject"],
            &[object],
            condition(json!({key: [value]})),
        );
        assert_eq!(served.ask(EVALUATE, &asked).await.0, 400, "{key}");
    }
    for action in [
        "s3:*",
        "s3:Get*",
        "s3:Frobnicate",
        "s3:",
        "GetObject",
        "sts:AssumeRole",
        "iam:GetUser",
        "*",
    ] {
        let asked = question(&near, &[action], &[object], json!({}));
        assert_eq!(served.ask(EVALUATE, &asked).await.0, 400, "{action}");
    }
    for resource in [
        "*",
        "arn:aws:s3:::",
        "arn:aws:iam::111122223333:user/bob",
        "arn:aws:s3:::data/\u{fffd}",
        "",
    ] {
        let asked = question(&near, &["s3:GetObject"], &[resource], json!({}));
        assert_eq!(served.ask(EVALUATE, &asked).await.0, 400, "{resource}");
    }
}

#[tokio::test]
async fn tr_04_questions_have_bounds() {
    let served = served().await;
    let bob = user("bob");
    let names: Vec<String> = (0..1_000)
        .map(|i| format!("arn:aws:s3:::data/home/{i}{}", "x".repeat(1_000)))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let answer = served
        .evaluate(&bob, &["s3:DeleteObject"], &names, condition(json!({})))
        .await;
    let decisions = answer["decisions"].as_array().unwrap();
    assert!(decisions.len() == 1_000 && decisions.iter().all(|row| *row == json!(["allow"])));
    let few = ["arn:aws:s3:::data/home/x"];
    for (actions, resources) in [
        (vec!["s3:GetObject"; 5], vec![few[0]; 801]),
        (Vec::new(), vec![few[0]]),
        (vec!["s3:GetObject"], Vec::new()),
    ] {
        let asked = question(&bob, &actions, &resources, json!({}));
        assert_eq!(served.ask(EVALUATE, &asked).await.0, 400);
    }
    let many: serde_json::Map<String, Value> = (0..65)
        .map(|i| (format!("s3:k{i}"), json!(["x"])))
        .collect();
    let asked = question(&bob, &["s3:GetObject"], &few, Value::Object(many));
    assert_eq!(served.ask(EVALUATE, &asked).await.0, 400);
    let shown = served.gateway();
    for body in [
        "",
        "null",
        "[]",
        "{",
        r#"{"accessKeyIds": "x"}"#,
        r#"{"accessKeyIds": ["x"], "accessKeyIds": ["y"]}"#,
        r#"{"accessKeyIds": ["x"], "more": 1}"#,
        r#"{"accessKeyIds": ["\ud800"]}"#,
    ] {
        let headers = served.signed(&key_of("gateway"), RESOLVE, body.as_bytes());
        let answer = served
            .send(Some(&shown), "POST", RESOLVE, headers, body.into())
            .await
            .unwrap();
        assert_eq!(
            (answer.0, &answer.1["code"]),
            (400, &json!("BadRequest")),
            "{body}"
        );
    }
    let long = vec![b' '; (2 << 20) + 1];
    let headers = served.signed(&key_of("gateway"), RESOLVE, &long);
    let answer = served
        .send(Some(&shown), "POST", RESOLVE, headers, long)
        .await;
    assert!(answer.is_none_or(|(status, _)| status == 400));
}

#[tokio::test]
async fn tr_04_a_question_about_many_objects_counts_as_several() {
    let limits = brevet::budgets::BudgetLimits {
        principal_reads: std::num::NonZeroU32::new(100),
        ..brevet::budgets::BudgetLimits::OFF
    };
    let served = served_with(|_| {}, |config| config.budgets = limits).await;
    let bob = user("bob");
    let names: Vec<String> = (0..1_000)
        .map(|i| format!("arn:aws:s3:::data/home/{i}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // Two hundred may come at once, and ten decisions count as one.
    let actions = ["s3:DeleteObject", "s3:GetObject"];
    served
        .evaluate(&bob, &actions, &names, condition(json!({})))
        .await;
    let one = json!({"accessKeyIds": [bob.id]});
    let (status, answer) = served.ask(RESOLVE, &one).await;
    assert_eq!((status, &answer["code"]), (429, &json!("Throttling")));
    served.broker.clock.pass(Duration::from_secs(4));
    // As do the names of a thousand keys. They leave half of the budget to other questions.
    for (count, expected) in [(1_000, 200), (999, 429)] {
        let names = json!({"accessKeyIds": vec!["x"; count]});
        assert_eq!(served.ask(RESOLVE, &names).await.0, expected, "{count}");
    }
    served
        .evaluate(&bob, &["s3:GetObject"], &names, condition(json!({})))
        .await;
    let last = question(
        &bob,
        &actions,
        &["arn:aws:s3:::data/x"],
        condition(json!({})),
    );
    assert_eq!(served.ask(EVALUATE, &last).await.0, 429);
}

#[tokio::test]
async fn tr_04_one_client_of_a_gateway_leaves_half_of_its_budget_to_the_others() {
    let limits = brevet::budgets::BudgetLimits {
        principal_reads: std::num::NonZeroU32::new(100),
        ..brevet::budgets::BudgetLimits::OFF
    };
    let served = served_with(|_| {}, |config| config.budgets = limits).await;
    let names: Vec<String> = (0..500)
        .map(|i| format!("arn:aws:s3:::data/home/{i}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ask = async |keys: &Keys, action: &str| {
        let question = question(keys, &[action], &names, condition(json!({})));
        served.ask(EVALUATE, &question).await.0
    };
    // Two hundred may come at once, and each question counts as fifty.
    for (action, expected) in [
        ("s3:DeleteObject", 200),
        ("s3:GetObject", 200),
        ("s3:PutObject", 429),
        ("s3:ListBucket", 429),
    ] {
        assert_eq!(ask(&user("bob"), action).await, expected, "{action}");
    }
    for action in ["s3:DeleteObject", "s3:GetObject"] {
        assert_eq!(ask(&user("alice"), action).await, 200, "{action}");
    }
    let metrics = served.broker.operator("/metrics").await.body;
    let line = "brevet_throttled_total{budget=\"subjects\"} 2\n";
    assert!(metrics.contains(line), "{metrics}");
}
