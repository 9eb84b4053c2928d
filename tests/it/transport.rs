//! Frames, lengths and delays that no well-behaved client sends.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

fn path() -> String {
    format!("/{}/GetCallerIdentity", brevet::api::SERVICE)
}

#[tokio::test]
async fn tr_03_frames_out_of_bounds_have_their_codes() {
    let broker = Broker::start().await;
    let status = async |headers: HeaderMap, body: Vec<u8>| {
        grpc(broker.address, &path(), headers, body).await.status
    };
    let none = HeaderMap::new;
    // Positive control: a good frame gets as far as authentication.
    assert_eq!(status(none(), frame(b"")).await, 16);
    assert_eq!(
        status(none(), frame(&vec![0; (4 << 20) + 1])).await,
        8,
        "too long: RESOURCE_EXHAUSTED"
    );
    let mut lying = vec![0, 0xff, 0xff, 0xff, 0xff];
    lying.extend_from_slice(b"12345");
    assert_eq!(status(none(), lying).await, 8, "a length of 4 GB");
    let mut gzip = frame(&[0x1f, 0x8b, 8, 0]);
    gzip[0] = 1;
    let mut encoded = none();
    encoded.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    assert_eq!(
        status(encoded, gzip.clone()).await,
        12,
        "compressed: UNIMPLEMENTED"
    );
    let mut unknown = none();
    unknown.insert("grpc-encoding", HeaderValue::from_static("snappy"));
    assert_eq!(status(unknown, gzip).await, 12);
    assert_eq!(
        status(none(), b"abc".to_vec()).await,
        3,
        "no frame: INVALID_ARGUMENT"
    );
    assert_eq!(status(none(), Vec::new()).await, 3);
    let mut bad = HeaderMap::new();
    bad.insert("content-type", HeaderValue::from_static("application/grpc"));
    broker.sign(&path(), &user("alice"), &mut bad, &[0xff; 9]);
    assert_eq!(
        status(bad, frame(&[0xff; 9])).await,
        3,
        "no protobuf: INVALID_ARGUMENT"
    );
    // Each of them is on record.
    assert_eq!(broker.into_audit().await.len(), 8);
}

#[tokio::test]
async fn tr_04_long_bodies_are_cut_off() {
    let broker = Broker::start().await;
    // Declared: refused before a byte is read.
    let mut stream = TcpStream::connect(broker.address).await.unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n\r\n")
        .await
        .unwrap();
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 413"));
    // Chunked: refused at the limit, and the connection ends.
    for _ in 0..10 {
        let mut stream = TcpStream::connect(broker.address).await.unwrap();
        stream
            .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        let chunk = [b"10000\r\n".as_slice(), &[b'a'; 65_536], b"\r\n"].concat();
        for _ in 0..16 {
            if stream.write_all(&chunk).await.is_err() {
                break;
            }
        }
        let answer = read_all(&mut stream).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 413"),
            "{answer}"
        );
    }
    assert_eq!(broker.query(Some(&user("alice")), WHO).await.code(), "ok");
}

