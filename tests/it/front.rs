//! The names of the broker, proxies in front of it, requests from other origins' pages, and clients
//! of other services.

use std::sync::Arc;
use std::time::Duration;

use brevet::api::SERVICE;
use brevet::api::sts::v1 as pb;
use brevet::base::digest::sha256;
use brevet::base::host_names::{HostName, HostNames};
use brevet::budgets::BudgetLimits;
use brevet::config::{ForwardedHeader, Listener, Names};
use brevet::evaluator::Network;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::*;

fn listed(names: &[&str]) -> Names {
    Names::Listed(HostNames::new(
        names.iter().map(|n| HostName::parse(n).unwrap()),
    ))
}

/// The headers of a POST that alice signed for a host.
fn signed_for(
    broker: &Broker,
    keys: &Keys,
    host: &str,
    path: &str,
    mut headers: HeaderMap,
    body: &[u8],
) -> HeaderMap {
    use brevet::base::clock::Clock;
    keys.signer("us-east-1")
        .sign(
            "POST",
            path,
            host,
            &mut headers,
            &sha256(body),
            broker.clock.now(),
        )
        .unwrap();
    headers.insert("host", HeaderValue::from_str(host).unwrap());
    headers
}

async fn ask(broker: &Broker, keys: &Keys, host: &str) -> Answer {
    let body = encode(WHO);
    let headers = signed_for(broker, keys, host, "/", form_headers(), body.as_bytes());
    broker.send("POST", "/", headers, body.into_bytes()).await
}

/// The same over gRPC, where `:authority` is the host.
async fn ask_by_grpc(broker: &Broker, keys: &Keys, host: &str) -> GrpcAnswer {
    let message = pb::GetCallerIdentityRequest {}.encode_to_vec();
    let path = format!("/{SERVICE}/GetCallerIdentity");
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut headers = signed_for(broker, keys, host, &path, headers, &message);
    headers.remove("host");
    grpc_for(broker.address, host, &path, headers, frame(&message)).await
}

#[tokio::test]
async fn a_signed_request_is_for_this_broker_on_both_wires() {
    let broker =
        Broker::start_with(|c| c.listener.names = listed(&["sts.example.com", "192.0.2.7"])).await;
    let alice = user("alice");
    for host in ["sts.example.com", "STS.Example.COM.:8443", "192.0.2.7:1"] {
        assert_eq!(ask(&broker, &alice, host).await.code(), "ok", "{host}");
        assert_eq!(ask_by_grpc(&broker, &alice, host).await.status, 0, "{host}");
    }
    let thief = Keys {
        secret: "not+the+secret/0123456789abcdefghijklmnop".into(),
        ..alice.clone()
    };
    let unknown = Keys {
        id: "AKIANOBODYNOBODY0001".into(),
        ..alice.clone()
    };
    let own = broker.address.to_string();
    for host in [
        "sts.amazonaws.com",
        "evil.example",
        "a",
        "[::1]",
        "localhost",
        own.as_str(),
        "sts.example.com.evil.example",
    ] {
        // Refused before the signature is looked at: a good one, a bad one and nobody's look alike.
        for keys in [&alice, &thief, &unknown] {
            let answer = ask(&broker, keys, host).await;
            assert_eq!(
                (answer.status, answer.code()),
                (403, "SignatureDoesNotMatch"),
                "{host}"
            );
            let said = answer.element("Message").unwrap();
            assert!(
                said.contains("sts.example.com, 192.0.2.7 ([listen] names)") && said.contains(host),
                "{said}"
            );
            let answer = ask_by_grpc(&broker, keys, host).await;
            assert_eq!(answer.status, 16, "{host}: {answer:?}");
            assert!(
                answer.message.contains("sts.example.com,%20192.0.2.7")
                    || answer.message.contains("sts.example.com, 192.0.2.7"),
                "{answer:?}"
            );
        }
    }
    // What is not signed is for nobody in particular.
    let answer = http1(
        broker.address,
        "POST",
        "/",
        form_headers(),
        encode(WHO).into_bytes(),
    )
    .await;
    assert_eq!(answer.code(), "MissingAuthenticationToken");
}

