//! More calls, memory, connections, headers and frames than the limits allow: each stays within its
//! limit, and other clients are served meanwhile. `docs/reference/limits.md` lists the limits.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use brevet::config::Limits;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame as BodyFrame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2 as client};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;
use crate::http2::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw,
    SETTINGS, WINDOW_UPDATE, form, literal,
};

const FORM: &str = "application/x-www-form-urlencoded";

/// An address of this machine; each counts as a different source.
fn source(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, n)
}

/// A body that sends its pieces and then waits, unless it is complete.
struct Pieces {
    pieces: std::collections::VecDeque<Bytes>,
    whole: bool,
}

impl Pieces {
    fn unfinished(pieces: &[usize]) -> Self {
        Self {
            pieces: pieces.iter().map(|n| Bytes::from(vec![b'a'; *n])).collect(),
            whole: false,
        }
    }

    fn whole(bytes: impl Into<Bytes>) -> Self {
        Self {
            pieces: [bytes.into()].into(),
            whole: true,
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(BodyFrame::data(piece)))),
            None if self.whole => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.whole {
            true => {
                http_body::SizeHint::with_exact(self.pieces.iter().map(|p| p.len() as u64).sum())
            }
            false => http_body::SizeHint::default(),
        }
    }
}

/// An HTTP/2 connection that can send endless bodies.
#[derive(Clone)]
struct Connection(client::SendRequest<Pieces>, std::net::SocketAddr);

impl Connection {
    async fn open(broker: &Broker, from: u8) -> Self {
        let stream = http2::connect(broker.address, source(from)).await.unwrap();
        let (sender, connection) = client::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(sender, broker.address)
    }

    async fn send(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Pieces,
    ) -> hyper::Result<Response<Incoming>> {
        let mut request = Request::post(format!("http://{}{path}", self.1))
            .body(body)
            .unwrap();
        *request.headers_mut() = headers;
        self.0.clone().send_request(request).await
    }

    /// A form of which only this many bytes are sent.
    fn unfinished(
        &self,
        pieces: &[usize],
    ) -> tokio::task::JoinHandle<hyper::Result<Response<Incoming>>> {
        let (connection, body) = (self.clone(), Pieces::unfinished(pieces));
        tokio::spawn(async move { connection.send("/", form_headers(), body).await })
    }

    /// Calls GetCallerIdentity. Returns the status, and the error code of a refusal.
    async fn who(
        &self,
        broker: &Broker,
        keys: Option<&Keys>,
    ) -> Result<(u16, String, HeaderMap), hyper::Error> {
        let body = encode(WHO);
        let mut headers = form_headers();
        if let Some(keys) = keys {
            broker.sign("/", keys, &mut headers, body.as_bytes());
        }
        let response = self.send("/", headers, Pieces::whole(body)).await?;
        let (head, body) = response.into_parts();
        let body = String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap();
        let answer = Answer {
            status: head.status.as_u16(),
            headers: head.headers.clone(),
            body,
        };
        Ok((answer.status, answer.code().to_owned(), head.headers))
    }

    /// Calls GetCallerIdentity over gRPC without a signature. Returns the status.
    async fn grpc(&self, broker: &Broker, headers: HeaderMap) -> (u16, HeaderMap) {
        let mut all = headers;
        all.insert("content-type", HeaderValue::from_static("application/grpc"));
        all.insert("te", HeaderValue::from_static("trailers"));
        let path = format!("/{}/GetCallerIdentity", brevet::api::SERVICE);
        assert_eq!(self.1, broker.address);
        let response = self
            .send(&path, all, Pieces::whole(frame(b"")))
            .await
            .unwrap();
        (response.status().as_u16(), response.headers().clone())
    }
}

