//! The listener for proxies in front of object stores, as a proxy sees it.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use brevet::api::sts::v1 as pb;
use brevet::base::secret::Secret;
use brevet::config::{S3, StoreSettings};
use brevet::proof::sigv4::SigningSecret;
use brevet::proof::sigv4::s3::{S3Request, authorization};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, response};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::client_certificates::{Ca, Certified, named, over_tls};
use crate::harness::*;
use crate::http2::connect;

pub const SECRET: &str = "the-secret-that-the-proxies-share-0123456789";
pub const STORE_SECRET: &str = "canary+store/secret/0123456789/0123456789";
pub const HOST: &str = "s3.example.com:8443";

/// The directory of all tests, with what they say about buckets.
pub fn directory() -> String {
    let mut directory: Value = serde_json::from_str(DIRECTORY).unwrap();
    let allow = |action: &str, resource: &str| json!({"Effect": "Allow", "Action": action, "Resource": resource});
    directory["UserDetailList"][1]["UserPolicyList"] = json!([{"PolicyName": "s3", "PolicyDocument": {
        "Version": "2012-10-17", "Statement": [allow("s3:GetObject", "arn:aws:s3:::data/home/*"), allow("s3:DeleteObject", "arn:aws:s3:::data/home/*")]}}]);
    let statement = |principal: Value, resource: &str| {
        let mut statement = allow("s3:GetObject", resource);
        statement["Principal"] = principal;
        json!({"Version": "2012-10-17", "Statement": [statement]})
    };
    let carol = json!({"AWS": "arn:aws:iam::444455556666:user/carol"});
    directory["Brevet"]["BucketPolicies"] = json!([
        {"Bucket": "data", "AccountId": "111122223333", "Policy": statement(carol, "arn:aws:s3:::data/shared/*")},
        {"Bucket": "site", "AccountId": "111122223333", "Policy": statement(json!("*"), "arn:aws:s3:::site/*")},
        // Not the owner's, so not in force.
        {"Bucket": "theirs", "AccountId": "111122223333", "Policy": statement(json!("*"), "arn:aws:s3:::theirs/*")}]);
    directory.to_string()
}

pub fn settings(dir: &Path) -> S3 {
    let file = |name: &str, text: String| {
        brevet::files::write_private(&dir.join(name), text.as_bytes()).unwrap();
        dir.join(name)
    };
    let key = format!(
        "[default]\naws_access_key_id = STOREKEY\naws_secret_access_key = {STORE_SECRET}\n"
    );
    let owner = |id: &str| brevet::base::arn::AccountId::parse(id).unwrap();
    let mine = owner("111122223333");
    S3 {
        address: ([127, 0, 0, 1], 0).into(),
        tls: None,
        client_ca: None,
        client_names: None,
        secret_files: vec![file("proxy.secret", format!("{SECRET}\n"))],
        gateway_regions: None,
        stores: vec![StoreSettings {
            name: "main".to_owned(),
            hosts: vec!["s3.example.com".to_owned()],
            authority: "store:8333".to_owned(),
            region: "us-east-1".to_owned(),
            key_file: file("store.key", key),
            virtual_host: false,
            keeps_slashes: false,
            takes_trailers: false,
            remote_signing: false,
            buckets: [
                ("data".to_owned(), mine),
                ("site".to_owned(), mine),
                ("theirs".to_owned(), owner("444455556666")),
            ]
            .into(),
            cors: Vec::new(),
        }],
    }
}

async fn started() -> Broker {
    started_with(&directory(), |_| {}).await
}

