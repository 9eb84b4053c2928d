//! Length-prefixed messages: reads the one message of a request, and writes those of an answer. The format is in the
//! gRPC documentation, "gRPC over HTTP2", sections "Requests" and "Responses". Messages are not compressed.
//!
//! Brevet has its own code for this for two reasons: the signature of a call covers the bytes of its message, and
//! tonic's codecs, which are made for streams, would copy a single message twice.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Frame, SizeHint};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use super::MAX_MESSAGE_BYTES;

/// The length of the prefix before a message: one byte says whether it is compressed, and four are its length.
const PREFIX: usize = 5;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Why the message of a request could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A header says that the message is compressed.
    Compressed,
    /// The message is longer than [`MAX_MESSAGE_BYTES`].
    TooLong,
    /// The body is not exactly one message, or it ended early.
    NotOneMessage,
}

/// Receives the body of a call, which must be exactly one message. Trailers are ignored, because they are not
/// signed.
///
/// # Errors
/// [`Unreadable`] as soon as the body cannot be such a message any more.
pub(super) async fn receive<B>(headers: &HeaderMap, body: B) -> Result<Bytes, Unreadable>
where
    B: http_body::Body<Data = Bytes>,
{
    let encoding = headers.get("grpc-encoding");
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(Unreadable::Compressed);
    }
    let mut body = pin!(body);
    // Most messages arrive in one piece, which is then not copied.
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    while !body.is_end_stream() {
        let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await else {
            break;
        };
        let frame = frame.map_err(|_| Unreadable::NotOneMessage)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.is_empty() && more.is_empty() {
            first = data;
            left(&first)?;
        } else {
            if more.is_empty() {
                more = BytesMut::from(std::mem::take(&mut first));
            }
            more.extend_from_slice(&data);
            left(&more)?;
        }
    }
    let mut whole = if more.is_empty() {
        first
    } else {
        more.freeze()
    };
    match left(&whole)? {
        Some(0) => Ok(whole.split_off(PREFIX)),
        _ => Err(Unreadable::NotOneMessage),
    }
}

/// How many bytes of the message are missing from the received bytes `come`; `None` if its length is not known yet.
fn left(come: &[u8]) -> Result<Option<usize>, Unreadable> {
    let Some(([compressed, length @ ..], message)) = come.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    if *compressed != 0 {
        return Err(Unreadable::NotOneMessage);
    }
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE_BYTES {
        return Err(Unreadable::TooLong);
    }
    let left = length.checked_sub(message.len());
    left.map(Some).ok_or(Unreadable::NotOneMessage)
}

/// Makes the bytes of a message with its prefix.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = Vec::with_capacity(PREFIX + length);
    framed.push(0);
    // No answer comes near 4 GiB.
    framed.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    let _ = message.encode(&mut framed); // fails only without room, and a vector grows
    framed.into()
}

/// Makes the answer to a call that succeeded, with one message.
pub(super) fn answer(message: &impl Message, request_id: String) -> Response<Body> {
    let one = One {
        message: Some(frame(message)),
        is_over: false,
    };
    head(Body::new(one), request_id)
}

/// Makes the answer to a call that succeeded, with a stream of messages that [`frame`] has made.
pub(super) fn stream(
    messages: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
    request_id: String,
) -> Response<Body> {
    let many = Many {
        messages: Box::pin(messages),
        is_over: false,
    };
    head(Body::new(many), request_id)
}

fn head(body: Body, request_id: String) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.reserve(2);
    headers.insert(CONTENT_TYPE, GRPC);
    if let Ok(id) = HeaderValue::try_from(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

fn succeeded() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, OK);
    trailers
}

/// The body of an answer with one message.
struct One {
    message: Option<Bytes>,
    is_over: bool,
}

impl http_body::Body for One {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.is_over, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::trailers(succeeded()))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.message.as_ref().map_or(0, Bytes::len) as u64);
        hint
    }
}

/// The body of an answer with a stream of messages.
struct Many<S> {
    messages: Pin<Box<S>>,
    is_over: bool,
}