#[tokio::test]
async fn sv_05_ambiguous_requests_are_refused() {
    let broker = Broker::start().await;
    for raw in [
        "POST / HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nhost: a\r\n folded: b\r\ncontent-length: 0\r\n\r\n",
        "POST http://other/ HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(broker.address).await.unwrap();
        stream.write_all(raw.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_all(&mut stream).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(answer.is_empty() || status == "400", "{raw:?}: {answer}");
    }
}

#[tokio::test]
async fn sv_05_a_length_that_is_given_twice_is_refused_and_ends_the_connection() {
    let broker = Broker::start().await;
    let body = encode(WHO);
    let mut signed = form_headers();
    broker.sign("/", &user("alice"), &mut signed, body.as_bytes());
    let (length, host) = (body.len(), broker.address);
    let head: String = signed
        .iter()
        .map(|(n, v)| format!("{n}: {}\r\n", v.to_str().unwrap()))
        .collect();
    let chunks = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let ask = async |framing: &str, body: &str, next: &str| {
        let mut stream = TcpStream::connect(broker.address).await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nhost: {host}\r\n{head}{framing}\r\n{body}{next}");
        stream.write_all(request.as_bytes()).await.unwrap();
        // The connection ends by itself: nothing more is sent, and its end is not closed here.
        read_all(&mut stream).await
    };
    let next = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n");
    for framing in [
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: Chunked\r\n",
            chunks.len()
        ),
        "transfer-encoding: chunked, chunked\r\n".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n".to_owned(),
        "transfer-encoding: gzip, chunked\r\n".to_owned(),
        "transfer-encoding: ,chunked\r\n".to_owned(),
        format!("content-length: {length}\r\ncontent-length: {length}\r\n"),
    ] {
        let answer = ask(&framing, &chunks, &next).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{framing}: {answer}");
        assert!(answer.contains("connection: close"), "{framing}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{framing}: {answer}");
    }
    // Given once it is served, in either way; behind chunks the connection ends as well.
    assert!(
        ask(
            &format!("content-length: {length}\r\nconnection: close\r\n"),
            &body,
            ""
        )
        .await
        .starts_with("HTTP/1.1 200")
    );
    let answer = ask("transfer-encoding: chunked\r\n", &chunks, &next).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.matches("HTTP/1.1").count() == 1,
        "{answer}"
    );
    assert_eq!(
        broker
            .into_audit()
            .await
            .iter()
            .filter(|r| r["errorCode"] == "ValidationError")
            .count(),
        8
    );
}

#[tokio::test]
async fn tr_04_a_refusal_arrives_while_the_client_still_sends() {
    let broker = Broker::start().await;
    for framing in [
        "content-length: 8388608\r\n",
        "transfer-encoding: chunked\r\n",
    ] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(broker.address).await.unwrap();
            let head = format!(
                "POST / HTTP/1.1\r\nhost: {}\r\n{framing}\r\n",
                broker.address
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let piece = match framing.starts_with('t') {
                true => [b"10000\r\n".as_slice(), &[b'a'; 65_536], b"\r\n"].concat(),
                false => vec![b'a'; 65_536],
            };
            // A client that reads only when all is sent, as most do.
            for _ in 0..128 {
                stream.write_all(&piece).await.expect("the broker reads on");
            }
            let answer = read_all(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        }
    }
    // It does not read on for ever: whoever drips is cut off.
    let mut stream = TcpStream::connect(broker.address).await.unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8388608\r\n\r\n")
        .await
        .unwrap();
    let started = Instant::now();
    while stream.write_all(b"a").await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "it lingers without end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_grpc_call_is_a_post() {
    let broker = Broker::start().await;
    for (method, path) in [
        ("GET", path()),
        ("PUT", path()),
        ("GET", "/grpc.health.v1.Health/Check".to_owned()),
        ("GET", "/".to_owned()),
    ] {
        for kind in ["application/grpc", "application/grpc+proto"] {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static(kind));
            let answer = broker.send(method, &path, headers, Vec::new()).await;
            assert_eq!(
                (answer.status, &answer.headers["grpc-status"]),
                (405, &HeaderValue::from_static("3")),
                "{path}"
            );
        }
    }
    // Another media type is none of gRPC, and none of a form either.
    let mut headers = HeaderMap::new();
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/grpcx"),
    );
    assert_eq!(
        broker
            .send("POST", &path(), headers, Vec::new())
            .await
            .code(),
        "ValidationError"
    );
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn tr_05_the_slow_are_shown_out_and_others_notice_nothing() {
    let limits = brevet::config::Limits {
        handshake: Duration::from_secs(1),
        idle: Duration::from_secs(1),
        ..Default::default()
    };
    let broker = Broker::start_with(|c| c.limits = limits).await;
    let started = Instant::now();
    // Nothing; half a preface; a header without end; a preface and then nothing; an idle keep-alive.
    let openings: [&[u8]; 4] = [
        b"",
        b"PRI * HT",
        b"POST / HTTP/1.1\r\nhost: x\r\nx-slow: ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let mut slow = Vec::new();
    for opening in openings.iter().cycle().take(200) {
        let mut stream = TcpStream::connect(broker.address).await.unwrap();
        stream.write_all(opening).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..50 {
        assert_eq!(broker.query(Some(&user("alice")), WHO).await.code(), "ok");
    }
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "still open after {:?}", started.elapsed());
    }
}
