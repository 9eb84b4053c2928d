//! An HTTP/2 client that can send frames no library would send.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
const ACK: u8 = 0x1;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Encodes a header as a literal without indexing and without Huffman coding: RFC 7541 section 6.2.2.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.len();
        if rest < 127 {
            bytes.push(u8::try_from(rest).unwrap());
        } else {
            bytes.push(127);
            rest -= 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap());
        }
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    [vec![0], text(name), text(value)].concat()
}

/// The header block of a POST.
pub fn post(host: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let host = host.to_string();
    let pseudo = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", host.as_str()),
    ];
    pseudo
        .iter()
        .chain(headers)
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

/// The header block of a form without credentials.
pub fn form(host: SocketAddr) -> Vec<u8> {
    post(
        host,
        "/",
        &[("content-type", "application/x-www-form-urlencoded")],
    )
}

/// A socket that is bound to an address of this machine; all of 127.0.0.0/8 is loopback.
pub async fn connect(to: SocketAddr, from: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// A connection that sends nothing by itself except acknowledgements.
pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The frames that were received.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub payload: Vec<u8>,
}

impl Raw {
    /// Connects, and sends the preface and settings (six bytes each).
    pub async fn connect(to: SocketAddr, from: Ipv4Addr, settings: &[u8]) -> Self {
        let stream = connect(to, from).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Self {
            stream,
            buffer: Vec::new(),
        };
        let preface = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
            &frame(SETTINGS, 0, 0, settings),
        ]
        .concat();
        assert!(raw.send(&preface).await);
        raw
    }

    /// Whether the broker still reads from the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(
            tokio::time::timeout(Duration::from_secs(30), self.stream.write_all(bytes)).await,
            Ok(Ok(()))
        )
    }

    /// The next frame except acknowledgements; `None` if the connection ended or nothing arrived in
    /// time.
    pub async fn next(&mut self, wait: Duration) -> Result<Frame, &'static str> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            while let Some(frame) = self.take() {
                match (frame.kind, frame.flags & ACK) {
                    (SETTINGS, 0) => _ = self.send(&self::frame(SETTINGS, ACK, 0, b"")).await,
                    (PING, 0) => _ = self.send(&self::frame(PING, ACK, 0, &frame.payload)).await,
                    (SETTINGS | PING | WINDOW_UPDATE, _) => {}
                    _ => return Ok(frame),
                }
            }
            let mut bytes = [0; 16_384];
            match tokio::time::timeout_at(deadline, self.stream.read(&mut bytes)).await {
                Err(_) => return Err("nothing came"),
                Ok(Ok(0) | Err(_)) => return Err("closed"),
                Ok(Ok(n)) => self.buffer.extend_from_slice(&bytes[..n]),
            }
        }
    }

    /// Reads until the broker ends the connection. Returns whether it did in time, and the kinds of
    /// frames that arrived.
    pub async fn ends(&mut self, wait: Duration) -> (bool, Vec<u8>) {
        let deadline = tokio::time::Instant::now() + wait;
        let mut kinds = Vec::new();
        loop {
            match self
                .next(deadline.saturating_duration_since(tokio::time::Instant::now()))
                .await
            {
                Ok(frame) => kinds.push(frame.kind),
                Err(why) => return (why == "closed", kinds),
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head: &[u8; 9] = self.buffer.first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let (kind, flags) = (head[3], head[4]);
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.drain(..9 + length);
        Some(Frame {
            kind,
            flags,
            payload,
        })
    }
}