async fn metric(broker: &Broker, name: &str) -> u64 {
    let text = broker.operator("/metrics").await.body;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

async fn calls_in_flight(broker: &Broker, wanted: u64) {
    let mut last = 0;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        last = metric(broker, "brevet_calls_in_flight").await;
        if last == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{last} calls are in flight, not {wanted}");
}

async fn nothing_is_held(broker: &Broker) {
    eventually("nothing is held", async || {
        metric(broker, "brevet_request_memory_bytes").await == 0
    })
    .await;
}

async fn with_limits(change: impl FnOnce(&mut Limits)) -> Broker {
    let mut limits = Limits::default();
    change(&mut limits);
    Broker::start_with(|c| {
        c.limits = Limits {
            shutdown_grace: Duration::from_secs(5),
            ..limits
        }
    })
    .await
}

#[tokio::test]
async fn calls_in_flight_are_bounded_and_whoever_proved_somebody_goes_first() {
    let broker = with_limits(|l| l.calls = 16).await;
    let proven = Connection::open(&broker, 9).await;
    assert_eq!(
        proven.who(&broker, Some(&user("alice"))).await.unwrap().1,
        "ok"
    );
    // One source has a quarter, over whichever connections.
    let one = [
        Connection::open(&broker, 1).await,
        Connection::open(&broker, 1).await,
    ];
    let mut waiting: Vec<_> = (0..4).map(|n| one[n % 2].unfinished(&[10])).collect();
    calls_in_flight(&broker, 4).await;
    let (status, code, headers) = one[0].who(&broker, Some(&user("alice"))).await.unwrap();
    assert_eq!(
        (
            status,
            code.as_str(),
            headers["retry-after"].to_str().unwrap()
        ),
        (503, "ServiceUnavailable", "1")
    );
    let (status, headers) = one[1].grpc(&broker, HeaderMap::new()).await;
    assert_eq!(
        (status, headers["grpc-status"].to_str().unwrap()),
        (200, "14")
    );
    let details = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD_NO_PAD,
        headers["grpc-status-details-bin"].as_bytes(),
    );
    assert!(String::from_utf8_lossy(&details.unwrap()).contains("google.rpc.RetryInfo"));
    assert_eq!(
        metric(&broker, "brevet_shed_total{reason=\"source\"}").await,
        2
    );
    // Three sources have three quarters; the last is for those who have proven somebody.
    let two = Connection::open(&broker, 2).await;
    let three = Connection::open(&broker, 3).await;
    waiting.extend((0..4).flat_map(|_| [two.unfinished(&[10]), three.unfinished(&[10])]));
    calls_in_flight(&broker, 12).await;
    // A newcomer has room all the same: the oldest call that only waits for its body gives way.
    let late = Connection::open(&broker, 4).await;
    let (status, code, _) = late.who(&broker, None).await.unwrap();
    assert_eq!((status, code.as_str()), (403, "MissingAuthenticationToken"));
    assert_eq!(
        metric(&broker, "brevet_shed_total{reason=\"calls\"}").await,
        1
    );
    // So has a revocation of a source that has its share already.
    assert_eq!(
        brevet::api::REVOCATION,
        format!("/{}/RevokeSessions", brevet::api::ADMINISTRATION)
    );
    let mut headers = form_headers();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    let revocation = Pieces::whole(frame(b""));
    let answer = one[0]
        .send(brevet::api::REVOCATION, headers, revocation)
        .await
        .unwrap();
    assert_eq!(
        answer.headers()["grpc-status"],
        "16",
        "it is heard, and has proven nobody"
    );
    assert_eq!(
        proven.who(&broker, Some(&user("alice"))).await.unwrap().1,
        "ok"
    );
    // Those who hang up are counted no longer.
    for call in waiting {
        call.abort();
    }
    calls_in_flight(&broker, 0).await;
    assert_eq!(
        late.who(&broker, Some(&user("alice"))).await.unwrap().1,
        "ok"
    );
    drop((one, two, three, late, proven));
    nothing_is_held(&broker).await;
    // Whoever was turned away is on record.
    let shed = broker
        .into_audit()
        .await
        .iter()
        .filter(|r| r["errorCode"] == "ServiceUnavailable")
        .count();
    assert_eq!(shed, 3);
}