#[tokio::test]
async fn the_names_are_the_address_and_on_loopback_this_machine() {
    let broker = Broker::start().await;
    let alice = user("alice");
    let port = broker.address.port();
    for host in ["localhost", "127.0.0.1", "[::1]"].map(|h| format!("{h}:{port}")) {
        assert_eq!(ask(&broker, &alice, &host).await.code(), "ok", "{host}");
    }
    assert_eq!(
        ask(&broker, &alice, "127.0.0.2").await.code(),
        "SignatureDoesNotMatch"
    );
    let any = Broker::start_with(|c| c.listener.names = Names::Any).await;
    assert_eq!(ask(&any, &alice, "sts.amazonaws.com").await.code(), "ok");
}

/// Writes a certificate for these hosts to the broker's folder.
fn certify(dir: &std::path::Path, hosts: &[&str]) {
    let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(hosts).unwrap();
    brevet::files::write_private(
        &dir.join("tls.key"),
        made.signing_key.serialize_pem().as_bytes(),
    )
    .unwrap();
    brevet::files::write_private(&dir.join("tls.crt"), made.cert.pem().as_bytes()).unwrap();
}

/// Accepts any certificate, since these tests are about how the broker uses `Host`.
#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Sends a signed request over TLS, accepting any certificate. Returns the code of the answer.
async fn ask_by_tls(broker: &Broker, keys: &Keys, host: &str) -> String {
    let body = encode(WHO);
    let headers = signed_for(broker, keys, host, "/", form_headers(), body.as_bytes());
    let head: String = headers
        .iter()
        .map(|(n, v)| format!("{n}: {}\r\n", v.to_str().unwrap()))
        .collect();
    let length = body.len();
    let request = format!(
        "POST / HTTP/1.1\r\n{head}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], broker.address.port()));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("any.example").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once('<'))
        .map(|(code, _)| code.to_owned());
    code.unwrap_or_else(|| {
        if text.starts_with("HTTP/1.1 200") {
            "ok".to_owned()
        } else {
            text
        }
    })
}

#[tokio::test]
async fn the_certificate_names_the_broker_and_a_new_one_names_it_anew() {
    let dir = home();
    certify(dir.path(), &["sts.example.com", "*.tenants.example"]);
    let broker = Broker::start_in(dir.clone(), |c| {
        c.tls = Some((dir.path().join("tls.crt"), dir.path().join("tls.key")));
        c.listen = ([0, 0, 0, 0], 0).into();
    })
    .await;
    let alice = user("alice");
    assert_eq!(ask_by_tls(&broker, &alice, "sts.example.com").await, "ok");
    assert_eq!(ask_by_tls(&broker, &alice, "a.tenants.example").await, "ok");
    // Every address of the machine is no name.
    assert_eq!(
        ask_by_tls(&broker, &alice, "127.0.0.1").await,
        "SignatureDoesNotMatch"
    );
    assert_eq!(
        ask_by_tls(&broker, &alice, "new.example.com").await,
        "SignatureDoesNotMatch"
    );
    certify(dir.path(), &["new.example.com"]);
    eventually("the new name is taken", async || {
        ask_by_tls(&broker, &alice, "new.example.com").await == "ok"
    })
    .await;
    assert_eq!(
        ask_by_tls(&broker, &alice, "sts.example.com").await,
        "SignatureDoesNotMatch"
    );
    // One that names nobody is not taken: the old one stays, with its names.
    certify(dir.path(), &[]);
    let metrics = async || broker.operator("/metrics").await.body;
    let failed = "reloads_total{what=\"certificate\",outcome=\"failed\"}";
    eventually("it was looked at", async || {
        metrics().await.contains(failed)
    })
    .await;
    assert_eq!(ask_by_tls(&broker, &alice, "new.example.com").await, "ok");
}

/// Writes bytes to a connection, and returns the answer.
async fn answer_to(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // It may be closed before everything is written.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer))
        .await
        .expect("it is closed");
    answer
}

/// A ClientHello of a version (RFC 5246 section 7.4.1.2), with suites that every version of TLS has.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut hello = [
        &version[..],
        &[7; 32],
        &[0],
        &[0, 4, 0xc0, 0x13, 0, 0x2f],
        &[1, 0],
    ]
    .concat();
    let length = u16::try_from(hello.len()).unwrap().to_be_bytes();
    hello = [&[1, 0], &length[..], &hello].concat();
    let length = u16::try_from(hello.len()).unwrap().to_be_bytes();
    [&[0x16, 3, 1], &length[..], &hello].concat()
}

