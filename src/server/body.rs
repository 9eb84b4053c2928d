//! Bodies as they are counted: of requests while they arrive, of answers until they are sent.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tokio::time::Sleep;

use crate::admission::{Call, Shed};

/// Why a request's body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The connection, or the client.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// There is no room for it.
    #[error(transparent)]
    Shed(#[from] Shed),
    /// It went on for too long.
    #[error("the request did not end in time")]
    Late,
}

type Permit = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

/// How much of a body is read at any time, in bytes: most bodies are shorter.
const SHORT_BODY: usize = 8_192;

/// A request's body. Its bytes are counted as they arrive. On a connection that has proven nobody
/// some bodies at a time are read beyond [`SHORT_BODY`]; the others wait, and their senders with them.
pub(super) struct Metered {
    body: Incoming,
    call: Arc<Call>,
    read: usize,
    turn: Turn,
    is_open: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

enum Turn {
    /// It is short so far.
    Short,
    Waiting(Permit),
    Taken {
        _permit: Option<OwnedSemaphorePermit>,
    },
}

impl Metered {
    pub(super) fn new(body: Incoming, call: Arc<Call>) -> Self {
        let is_open = !body.is_end_stream();
        if is_open {
            call.connection().body_begins();
        }
        Self { body, call, read: 0, turn: Turn::Short, is_open, deadline: None }
    }

    /// Ends it after some time, for those who answer as it goes on.
    pub(super) fn until(mut self, time: Duration) -> Self {
        self.deadline = Some(Box::pin(tokio::time::sleep(time)));
        self
    }

    fn end(&mut self) {
        if self.is_open {
            self.is_open = false;
            self.turn = Turn::Taken { _permit: None };
            self.call.connection().body_ends();
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.end();
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(BodyError::Late)));
        }
        if let Turn::Waiting(permit) = &mut this.turn {
            // Closed: somebody has been proven, so that nobody waits any more.
            let permit = ready!(permit.as_mut().poll(cx)).ok();
            this.turn = Turn::Taken { _permit: permit };
        }
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => {
                this.end();
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            this.call.connection().taken(data.len());
            this.call.charge(data.len())?;
            this.read += data.len();
        }
        if this.body.is_end_stream() {
            this.end();
        } else if matches!(this.turn, Turn::Short)
            && this.read > SHORT_BODY
            && let Some(bodies) = this.call.connection().bodies()
        {
            this.turn = match bodies.clone().try_acquire_owned() {
                Ok(permit) => Turn::Taken { _permit: Some(permit) },
                Err(_) => Turn::Waiting(Box::pin(bodies.clone().acquire_owned())),
            };
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How many answers of a connection are not sent yet, and since when.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    /// By the second in which they came, modulo their number.
    seconds: [AtomicU32; SECONDS],
    second: AtomicU32,
    /// Answers that hyper has and that nothing tells the end of: they are sent when it could write
    /// all that it had.
    handed_over: Mutex<Vec<Kept>>,
}

const SECONDS: usize = 16;
/// An answer that is not read for longer ends its connection.
pub(super) const MAX_UNREAD_SECONDS: u32 = 10;

impl Unsent {
    /// A second has passed. True: an answer has waited for longer than [`MAX_UNREAD_SECONDS`].
    pub(super) fn tick(&self) -> bool {
        let now = self.second.fetch_add(1, Ordering::Relaxed) + 1;
        let fresh = |slot: usize| (0..=MAX_UNREAD_SECONDS).any(|ago| slot_of(now.wrapping_sub(ago)) == slot);
        let waits = |(slot, count): (usize, &AtomicU32)| !fresh(slot) && count.load(Ordering::Relaxed) > 0;
        self.seconds.iter().enumerate().any(waits)
    }

    /// Keeps an answer that hyper has until [`Self::sent`].
    pub(super) fn hand_over(self: &Arc<Self>, call: Arc<Call>) {
        let kept = Kept::new(self, call);
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
    }

    /// How many answers hyper has.
    pub(super) fn count(&self) -> usize {
        self.handed_over.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The first so many were sent.
    pub(super) fn sent(&self, count: usize) {
        let mut answers = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        let count = count.min(answers.len());
        answers.drain(..count);
    }
}

fn slot_of(second: u32) -> usize {
    usize::try_from(second).unwrap_or(0) % SECONDS
}

/// An answer, or a piece of one, that is not sent yet.
#[derive(Debug)]
pub(super) struct Kept {
    unsent: Arc<Unsent>,
    slot: usize,
    _call: Arc<Call>,
}

impl Kept {
    fn new(unsent: &Arc<Unsent>, call: Arc<Call>) -> Self {
        let slot = slot_of(unsent.second.load(Ordering::Relaxed));
        if let Some(count) = unsent.seconds.get(slot) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self { unsent: unsent.clone(), slot, _call: call }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(count) = self.unsent.seconds.get(self.slot) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// An answer's body, whose pieces are counted until they are sent.
pub(super) struct Answer {
    body: tonic::body::Body,
    call: Arc<Call>,
    unsent: Arc<Unsent>,
    is_http2: bool,
}

impl Answer {
    /// Over HTTP/2 each stream keeps its own pieces. Over HTTP/1.1, and where an answer is headers
    /// alone, hyper has everything at once.
    pub(super) fn new(body: tonic::body::Body, call: Arc<Call>, unsent: &Arc<Unsent>, is_http2: bool) -> Self {
        call.answered();
        if !is_http2 || body.is_end_stream() {
            unsent.hand_over(call.clone());
        }
        Self { body, call, unsent: unsent.clone(), is_http2 }
    }
}

impl Body for Answer {
    type Data = Piece;
    type Error = tonic::Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, tonic::Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|bytes| {
                    this.call.charge_answer(bytes.len());
                    let kept = this.is_http2.then(|| Kept::new(&this.unsent, this.call.clone()));
                    Piece { bytes, _kept: kept }
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of an answer.
pub(super) struct Piece {
    bytes: Bytes,
    _kept: Option<Kept>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
