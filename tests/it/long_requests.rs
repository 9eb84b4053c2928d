//! Requests of IAM that are longer than others: who may send them, and what they may take.

use std::fmt::Write as _;
use std::time::Duration;

use brevet::base::clock::Clock;
use brevet::base::digest::sha256;
use brevet::commands::Edit;
use brevet::directory::resource::ResourceKind;
use brevet::proof::sigv4::Signer;
use brevet::request_body::{MAX_BODY_BYTES, MAX_LONG_BODY_BYTES};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

const BUDGET: u64 = 32 << 20;

/// The headers of a signed request with this body.
fn signed(broker: &Broker, keys: &Keys, service: &str, body: &[u8]) -> HeaderMap {
    let mut headers = form_headers();
    let signer = Signer {
        service,
        ..keys.signer("us-east-1")
    };
    let host = broker.address.to_string();
    let now = broker.clock.now();
    signer
        .sign("POST", "/", &host, &mut headers, &sha256(body), now)
        .unwrap();
    headers
}

async fn send(broker: &Broker, keys: &Keys, service: &str, body: String) -> Answer {
    let headers = signed(broker, keys, service, body.as_bytes());
    broker.send("POST", "/", headers, body.into_bytes()).await
}

/// Announces a body of this length, sends only `sent` bytes of it, and returns the connection.
async fn announce(broker: &Broker, headers: &HeaderMap, length: usize, sent: usize) -> TcpStream {
    let mut head = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n",
        broker.address
    );
    for (name, value) in headers {
        write!(head, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(broker.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'a'; sent];
    // Whoever is refused meanwhile cannot send the rest.
    let _ = stream.write_all(&piece).await;
    stream
}

/// What the broker answers within some seconds; empty if it waits for more of the body.
async fn answer(stream: &mut TcpStream, within: Duration) -> String {
    let mut text = vec![0; 4_096];
    match tokio::time::timeout(within, stream.read(&mut text)).await {
        Ok(Ok(length)) => String::from_utf8_lossy(&text[..length]).into_owned(),
        _ => String::new(),
    }
}

async fn held(broker: &Broker) -> u64 {
    let metrics = broker.operator("/metrics").await.body;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("brevet_long_request_bytes "));
    line.unwrap().parse().unwrap()
}

/// A text like the metadata of a SAML provider, with certificates in base64.
fn metadata(characters: usize) -> String {
    let certificate = "MIIDdzCCAl+gAwIBAgIEbO3/9jANBgkqhkiG9w0BAQsFADBsMRAwDgYDVQQGEwdV".repeat(20);
    let key = format!(
        "<md:KeyDescriptor use=\"signing\"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{certificate}\
         </ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>\n"
    );
    let mut text = key.repeat(characters / key.len() + 1);
    text.truncate(characters);
    text
}

/// Percent-encodes as botocore does: all but unreserved characters.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 5 / 4);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").unwrap(),
        }
    }
    out
}

