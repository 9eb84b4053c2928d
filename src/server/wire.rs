//! Watches the bytes between a connection and hyper, to enforce limits that hyper does not know:
//!
//! - A request that states its length in two ways (RFC 9112 section 6.3) is detected here. hyper uses one of the
//!   lengths and drops the other header, while a proxy in front may use the other one.
//! - After an answer to a request that was not read to its end, the rest of the request is read and discarded for a
//!   while. Otherwise the system would reset the connection, and the answer could be lost (RFC 9112 section 9.6).
//! - The content of hyper's buffers is counted: incomplete heads, and unread bodies of HTTP/2. While the memory for
//!   requests is exhausted, nothing more is read.
//! - HTTP/2 header blocks are read at a limited rate per source address, until a caller has been authenticated on the
//!   connection.
//! - HTTP/2 frames that belong to no call are counted, and too many of them end the connection.
//!
//! This module also makes hyper write several answers at once (see `is_write_vectored`).

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::frames::Frames;
use crate::admission::Connection;

/// The maximum length of the header list of a request, in bytes. This is far more than a session token needs.
pub(super) const MAX_HEADER_BYTES: usize = 32_768;
/// How many bytes of header blocks are read in one turn of a connection, before the calls in them run. One byte can
/// stand for a whole header (RFC 7541 section 6.1), and hyper unpacks everything that it can read before it starts a
/// call.
const HEADERS_IN_A_TURN: usize = 16_384;
/// How long a connection is not read if its source exceeds the rate of header blocks.
const HEADER_PAUSE: Duration = Duration::from_millis(50);
/// The maximum number of bytes that an incomplete header block can take in memory once it is unpacked. This allows for
/// as many headers as HTTP/2's limit on the header list admits, with about 100 bytes for each header besides its text.
const OPEN_HEADER_BLOCK: usize = 262_144;
/// How long the rest of a request is read and discarded after its answer.
const LINGER: Duration = Duration::from_secs(5);
/// How many bytes of a request are read and discarded after its answer.
const LINGER_BYTES: usize = 128 << 20;
/// The size of the buffer into which discarded bytes are read.
const LINGER_BUFFER: usize = 16_384;
/// After how many filled buffers a connection that discards bytes lets other connections run.
const LINGER_TURN: usize = 32;

/// Facts about a connection that this module and the service exchange. hyper, which is between them, does not pass them
/// on.
#[derive(Debug, Default)]
pub(super) struct Notes {
    ambiguous: AtomicBool,
    linger: AtomicBool,
    http2: AtomicBool,
    /// Whether a write was blocked since the connection was last woken (see [`Self::turn`]).
    blocked: AtomicBool,
    /// The reason to close the connection at once; unset if there is none.
    cut: OnceLock<&'static str>,
    /// How many bytes of header blocks were read since the connection was last woken.
    headers: AtomicUsize,
    /// The age of the connection in seconds, which [`Self::tick`] counts.
    second: AtomicU32,
    /// The second in which an incomplete head or frame began, plus 1; 0 if nothing is incomplete.
    partial_since: AtomicU32,
}