#[tokio::test]
async fn an_assertion_that_was_used_elsewhere_proves_no_connection() {
    use crate::saml_idp::{Idp, Says};
    use crate::saml_login::{PROVIDER, ROLE, directory_of, form_of};
    let idp = Idp::new("https://idp.example.com/saml");
    let dir = home();
    let text = directory_of(&idp).to_string();
    brevet::files::write_private(&dir.path().join("directory.json"), text.as_bytes()).unwrap();
    let broker = Broker::start_in(dir, |config| config.limits.calls = 16).await;
    let login = async |from: &Connection, response: &str| {
        let body = Pieces::whole(encode(&form_of(response)));
        let response = from.send("/", form_headers(), body).await.unwrap();
        response.status().as_u16()
    };
    let response = idp.response(&Says::new("one", ROLE, PROVIDER, now()));
    let own = Connection::open(&broker, 8).await;
    assert_eq!(login(&own, &response).await, 200);
    // The same assertion in another text: base64 may have line breaks.
    let thief = Connection::open(&broker, 9).await;
    let (start, rest) = response.split_at(76);
    assert_eq!(login(&thief, &format!("{start}\n{rest}")).await, 403);
    // Three quarters of the calls are for those who have proven nobody.
    let crowd = [1, 2, 3].map(|from| Connection::open(&broker, from));
    let crowd = futures_util::future::join_all(crowd).await;
    let mut waiting: Vec<_> = (0..12).map(|n| crowd[n % 3].unfinished(&[10])).collect();
    calls_in_flight(&broker, 12).await;
    waiting.push(thief.unfinished(&[10]));
    eventually("another call has made room for the thief's", async || {
        metric(&broker, "brevet_shed_total{reason=\"calls\"}").await == 1
    })
    .await;
    calls_in_flight(&broker, 12).await;
    waiting.push(own.unfinished(&[10]));
    calls_in_flight(&broker, 13).await;
    for call in waiting {
        call.abort();
    }
}

#[tokio::test]
async fn bodies_are_bounded_in_bytes_over_all_connections() {
    let broker = with_limits(|l| l.request_memory_bytes = 16 << 20).await;
    // A quarter of 16 MiB, of which an eighth is kept for refusals, holds fifteen of these.
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: {FORM}\r\ncontent-length: 220000\r\n\r\n",
        broker.address
    );
    let request = [head.as_bytes(), &[b'a'; 219_999]].concat();
    let mut held = Vec::new();
    for _ in 0..30 {
        let mut stream = http2::connect(broker.address, source(1)).await.unwrap();
        stream.write_all(&request).await.unwrap();
        held.push(stream);
    }
    eventually("no more is taken", async || {
        metric(&broker, "brevet_shed_total{reason=\"source\"}").await == 15
    })
    .await;
    let bytes = metric(&broker, "brevet_request_memory_bytes").await;
    assert!((3 << 20..4 << 20).contains(&bytes), "{bytes}");
    // Others notice nothing.
    let other = Connection::open(&broker, 2).await;
    assert_eq!(
        other.who(&broker, Some(&user("alice"))).await.unwrap().1,
        "ok"
    );
    let mut refused = 0;
    for stream in &mut held {
        let mut answer = [0; 12];
        if let Ok(Ok(_)) =
            tokio::time::timeout(Duration::from_millis(50), stream.read_exact(&mut answer)).await
        {
            assert_eq!(&answer, b"HTTP/1.1 503");
            refused += 1;
        }
    }
    assert_eq!(refused, 15);
    drop(held);
    nothing_is_held(&broker).await;
    let mut stream = http2::connect(broker.address, source(1)).await.unwrap();
    stream.write_all(&request).await.unwrap();
    calls_in_flight(&broker, 1).await;
}

