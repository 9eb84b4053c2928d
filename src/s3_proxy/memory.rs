//! Limits the memory for the bodies that proxies are sending with their questions, so that many long bodies at the same
//! time cannot exhaust it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

/// The maximum number of bytes that all bodies that are still arriving may have together.
const MOST: usize = 64 << 20;

/// Counts the bytes of all bodies that are still arriving.
#[derive(Debug, Default)]
pub struct Memory(AtomicUsize);

/// The bodies that are still arriving would exceed [`MOST`].
#[derive(Debug, thiserror::Error)]
#[error(
    "the bodies of the proxies' requests for decisions would take more than 64 MiB of memory together"
)]
pub(super) struct Full;

/// A body whose bytes are counted until it has arrived or is dropped.
pub(super) struct Counted<B> {
    body: B,
    memory: Arc<Memory>,
    counted: usize,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, memory: Arc<Memory>) -> Self {
        Self {
            body,
            memory,
            counted: 0,
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Full> {
        let before = self.memory.0.fetch_add(bytes, Ordering::Relaxed);
        self.counted += bytes;
        match before.saturating_add(bytes) <= MOST {
            true => Ok(()),
            false => Err(Full),
        }
    }
}

impl<B> Drop for Counted<B> {
    fn drop(&mut self) {
        self.memory.0.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

impl<B> Body for Counted<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        Poll::Ready(Some(match self.count(bytes) {
            Ok(()) => Ok(frame),
            Err(full) => Err(full.into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn tr_04_bodies_together_have_a_limit_and_give_back_what_they_took() {
        let memory = Arc::new(Memory::default());
        let body = |bytes: usize| {
            let bytes = Bytes::from(vec![0; bytes]);
            Counted::new(Full::new(bytes), memory.clone())
        };
        let mut first = body(MOST - 10);
        assert!(first.frame().await.unwrap().is_ok());
        let mut second = body(11);
        assert!(second.frame().await.unwrap().is_err());
        drop(second);
        let mut third = body(10);
        assert!(third.frame().await.unwrap().is_ok());
        drop((first, third));
        assert_eq!(memory.0.load(Ordering::Relaxed), 0);
    }
}
