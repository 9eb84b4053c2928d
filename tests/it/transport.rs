//! Frames, lengths and slowness that no honest client sends.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

fn path() -> String {
    format!("/{}/GetCallerIdentity", brevet::grpc::SERVICE)
}

#[tokio::test]
async fn tr_03_frames_out_of_bounds_have_their_codes() {
    let broker = Broker::start().await;
    let status = async |headers: HeaderMap, body: Vec<u8>| grpc(broker.address, &path(), headers, body).await.status;
    let none = HeaderMap::new;
    // Positive control: a good frame gets as far as authentication.
    assert_eq!(status(none(), frame(b"")).await, 16);
    assert_eq!(status(none(), frame(&vec![0; (4 << 20) + 1])).await, 8, "too long: RESOURCE_EXHAUSTED");
    let mut lying = vec![0, 0xff, 0xff, 0xff, 0xff];
    lying.extend_from_slice(b"12345");
    assert_eq!(status(none(), lying).await, 8, "a length of 4 GB");
    let mut gzip = frame(&[0x1f, 0x8b, 8, 0]);
    gzip[0] = 1;
    let mut encoded = none();
    encoded.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    assert_eq!(status(encoded, gzip.clone()).await, 12, "compressed: UNIMPLEMENTED");
    let mut unknown = none();
    unknown.insert("grpc-encoding", HeaderValue::from_static("snappy"));
    assert_eq!(status(unknown, gzip).await, 12);
    assert_eq!(status(none(), b"abc".to_vec()).await, 3, "no frame: INVALID_ARGUMENT");
    assert_eq!(status(none(), Vec::new()).await, 3);
    let mut bad = HeaderMap::new();
    bad.insert("content-type", HeaderValue::from_static("application/grpc"));
    broker.sign(&path(), &user("alice"), &mut bad, &[0xff; 9]);
    assert_eq!(status(bad, frame(&[0xff; 9])).await, 3, "no protobuf: INVALID_ARGUMENT");
    // Each of them is on record.
    assert_eq!(broker.into_audit().await.len(), 8);
}

#[tokio::test]
async fn tr_04_long_bodies_are_cut_off() {
    let broker = Broker::start().await;
    // Declared: refused before a byte is read.
    let mut stream = TcpStream::connect(broker.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n\r\n").await.unwrap();
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 413"));
    // Chunked: refused at the limit, and the connection ends.
    for _ in 0..10 {
        let mut stream = TcpStream::connect(broker.address).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let chunk = [b"10000\r\n".as_slice(), &[b'a'; 65_536], b"\r\n"].concat();
        for _ in 0..16 {
            if stream.write_all(&chunk).await.is_err() {
                break;
            }
        }
        let answer = read_all(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
    assert_eq!(broker.query(Some(&user("alice")), &[("Action", "GetCallerIdentity"), VERSION]).await.code(), "ok");
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

async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes)).await;
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
    let openings: [&[u8]; 4] =
        [b"", b"PRI * HT", b"POST / HTTP/1.1\r\nhost: x\r\nx-slow: ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    let mut slow = Vec::new();
    for opening in openings.iter().cycle().take(200) {
        let mut stream = TcpStream::connect(broker.address).await.unwrap();
        stream.write_all(opening).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..50 {
        assert_eq!(broker.query(Some(&user("alice")), &[("Action", "GetCallerIdentity"), VERSION]).await.code(), "ok");
    }
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "still open after {:?}", started.elapsed());
    }
}