#[tokio::test]
async fn until_somebody_is_proven_sixteen_long_bodies_are_read_at_a_time() {
    let broker = Broker::start().await;
    let connection = Connection::open(&broker, 1).await;
    let long: Vec<_> = (0..16)
        .map(|_| connection.unfinished(&[9_000, 100]))
        .collect();
    let held = async || metric(&broker, "brevet_request_memory_bytes").await;
    eventually("they are read", async || {
        held().await >= 16 * (16_384 + 9_100)
    })
    .await;
    // A short body is read; one that is longer waits.
    assert_eq!(
        connection.who(&broker, None).await.unwrap().1,
        "MissingAuthenticationToken"
    );
    let waits = {
        let long = format!(
            "Action=GetCallerIdentity&Version=2011-06-15&x={}",
            "y".repeat(9_000)
        );
        let (connection, mut body) = (connection.clone(), Pieces::whole(long));
        body.pieces.push_back("z".into());
        tokio::spawn(async move { connection.send("/", form_headers(), body).await })
    };
    calls_in_flight(&broker, 17).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waits.is_finished());
    // It has its turn when another ends, and when somebody is proven.
    let mut long = long.into_iter();
    long.next().unwrap().abort();
    assert_eq!(waits.await.unwrap().unwrap().status(), 403);
    long.next().unwrap().abort();
    let more: Vec<_> = (0..10)
        .map(|_| connection.unfinished(&[9_000, 100]))
        .collect();
    calls_in_flight(&broker, 24).await;
    assert_eq!(
        connection
            .who(&broker, Some(&user("alice")))
            .await
            .unwrap()
            .1,
        "ok"
    );
    eventually("all are read", async || {
        held().await >= 24 * (16_384 + 9_100)
    })
    .await;
    drop((long, more));
}

#[tokio::test]
async fn headers_are_counted_on_http2_as_on_http1() {
    let broker = Broker::start().await;
    let connection = Connection::open(&broker, 1).await;
    let padded = |headers: usize, bytes: usize| {
        let mut all = form_headers();
        for n in all.len()..headers {
            all.append(
                "x-padding",
                HeaderValue::from_str(&format!("{n}{}", "x".repeat(bytes / headers))).unwrap(),
            );
        }
        all
    };
    // The clients add `host`, `content-length` and `te` of their own.
    for (headers, bytes, status) in [
        (61, 100, 400),
        (70, 100, 431),
        (20, 30_000, 400),
        (20, 36_000, 431),
    ] {
        let sent = padded(headers, bytes);
        let answer = connection
            .send("/", sent.clone(), Pieces::whole(""))
            .await
            .unwrap();
        assert_eq!(
            answer.status(),
            status,
            "HTTP/2, {headers} headers of {bytes} bytes"
        );
        let answer = broker.send("POST", "/", sent.clone(), Vec::new()).await;
        assert_eq!(
            answer.status, status,
            "HTTP/1.1, {headers} headers of {bytes} bytes"
        );
        let (_, answer) = connection.grpc(&broker, sent).await;
        assert_eq!(
            answer["grpc-status"],
            if status == 431 { "8" } else { "16" },
            "{headers} headers of {bytes} bytes"
        );
    }
    let refused = broker
        .into_audit()
        .await
        .iter()
        .filter(|r| r["errorCode"] == "RequestHeaderFieldsTooLarge")
        .count();
    assert_eq!(refused, 4, "hyper answers the two over HTTP/1.1 by itself");
}

