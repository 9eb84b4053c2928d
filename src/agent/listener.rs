//! The listeners for workloads: HTTP/1.1 with limits on size and time, and the checks that come before each face.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

use super::connections::{Connections, Pulse, is_shortage};
use super::front::{self, Refused};
use super::hosts::Hosts;

/// How long a request may take to arrive, and how long a connection may be idle, in seconds.
pub const MAX_IDLE_SECONDS: u32 = 15;
const MAX_AGE_SECONDS: u32 = 3_600;
/// The maximum length in bytes of a request's head, which has room for a token of 20,000 bytes in the container form.
const MAX_HEAD_BYTES: usize = 32_768;
/// How long the accept loop pauses after a failure, for example without free file descriptors.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);

/// The part of a listener that answers: one for each form in which SDKs ask for credentials.
pub trait Face: Send + Sync + 'static {
    /// Answers a request whose head has passed [`front::check`].
    fn answer(
        &self,
        request: &Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Answer> + Send;

    /// Answers a request that [`front::check`] has refused.
    fn refuse(&self, refused: Refused) -> Answer;
}

/// The answer to a workload, before it becomes an HTTP response.
pub struct Answer {
    response: Response<Full<Bytes>>,
    hop_limit: Option<u32>,
}

impl Answer {
    /// Makes an answer with headers that forbid caching it.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self {
            response,
            hop_limit: None,
        }
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.response.headers_mut().insert(name, value);
        self
    }

    /// Limits how many network hops the packets of this answer, and of later ones on the same connection, may travel.
    #[must_use]
    pub fn within_hops(mut self, hops: u32) -> Self {
        self.hop_limit = Some(hops);
        self
    }

    /// Makes the response for a connection on which hops cannot be limited, such as one of a Unix socket.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        self.response
    }
}

/// Accepts connections until the agent ends, and holds at most `most` of them.
pub async fn serve<F: Face>(listener: TcpListener, most: usize, hosts: Hosts, face: Arc<F>) {
    let hosts = Arc::new(hosts);
    let mut open = Connections::new(most);
    // One timer for all connections: a timer for each request would cost as much as the credentials.
    let mut looks = interval(Duration::from_secs(1));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = looks.tick(), if !open.is_empty() => {
                open.close_late(MAX_IDLE_SECONDS, MAX_AGE_SECONDS);
                continue;
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if is_shortage(&error) {
                    open.close_one();
                }
                tokio::time::sleep(ACCEPT_BACK_OFF).await;
                continue;
            }
        };
        open.make_room();
        let (hosts, face) = (hosts.clone(), face.clone());
        open.spawn(peer.ip().to_canonical(), |pulse| async move {
            // A client that went away needs no handling.
            let _ = connection(stream, peer, &hosts, &face, &pulse).await;
        });
    }
}

async fn connection<F: Face>(
    stream: TcpStream,
    peer: SocketAddr,
    hosts: &Hosts,
    face: &Arc<F>,
    pulse: &Pulse,
) -> Result<(), hyper::Error> {
    // Small answers are sent at once; without the option the connection still works.
    let _ = stream.set_nodelay(true);
    let hop_limit = AtomicU32::new(0);
    let stream = Limited {
        stream,
        wanted: &hop_limit,
        set: 0,
    };
    let hop_limit = &hop_limit;
    let service = service_fn(move |request: Request<Incoming>| async move {
        pulse.begins();
        let answer = match front::check(&request, hosts) {
            Ok(()) => face.answer(&request, peer).await,
            Err(refused) => face.refuse(refused),
        };
        if let Some(hops) = answer.hop_limit {
            hop_limit.store(hops, Ordering::Relaxed);
        }
        pulse.answered();
        Ok::<_, Infallible>(answer.response)
    });
    http().serve_connection(TokioIo::new(stream), service).await
}

/// Configures HTTP/1.1 with a limit on the size of a request's head. The number of headers is limited to 100 by hyper's
/// default, since any other limit costs time at each request. The code that serves a connection must limit its time.
pub fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD_BYTES);
    http
}

/// A connection whose hop limit (IPv4: TTL) is set before the next bytes are written.
struct Limited<'a> {
    stream: TcpStream,
    /// The hop limit that an answer asked for; 0 stands for the system's default.
    wanted: &'a AtomicU32,
    set: u32,
}

impl Limited<'_> {
    /// Sets the hop limit that the last answer asked for, unless it is set already.
    ///
    /// # Errors
    /// The operating system cannot set the limit. Nothing must be written then, because a token would travel further
    /// than allowed.
    fn limit(&mut self) -> io::Result<()> {
        let wanted = self.wanted.load(Ordering::Relaxed);
        if wanted == self.set {
            return Ok(());
        }
        let socket = SockRef::from(&self.stream);
        match self.stream.local_addr()? {
            SocketAddr::V4(_) => socket.set_ttl_v4(wanted)?,
            SocketAddr::V6(local) => {
                socket.set_unicast_hops_v6(wanted)?;
                // A socket of IPv6 can have a peer of IPv4.
                if local.ip().to_ipv4_mapped().is_some() {
                    socket.set_ttl_v4(wanted)?;
                }
            }
        }
        self.set = wanted;
        Ok(())
    }
}

impl AsyncRead for Limited<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Limited<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.limit()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.limit()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::base::host_names::HostName;

    struct Hello;

    impl Face for Hello {
        async fn answer(&self, _: &Request<Incoming>, _: SocketAddr) -> Answer {
            Answer::new(StatusCode::OK, "text/plain", "hello")
        }

        fn refuse(&self, refused: Refused) -> Answer {
            Answer::new(refused.status, "text/plain", refused.message)
        }
    }

    #[tokio::test]
    async fn who_only_holds_connections_keeps_nobody_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hosts = Hosts::new([(HostName::Domain("localhost".into()), None)]);
        let serving = tokio::spawn(serve(listener, 4, hosts, Arc::new(Hello)));
        let mut held = Vec::new();
        for _ in 0..20 {
            let mut silent = TcpStream::connect(address).await.unwrap();
            silent.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
            held.push(silent);
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        serving.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_whole_request_is_closed_and_a_busy_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hosts = Hosts::new([(HostName::Domain("localhost".into()), None)]);
        let serving = tokio::spawn(serve(listener, 4, hosts, Arc::new(Hello)));
        let started = tokio::time::Instant::now();
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        let silent = tokio::spawn(async move {
            let mut nothing = Vec::new();
            let _ = silent.read_to_end(&mut nothing).await;
            assert!(nothing.is_empty());
            started.elapsed()
        });
        let mut client = TcpStream::connect(address).await.unwrap();
        for _ in 0..5 {
            let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
            client.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"hello") {
                assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
            }
            tokio::time::sleep(Duration::from_secs(13)).await;
        }
        assert!(silent.await.unwrap() <= Duration::from_secs(18));
        serving.abort();
    }
}