impl Notes {
    /// Whether a request stated its length in two ways.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Relaxed)
    }

    /// Begins a turn of the connection. Must be called each time that the connection is woken.
    pub(super) fn turn(&self) {
        self.blocked.store(false, Ordering::Relaxed);
        self.headers.store(0, Ordering::Relaxed);
    }

    /// Adds a second to the age of the connection. Must be called once a second.
    pub(super) fn tick(&self) {
        self.second.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// Whether a write was blocked in this turn, because the client does not read its answers.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Asks for the connection to be closed in this turn or the next one. The first reason counts.
    pub(super) fn cut(&self, why: &'static str) {
        let _ = self.cut.set(why); // the first reason counts
    }

    /// The reason to close the connection at once; `None` if there is none.
    pub(super) fn is_cut(&self) -> Option<&'static str> {
        self.cut.get().copied()
    }

    /// For how many seconds a head, a header block or a frame has been incomplete.
    pub(super) fn partial_seconds(&self) -> u32 {
        match self.partial_since.load(Ordering::Relaxed) {
            0 => 0,
            since => (self.second.load(Ordering::Relaxed) + 1).saturating_sub(since),
        }
    }

    /// Records whether a head, a header block or a frame is incomplete; `anew` says that it has just begun.
    fn partial(&self, is_partial: bool, anew: bool) {
        if !is_partial {
            self.partial_since.store(0, Ordering::Relaxed);
        } else if anew || self.partial_since.load(Ordering::Relaxed) == 0 {
            self.partial_since
                .store(self.second.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// Asks for the rest of a request to be discarded before the connection closes, because the answer was sent before
    /// the request was read to its end.
    pub(super) fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }
}

/// A stream that inspects the bytes that hyper reads and writes.
pub(super) struct Wire<S> {
    stream: S,
    framing: Framing,
    notes: Arc<Notes>,
    account: Arc<Connection>,
    /// A pause in reading, because the source exceeds the rate of header blocks.
    pause: Option<Pin<Box<Sleep>>>,
    closing: Option<Closing>,
}

/// A connection that is closing: the rest of its request is discarded until the deadline or [`LINGER_BYTES`].
struct Closing {
    deadline: Pin<Box<Sleep>>,
    buffer: Box<[u8]>,
    left: usize,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, notes: Arc<Notes>, account: Arc<Connection>) -> Self {
        Self {
            stream,
            framing: Framing::Head(Vec::new()),
            notes,
            account,
            pause: None,
            closing: None,
        }
    }

    /// Whether more bytes may be read now. If the memory for requests is exhausted, the connection tries again at its
    /// next turn, within a second.
    fn may_read(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.pause = None;
        }
        match &self.framing {
            // The head is kept both here and in hyper's buffer.
            Framing::Head(head) => self.account.settle(2 * head.len()),
            Framing::Frames(frames) => {
                if self.notes.headers.load(Ordering::Relaxed) >= HEADERS_IN_A_TURN {
                    cx.waker().wake_by_ref();
                    return false;
                }
                if !self.account.may_unpack() {
                    let pause = self
                        .pause
                        .insert(Box::pin(tokio::time::sleep(HEADER_PAUSE)));
                    // The first poll registers the timer, which then wakes the connection.
                    if pause.as_mut().poll(cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                    return false;
                }
                self.account.settle(if frames.in_header_block() {
                    OPEN_HEADER_BLOCK
                } else {
                    0
                })
            }
            Framing::Body(_) | Framing::Untracked => true,
        }
    }

    /// Inspects bytes that were read, before hyper gets them.
    fn look(&mut self, bytes: &[u8]) {
        let notes = &self.notes;
        match &mut self.framing {
            Framing::Untracked => {}
            Framing::Frames(frames) => {
                let seen = frames.feed(bytes);
                if seen.data > 0 {
                    self.account.buffered(seen.data);
                }
                if seen.headers > 0 {
                    notes.headers.fetch_add(seen.headers, Ordering::Relaxed);
                    self.account.unpacked(seen.headers);
                }
                notes.partial(frames.is_partial(), seen.began);
                if seen.flood {
                    notes.cut("the client sent too many HTTP/2 frames that belong to no call");
                }
            }
            framing => {
                let was_whole = !framing.is_partial();
                if framing.feed(bytes) {
                    notes.ambiguous.store(true, Ordering::Relaxed);
                }
                notes.partial(framing.is_partial(), was_whole);
                notes
                    .http2
                    .store(matches!(framing, Framing::Frames(_)), Ordering::Relaxed);
            }
        }
    }

    fn uncut(&self) -> io::Result<()> {
        self.notes
            .is_cut()
            .map_or(Ok(()), |why| Err(io::Error::other(why)))
    }

    fn sent(&mut self, written: &Poll<io::Result<usize>>) {
        if let (Framing::Frames(frames), Poll::Ready(Ok(bytes))) = (&mut self.framing, written) {
            frames.sent(*bytes);
        }
    }

    /// Records whether a write was blocked, and returns its result.
    fn written<T>(&self, result: Poll<T>) -> Poll<T> {
        if result.is_pending() {
            self.notes.blocked.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.uncut()?;
        if !this.may_read(cx) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        this.look(buffer.filled().get(before..).unwrap_or_default());
        this.uncut()?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.sent(&written);
        self.written(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let closing = match &mut this.closing {
            Some(closing) => closing,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                if !this.notes.linger.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                this.closing.insert(Closing {
                    deadline: Box::pin(tokio::time::sleep(LINGER)),
                    buffer: vec![0; LINGER_BUFFER].into(),
                    left: LINGER_BYTES,
                })
            }
        };
        for _ in 0..LINGER_TURN {
            if closing.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut thrown_away = ReadBuf::new(&mut closing.buffer);
            // A read error ends the connection, as the client's own close does.
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut thrown_away));
            let count = thrown_away.filled().len();
            closing.left = closing.left.saturating_sub(count);
            if read.is_err() || count == 0 || closing.left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Always `false`, so that hyper copies short answers into its buffer and writes many of them at once. If a
    /// stream takes several slices, h2 writes every answer of 256 bytes or more by a system call of its own.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

/// The position of a connection in its stream of requests.
enum Framing {
    /// In the head of a request; holds the bytes that have arrived.
    Head(Vec<u8>),
    /// In a body; holds how many bytes are still to arrive.
    Body(u64),
    /// After the last request of the connection. Its body need not be followed, because hyper closes the connection.
    Untracked,
    Frames(Frames),
}

/// The facts in the head of a request that determine the length of its body.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lengths {
    content_length: Option<u64>,
    transfer_encoding: bool,
    ambiguous: bool,
    http2: bool,
}

impl Framing {
    /// Whether a request's head, a header block or an HTTP/2 frame is incomplete.
    fn is_partial(&self) -> bool {
        match self {
            Self::Head(head) => !head.is_empty(),
            Self::Frames(frames) => frames.is_partial(),
            Self::Body(_) | Self::Untracked => false,
        }
    }

    /// Parses the next bytes of the stream to find where its requests begin and end. Returns whether a request in them
    /// states its length in two ways.
    fn feed(&mut self, mut bytes: &[u8]) -> bool {
        let mut ambiguous = false;
        while !bytes.is_empty() {
            match self {
                Self::Untracked => return ambiguous,
                Self::Frames(frames) => {
                    frames.feed(bytes);
                    return ambiguous;
                }
                Self::Body(left) => {
                    let skipped =
                        usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= skipped as u64;
                    bytes = bytes.get(skipped..).unwrap_or_default();
                    if *left == 0 {
                        *self = Self::Head(Vec::new());
                    }
                }
                Self::Head(head) => {
                    let known = head.len();
                    // A head mostly arrives in one piece, and is then inspected without copying it.
                    let whole = if known == 0 {
                        bytes
                    } else {
                        head.extend_from_slice(bytes);
                        head.as_slice()
                    };
                    let Some((end, lengths)) = read_head(whole) else {
                        if whole.len() > MAX_HEADER_BYTES {
                            *self = Self::Untracked;
                        } else if known == 0 {
                            head.extend_from_slice(bytes);
                        }
                        return ambiguous;
                    };
                    bytes = bytes.get(end.saturating_sub(known)..).unwrap_or_default();
                    ambiguous |= lengths.ambiguous;
                    *self = match lengths.content_length {
                        _ if lengths.http2 => Self::Frames(Frames::new()),
                        _ if lengths.transfer_encoding => Self::Untracked,
                        Some(length) if length > 0 => Self::Body(length),
                        _ => Self::Head(Vec::new()),
                    };
                }
            }
        }
        ambiguous
    }
}

/// The length of a request's head, and the facts in the head about the length of the body; `None` if the head is
/// incomplete. The first line of HTTP/2's preface counts as a head.
fn read_head(bytes: &[u8]) -> Option<(usize, Lengths)> {
    let mut lengths = Lengths::default();
    let (mut at, mut lines) = (0, 0);
    loop {
        let rest = bytes.get(at..)?;
        let length = memchr(b'\n', rest)?;
        let line = rest.get(..length)?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += length + 1;
        match lines {
            // Empty lines before a request are skipped (RFC 9112 section 2.2).
            0 if line.is_empty() => continue,
            // hyper reads every other first line as a request of HTTP/1.1.
            0 if line == b"PRI * HTTP/2.0" => {
                return Some((
                    at,
                    Lengths {
                        http2: true,
                        ..lengths
                    },
                ));
            }
            0 => {}
            _ if line.is_empty() => return Some((at, lengths)),
            _ => lengths.add(line),
        }
        lines += 1;
    }
}

impl Lengths {
    fn add(&mut self, line: &[u8]) {
        // The first letter rules out most headers quickly.
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
            return;
        }
        let colon = memchr(b':', line).unwrap_or(line.len());
        let (name, value) = line.split_at_checked(colon).unwrap_or((line, b""));
        if name.trim_ascii().eq_ignore_ascii_case(b"transfer-encoding") {
            self.ambiguous |= self.transfer_encoding || self.content_length.is_some();
            self.transfer_encoding = true;
        } else if name.trim_ascii().eq_ignore_ascii_case(b"content-length") {
            self.ambiguous |= self.transfer_encoding || self.content_length.is_some();
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            // If the value is not a number, hyper refuses the request.
            self.content_length = Some(
                std::str::from_utf8(value)
                    .ok()
                    .and_then(|v| v.parse().ok())
                    .unwrap_or(0),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ambiguous(requests: &[u8], step: usize) -> bool {
        let mut framing = Framing::Head(Vec::new());
        requests
            .chunks(step)
            .fold(false, |found, piece| framing.feed(piece) | found)
    }

    #[test]
    fn sv_05_a_length_that_is_given_twice_is_found_wherever_it_is() {
        let good = "POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 37\r\n\r\ntransfer-encoding: x\r\ncontent-length: ";
        for (bad, found) in [
            (
                "POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
                true,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nCONTENT-LENGTH: 5\r\n\r\n",
                true,
            ),
            (
                "POST / HTTP/1.1\ncontent-length: 5\ntransfer-encoding: chunked\n\n",
                true,
            ),
            (
                "POST / HTTP/1.1\r\ncontent-length : 5\r\ntransfer-encoding: chunked\r\n\r\n",
                true,
            ),
            (
                "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na",
                true,
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
                true,
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 1\r\n\r\n",
                false,
            ),
            (
                "\r\n\r\nGET / HTTP/1.1\r\ncookie: a\r\nte: b\r\n\r\n",
                false,
            ),
            (
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                false,
            ),
            (
                "PRI / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
                true,
            ),
            ("", false),
        ] {
            for before in [String::new(), good.to_owned(), good.repeat(3)] {
                let all = format!("{before}{bad}");
                for step in [1, 2, 7, 64, 100_000] {
                    assert_eq!(ambiguous(all.as_bytes(), step), found, "{all:?} by {step}");
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn how_the_bytes_come_makes_no_difference(
            text in "(POST / HTTP/1.1|content-length: [0-9]{1,3}|transfer-encoding: chunked|\r\n|\n|[ -~]){0,30}",
            step in 1_usize..20,
        ) {
            proptest::prop_assert_eq!(ambiguous(text.as_bytes(), step), ambiguous(text.as_bytes(), usize::MAX));
        }

        #[test]
        fn no_bytes_make_it_panic(pieces: Vec<Vec<u8>>) {
            let mut framing = Framing::Head(Vec::new());
            for piece in pieces {
                let _ = framing.feed(&piece);
            }
        }
    }
}
