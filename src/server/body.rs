//! Bodies whose bytes are counted: request bodies while they arrive, response bodies until they are sent.

use std::any::Any;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tokio::time::Sleep;

use crate::admission::{Call, Shed};

/// Why the body of a request could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The connection failed, or the client broke the protocol.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// The memory for requests is exhausted, or this call was ended to free memory for another call.
    #[error(transparent)]
    Shed(#[from] Shed),
    /// The body took longer than its deadline.
    #[error("the client did not send the whole request in time")]
    Late,
}

type Permit =
    Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

/// The longest piece, in bytes, that h2 copies into its buffer if the stream is not vectored. h2 writes longer pieces
/// by a system call of their own.
const COPIED: usize = 1_023;
/// Answers over HTTP/2 up to this length, in bytes, are sent in pieces of [`COPIED`] bytes: copying them costs less
/// than a system call. Longer ones are sent whole, without a copy.
const MAX_COPIED: usize = 4_096;
/// Bodies up to this length, in bytes, are read without waiting; most are shorter.
const SHORT_BODY: usize = 8_192;

/// The body of a request, whose bytes are counted as they arrive. On a connection on which no caller has proven its
/// identity, only a limited number of bodies are read beyond [`SHORT_BODY`] at a time; the others wait.
pub(super) struct Metered {
    body: Incoming,
    call: Arc<Call>,
    read: usize,
    turn: Turn,
    is_open: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

enum Turn {
    /// The body has at most [`SHORT_BODY`] bytes so far.
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
        Self {
            body,
            call,
            read: 0,
            turn: Turn::Short,
            is_open,
            deadline: None,
        }
    }

    /// Sets a deadline, counted from now, for the arrival of the whole body. This is for services that begin to answer
    /// before the body has arrived.
    pub(super) fn until(mut self, time: Duration) -> Self {
        self.deadline = Some(Box::pin(tokio::time::sleep(time)));
        self
    }

    fn end(&mut self) {
        if self.is_open {
            self.is_open = false;
            self.turn = Turn::Taken { _permit: None };
            self.call.has_body();
            self.call.connection().body_ends();
        }
    }

    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(BodyError::Late)));
        }
        if let Turn::Waiting(permit) = &mut self.turn {
            // An error means that the semaphore was closed: a caller was proven, and nobody has to wait.
            let permit = ready!(permit.as_mut().poll(cx)).ok();
            self.turn = Turn::Taken { _permit: permit };
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => {
                self.end();
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            self.call.connection().taken(data.len());
            self.call.charge(data.len())?;
            self.read += data.len();
        }
        if self.body.is_end_stream() {
            self.end();
        } else if matches!(self.turn, Turn::Short)
            && self.read > SHORT_BODY
            && let Some(bodies) = self.call.connection().bodies()
        {
            self.turn = match bodies.clone().try_acquire_owned() {
                Ok(permit) => Turn::Taken {
                    _permit: Some(permit),
                },
                Err(_) => Turn::Waiting(Box::pin(bodies.clone().acquire_owned())),
            };
        }
        Poll::Ready(Some(Ok(frame)))
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

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        // The call may have been shed for another.
        if let Some(shed) = this.call.shed() {
            return Poll::Ready(Some(Err(shed.into())));
        }
        let piece = this.poll_piece(cx);
        if piece.is_pending() && this.is_open {
            this.call.awaits_body(cx.waker())?;
        }
        piece
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answers of a connection that were not sent yet.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    ages: Arc<Ages>,
    /// Answers that hyper has accepted. hyper does not report when it has sent an answer, so all of them count as sent
    /// when hyper has written its buffers completely.
    handed_over: Mutex<HandedOver>,
}

#[derive(Debug, Default)]
struct HandedOver {
    answers: Vec<Kept>,
    /// Whether the connection has ended. From then on no answers are kept.
    is_over: bool,
}

/// How many answers are waiting, by their age. Answers refer to this type and not to [`Unsent`], because [`Unsent`]
/// holds answers: with references in both directions, neither would ever be freed.
#[derive(Debug, Default)]
struct Ages {
    /// The number of waiting answers for each second of arrival, modulo [`SECONDS`].
    seconds: [AtomicU32; SECONDS],
    second: AtomicU32,
}