#[tokio::test]
async fn tr_07_old_tls_false_keys_and_noise_change_nothing() {
    let dir = home();
    certify(dir.path(), &["sts.example.com"]);
    let broker = Broker::start_in(dir.clone(), |c| {
        c.tls = Some((dir.path().join("tls.crt"), dir.path().join("tls.key")));
    })
    .await;
    let alice = user("alice");
    let good = async || ask_by_tls(&broker, &alice, "sts.example.com").await == "ok";
    assert!(good().await);
    // TLS 1.1, 1.0 and SSL 3.0: an alert, `protocol_version` or `handshake_failure`.
    for version in [[3, 2], [3, 1], [3, 0]] {
        let answer = answer_to(broker.address, &client_hello(version)).await;
        assert!(
            matches!(answer.as_slice(), [0x15, 3, _, 0, 2, 2, 70 | 40]),
            "{version:?}: {answer:?}"
        );
    }
    // A private key that is another certificate's, or none: the old pair stays in use.
    let metrics = async || broker.operator("/metrics").await.body;
    let failed = async || {
        let count = "reloads_total{what=\"certificate\",outcome=\"failed\"} ";
        let body = metrics().await;
        body.lines()
            .find_map(|line| line.split_once(count))
            .map_or(0, |(_, n)| n.trim().parse::<u64>().unwrap())
    };
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for key in [
        other.as_str(),
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "",
    ] {
        let before = failed().await;
        brevet::files::write_private(&dir.path().join("tls.key"), key.as_bytes()).unwrap();
        eventually("it was looked at", async || failed().await > before).await;
        assert!(good().await, "{key}");
    }
    // Noise, a thousand times: each connection is closed, and nothing is left of it.
    let noise =
        brevet::base::entropy::bytes::<512>(&brevet::base::entropy::SystemEntropy::new()).unwrap();
    for n in 0..1_000 {
        let mut bytes = noise.to_vec();
        bytes.rotate_left(n % 512);
        bytes[0] = u8::try_from(n % 256).unwrap();
        answer_to(broker.address, &bytes[..1 + n % 512]).await;
    }
    assert!(good().await);
    eventually("no connection is left", async || {
        metrics().await.contains("\nbrevet_connections 0\n")
    })
    .await;
}

#[tokio::test]
async fn every_address_without_a_name_is_no_start() {
    let dir = home();
    certify(dir.path(), &[]);
    for tls in [
        None,
        Some((dir.path().join("tls.crt"), dir.path().join("tls.key"))),
    ] {
        let mut config = config(dir.path());
        config.listen = ([0, 0, 0, 0], 0).into();
        config.tls = tls;
        let clock = Arc::new(brevet::base::clock::ManualClock::new(now()));
        let started = brevet::server::start(
            config,
            clock,
            Arc::new(brevet::base::entropy::SystemEntropy::new()),
        )
        .await;
        let error = started.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            error.starts_with("[listen] names: is required, since 0.0.0.0 means every address"),
            "{error}"
        );
    }
}

fn behind(networks: &[&str]) -> Listener {
    Listener {
        trusted_proxies: networks
            .iter()
            .map(|n| Network::parse(n).unwrap())
            .collect(),
        ..Listener::default()
    }
}

