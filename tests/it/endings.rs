//! However a connection ends, all resources of its calls and responses are released.

use std::net::Ipv4Addr;
use std::time::Duration;

use brevet::config::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::*;
use crate::http2::{self, END_HEADERS, END_STREAM, HEADERS, PING, Raw};

fn source(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, n)
}

async fn with_limits(change: impl FnOnce(&mut Limits)) -> Broker {
    let mut limits = Limits {
        calls: 1_024,
        request_memory_bytes: 1 << 28,
        ..Limits::default()
    };
    change(&mut limits);
    Broker::start_with(|c| c.limits = limits).await
}

/// Makes more parallel calls than the system buffers answers for, and reads none of them.
async fn unread(broker: &Broker, from: u8) -> TcpStream {
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let one = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        broker.address,
        body.len()
    );
    let socket = TcpSocket::new_v4().unwrap();
    // The least that the system allows: the broker's side is full soon.
    socket.set_recv_buffer_size(1).unwrap();
    socket.bind((source(from), 0).into()).unwrap();
    let mut stream = socket.connect(broker.address).await.unwrap();
    let all = one.repeat(40_000);
    // The broker reads no more than it can answer.
    let _ =
        tokio::time::timeout(Duration::from_millis(300), stream.write_all(all.as_bytes())).await;
    stream
}

/// Checks that all resources are released, so that each source may open its full share of connections
/// again.
async fn nothing_is_held(broker: &Broker) {
    let admission = broker.running.as_ref().unwrap().admission.clone();
    let mut held = (0, 0, 0);
    let started = std::time::Instant::now();
    while started.elapsed() < PATIENCE {
        held = (
            admission.calls_in_flight(),
            admission.request_memory_bytes(),
            admission.sources(),
        );
        if held == (0, 0, 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("calls, bytes, sources: {held:?}");
}

async fn something_is_held(broker: &Broker) {
    let admission = broker.running.as_ref().unwrap().admission.clone();
    eventually("answers wait", async || {
        admission.request_memory_bytes() > 0
    })
    .await;
}

#[tokio::test]
async fn tr_02_what_a_connection_held_is_given_back_when_it_is_cut() {
    let broker = with_limits(|_| {}).await;
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let call = http2::post(broker.address, "/brevet.sts.v1.Nothing/Nothing", &headers);
    for _ in 0..20 {
        let mut raw = Raw::connect(broker.address, source(1), b"").await;
        let calls = (0..100)
            .flat_map(|n| http2::frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &call));
        let pings = http2::frame(PING, 0, 0, b"12345678").repeat(1_500);
        raw.send(&[calls.collect(), pings].concat()).await;
        assert!(raw.ends(PATIENCE).await.0);
    }
    nothing_is_held(&broker).await;
}

#[tokio::test]
async fn tr_02_what_a_connection_held_is_given_back_when_its_answers_are_not_read() {
    let broker = with_limits(|_| {}).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(unread(&broker, 1).await);
    }
    something_is_held(&broker).await;
    nothing_is_held(&broker).await;
    drop(streams);
}

#[tokio::test]
async fn tr_02_what_a_connection_held_is_given_back_at_its_deadline() {
    let broker = with_limits(|l| {
        l.connection_age = Duration::from_secs(3);
        l.shutdown_grace = Duration::ZERO;
    })
    .await;
    let streams = futures_util::future::join_all((0..4).map(|_| unread(&broker, 1))).await;
    something_is_held(&broker).await;
    nothing_is_held(&broker).await;
    drop(streams);
}

#[tokio::test]
async fn tr_02_what_a_connection_held_is_given_back_when_it_makes_room() {
    let broker = with_limits(|l| l.connections = 8).await;
    let mut streams = Vec::new();
    for n in 1..=4 {
        streams.push(unread(&broker, n).await);
        streams.push(unread(&broker, n).await);
    }
    something_is_held(&broker).await;
    let mut newcomers = Vec::new();
    for n in 11..19 {
        let mut late = http2::connect(broker.address, source(n)).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", broker.address);
        late.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        tokio::time::timeout(PATIENCE, late.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        newcomers.push(late);
    }
    drop(newcomers);
    nothing_is_held(&broker).await;
    drop(streams);
}

#[tokio::test]
async fn tr_02_what_a_connection_held_is_given_back_when_its_client_goes() {
    let broker = with_limits(|l| l.connections = 8).await;
    for _ in 0..5 {
        let streams = [unread(&broker, 1).await, unread(&broker, 1).await];
        something_is_held(&broker).await;
        drop(streams);
        nothing_is_held(&broker).await;
    }
}

#[tokio::test]
async fn tr_02_what_a_connection_held_is_given_back_at_shutdown() {
    let mut broker = with_limits(|l| l.shutdown_grace = Duration::from_secs(20)).await;
    let streams = [unread(&broker, 1).await, unread(&broker, 2).await];
    something_is_held(&broker).await;
    let running = broker.running.take().unwrap();
    let admission = running.admission.clone();
    running.shutdown(std::future::pending()).await;
    let held = (
        admission.calls_in_flight(),
        admission.request_memory_bytes(),
        admission.sources(),
    );
    assert_eq!(held, (0, 0, 0));
    drop(streams);
}
