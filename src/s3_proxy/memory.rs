//! Limits the memory that the questions of proxies take together, so that many long bodies at the same time cannot
//! exhaust it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

/// The maximum number of bytes that all questions may take together.
const MOST: usize = 64 << 20;
/// How often each byte of a body counts: once as it arrived, and once for what is read of it.
const COPIES: usize = 2;

/// Counts the memory of all questions that have no answer yet.
#[derive(Debug, Default)]
pub struct Memory(AtomicUsize);

/// All questions together would take more than [`MOST`].
#[derive(Debug, thiserror::Error)]
#[error("the proxies' requests for decisions would take more than 64 MiB of memory together")]
pub(super) struct Full;

impl Memory {
    /// Begins to count the memory of a question.
    pub(super) fn of_question(self: &Arc<Self>) -> Arc<Held> {
        Arc::new(Held {
            memory: self.clone(),
            counted: AtomicUsize::new(0),
        })
    }
}

/// The memory of one question, which is given back when this is dropped. It must be kept until the question has its
/// answer.
#[derive(Debug)]
pub(super) struct Held {
    memory: Arc<Memory>,
    counted: AtomicUsize,
}

impl Held {
    fn count(&self, bytes: usize) -> Result<(), Full> {
        let bytes = bytes.saturating_mul(COPIES);
        let before = self.memory.0.fetch_add(bytes, Ordering::Relaxed);
        self.counted.fetch_add(bytes, Ordering::Relaxed);
        match before.saturating_add(bytes) <= MOST {
            true => Ok(()),
            false => Err(Full),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let counted = self.counted.load(Ordering::Relaxed);
        self.memory.0.fetch_sub(counted, Ordering::Relaxed);
    }
}

/// The body of a question, whose bytes are counted as they arrive.
pub(super) struct Counted<B> {
    body: B,
    held: Arc<Held>,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, held: Arc<Held>) -> Self {
        Self { body, held }
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
        Poll::Ready(Some(match self.held.count(bytes) {
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
    async fn tr_04_bodies_together_have_a_limit_and_count_until_the_answer() {
        let memory = Arc::new(Memory::default());
        let used = || memory.0.load(Ordering::Relaxed);
        let ask = async |bytes: usize| {
            let held = memory.of_question();
            let body = Full::new(Bytes::from(vec![0; bytes]));
            let mut body = Counted::new(body, held.clone());
            let is_read = body.frame().await.unwrap().is_ok();
            // The body is read completely, and there is no answer yet.
            drop(body);
            (is_read, held)
        };
        let first = ask(MOST / COPIES - 10).await;
        assert!(first.0 && used() == MOST - 10 * COPIES);
        let second = ask(11).await;
        assert!(!second.0);
        drop(second);
        let third = ask(10).await;
        assert!(third.0 && used() == MOST);
        drop((first, third));
        assert_eq!(used(), 0);
    }
}