const SECONDS: usize = 16;
/// If a client does not read an answer for longer than this, its connection is closed.
pub(super) const MAX_UNREAD_SECONDS: u32 = 10;

impl Unsent {
    /// Counts a second of the connection's age; must be called once a second. Returns whether an answer has waited for
    /// longer than [`MAX_UNREAD_SECONDS`].
    pub(super) fn tick(&self) -> bool {
        let now = self.ages.second.fetch_add(1, Ordering::Relaxed) + 1;
        let fresh = |slot: usize| {
            (0..=MAX_UNREAD_SECONDS).any(|ago| slot_of(now.wrapping_sub(ago)) == slot)
        };
        let waits =
            |(slot, count): (usize, &AtomicU32)| !fresh(slot) && count.load(Ordering::Relaxed) > 0;
        self.ages.seconds.iter().enumerate().any(waits)
    }

    /// Keeps an answer that hyper has taken, until [`Self::sent`] or the end of the connection.
    pub(super) fn hand_over(&self, call: Arc<Call>) {
        let kept = Kept::new(&self.ages, call);
        let mut handed_over = self.handed_over();
        if !handed_over.is_over {
            handed_over.answers.push(kept);
        }
    }

    /// How many answers hyper has taken and not yet sent.
    pub(super) fn count(&self) -> usize {
        self.handed_over().answers.len()
    }

    /// Releases the first `count` answers, which were sent.
    pub(super) fn sent(&self, count: usize) {
        let mut handed_over = self.handed_over();
        let count = count.min(handed_over.answers.len());
        handed_over.answers.drain(..count);
    }

    /// Releases all answers when the connection has ended.
    pub(super) fn over(&self) {
        let mut handed_over = self.handed_over();
        handed_over.is_over = true;
        handed_over.answers = Vec::new();
    }