fn list_keys_of(name: &str) -> String {
    format!("Action=ListSSHPublicKeys&Version=2010-05-08&UserName={name}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_million_characters_are_read_checked_and_answered() {
    let broker = Broker::start().await;
    let text = metadata(10_000_000);
    let body = list_keys_of(&escaped(&text));
    assert!(body.len() > 10_000_000 && body.len() < MAX_LONG_BODY_BYTES);
    let admin = user(ADMIN);
    let whole = send(&broker, &admin, "iam", body.clone()).await;
    assert_eq!(
        whole.element("Message"),
        Some(
            "1 validation error detected: Value at &apos;userName&apos; failed to satisfy constraint: \
             Member must have length less than or equal to 64"
        ),
        "{}",
        whole.body
    );
    // The signature covers all of it.
    let headers = signed(&broker, &admin, "iam", body.as_bytes());
    let mut other = body.into_bytes();
    *other.last_mut().unwrap() ^= 1;
    let forged = broker.send("POST", "/", headers, other).await;
    assert_eq!(forged.code(), "SignatureDoesNotMatch");
    assert_eq!(held(&broker).await, 0);
    assert_eq!(broker.query(Some(&admin), WHO).await.code(), "ok");
}

#[tokio::test]
async fn tr_04_only_who_announces_an_active_key_of_iam_may_send_more() {
    let broker = Broker::start_stored().await;
    let (admin, long) = (user(ADMIN), MAX_BODY_BYTES + 1);
    let session = broker.assume(&user("alice"), OPEN).await.unwrap();
    let unknown = Keys {
        id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        ..admin.clone()
    };
    // A session's key alone, and with the token of another session.
    let tokenless = Keys {
        token: None,
        ..session.clone()
    };
    let other = broker.assume(&user("alice"), OPEN).await.unwrap();
    let mixed = Keys {
        token: other.token.clone(),
        ..session.clone()
    };
    let first_answer = async |headers: &HeaderMap, length: usize, within: u64| {
        let mut stream = announce(&broker, headers, length, 0).await;
        answer(&mut stream, Duration::from_secs(within)).await
    };
    let refused = async |headers: &HeaderMap, length: usize| {
        first_answer(headers, length, 30)
            .await
            .starts_with("HTTP/1.1 413")
    };
    // Nothing of the body was sent, so these answers come before it is read.
    for (name, keys, service) in [
        ("an unknown key", &unknown, "iam"),
        ("a key without its token", &tokenless, "iam"),
        ("a key with another's token", &mixed, "iam"),
        ("another service", &admin, "sts"),
    ] {
        assert!(
            refused(&signed(&broker, keys, service, b""), long).await,
            "{name}"
        );
    }
    let mut twice = signed(&broker, &admin, "iam", b"");
    let header = twice["authorization"].clone();
    twice.append("authorization", header);
    assert!(refused(&twice, long).await, "two signatures");
    assert!(refused(&form_headers(), long).await, "no signature");

    let good = signed(&broker, &admin, "iam", b"");
    assert!(refused(&good, MAX_LONG_BODY_BYTES + 1).await, "too long");
    for keys in [&admin, &session] {
        let headers = signed(&broker, keys, "iam", b"");
        // The broker waits for the body.
        assert_eq!(first_answer(&headers, MAX_LONG_BODY_BYTES, 1).await, "");
    }
    // A length that is not announced is bounded as for everybody.
    let mut stream = TcpStream::connect(broker.address).await.unwrap();
    let mut head = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n",
        broker.address
    );
    for (name, value) in &good {
        write!(head, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
    }
    stream
        .write_all(format!("{head}\r\n50000\r\n").as_bytes())
        .await
        .unwrap();
    let _ = stream.write_all(&vec![b'a'; 0x50000]).await;
    let said = answer(&mut stream, Duration::from_secs(30)).await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");

    // What ends takes this with it.
    let revoked = Selector::AccessKeyId(session.id.clone());
    broker.revoke(&admin, revoked).await.unwrap();
    assert!(refused(&signed(&broker, &session, "iam", b""), long).await);
    let bob = user("bob");
    let headers = signed(&broker, &bob, "iam", b"");
    assert_eq!(first_answer(&headers, long, 1).await, "");
    let hand = broker.hand().await;
    let inactive = hand
        .edit(ResourceKind::AccessKey, &bob.id, Edit::SetActive(false))
        .await
        .unwrap();
    broker.reaches(inactive).await;
    assert!(refused(&headers, long).await, "an inactive key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tr_05_slow_uploads_hold_no_more_than_the_budget_and_give_it_back() {
    let broker = Broker::start().await;
    let admin = user(ADMIN);
    let headers = signed(&broker, &admin, "iam", b"");
    // Together they send 60 MB, and none of them comes to its end.
    let mut uploads = Vec::new();
    for _ in 0..100 {
        uploads.push(announce(&broker, &headers, 1_000_000, 600_000).await);
        // A piece that is just being refused may count for a moment.
        assert!(held(&broker).await <= BUDGET + (1 << 20));
    }
    let mut refused = 0;
    for stream in &mut uploads {
        let said = answer(stream, Duration::from_millis(100)).await;
        // On a slow machine, some of them have waited for longer than a call may.
        if said.is_empty() || said.starts_with("HTTP/1.1 408") {
            continue;
        }
        assert!(said.starts_with("HTTP/1.1 503"), "{said}");
        let has_hint = said.to_ascii_lowercase().contains("retry-after: 1");
        assert!(has_hint, "{said}");
        refused += 1;
    }
    assert!(refused > 0, "some are turned away");
    // Others do not notice.
    for _ in 0..20 {
        assert_eq!(broker.query(Some(&admin), WHO).await.code(), "ok");
    }
    let lists = broker.iam(&admin, "ListSSHPublicKeys", &[]).await;
    assert_eq!(lists.code(), "ok");
    drop(uploads);
    eventually("the budget is free again", async || {
        held(&broker).await == 0
    })
    .await;
    let body = list_keys_of(&"a".repeat(1_000_000));
    assert_eq!(
        send(&broker, &admin, "iam", body).await.code(),
        "ValidationError"
    );
    assert_eq!(held(&broker).await, 0);
}

#[tokio::test]
async fn a_simulation_may_have_many_parameters() {
    let broker = Broker::start().await;
    let admin = user(ADMIN);
    let form = |names: usize| {
        let names = (1..=names).map(|n| format!("&Surprise.member.{n}=x"));
        let names: String = names.collect();
        list_keys_of("bob") + &names
    };
    let message = async |keys: &Keys, service: &str, names: usize| {
        let answer = send(&broker, keys, service, form(names)).await;
        assert_eq!(answer.code(), "ValidationError", "{}", answer.body);
        answer.element("Message").unwrap().to_owned()
    };
    // With the three that the form has anyway.
    let read = message(&admin, "iam", 4_093).await;
    assert!(
        read.contains("must be a parameter of this action"),
        "{read}"
    );
    assert_eq!(
        message(&admin, "iam", 4_094).await,
        "more than 4096 parameters"
    );
    assert_eq!(
        message(&admin, "sts", 510).await,
        "more than 512 parameters"
    );
    let unknown = Keys {
        id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        ..admin.clone()
    };
    assert_eq!(
        message(&unknown, "iam", 510).await,
        "more than 512 parameters"
    );
    assert_eq!(held(&broker).await, 0);
}
