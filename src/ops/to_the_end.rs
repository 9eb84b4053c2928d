//! [`ToTheEnd`]: completes a call even if its caller disconnects, so that no change is left half
//! made.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::store;

/// A future that always completes: if it is dropped, it continues on a task of its own. If it is
/// waiting for a connection to the store at that time, it gives up the wait.
pub struct ToTheEnd<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> ToTheEnd<T> {
    /// Wraps a call in a future that always completes.
    pub fn new(call: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(call)))
    }
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(running) = &mut self.0 else {
            return Poll::Pending;
        };
        let ready = running.as_mut().poll(cx);
        if ready.is_ready() {
            self.0 = None;
        }
        ready
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        if let Some(running) = self.0.take()
            && !std::thread::panicking()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(store::ABANDONED.scope((), running));
        }
    }
}