#[tokio::test]
async fn tr_02_header_lists_made_of_references_are_not_kept() {
    let broker = Broker::start().await;
    // A literal that enters the dynamic table, and then one byte for each further header.
    let name = [form(broker.address).as_slice(), b"\x40\x01a\x00"].concat();
    let references = |n: usize| [http2::form(broker.address), vec![0xbe; n]].concat();
    let mut all = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect(broker.address, source(1), b"").await;
        raw.send(&http2::frame(HEADERS, END_HEADERS, 1, &name))
            .await;
        for n in 1..100 {
            raw.send(&http2::frame(
                HEADERS,
                END_HEADERS,
                2 * n + 1,
                &references(1_700),
            ))
            .await;
        }
        all.push(raw);
    }
    // Of each connection the one good request waits for its body; whatever else there was is answered.
    calls_in_flight(&broker, 4).await;
    let bytes = metric(&broker, "brevet_request_memory_bytes").await;
    assert!(bytes < 4 * 100 * 4_096 / 2, "{bytes}");
    assert_eq!(broker.query(Some(&user("alice")), WHO).await.code(), "ok");
    // 10,000 headers, and a list of 1 MB: h2 ends the connection.
    for block in [
        [name.as_slice(), &[0xbe; 10_000]].concat(),
        [
            form(broker.address),
            literal("x", &"y".repeat(15_000)).repeat(70),
        ]
        .concat(),
    ] {
        let mut raw = Raw::connect(broker.address, source(1), b"").await;
        let mut pieces = block.chunks(16_000).peekable();
        let mut bytes = http2::frame(HEADERS, 0, 1, pieces.next().unwrap());
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            bytes.extend(http2::frame(CONTINUATION, flags, 1, piece));
        }
        raw.send(&bytes).await;
        let answered = raw.next(PATIENCE).await;
        assert!(
            matches!(&answered, Ok(f) if [GOAWAY, RST_STREAM, HEADERS].contains(&f.kind)),
            "{answered:?}"
        );
    }
}

#[tokio::test]
async fn tr_02_frames_without_a_call_end_the_connection() {
    let broker = Broker::start().await;
    let empty_data = http2::frame(DATA, 0, 1, b"");
    for (name, open, one) in [
        ("PING", false, http2::frame(PING, 0, 0, b"12345678")),
        ("SETTINGS", false, http2::frame(SETTINGS, 0, 0, b"")),
        ("PRIORITY", false, http2::frame(2, 0, 1, &[0, 0, 0, 3, 16])),
        (
            "WINDOW_UPDATE",
            false,
            http2::frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()),
        ),
        ("unknown", false, http2::frame(0xfe, 0, 0, b"")),
        ("empty DATA", true, empty_data),
    ] {
        let mut raw = Raw::connect(broker.address, source(1), b"").await;
        if open {
            raw.send(&http2::frame(
                HEADERS,
                END_HEADERS,
                1,
                &form(broker.address),
            ))
            .await;
        }
        // So many are fine.
        raw.send(&one.repeat(90)).await;
        assert_eq!(
            raw.next(Duration::from_millis(200)).await.unwrap_err(),
            "nothing came",
            "{name}"
        );
        let started = Instant::now();
        while raw.send(&one.repeat(200)).await {
            assert!(started.elapsed() < PATIENCE, "{name} without end");
        }
    }
    let mut raw = Raw::connect(broker.address, source(1), b"").await;
    raw.send(&http2::frame(HEADERS, 0, 1, &form(broker.address)))
        .await;
    raw.send(&http2::frame(CONTINUATION, 0, 1, b"").repeat(500))
        .await;
    assert!(raw.ends(PATIENCE).await.0, "CONTINUATION without end");
    // A client at rest that sends a PING now and then stays.
    let mut raw = Raw::connect(broker.address, source(1), b"").await;
    raw.send(&http2::frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &form(broker.address),
    ))
    .await;
    for _ in 0..40 {
        assert!(raw.send(&http2::frame(PING, 0, 0, b"12345678")).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!raw.ends(Duration::from_millis(100)).await.0);
}

