//! A client of gRPC that replays the bytes which hyper's client sends for a call. It reads the heads of frames
//! only, so that it costs much less than the servers that it loads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;

use super::Counts;

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// The types of frames: RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
/// After how many bytes of answers the server may send as many again, and how many it may send at first.
const WINDOW: u32 = 1 << 20;

/// The frames of a call, for the first call on a connection and for those after it, whose headers refer to those
/// of the first (RFC 7541).
pub struct Recorded {
    first: Frames,
    next: Frames,
}

/// Frames of one stream, whose number is still to be written at these places.
#[derive(Default, PartialEq, Eq)]
struct Frames {
    bytes: Vec<u8>,
    streams: Vec<usize>,
}

impl Frames {
    fn push(&mut self, head: [u8; FRAME_HEAD], payload: &[u8]) {
        let [rest @ .., _, _, _, _] = head;
        self.bytes.extend_from_slice(&rest);
        self.streams.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(payload);
    }

    fn append_to(&self, out: &mut Vec<u8>, stream: u32) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for at in &self.streams {
            out[start + at..start + at + 4].copy_from_slice(&stream.to_be_bytes());
        }
    }
}

/// The bytes which hyper's client sends for a call.
pub(super) fn record(uri: &str, headers: &HeaderMap, body: &Bytes) -> Recorded {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, server) = tokio::io::duplex(1 << 20);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
                .await
                .unwrap();
        tokio::spawn(connection);
        for _ in 0..3 {
            let mut request = Request::post(uri).body(Full::new(body.clone())).unwrap();
            *request.headers_mut() = headers.clone();
            let mut sender = sender.clone();
            tokio::spawn(async move { sender.send_request(request).await });
        }
        let [first, next, later] = read_calls(server).await;
        assert!(next == later, "the calls after the first one differ");
        Recorded { first, next }
    })
}

/// The frames of the first three streams that a client opens.
async fn read_calls(mut server: DuplexStream) -> [Frames; 3] {
    let mut preface = [0; PREFACE.len()];
    server.read_exact(&mut preface).await.unwrap();
    assert_eq!(preface, PREFACE);
    let mut calls: [Frames; 3] = std::array::from_fn(|_| Frames::default());
    let mut ended = 0;
    while ended < calls.len() {
        let mut head = [0; FRAME_HEAD];
        server.read_exact(&mut head).await.unwrap();
        let frame = Frame::of(head);
        let mut payload = vec![0; frame.length];
        server.read_exact(&mut payload).await.unwrap();
        if frame.stream > 0 && frame.kind != WINDOW_UPDATE {
            calls[frame.stream as usize / 2].push(head, &payload);
            ended += usize::from(frame.kind <= HEADERS && frame.flags & END_STREAM != 0);
        }
    }
    calls
}

#[derive(Clone, Copy)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    fn of([a, b, c, kind, flags, stream @ ..]: [u8; FRAME_HEAD]) -> Self {
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
        }
    }
}

fn push_frame(out: &mut Vec<u8>, kind: u8, flags: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags, 0, 0, 0, 0]);
    out.extend_from_slice(payload);
}

/// What a client sends first, and the first call.
fn opening(recorded: &Recorded) -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    // No pushes (2), and so many bytes of one answer at once (4).
    let mut settings = vec![0, 2, 0, 0, 0, 0, 0, 4];
    settings.extend_from_slice(&WINDOW.to_be_bytes());
    push_frame(&mut out, SETTINGS, 0, &settings);
    push_frame(&mut out, WINDOW_UPDATE, 0, &WINDOW.to_be_bytes());
    recorded.first.append_to(&mut out, 1);
    out
}