/// Makes a call with further headers that are not signed. Returns its source in the audit record, and
/// the answer.
async fn call_with(broker: &Broker, more: &[(&str, &str)]) -> Answer {
    let body = encode(&[
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", OPEN),
        ("RoleSessionName", "behind"),
    ]);
    let mut headers = form_headers();
    broker.sign("/", &user("alice"), &mut headers, body.as_bytes());
    for (name, value) in more {
        headers.append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    broker.send("POST", "/", headers, body.into_bytes()).await
}

async fn sources(broker: Broker) -> Vec<String> {
    let records = broker.into_audit().await;
    records
        .iter()
        .map(|r| r["sourceIPAddress"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn az_08_a_forwarded_address_is_believed_from_a_trusted_proxy_alone() {
    const SPOOFED: &[(&str, &str)] = &[
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.10"),
    ];
    for (listener, expected) in [
        (Listener::default(), "127.0.0.1"),
        (behind(&["10.0.0.0/8"]), "127.0.0.1"),
        (behind(&["127.0.0.0/8"]), "203.0.113.9"),
        (
            Listener {
                forwarded_header: ForwardedHeader::Forwarded,
                ..behind(&["127.0.0.0/8"])
            },
            "203.0.113.10",
        ),
    ] {
        let broker = Broker::start_with(|c| c.listener = listener).await;
        assert_eq!(call_with(&broker, SPOOFED).await.code(), "ok");
        assert_eq!(sources(broker).await, [expected]);
    }
    let broker = Broker::start_with(|c| c.listener = behind(&["127.0.0.1"])).await;
    let answer = call_with(&broker, &[("x-forwarded-for", "unknown")]).await;
    assert_eq!(
        (answer.status, answer.code()),
        (400, "ValidationError"),
        "{}",
        answer.body
    );
    let answer = call_with(
        &broker,
        &[
            ("x-forwarded-for", "203.0.113.9, 198.51.100.7:4711"),
            ("x-forwarded-for", "127.0.0.1"),
        ],
    )
    .await;
    assert_eq!(answer.code(), "ok");
    let path = format!("/{SERVICE}/GetCallerIdentity");
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    broker.sign(&path, &user("alice"), &mut headers, b"");
    headers.insert("x-forwarded-for", HeaderValue::from_static("198.51.100.8"));
    assert_eq!(
        grpc(broker.address, &path, headers.clone(), frame(b""))
            .await
            .status,
        0
    );
    headers.insert("x-forwarded-for", HeaderValue::from_static("_hidden"));
    assert_eq!(
        grpc(broker.address, &path, headers, frame(b""))
            .await
            .status,
        3
    );
    let mut sources = sources(broker).await;
    sources.sort();
    assert_eq!(
        sources,
        ["127.0.0.1", "127.0.0.1", "198.51.100.7", "198.51.100.8"]
    );
}

/// Each client behind a proxy has the budget of its own address, or of its IPv6 network.
#[tokio::test]
async fn a_client_behind_a_trusted_proxy_uses_up_its_own_budget() {
    let limits = BudgetLimits {
        unproven_calls: std::num::NonZeroU32::new(1),
        ..BudgetLimits::OFF
    };
    let broker =
        Broker::start_with(|c| (c.listener, c.budgets) = (behind(&["127.0.0.1"]), limits)).await;
    let anonymous = async |address: &'static str| {
        let mut headers = form_headers();
        headers.insert("x-forwarded-for", HeaderValue::from_static(address));
        let body = encode(WHO);
        broker
            .send("POST", "/", headers, body.into_bytes())
            .await
            .code()
            .to_owned()
    };
    let (missing, throttled) = ("MissingAuthenticationToken", "Throttling");
    for (address, expected) in [
        ("203.0.113.9", missing),
        ("198.51.100.1, 203.0.113.9", missing),
        ("203.0.113.9:4711", throttled),
        ("203.0.113.10", missing),
        ("2001:db8:0:1::1", missing),
        ("2001:db8:0:1::2", missing),
        ("2001:db8:0:1:ffff::3", throttled),
        ("2001:db8:0:2::1", missing),
    ] {
        assert_eq!(anonymous(address).await, expected, "{address}");
    }
}

/// What policies see: a role that only callers with TLS in one network may assume.
#[tokio::test]
async fn az_08_conditions_see_the_client_and_not_the_proxy() {
    let dir = home();
    let path = dir.path().join("directory.json");
    let mut directory: serde_json::Value = serde_json::from_str(DIRECTORY).unwrap();
    let roles = directory["RoleDetailList"].as_array_mut().unwrap();
    let open = roles.iter_mut().find(|r| r["Arn"] == OPEN).unwrap();
    open["AssumeRolePolicyDocument"]["Statement"][0]["Condition"] = serde_json::json!({
        "IpAddress": {"aws:SourceIp": "198.51.100.0/24"}, "Bool": {"aws:SecureTransport": "true"}
    });
    brevet::files::write_private(&path, directory.to_string().as_bytes()).unwrap();
    let broker = Broker::start_in(dir, |c| c.listener = behind(&["127.0.0.1"])).await;
    for (address, proto, expected) in [
        ("198.51.100.1", "https", "ok"),
        ("198.51.100.1", "http", "AccessDenied"),
        ("198.51.100.1, 203.0.113.1", "https", "AccessDenied"),
        ("203.0.113.1", "https", "AccessDenied"),
    ] {
        let answer = call_with(
            &broker,
            &[("x-forwarded-for", address), ("x-forwarded-proto", proto)],
        )
        .await;
        assert_eq!(answer.code(), expected, "{address} {proto}");
    }
    assert_eq!(call_with(&broker, &[]).await.code(), "AccessDenied");
}

#[tokio::test]
async fn az_08_the_proxy_protocol_is_spoken_by_trusted_proxies_alone() {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let broker = Broker::start_with(|c| {
        c.listener = Listener {
            proxy_protocol: true,
            ..behind(&["127.0.0.1"])
        }
    })
    .await;
    let body = encode(WHO);
    let mut headers = form_headers();
    broker.sign("/", &user("alice"), &mut headers, body.as_bytes());
    let head: String = headers
        .iter()
        .map(|(n, v)| format!("{n}: {}\r\n", v.to_str().unwrap()))
        .collect();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\n{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        broker.address,
        body.len()
    );
    let send = async |broker: &Broker, header: &[u8], more: &str| {
        let mut stream = tokio::net::TcpStream::connect(broker.address)
            .await
            .unwrap();
        let request = request.replacen("\r\nhost", &format!("\r\n{more}host"), 1);
        stream
            .write_all(&[header, request.as_bytes()].concat())
            .await
            .unwrap();
        let mut bytes = Vec::new();
        // A reset is as good as an end.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
            .await
            .unwrap();
        String::from_utf8_lossy(&bytes)
            .split(' ')
            .nth(1)
            .unwrap_or("closed")
            .to_owned()
    };
    let for_client = [
        SIGNATURE,
        &[
            0x21, 0x11, 0, 12, 198, 51, 100, 1, 127, 0, 0, 1, 0, 80, 1, 187,
        ],
    ]
    .concat();
    let for_proxy = [
        SIGNATURE,
        &[0x21, 0x11, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1, 0, 80, 1, 187],
    ]
    .concat();
    assert_eq!(send(&broker, &for_client, "").await, "200");
    // An HTTP proxy behind a TCP proxy, both trusted; and a client that says so of itself.
    assert_eq!(
        send(&broker, &for_proxy, "x-forwarded-for: 198.51.100.2\r\n").await,
        "200"
    );
    assert_eq!(
        send(&broker, &for_client, "x-forwarded-for: 198.51.100.3\r\n").await,
        "200"
    );
    assert_eq!(
        send(&broker, &[SIGNATURE, &[0x20, 0, 0, 0]].concat(), "").await,
        "200"
    );
    for bad in [
        &b""[..],
        b"PROXY TCP4 198.51.100.1 127.0.0.1 80 443\r\n",
        &[SIGNATURE, &[0x21, 0x11, 0, 3, 1, 2, 3]].concat(),
    ] {
        assert_eq!(send(&broker, bad, "").await, "closed", "{bad:?}");
    }
    let mut sources = sources(broker).await;
    sources.sort();
    assert_eq!(
        sources,
        ["127.0.0.1", "198.51.100.1", "198.51.100.1", "198.51.100.2"]
    );
    // From anybody else it is no request.
    let broker = Broker::start_with(|c| {
        c.listener = Listener {
            proxy_protocol: true,
            ..behind(&["10.0.0.0/8"])
        }
    })
    .await;
    assert_ne!(send(&broker, &for_client, "").await, "200");
}

#[tokio::test]
async fn pages_of_named_origins_are_let_in_and_of_no_others() {
    let page = "https://console.example.com";
    let broker = Broker::start_with(|c| {
        c.listener.cors_origins = vec![HeaderValue::from_static("https://console.example.com")]
    })
    .await;
    let preflight = async |broker: &Broker, origin: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("origin", HeaderValue::from_str(origin).unwrap());
        headers.insert(
            "access-control-request-method",
            HeaderValue::from_static("POST"),
        );
        headers.insert(
            "access-control-request-headers",
            HeaderValue::from_static("authorization,x-amz-date"),
        );
        broker.send("OPTIONS", "/", headers, Vec::new()).await
    };
    let answer = preflight(&broker, page).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["access-control-allow-origin"], page);
    assert_eq!(
        answer.headers["access-control-allow-headers"],
        "authorization,x-amz-date"
    );
    assert_eq!(answer.headers["access-control-allow-methods"], "GET, POST");
    assert_eq!(answer.headers["vary"], "origin");
    assert!(
        !answer
            .headers
            .contains_key("access-control-allow-credentials")
    );
    for (origin, expected) in [(page, "ok"), ("https://evil.example", "ok")] {
        let answer = call_with(&broker, &[("origin", origin)]).await;
        assert_eq!(answer.code(), expected);
        assert_eq!(
            answer.headers.contains_key("access-control-allow-origin"),
            origin == page,
            "{origin}"
        );
        let exposed = answer
            .headers
            .get("access-control-expose-headers")
            .map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(
            exposed.is_some_and(|e| e.contains("x-amzn-requestid") && e.contains("date")),
            origin == page
        );
    }
    for origin in [
        "https://evil.example",
        "https://console.example.com.evil.example",
        "http://console.example.com",
        "null",
    ] {
        let answer = preflight(&broker, origin).await;
        assert_eq!(
            (
                answer.status,
                answer.headers.contains_key("access-control-allow-origin")
            ),
            (400, false),
            "{origin}"
        );
    }
    let closed = Broker::start().await;
    assert_eq!(preflight(&closed, page).await.status, 400);
}

#[tokio::test]
async fn a_client_of_another_service_is_told_so_in_its_protocol() {
    let broker = Broker::start().await;
    let scope = |service: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIATESTALICE0000001/20261124/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=00"
        )
    };
    let send = async |method: &str, target: &str, more: &[(&str, &str)], body: Vec<u8>| {
        let mut headers = HeaderMap::new();
        for (name, value) in more {
            headers.insert(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        broker.send(method, target, headers, body).await
    };
    let kind = ("content-type", "application/x-amz-json-1.1");
    let target = ("x-amz-target", "AWSCognitoIdentityService.GetId");
    let answer = send("POST", "/", &[kind, target], b"{}".to_vec()).await;
    assert_eq!(
        (answer.status, &answer.headers["content-type"]),
        (400, &HeaderValue::from_static(kind.1))
    );
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["__type"], "UnknownOperationException");
    let said = json["message"].as_str().unwrap();
    assert!(
        said.contains(target.1) && said.contains("AWS_ENDPOINT_URL_STS"),
        "{said}"
    );
    let answer = send(
        "GET",
        "/clusters/a",
        &[("authorization", &scope("eks"))],
        Vec::new(),
    )
    .await;
    assert_eq!(
        (answer.status, &answer.headers["x-amzn-errortype"]),
        (400, &HeaderValue::from_static("UnknownOperationException"))
    );
    assert!(
        serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()["message"].is_string()
    );
    for (method, path) in [
        ("GET", "/"),
        ("PUT", "/bucket/key"),
        ("GET", "/bucket?list-type=2"),
    ] {
        let answer = send(
            method,
            path,
            &[("authorization", &scope("s3"))],
            vec![0; if method == "PUT" { 1 << 20 } else { 0 }],
        )
        .await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, "UnknownOperationException"),
            "{path}"
        );
        assert!(answer.body.starts_with("<Error>"), "{}", answer.body);
    }
    // Each is on record, and proves nobody.
    let records = broker.into_audit().await;
    assert_eq!(records.len(), 5);
    assert!(
        records
            .iter()
            .all(|r| r["userIdentity"]["type"] == "Unknown"
                && r["errorCode"] == "UnknownOperationException")
    );
}