#[tokio::test]
async fn tr_02_an_answer_that_is_not_read_ends_the_connection() {
    let broker = Broker::start().await;
    // A window of nothing: SETTINGS_INITIAL_WINDOW_SIZE.
    let mut raw = Raw::connect(broker.address, source(1), b"\x00\x04\0\0\0\0").await;
    for n in 0..100 {
        raw.send(&http2::frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            2 * n + 1,
            &form(broker.address),
        ))
        .await;
    }
    eventually("the answers wait", async || {
        metric(&broker, "brevet_request_memory_bytes").await == 100 * 4_096
    })
    .await;
    calls_in_flight(&broker, 0).await;
    let started = Instant::now();
    let (ended, kinds) = raw.ends(PATIENCE).await;
    assert!(
        ended && started.elapsed() > Duration::from_secs(7),
        "{:?}",
        started.elapsed()
    );
    assert!(kinds.contains(&HEADERS) && !kinds.contains(&DATA));
    nothing_is_held(&broker).await;
    // Whoever reads, however late in that time, keeps the connection.
    let mut raw = Raw::connect(broker.address, source(1), b"\x00\x04\0\0\0\0").await;
    raw.send(&http2::frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &form(broker.address),
    ))
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    raw.send(&http2::frame(
        WINDOW_UPDATE,
        0,
        1,
        &100_000u32.to_be_bytes(),
    ))
    .await;
    let mut kinds = Vec::new();
    while let Ok(came) = raw.next(Duration::from_secs(1)).await {
        kinds.push(came.kind);
    }
    assert!(kinds.contains(&DATA), "{kinds:?}");
    nothing_is_held(&broker).await;
    assert!(!raw.ends(Duration::from_millis(100)).await.0);
}

#[tokio::test]
async fn what_is_not_read_of_http1_is_counted_until_it_is_sent() {
    let broker = Broker::start().await;
    // More pipelined requests than the system's buffers take answers of.
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let one = format!(
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: {FORM}\r\ncontent-length: {}\r\n\r\n{body}",
        broker.address,
        body.len()
    );
    let mut stream = http2::connect(broker.address, source(1)).await.unwrap();
    stream.write_all(one.repeat(50).as_bytes()).await.unwrap();
    eventually("they are answered", async || {
        metric(&broker, "brevet_calls_total{action=\"GetCallerIdentity\",outcome=\"MissingAuthenticationToken\"}").await
            == 50
    })
    .await;
    nothing_is_held(&broker).await;
}

#[tokio::test]
async fn an_http1_connection_rests_and_a_slow_head_does_not() {
    let broker =
        with_limits(|l| (l.handshake, l.idle) = (Duration::from_secs(1), Duration::from_secs(30)))
            .await;
    let stream = TcpStream::connect(broker.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for wait in [0, 3_000] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let mut request = Request::post("/")
            .body(Pieces::whole("Action=GetCallerIdentity&Version=2011-06-15"))
            .unwrap();
        *request.headers_mut() = form_headers();
        request.headers_mut().insert(
            "host",
            HeaderValue::from_str(&broker.address.to_string()).unwrap(),
        );
        sender.ready().await.expect("it rests");
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 403);
        answer.into_body().collect().await.unwrap();
    }
    // The head of a second request that does not end, byte by byte.
    let mut stream = TcpStream::connect(broker.address).await.unwrap();
    let whole = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", broker.address);
    stream.write_all(whole.as_bytes()).await.unwrap();
    let started = Instant::now();
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\nx-slow: ")
        .await
        .unwrap();
    while stream.write_all(b"a").await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "a slow head goes on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The same over HTTP/2: a header block that does not end, and a frame.
    for bytes in [
        http2::frame(HEADERS, 0, 1, &form(broker.address)),
        b"\0\0\x08\x06\0".to_vec(),
    ] {
        let mut raw = Raw::connect(broker.address, source(1), b"").await;
        raw.send(&http2::frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            3,
            &form(broker.address),
        ))
        .await;
        raw.send(
            &bytes
                .iter()
                .map(|b| if *b == 1 { 5 } else { *b })
                .collect::<Vec<_>>(),
        )
        .await;
        assert!(raw.ends(PATIENCE).await.0);
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_does_not_keep_its_connection() {
    let broker = with_limits(|l| l.idle = Duration::from_secs(1)).await;
    let mut raw = Raw::connect(broker.address, source(1), b"").await;
    for n in 0..10 {
        raw.send(&http2::frame(
            HEADERS,
            END_HEADERS,
            2 * n + 1,
            &form(broker.address),
        ))
        .await;
    }
    calls_in_flight(&broker, 10).await;
    for n in 0..10u32 {
        raw.send(&http2::frame(RST_STREAM, 0, 2 * n + 1, &8u32.to_be_bytes()))
            .await;
    }
    calls_in_flight(&broker, 0).await;
    let (ended, kinds) = raw.ends(PATIENCE).await;
    assert!(ended && kinds.contains(&GOAWAY), "{kinds:?}");
}

