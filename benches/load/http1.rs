//! A client of HTTP/1.1 that sends the same bytes again and again, and reads no more of an answer than where it
//! ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Counts;

/// The longest answer with its head, in bytes.
const MAX_ANSWER: usize = 65_536;

/// The bytes of a request. `line` has the method and the target.
pub(super) fn encode(line: &str, address: SocketAddr, headers: &HeaderMap, body: &str) -> Vec<u8> {
    let mut bytes = format!("{line} HTTP/1.1\r\nhost: {address}\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    bytes
}

/// Sends a request, waits for its answer, and begins again, without end.
pub(super) async fn repeat(
    address: SocketAddr,
    request: Arc<[u8]>,
    is_lone: bool,
    counts: Arc<Counts>,
) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; MAX_ANSWER];
    loop {
        let began = is_lone.then(Instant::now);
        let body = call(&mut stream, &request, &mut buffer).await;
        counts.answered(body);
        if let Some(began) = began {
            counts.took(began.elapsed());
        }
    }
}

/// Opens a connection, makes so many calls one after the other, and returns the connection.
pub(super) async fn open(address: SocketAddr, request: &[u8], calls: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut buffer = vec![0; MAX_ANSWER];
    for _ in 0..calls {
        call(&mut stream, request, &mut buffer).await;
    }
    stream
}

/// Sends a request and reads its answer; returns the length of the answer's body.
async fn call(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8]) -> usize {
    stream.write_all(request).await.unwrap();
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await.unwrap();
        assert!(count > 0, "the server closed the connection");
        filled += count;
        match lengths(&buffer[..filled]) {
            Some((head, body)) if head + body == filled => return body,
            Some((head, body)) => assert!(head + body > filled, "more than one answer"),
            None => {}
        }
    }
}

/// The lengths of an answer's head and body, once its head is complete.
fn lengths(answer: &[u8]) -> Option<(usize, usize)> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let find = |text: &[u8], part: &[u8]| memchr::memmem::find(text, part);
    let head = find(answer, b"\r\n\r\n")? + 4;
    let text = &answer[..head];
    assert!(
        text.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(answer)
    );
    let digits = &text[find(text, NAME).expect("a content-length") + NAME.len()..];
    let digits = digits.iter().take_while(|digit| digit.is_ascii_digit());
    let body = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    Some((head, body))
}