impl<S: Stream<Item = Result<Bytes, Status>>> http_body::Body for Many<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let trailers = match ready!(self.messages.as_mut().poll_next(cx)) {
            Some(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
            Some(Err(status)) => {
                let mut trailers = HeaderMap::new();
                status.add_header(&mut trailers)?;
                trailers
            }
            None => succeeded(),
        };
        self.is_over = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn framed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &length.to_be_bytes(), message].concat()
    }

    async fn received(pieces: &[&[u8]], headers: &HeaderMap) -> Result<Vec<u8>, Unreadable> {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        receive(headers, body).await.map(|message| message.to_vec())
    }

    #[tokio::test]
    async fn one_message_is_received_in_however_many_pieces_it_comes() {
        let none = HeaderMap::new();
        for message in [&b""[..], b"a", &[7; 300]] {
            let whole = framed(0, u32::try_from(message.len()).unwrap(), message);
            for size in [1, 3, 5, 6, 7, 1_000] {
                let pieces: Vec<&[u8]> = whole.chunks(size).collect();
                assert_eq!(received(&pieces, &none).await, Ok(message.to_vec()));
                let with_empty: Vec<&[u8]> = pieces.iter().flat_map(|p| [&[][..], p]).collect();
                assert_eq!(received(&with_empty, &none).await, Ok(message.to_vec()));
            }
        }
        let mut identity = HeaderMap::new();
        identity.insert("grpc-encoding", HeaderValue::from_static("identity"));
        let whole = framed(0, 1, b"a");
        assert_eq!(received(&[&whole], &identity).await, Ok(b"a".to_vec()));
    }

    #[tokio::test]
    async fn tr_03_anything_else_than_one_message_is_refused() {
        use Unreadable::{Compressed, NotOneMessage, TooLong};

        let longest = u32::try_from(MAX_MESSAGE_BYTES).unwrap();
        let two = [framed(0, 1, b"a"), framed(0, 0, b"")].concat();
        for (body, refused) in [
            (Vec::new(), NotOneMessage),
            (vec![0; 4], NotOneMessage),
            (framed(0, 2, b"a"), NotOneMessage),
            (framed(0, 1, b"ab"), NotOneMessage),
            (two, NotOneMessage),
            (framed(1, 1, b"a"), NotOneMessage),
            (framed(2, 1, b"a"), NotOneMessage),
            (framed(0, longest + 1, b"a"), TooLong),
            (framed(0, u32::MAX, b"12345"), TooLong),
        ] {
            for size in [1, 6, 1_000] {
                let pieces: Vec<&[u8]> = body.chunks(size).collect();
                let found = received(&pieces, &HeaderMap::new()).await;
                assert_eq!(found, Err(refused), "{body:?} by {size}");
            }
        }
        let mut gzip = HeaderMap::new();
        gzip.insert("grpc-encoding", HeaderValue::from_static("gzip"));
        let whole = framed(0, 1, b"a");
        assert_eq!(received(&[&whole], &gzip).await, Err(Compressed));
        // A body that breaks off is no message, even if all of it was there.
        let broken = [Ok(Frame::data(Bytes::from(whole))), Err("reset")];
        let body = StreamBody::new(futures_util::stream::iter(broken));
        let found = receive(&HeaderMap::new(), body).await;
        assert_eq!(found, Err(NotOneMessage));
    }

    #[tokio::test]
    async fn an_answer_ends_with_its_status() {
        let message = prost_types::Timestamp {
            seconds: 7,
            nanos: 0,
        };
        let one = answer(&message, "id".to_owned());
        assert_eq!(one.headers()["content-type"], "application/grpc");
        assert_eq!(one.headers()["x-amzn-requestid"], "id");
        let collected = one.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        let bytes = collected.to_bytes();
        let whole = framed(0, 2, &[8, 7]);
        assert_eq!(bytes, whole);
        let failed = || Status::unavailable("it stops");
        for (end, status) in [(None, "0"), (Some(Err(failed())), "14")] {
            let messages = [Ok(frame(&message)), Ok(frame(&message))];
            let messages = futures_util::stream::iter(messages.into_iter().chain(end));
            let collected = stream(messages, "id".to_owned()).into_body().collect();
            let collected = collected.await.unwrap();
            assert_eq!(collected.trailers().unwrap()["grpc-status"], status);
            assert_eq!(collected.to_bytes(), whole.repeat(2));
        }
    }
}