/// A broker with this directory and the store, which may be changed.
pub async fn started_with(directory: &str, change: impl FnOnce(&mut StoreSettings)) -> Broker {
    let dir = home();
    let file = dir.path().join("directory.json");
    brevet::files::write_private(&file, directory.as_bytes()).unwrap();
    let mut s3 = settings(dir.path());
    change(&mut s3.stores[0]);
    Broker::start_in(dir, |config| config.s3 = Some(s3)).await
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// What nginx sends about a request of a client.
pub fn question(method: &str, uri: &str) -> HeaderMap {
    headers(&[
        ("x-brevet-proxy-secret", SECRET),
        ("x-original-method", method),
        ("x-original-uri", uri),
        ("x-original-host", HOST),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
    ])
}

/// Signs a request without a body as S3's clients do. `path` needs no encoding.
pub fn sign(broker: &Broker, keys: &Keys, method: &str, path: &str, headers: &mut HeaderMap) {
    use brevet::base::clock::Clock;
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let now = broker.clock.now();
    let date = now.to_amz();
    let mut signed = vec![
        ("host", HOST),
        ("x-amz-content-sha256", EMPTY),
        ("x-amz-date", &date),
    ];
    if let Some(token) = &keys.token {
        signed.push(("x-amz-security-token", token));
    }
    let query: [(&str, Cow<'_, str>); 0] = [];
    let request = S3Request {
        method,
        path,
        query: &query,
        headers: &[],
        host: HOST,
    };
    let secret = SigningSecret::new(Secret::new(keys.secret.clone()));
    let key = (keys.id.as_str(), &secret);
    let authorization = authorization(key, "us-east-1", now, &request, |_| false, &signed, EMPTY);
    for (name, value) in signed.iter().filter(|(name, _)| *name != "host") {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    headers.insert("authorization", authorization.parse().unwrap());
}

pub async fn ask(broker: &Broker, headers: HeaderMap) -> Answer {
    let address = broker.running.as_ref().unwrap().s3.unwrap();
    http1(address, "GET", "/s3/authorize", headers, Vec::new()).await
}

pub async fn get(broker: &Broker, keys: &Keys, path: &str) -> Answer {
    let mut asked = question("GET", path);
    sign(broker, keys, "GET", path, &mut asked);
    ask(broker, asked).await
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let value = answer.headers.get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn what_is_allowed_is_signed_for_the_store_and_what_is_not_says_why() {
    let mut broker = started().await;
    let bob = user("bob");
    let answer = get(&broker, &bob, "/data/home/x").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let signature = header(&answer, "authorization");
    assert!(
        signature.contains("Credential=STOREKEY/") && signature.contains("SignedHeaders=host;"),
        "{signature}"
    );
    assert_eq!(header(&answer, "x-brevet-uri"), "/data/home/x");
    assert_eq!(header(&answer, "x-brevet-host"), "store:8333");
    assert_eq!(header(&answer, "cache-control"), "no-store");
    let elsewhere = get(&broker, &bob, "/data/other/x").await;
    assert_eq!(elsewhere.status, 403);
    for part in [
        "<Code>AccessDenied</Code>",
        "user/bob",
        "s3:GetObject",
        "Encoded authorization failure message: ",
    ] {
        assert!(elsewhere.body.contains(part), "{part}: {}", elsewhere.body);
    }
    assert!(header(&elsewhere, "x-brevet-refusal").contains("AccessDenied"));
    let id = header(&elsewhere, "x-amz-request-id").to_owned();
    assert!(elsewhere.body.contains(&id) && !id.is_empty());
    // A bucket policy lets another account's user in, whose own policies must allow it as well.
    assert_eq!(
        get(&broker, &user("carol"), "/data/shared/x").await.status,
        403
    );
    let admin = user("other-admin");
    assert_eq!(get(&broker, &admin, "/data/shared/x").await.status, 403);
    // Without a signature, only a bucket policy of the bucket's owner lets somebody in.
    for (path, status) in [
        ("/site/x", 200),
        ("/theirs/x", 403),
        ("/data/home/x", 403),
        ("/unlisted/x", 403),
    ] {
        let answer = ask(&broker, question("GET", path)).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    // The refusals are in the audit log, with the client's address as the proxy says it.
    broker.stop().await;
    let log = std::fs::read_to_string(broker.audit_path()).unwrap();
    let refused = log.lines().find(|line| line.contains(&id)).unwrap();
    let record: Value = serde_json::from_str(refused).unwrap();
    assert_eq!(record["sourceIPAddress"], "192.0.2.7");
    assert_eq!(record["eventSource"], "s3.amazonaws.com");
    assert_eq!(record["errorCode"], "AccessDenied");
    for secret in [STORE_SECRET, SECRET, "Signature="] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn an_04_nobody_but_a_proxy_is_answered() {
    let broker = started().await;
    let address = broker.running.as_ref().unwrap().s3.unwrap();
    let mut asked = question("GET", "/site/x");
    assert_eq!(ask(&broker, asked.clone()).await.status, 200);
    asked.remove("x-brevet-proxy-secret");
    for shown in [
        &[][..],
        &["", "x"],
        &[SECRET, SECRET],
        &["the-secret-that-the-proxies-share-012345678"],
    ] {
        let mut asked = asked.clone();
        for secret in shown {
            asked.append(
                "x-brevet-proxy-secret",
                HeaderValue::from_str(secret).unwrap(),
            );
        }
        for method in ["GET", "POST", "HEAD", "OPTIONS"] {
            for path in ["/s3/authorize", "/", "/metrics", "//s3/authorize"] {
                let answer = http1(address, method, path, asked.clone(), Vec::new()).await;
                assert_eq!(answer.status, 403, "{method} {path}");
                assert!(answer.headers.get("authorization").is_none());
            }
        }
        let check = "/envoy.service.auth.v3.Authorization/Check";
        let answer = grpc(address, check, asked.clone(), frame(b"")).await;
        assert_eq!(answer.status, 16, "{}", answer.message);
    }
    // A proxy that is admitted and says nothing of a request is told what to say.
    let admitted = headers(&[("x-brevet-proxy-secret", SECRET)]);
    let answer = ask(&broker, admitted.clone()).await;
    assert!(
        answer.status == 400 && answer.body.contains("X-Original-Uri"),
        "{}",
        answer.body
    );
    let answer = http1(address, "GET", "/", admitted, Vec::new()).await;
    assert_eq!(answer.status, 404);
    // The service itself has no such endpoint.
    let answer = http1(
        broker.address,
        "GET",
        "/s3/authorize",
        question("GET", "/site/x"),
        Vec::new(),
    )
    .await;
    assert!(answer.status >= 400 && answer.headers.get("authorization").is_none());
}

#[tokio::test]
async fn az_08_a_request_is_judged_once_and_as_its_proxy_says() {
    let broker = started().await;
    let bob = user("bob");
    // The client sends what only the proxy may say, or signs for another host.
    let mut both = question("GET", "/data/home/x");
    sign(&broker, &bob, "GET", "/data/home/x", &mut both);
    both.insert("x-forwarded-uri", "/data/home/x".parse().unwrap());
    assert!(
        ask(&broker, both)
            .await
            .body
            .contains("remove the other three")
    );
    let mut other = question("GET", "/data/home/x");
    sign(&broker, &bob, "GET", "/data/home/x", &mut other);
    other.insert("x-original-host", "s3.elsewhere.com".parse().unwrap());
    assert!(ask(&broker, other).await.body.contains("no object store"));
    // Another path than the one that is signed.
    let mut moved = question("GET", "/data/home/y");
    sign(&broker, &bob, "GET", "/data/home/x", &mut moved);
    assert!(
        ask(&broker, moved)
            .await
            .body
            .contains("SignatureDoesNotMatch")
    );
    // Traefik and Caddy pass on S3's own status; nginx knows 403 only.
    let mut traefik = forwarded("/data/home/x?acl&tagging", HOST);
    assert_eq!(ask(&broker, traefik.clone()).await.status, 501);
    let presigned = "/data/home/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0";
    traefik.insert("x-forwarded-uri", presigned.parse().unwrap());
    assert!(ask(&broker, traefik).await.status >= 400);
}

/// What Traefik and Caddy send about a request of a client.
fn forwarded(uri: &str, host: &str) -> HeaderMap {
    headers(&[
        ("x-brevet-proxy-secret", SECRET),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-uri", uri),
        ("x-forwarded-host", host),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
    ])
}

#[tokio::test]
async fn os_09_a_bucket_in_the_host_needs_a_proxy_that_takes_the_host_of_the_answer() {
    let broker = started_with(&directory(), |store| store.virtual_host = true).await;
    let host = "site.s3.example.com:8443";
    let mut nginx = question("GET", "/x");
    nginx.insert("x-original-host", host.parse().unwrap());
    let mut caddy = forwarded("/x", host);
    caddy.insert("x-brevet-takes", "host".parse().unwrap());
    for asked in [nginx, caddy.clone()] {
        let answer = ask(&broker, asked).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(header(&answer, "x-brevet-host"), "site.store:8333");
        assert_eq!(header(&answer, "x-brevet-uri"), "/x");
    }
    // Traefik calls the store by one host.
    for takes in [None, Some("nothing")] {
        let mut asked = forwarded("/x", host);
        if let Some(takes) = takes {
            asked.insert("x-brevet-takes", takes.parse().unwrap());
        }
        let answer = ask(&broker, asked).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.contains("path style"), "{}", answer.body);
        assert!(answer.headers.get("authorization").is_none());
    }
    // The bucket in the path needs no other host.
    let answer = ask(&broker, forwarded("/site/x", HOST)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(header(&answer, "x-brevet-host"), "store:8333");
}

#[tokio::test]
async fn what_a_proxy_says_in_place_of_the_stores_own_refusal_names_nothing() {
    let broker = started().await;
    let address = broker.running.as_ref().unwrap().s3.unwrap();
    let path = "/s3/store-refused";
    let admitted = headers(&[("x-brevet-proxy-secret", SECRET)]);
    let answer = http1(address, "GET", path, admitted, Vec::new()).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.contains("<Code>ServiceUnavailable</Code>")
            && !answer.body.contains("STOREKEY"),
        "{}",
        answer.body
    );
    let stranger = http1(address, "GET", path, HeaderMap::new(), Vec::new()).await;
    assert_eq!(stranger.status, 403);
}

#[tokio::test]
async fn a_revoked_session_and_an_expired_one_are_refused() {
    let broker = started().await;
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    assert_eq!(get(&broker, &session, "/data/home/x").await.status, 200);
    broker.clock.advance(Duration::from_secs(3_599));
    assert_eq!(get(&broker, &session, "/data/home/x").await.status, 200);
    broker.clock.advance(Duration::from_secs(1));
    let expired = get(&broker, &session, "/data/home/x").await;
    assert!(
        expired.body.contains("<Code>ExpiredToken</Code>"),
        "{}",
        expired.body
    );
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let selector = pb::revoke_sessions_request::Selector::RoleArn(OPEN.into());
    let change = broker.revoke(&user("admin"), selector).await.unwrap();
    broker.reaches(change).await;
    let ended = get(&broker, &session, "/data/home/x").await;
    assert_eq!(ended.status, 403, "{}", ended.body);
}

#[tokio::test]
async fn op_05_a_broker_that_is_not_ready_answers_503_with_a_time_to_try_again() {
    let broker = started().await;
    let mut traefik = forwarded("/site/x", HOST);
    traefik.insert("user-agent", "test".parse().unwrap());
    assert_eq!(ask(&broker, traefik.clone()).await.status, 200);
    broker
        .clock
        .set(brevet::base::clock::Timestamp::from_seconds(
            now().seconds() - 7_200,
        ));
    let answer = ask(&broker, traefik).await;
    assert_eq!(
        (answer.status, header(&answer, "retry-after")),
        (503, "1"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains("<Code>ServiceUnavailable</Code>"));
}

#[tokio::test]
async fn the_stores_key_is_read_again_when_it_changes() {
    let broker = started().await;
    let key = broker.dir.path().join("store.key");
    let text = std::fs::read_to_string(&key)
        .unwrap()
        .replace("STOREKEY", "NEXTKEY");
    brevet::files::write_private(&key, text.as_bytes()).unwrap();
    eventually("the new key signs", async || {
        let answer = ask(&broker, question("GET", "/site/x")).await;
        header(&answer, "authorization").contains("Credential=NEXTKEY/")
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_was_replaced_admits_nobody() {
    let broker = started().await;
    let stream = TcpStream::connect(address(&broker)).await.unwrap();
    // Over HTTP/2 a refusal does not end the connection.
    let mut open = Open::http2(stream).await.unwrap();
    assert_eq!(open.ask(question("GET", "/site/x")).await, Some(200));
    let next = "the-next-secret-of-the-proxies-0123456789";
    let file = broker.dir.path().join("proxy.secret");
    brevet::files::write_private(&file, next.as_bytes()).unwrap();
    eventually("the old secret is refused", async || {
        open.ask(question("GET", "/site/x")).await == Some(403)
    })
    .await;
    let mut renewed = question("GET", "/site/x");
    renewed.insert("x-brevet-proxy-secret", next.parse().unwrap());
    assert_eq!(open.ask(renewed).await, Some(200));
}

fn address(broker: &Broker) -> SocketAddr {
    broker.running.as_ref().unwrap().s3.unwrap()
}

/// A broker whose listener for proxies has TLS, and admits proxies with a secret or a certificate.
struct Secure {
    broker: Broker,
    /// The CA of the listener's certificate.
    server: String,
    clients: Ca,
    /// The certificate of `clients` in the file of the broker.
    client_ca: String,
}

impl Secure {
    async fn start() -> Self {
        let (dir, own, clients) = (home(), Ca::new(), Ca::new());
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            brevet::files::write_private(&path, text.as_bytes()).unwrap();
            path
        };
        write("directory.json", &directory());
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let server = own.sign(&params);
        let mut s3 = settings(dir.path());
        s3.tls = Some((
            write("s3.crt", &server.certificate),
            write("s3.key", &server.key),
        ));
        let client_ca = clients.pem();
        s3.client_ca = Some(write("s3-clients.crt", &client_ca));
        Self {
            broker: Broker::start_in(dir, |config| config.s3 = Some(s3)).await,
            server: own.pem(),
            clients,
            client_ca,
        }
    }

    /// A new connection with a certificate, from an address of loopback.
    async fn open(&self, from: Ipv4Addr, shown: &Certified, protocol: &[u8]) -> Option<Open> {
        let stream = connect(address(&self.broker), from).await.ok()?;
        let stream = over_tls(stream, &self.server, Some(shown), &[protocol]).await;
        match protocol {
            b"h2" => Open::http2(stream.ok()?).await.ok(),
            _ => Open::http1(stream.ok()?).await.ok(),
        }
    }
}

const HERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 200);

/// An open connection of a proxy.
enum Open {
    Http1(conn::http1::SendRequest<Empty<Bytes>>),
    Http2(conn::http2::SendRequest<Empty<Bytes>>),
}

impl Open {
    async fn http1<S>(stream: S) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    async fn http2<S>(stream: S) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(Self::Http2(sender))
    }

    /// The head of the answer; `None` if the connection has ended.
    async fn send(&mut self, headers: HeaderMap) -> Option<response::Parts> {
        let mut request = Request::get("https://localhost/s3/authorize")
            .body(Empty::new())
            .unwrap();
        *request.headers_mut() = headers;
        let answer = match self {
            Self::Http1(sender) => {
                *request.uri_mut() = "/s3/authorize".parse().unwrap();
                request
                    .headers_mut()
                    .insert("host", HeaderValue::from_static("localhost"));
                sender.ready().await.ok()?;
                sender.send_request(request).await.ok()?
            }
            Self::Http2(sender) => {
                sender.ready().await.ok()?;
                sender.send_request(request).await.ok()?
            }
        };
        let (head, body) = answer.into_parts();
        body.collect().await.ok()?;
        Some(head)
    }

    /// The status of the answer; `None` if the connection has ended.
    async fn ask(&mut self, headers: HeaderMap) -> Option<u16> {
        Some(self.send(headers).await?.status.as_u16())
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

/// A question of a proxy that has a certificate and no secret.
fn certified_question() -> HeaderMap {
    let mut asked = question("GET", "/site/x");
    asked.remove("x-brevet-proxy-secret");
    asked
}

#[tokio::test]
async fn tr_07_a_connection_of_a_proxy_does_not_outlive_the_ca_of_its_certificate() {
    let secure = Secure::start().await;
    let dir = secure.broker.dir.path();
    let envoy = secure.clients.sign(&named("envoy"));
    for protocol in [b"http/1.1".as_slice(), b"h2"] {
        let trusted = secure.client_ca.as_bytes();
        brevet::files::write_private(&dir.join("s3-clients.crt"), trusted).unwrap();
        let mut open = None;
        eventually("the CA is trusted", async || {
            open = secure.open(HERE, &envoy, protocol).await;
            match &mut open {
                Some(open) => open.ask(certified_question()).await == Some(200),
                None => false,
            }
        })
        .await;
        let mut open = open.unwrap();
        // Another file is read again: the connection goes on.
        let (file, key) = (dir.join("store.key"), format!("KEY{}", protocol.len()));
        brevet::files::write_private(
            &file,
            format!(
                "[default]\naws_access_key_id = {key}\naws_secret_access_key = {STORE_SECRET}\n"
            )
            .as_bytes(),
        )
        .unwrap();
        eventually("the new key signs", async || {
            let answer = open.send(certified_question()).await.unwrap();
            let signature = answer.headers["authorization"].to_str().unwrap();
            signature.contains(&format!("Credential={key}/"))
        })
        .await;
        // Another CA: no question on the connection is answered any more, and it is closed.
        let other = Ca::new();
        brevet::files::write_private(&dir.join("s3-clients.crt"), other.pem().as_bytes()).unwrap();
        eventually("the old CA is not trusted", async || {
            open.ask(certified_question()).await != Some(200)
        })
        .await;
        assert_ne!(open.ask(certified_question()).await, Some(200));
        eventually("the connection is closed", async || open.is_closed()).await;
        if let Some(mut again) = secure.open(HERE, &envoy, protocol).await {
            assert_ne!(again.ask(certified_question()).await, Some(200));
        }
        let renewed = other.sign(&named("envoy"));
        let mut renewed = secure.open(HERE, &renewed, protocol).await.unwrap();
        assert_eq!(renewed.ask(certified_question()).await, Some(200));
    }
}

/// Whether this process may have so many open files.
fn has_descriptors(count: u64) -> bool {
    brevet::process::raise_descriptor_limit();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let is_enough = limit.is_none_or(|limit| limit >= count);
    if !is_enough {
        may_skip(&format!("the limit of file descriptors is below {count}"));
    }
    is_enough
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tr_06_connections_that_are_nobodys_give_way_to_proxies() {
    if !has_descriptors(3_000) {
        return;
    }
    let broker = started().await;
    let address = address(&broker);
    let admitted = TcpStream::connect(address).await.unwrap();
    let mut admitted = Open::http1(admitted).await.unwrap();
    assert_eq!(admitted.ask(question("GET", "/site/x")).await, Some(200));
    // More than the listener takes, and none of them says anything.
    let mut silent = Vec::new();
    for _ in 0..1_100 {
        let from = Ipv4Addr::new(127, 0, 0, 7);
        silent.push(connect(address, from).await.unwrap());
    }
    for _ in 0..5 {
        assert_eq!(ask(&broker, question("GET", "/site/x")).await.status, 200);
    }
    assert_eq!(admitted.ask(question("GET", "/site/x")).await, Some(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tr_06_unfinished_handshakes_keep_no_proxy_out() {
    use tokio::io::AsyncWriteExt;
    if !has_descriptors(3_000) {
        return;
    }
    let secure = Secure::start().await;
    let address = address(&secure.broker);
    let envoy = secure.clients.sign(&named("envoy"));
    let mut admitted = secure.open(HERE, &envoy, b"http/1.1").await.unwrap();
    assert_eq!(admitted.ask(certified_question()).await, Some(200));
    // The first bytes of a ClientHello, on more connections than the proxies' own address may have in their handshake,
    // and then on more than the listener takes.
    let shared = vec![HERE; 200];
    let many = (0..1_200_u16).map(|n| Ipv4Addr::new(127, 0, 0, u8::try_from(n / 120).unwrap() + 1));
    let mut begun = Vec::new();
    for sources in [shared, many.collect()] {
        for from in sources {
            let mut stream = connect(address, from).await.unwrap();
            // An older one is closed for it, and that may be this one by now.
            let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01").await;
            begun.push(stream);
        }
        for protocol in [b"http/1.1".as_slice(), b"h2"].repeat(3) {
            let mut proxy = secure.open(HERE, &envoy, protocol).await.unwrap();
            assert_eq!(proxy.ask(certified_question()).await, Some(200));
        }
    }
    assert_eq!(admitted.ask(certified_question()).await, Some(200));
}