/// Opens a connection, makes so many calls one after the other, and returns the connection.
pub(super) async fn open(address: SocketAddr, recorded: &Recorded, calls: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut out, mut reader, counts) = (opening(recorded), Reader::default(), Counts::default());
    let (mut ended, mut next_stream) = (0, 3);
    while ended < calls {
        stream.write_all(&out).await.unwrap();
        out.clear();
        let count = stream.read(reader.room()).await.unwrap();
        assert!(count > 0, "the server closed the connection");
        if reader.take(count, &mut out, &counts) > 0 {
            ended += 1;
            if ended < calls {
                recorded.next.append_to(&mut out, next_stream);
                next_stream += 2;
            }
        }
    }
    stream.write_all(&out).await.unwrap();
    stream
}

/// Keeps so many calls in flight on one connection, without end. The recorded calls are sent in turn from the
/// one with the number `start`; those whose turn comes together are sent together.
pub(super) async fn repeat(
    address: SocketAddr,
    recorded: Arc<[Recorded]>,
    start: usize,
    in_flight: usize,
    is_lone: bool,
    counts: Arc<Counts>,
) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut turns = recorded.iter().cycle().skip(start);
    let mut next = || turns.next().expect("a call was recorded");
    let mut out = opening(next());
    let mut next_stream = 3;
    for _ in 1..in_flight {
        next().next.append_to(&mut out, next_stream);
        next_stream += 2;
    }
    let mut reader = Reader::default();
    let mut began = Instant::now();
    loop {
        stream.write_all(&out).await.unwrap();
        out.clear();
        while out.is_empty() {
            let count = stream.read(reader.room()).await.unwrap();
            assert!(count > 0, "the server closed the connection");
            let ended = reader.take(count, &mut out, &counts);
            if ended > 0 && is_lone {
                counts.took(began.elapsed());
                began = Instant::now();
            }
            for _ in 0..ended {
                next().next.append_to(&mut out, next_stream);
                next_stream += 2;
            }
        }
    }
}

/// Reads the frames of a server.
struct Reader {
    buffer: Vec<u8>,
    filled: usize,
    /// The bytes of bodies since the last update of the window.
    unacknowledged: u32,
    /// The bytes of bodies of answers that have not ended yet.
    body: usize,
    /// How many more answers have had a body than have ended.
    bodies: isize,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            buffer: vec![0; 65_536],
            filled: 0,
            unacknowledged: 0,
            body: 0,
            bodies: 0,
        }
    }
}

impl Reader {
    fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Takes so many bytes that were read, answers what must be answered, and returns how many calls have ended.
    fn take(&mut self, count: usize, out: &mut Vec<u8>, counts: &Counts) -> usize {
        self.filled += count;
        let (mut at, mut ended) = (0, 0);
        while let Some(head) = self.buffer[at..self.filled].first_chunk() {
            let frame = Frame::of(*head);
            let end = at + FRAME_HEAD + frame.length;
            if end > self.filled {
                break;
            }
            let payload = at + FRAME_HEAD..end;
            match frame.kind {
                DATA => {
                    self.unacknowledged += u32::try_from(frame.length).unwrap();
                    self.body += frame.length;
                    self.bodies += isize::from(frame.length > 0);
                }
                // The trailers of an answer. A refusal has no body before them.
                HEADERS if frame.flags & END_STREAM != 0 => {
                    self.bodies -= 1;
                    assert!(self.bodies >= 0, "a call was refused");
                    counts.answered(std::mem::take(&mut self.body));
                    ended += 1;
                }
                SETTINGS if frame.flags & ACK == 0 => push_frame(out, SETTINGS, ACK, &[]),
                PING if frame.flags & ACK == 0 => {
                    let payload = self.buffer[payload].to_vec();
                    push_frame(out, PING, ACK, &payload);
                }
                RST_STREAM | GOAWAY => panic!("the server ended a call or the connection"),
                _ => {}
            }
            at = end;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        if self.unacknowledged >= WINDOW / 2 {
            push_frame(out, WINDOW_UPDATE, 0, &self.unacknowledged.to_be_bytes());
            self.unacknowledged = 0;
        }
        ended
    }
}
