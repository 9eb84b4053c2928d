//! Serves one connection from its first byte to its last. This module sets every limit of HTTP/1.1 and HTTP/2
//! explicitly, instead of relying on hyper's defaults.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

use super::served::{MAX_HEADERS, Served};
use super::stopped;
use crate::admission;
use crate::config::Limits;
use crate::proof::certificate::Certified;
use crate::server::proxies::Client;
use crate::server::shared::Shared;
use crate::server::wire::{MAX_HEADER_BYTES, Wire};

/// The longest header list that h2 unpacks, in bytes as HTTP/2 counts them. It exceeds [`MAX_HEADER_BYTES`], so that
/// the broker itself can refuse a longer list with an answer that gRPC clients understand. They do not understand h2's
/// own refusal.
const MAX_UNPACKED_HEADER_BYTES: u32 = 65_536;
/// How many bytes of unread bodies h2 accepts on a connection. They count toward the memory for requests as they
/// arrive. h2 closes a connection if the number of its unread short pieces exceeds 1/512 of this value, so the value
/// must allow for a short piece on each stream.
const CONNECTION_WINDOW: u32 = 262_144;
/// How long a client may take to close the connection after it was asked to.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves HTTP on a connection until it ends.
pub(super) async fn run<S>(
    stream: S,
    peer: Client,
    shared: &Arc<Shared>,
    account: &Arc<admission::Connection>,
    certificate: Option<Certified>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = Served::new(shared.clone(), peer, account.clone(), certificate);
    let served = Arc::new(served);
    // Runs however the connection ends.
    let _over = Over(served.clone());
    let stream = Wire::new(stream, served.notes.clone(), account.clone());
    let service = {
        let served = served.clone();
        service_fn(move |request: Request<Incoming>| served.serve(request))
    };
    let builder = builder(&shared.limits);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut stop = shared.stop.clone();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    // When the connection is closed, once the client was asked to close it.
    let mut deadline = None;
    loop {
        let reason = tokio::select! {
            ended = (Turn { inner: connection.as_mut(), served: &served, waited: false }) => {
                match ended {
                    End::Over(Ok(())) => {}
                    End::Over(Err(error)) => tracing::debug!(peer = %peer.ip, %error, "connection ended"),
                    End::Cut(why) => {
                        shared.broker.metrics.connections_refused.inc();
                        tracing::debug!(peer = %peer.ip, why, "connection cut");
                    }
                }
                return;
            }
            () = stopped(&mut stop), if deadline.is_none() => Some("shutdown"),
            _ = tick.tick() => {
                served.tick();
                served.verdict()
            }
        };
        match (reason, deadline) {
            (Some("idle"), None) if !served.has_served() => {
                // No request was sent, so nothing is lost by closing at once.
                shared.broker.metrics.connections_refused.inc();
                return;
            }
            (Some(reason), None) => {
                connection.as_mut().graceful_shutdown();
                let goodbye = if reason == "idle" {
                    GOODBYE
                } else {
                    shared.limits.shutdown_grace.max(GOODBYE)
                };
                deadline = Some(Instant::now() + goodbye);
            }
            // Calls that are still in progress are aborted.
            (_, Some(deadline)) if deadline <= Instant::now() => return,
            _ => {}
        }
    }
}

/// Releases the answers that were not sent when the connection ends, even if its task is dropped. Calls that were begun
/// on the connection may still be running.
struct Over(Arc<Served>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.unsent.over();
    }
}

enum End<T> {
    Over(T),
    /// The broker closed the connection at once, for this reason.
    Cut(&'static str),
}

/// Lets calls that became ready at the same time finish before the connection writes, so that their answers leave in
/// one system call. To do so, it yields to other tasks once whenever the connection is woken. On HTTP/1.1 the calls run
/// within the connection, one after the other, so there is nothing to wait for.
struct Turn<'a, C> {
    inner: Pin<&'a mut C>,
    served: &'a Served,
    waited: bool,
}

impl<C: Future> Future for Turn<'_, C> {
    type Output = End<C::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End<C::Output>> {
        let Served { notes, unsent, .. } = self.served;
        self.waited = notes.is_http2() && !self.waited;
        if self.waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        notes.turn();
        let handed_over = unsent.count();
        let over = self.inner.as_mut().poll(cx);
        if let Some(why) = notes.is_cut() {
            return Poll::Ready(End::Cut(why));
        }
        if !notes.is_blocked() {
            // Everything that hyper had taken before this poll is written. On HTTP/1.1 the calls run within it.
            unsent.sent(if notes.is_http2() {
                handed_over
            } else {
                usize::MAX
            });
        }
        over.map(End::Over)
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper's own timeout also runs between two requests; `Wire` notices when a request begins.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(MAX_UNPACKED_HEADER_BYTES)
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(16_384)
        .max_send_buf_size(65_536)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}
