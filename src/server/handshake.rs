//! Limits for TLS handshakes: how many bytes of a client's first messages are read, and how many handshakes the
//! processors work on at the same time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::workers;

/// The longest ClientHello, in bytes with its record headers. rustls itself would accept 64 KiB.
const MAX_HELLO_BYTES: usize = 16_384;
/// How many bytes may follow the ClientHello until the handshake is complete.
const MAX_REST_BYTES: usize = 16_384;

/// A stream that refuses more than a limited number of bytes until the TLS handshake is complete.
pub(super) struct Greeting<S> {
    stream: S,
    /// How many bytes may still be read; `None` once the handshake is complete.
    left: Option<usize>,
    is_answered: bool,
}

impl<S> Greeting<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            left: Some(MAX_HELLO_BYTES),
            is_answered: false,
        }
    }

    /// Removes the limit on the bytes of the stream. Must be called when the TLS handshake is complete.
    pub(super) fn is_shaken(&mut self) {
        self.left = None;
    }

    fn answered(&mut self) {
        if !self.is_answered {
            self.is_answered = true;
            self.left = self.left.map(|_| MAX_REST_BYTES);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == Some(0) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "the client sent more than {MAX_HELLO_BYTES} bytes in the TLS handshake before the answer, or more \
                     than {MAX_REST_BYTES} after it"
                ),
            )));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let came = buffer.filled().len() - before;
        self.left = self.left.map(|left| left.saturating_sub(came));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeting<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answered();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answered();
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

type Acquire = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// A future that is only polled while it holds a permit, and returns it after each poll. The computation with the
/// private key (a millisecond for RSA) happens within one poll, so the permits leave a part of the processors' time to
/// clients that are already connected.
pub(super) struct InTurn<F> {
    inner: Pin<Box<F>>,
    places: Arc<Semaphore>,
    place: Acquire,
}

impl<F> InTurn<F> {
    pub(super) fn new(inner: F, places: &Arc<Semaphore>) -> Self {
        let place = Box::pin(places.clone().acquire_owned());
        Self {
            inner: Box::pin(inner),
            places: places.clone(),
            place,
        }
    }
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Nothing closes the semaphore; if it were closed, the future would still run.
        let _place = ready!(self.place.as_mut().poll(cx));
        self.place = Box::pin(self.places.clone().acquire_owned());
        self.inner.as_mut().poll(cx)
    }
}

/// Makes the permits for [`InTurn`] on the listener for clients: half as many as there are worker threads.
pub(super) fn places() -> Arc<Semaphore> {
    one_in(2, workers::count())
}

/// Makes those of the listener for proxies: a quarter, so that the handshakes of both listeners leave time to others.
pub(super) fn places_for_proxies() -> Arc<Semaphore> {
    one_in(4, workers::count())
}

fn one_in(part: usize, workers: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((workers / part).max(1)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_greeting_without_end_is_cut_and_what_comes_later_is_not() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(&[1; 100_000]).await.unwrap();
        let mut greeting = Greeting::new(server);
        let mut piece = [0; 4_096];
        for _ in 0..4 {
            greeting.read_exact(&mut piece).await.unwrap();
        }
        assert_eq!(
            greeting.read(&mut piece).await.unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        // The server's answer makes room for the rest of the handshake, once.
        greeting.write_all(b"hello").await.unwrap();
        greeting.write_all(b"hello").await.unwrap();
        for _ in 0..4 {
            greeting.read_exact(&mut piece).await.unwrap();
        }
        assert!(greeting.read(&mut piece).await.is_err());
        greeting.is_shaken();
        for _ in 0..16 {
            greeting.read_exact(&mut piece).await.unwrap();
        }
    }

    #[test]
    fn handshakes_of_both_listeners_leave_workers_to_others() {
        for (workers, of_clients, of_proxies) in [(1, 1, 1), (4, 2, 1), (16, 8, 4)] {
            assert_eq!(one_in(2, workers).available_permits(), of_clients);
            assert_eq!(one_in(4, workers).available_permits(), of_proxies);
        }
        let (clients, proxies) = (places(), places_for_proxies());
        let taken = clients.available_permits() + proxies.available_permits();
        assert!(taken <= (workers::count() * 3 / 4).max(2), "{taken}");
    }

    #[tokio::test]
    async fn whoever_waits_for_the_client_leaves_its_place_to_others() {
        let places = Arc::new(Semaphore::new(1));
        let silent = tokio::spawn(InTurn::new(std::future::pending::<()>(), &places));
        tokio::task::yield_now().await;
        assert_eq!(InTurn::new(std::future::ready(7), &places).await, 7);
        // It waits while somebody works.
        let place = places.clone().acquire_owned().await.unwrap();
        let waits = tokio::spawn(InTurn::new(std::future::ready(8), &places));
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(place);
        assert_eq!(waits.await.unwrap(), 8);
        silent.abort();
    }
}