    fn handed_over(&self) -> MutexGuard<'_, HandedOver> {
        self.handed_over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn slot_of(second: u32) -> usize {
    usize::try_from(second).unwrap_or(0) % SECONDS
}

/// An answer, or a piece of one, that was not sent yet. It counts as waiting until it is dropped.
#[derive(Debug)]
pub(super) struct Kept {
    ages: Arc<Ages>,
    slot: usize,
    _call: Arc<Call>,
}

impl Kept {
    fn new(ages: &Arc<Ages>, call: Arc<Call>) -> Self {
        let slot = slot_of(ages.second.load(Ordering::Relaxed));
        if let Some(count) = ages.seconds.get(slot) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            ages: ages.clone(),
            slot,
            _call: call,
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(count) = self.ages.seconds.get(self.slot) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The body of an answer, whose pieces are counted until they are sent.
pub(super) struct Answer {
    body: tonic::body::Body,
    call: Arc<Call>,
    ages: Arc<Ages>,
    is_http2: bool,
    /// The bytes that were taken from `body` but not passed on yet.
    rest: Bytes,
    /// A value that is kept until the body is dropped: see [`Self::keeping`].
    _kept: Option<Box<dyn Any + Send>>,
}

impl Answer {
    /// Keeps a value, such as a permit, until the body has ended or is dropped.
    pub(super) fn keeping(self, kept: Option<impl Any + Send>) -> Self {
        let kept = kept.map(|kept| Box::new(kept) as Box<dyn Any + Send>);
        Self {
            _kept: kept,
            ..self
        }
    }

    /// Wraps the body of an answer and counts its bytes. Over HTTP/2 each piece counts until hyper has sent it on its
    /// stream. Over HTTP/1.1, and for an answer without a body, the whole answer counts as handed over to hyper at
    /// once.
    pub(super) fn new(
        body: tonic::body::Body,
        call: Arc<Call>,
        unsent: &Unsent,
        is_http2: bool,
    ) -> Self {
        call.answered();
        if !is_http2 || body.is_end_stream() {
            unsent.hand_over(call.clone());
        }
        Self {
            body,
            call,
            ages: unsent.ages.clone(),
            is_http2,
            rest: Bytes::new(),
            _kept: None,
        }
    }

    /// The next piece to pass on, cut from the bytes in `rest`.
    fn piece(&mut self) -> Piece {
        let length = match self.is_http2 && self.rest.len() <= MAX_COPIED {
            true => self.rest.len().min(COPIED),
            false => self.rest.len(),
        };
        Piece {
            bytes: self.rest.split_to(length),
            _kept: self
                .is_http2
                .then(|| Kept::new(&self.ages, self.call.clone())),
        }
    }
}

impl Body for Answer {
    type Data = Piece;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, tonic::Status>>> {
        let this = self.get_mut();
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(this.piece()))));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|bytes| {
                    this.call.charge_answer(bytes.len());
                    this.rest = bytes;
                    this.piece()
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (left, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(left.lower().saturating_add(rest));
        if let Some(upper) = left.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

/// A piece of an answer's body, which is counted until it is sent.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Admission, Bounds, Purpose};

    #[test]
    fn what_hyper_has_is_given_back_when_the_connection_is_over() {
        let admission = Admission::new(Bounds {
            connections: 8,
            calls: 80,
            bytes: 1 << 26,
        });
        let ip = [127, 0, 0, 1].into();
        let hand_over = |unsent: &Unsent| {
            let connection = admission.connect(Some(ip)).unwrap();
            for is_http2 in [false, true] {
                let call = connection.call(ip, 100, Purpose::Call).unwrap();
                // A body without an end of its own, and one that is headers alone.
                let body = if is_http2 {
                    tonic::body::Body::empty()
                } else {
                    tonic::body::Body::new(String::from("x"))
                };
                drop(Answer::new(body, call, unsent, is_http2));
            }
        };
        // Nothing but what keeps the answers is left of the connection.
        let unsent = Unsent::default();
        hand_over(&unsent);
        assert_eq!((unsent.count(), admission.sources()), (2, 1));
        drop(unsent);
        assert_eq!(
            (admission.request_memory_bytes(), admission.sources()),
            (0, 0)
        );
        // Calls that last longer than the connection keep it, and nothing comes after its end.
        let unsent = Unsent::default();
        hand_over(&unsent);
        unsent.over();
        hand_over(&unsent);
        assert_eq!(
            (
                unsent.count(),
                admission.request_memory_bytes(),
                admission.sources()
            ),
            (0, 0, 0)
        );
    }

    #[tokio::test]
    async fn short_answers_over_http2_are_cut_into_pieces_that_are_copied() {
        use http_body_util::BodyExt;

        let admission = Admission::new(Bounds {
            connections: 8,
            calls: 80,
            bytes: 1 << 26,
        });
        let ip = [127, 0, 0, 1].into();
        let connection = admission.connect(Some(ip)).unwrap();
        for (length, is_http2, pieces) in [
            (1, true, vec![1]),
            (1_023, true, vec![1_023]),
            (1_100, true, vec![1_023, 77]),
            (4_096, true, vec![1_023, 1_023, 1_023, 1_023, 4]),
            (4_097, true, vec![4_097]),
            (1_100, false, vec![1_100]),
        ] {
            let text: String = ('a'..='z').cycle().take(length).collect();
            let call = connection.call(ip, 100, Purpose::Call).unwrap();
            let body = tonic::body::Body::new(text.clone().map_err(|never| match never {}));
            let mut answer = Answer::new(body, call, &Unsent::default(), is_http2);
            assert_eq!(answer.size_hint().exact(), Some(length as u64));
            let (mut came, mut lengths) = (Vec::new(), Vec::new());
            while let Some(frame) = answer.frame().await {
                let piece = frame.unwrap().into_data().unwrap_or_else(|_| panic!());
                lengths.push(piece.remaining());
                came.extend_from_slice(piece.chunk());
                let left = length - came.len();
                assert_eq!(answer.size_hint().exact(), Some(left as u64));
                assert_eq!(answer.is_end_stream(), left == 0);
            }
            assert_eq!((came, lengths), (text.into_bytes(), pieces));
        }
    }
}