#[tokio::test]
async fn json_has_seconds_and_iam_refuses_under_its_own_name() {
    let broker = Broker::start().await;
    let answer = call_with(&broker, &[("accept", "application/json")]).await;
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let result = &json["AssumeRoleResponse"]["AssumeRoleResult"];
    assert_eq!(result["Credentials"]["Expiration"], now().seconds() + 3_600);
    assert_eq!(result["PackedPolicySize"], 0);
    for (version, namespace) in [
        ("2010-05-08", "https://iam.amazonaws.com/doc/2010-05-08/"),
        ("2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/"),
    ] {
        for action in [
            "CreateUser",
            "EnableMFADevice",
            "GetCallerIdentity",
            "Nonsense",
        ] {
            let answer = broker
                .query(None, &[("Action", action), ("Version", version)])
                .await;
            assert!(
                answer
                    .body
                    .starts_with(&format!("<ErrorResponse xmlns=\"{namespace}\">")),
                "{action}: {}",
                answer.body
            );
        }
    }
}

#[tokio::test]
async fn a_proof_that_a_server_replays_is_taken_as_it_arrives() {
    let broker = Broker::start().await;
    let body = encode(WHO);
    // Signed for `/`, asked for at `//`; headers that Vault's client signs and Vault's server does not know.
    let mut headers = form_headers();
    headers.insert(
        "x-vault-aws-iam-server-id",
        HeaderValue::from_static("vault.example.com"),
    );
    broker.sign("/", &user("alice"), &mut headers, body.as_bytes());
    headers.remove("x-vault-aws-iam-server-id");
    assert_eq!(
        broker
            .send("POST", "//", headers.clone(), body.clone().into_bytes())
            .await
            .code(),
        "ok"
    );
    for path in ["///", "//x", "/./", "/%2f", "/sts/"] {
        assert_eq!(
            broker
                .send("POST", path, headers.clone(), body.clone().into_bytes())
                .await
                .status,
            400,
            "{path}"
        );
    }
    // No content type at all.
    let mut headers = HeaderMap::new();
    broker.sign("/", &user("alice"), &mut headers, body.as_bytes());
    assert_eq!(
        broker
            .send("POST", "/", headers.clone(), body.clone().into_bytes())
            .await
            .code(),
        "ok"
    );
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/x-www-form-urlencodedx"),
    );
    assert_eq!(
        broker
            .send("POST", "/", headers, body.into_bytes())
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn sv_07_any_region_where_the_configuration_says_so() {
    let ask = async |broker: &Broker| {
        use brevet::base::clock::Clock;
        let (alice, body, mut headers) = (user("alice"), encode(WHO), form_headers());
        let host = broker.address.to_string();
        alice
            .signer("ap-southeast-7")
            .sign(
                "POST",
                "/",
                &host,
                &mut headers,
                &sha256(body.as_bytes()),
                broker.clock.now(),
            )
            .unwrap();
        broker
            .send("POST", "/", headers, body.into_bytes())
            .await
            .code()
            .to_owned()
    };
    assert_eq!(ask(&Broker::start().await).await, "SignatureDoesNotMatch");
    let broker = Broker::start_with(|c| c.regions = vec!["*".into()]).await;
    assert_eq!(ask(&broker).await, "ok");
    assert_eq!(broker.into_audit().await[0]["awsRegion"], "us-east-1");
}