#[tokio::test]
async fn a_newcomer_finds_room_among_those_who_prove_nobody() {
    let broker = with_limits(|l| l.connections = 8).await;
    let proven = Connection::open(&broker, 1).await;
    assert_eq!(
        proven.who(&broker, Some(&user("alice"))).await.unwrap().1,
        "ok"
    );
    // Four sources hold everything, two connections each, and one more of each is closed at once.
    let mut silent = Vec::new();
    for n in [1, 2, 2, 3, 3, 4, 4] {
        silent.push(http2::connect(broker.address, source(n)).await.unwrap());
    }
    eventually("all places are taken", async || {
        metric(&broker, "brevet_connections").await == 8
    })
    .await;
    let mut third = http2::connect(broker.address, source(2)).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, third.read(&mut [0; 1])).await;
    assert!(
        matches!(ended, Ok(Ok(0) | Err(_))),
        "a source has a quarter"
    );
    // Another source has its turn: the oldest that has proven nobody goes.
    let mut newcomers = Vec::new();
    for n in 10..14 {
        let late = Connection::open(&broker, n).await;
        assert_eq!(
            late.who(&broker, Some(&user("alice"))).await.unwrap().1,
            "ok"
        );
        let ended = tokio::time::timeout(PATIENCE, silent.remove(0).read(&mut [0; 1])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{n}");
        newcomers.push(late);
        assert_eq!(
            proven.who(&broker, Some(&user("alice"))).await.unwrap().1,
            "ok"
        );
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_share() {
    let broker = Broker::start_with(|c| {
        c.limits = Limits {
            connections: 8,
            calls: 16,
            ..c.limits
        };
        c.listener.trusted_proxies =
            vec![brevet::evaluator::Network::parse("127.0.0.1/32").unwrap()];
    })
    .await;
    // The proxy is no source: it may hold more than a quarter of the connections.
    let mut proxy = Vec::new();
    for _ in 0..6 {
        proxy.push(Connection::open(&broker, 1).await);
    }
    let of = |client: &str| {
        let mut headers = form_headers();
        headers.insert("x-forwarded-for", HeaderValue::from_str(client).unwrap());
        headers
    };
    let waiting: Vec<_> = (0..4)
        .map(|n| {
            let (connection, headers) = (proxy[n].clone(), of("198.51.100.1"));
            tokio::spawn(async move {
                connection
                    .send("/", headers, Pieces::unfinished(&[10]))
                    .await
            })
        })
        .collect();
    calls_in_flight(&broker, 4).await;
    let ask = async |client: &str| {
        proxy[5]
            .send("/", of(client), Pieces::whole(""))
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!(ask("198.51.100.1").await, 503);
    assert_eq!(ask("198.51.100.2").await, 400);
    for call in waiting {
        call.abort();
    }
    calls_in_flight(&broker, 0).await;
}
