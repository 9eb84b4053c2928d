//! The calls of one connection: taken in or turned away, counted, and watched for too long a pause.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response, Version};
use hyper::body::Incoming;

use crate::admission;
use crate::config::Limits;
use crate::error::Error;
use crate::server::body::{Answer, Metered, Unsent};
use crate::server::front::{self, Turned};
use crate::server::proxies::{self, Client};
use crate::server::shared::Shared;
use crate::server::wire::Notes;
use crate::{ops, routes};

/// The longest header list of one request, in bytes: a session token and room to spare.
pub(in crate::parts::server) const MAX_HEADER_BYTES: usize = 32_768;
/// The most headers of one request.
pub(super) const MAX_HEADERS: usize = 64;
/// What a header takes in memory beside its text.
const HEADER_OVERHEAD: usize = 128;
/// What the watchdog knows of a connection.
struct Activity {
    born: Instant,
    calls: AtomicUsize,
    /// Milliseconds after `born`.
    last: AtomicU64,
    /// How many calls there have been.
    served: AtomicU64,
}

impl Activity {
    /// Why the connection should end now.
    fn verdict(&self, limits: &Limits) -> Option<&'static str> {
        if self.born.elapsed() > limits.connection_age {
            return Some("age");
        }
        let rest = self
            .born
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)));
        let limit = if self.served.load(Ordering::Relaxed) == 0 {
            limits.handshake
        } else {
            limits.idle
        };
        (self.calls.load(Ordering::Relaxed) == 0 && rest > limit).then_some("idle")
    }
}

/// What the calls of a connection share.
pub(super) struct Served {
    shared: Arc<Shared>,
    peer: Client,
    account: Arc<admission::Connection>,
    activity: Activity,
    pub(super) notes: Arc<Notes>,
    pub(super) unsent: Unsent,
}

/// Counts a call as one in progress until it is answered or given up.
struct InProgress(Arc<Served>);

impl InProgress {
    fn new(served: Arc<Served>) -> Self {
        served.activity.calls.fetch_add(1, Ordering::Relaxed);
        served.activity.served.fetch_add(1, Ordering::Relaxed);
        Self(served)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let activity = &self.0.activity;
        activity.calls.fetch_sub(1, Ordering::Relaxed);
        let age = u64::try_from(activity.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        activity.last.store(age, Ordering::Relaxed);
    }
}

/// On the heap: hyper moves the future of each HTTP/2 call by value, into a task of its own, and keeps
/// its room until the answer is read.
pub(super) type Serving =
    Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

impl Served {
    /// Those of a connection that has just begun.
    pub(super) fn new(
        shared: Arc<Shared>,
        peer: Client,
        account: Arc<admission::Connection>,
    ) -> Self {
        Self {
            shared,
            peer,
            account,
            activity: Activity {
                born: Instant::now(),
                calls: AtomicUsize::new(0),
                last: AtomicU64::new(0),
                served: AtomicU64::new(0),
            },
            notes: Arc::default(),
            unsent: Unsent::default(),
        }
    }

    /// Whether there was any call.
    pub(super) fn has_served(&self) -> bool {
        self.activity.served.load(Ordering::Relaxed) != 0
    }

    /// Why the connection should end now.
    pub(super) fn verdict(&self) -> Option<&'static str> {
        self.activity.verdict(&self.shared.limits)
    }

    /// Takes a request in, or turns it away before anything of it is kept.
    pub(super) fn serve(self: &Arc<Self>, request: Request<Incoming>) -> Serving {
        let in_progress = InProgress::new(self.clone());
        let is_http2 = request.version() == Version::HTTP_2;
        let client = proxies::client(&self.shared.listener, self.peer, request.headers());
        let address = client.unwrap_or(self.peer).ip;
        let purpose = routes::purpose(request.uri().path());
        let call = match header_bytes(&request) {
            None => Err(Error::HeadersTooLarge(MAX_HEADERS, MAX_HEADER_BYTES)),
            Some(bytes) => self
                .account
                .call(address, bytes, purpose)
                .map_err(|shed| ops::shed(&self.shared.broker, shed)),
        };
        match call {
            Ok(call) => Box::pin(async move {
                let served = &in_progress.0;
                let request = request.map(|body| Metered::new(body, call.clone()));
                let response = front::answer(
                    &served.shared,
                    served.peer,
                    client,
                    &served.notes,
                    call.clone(),
                    request,
                )
                .await;
                Ok(response.map(|body| Answer::new(body, call, &served.unsent, is_http2)))
            }),
            Err(error) => {
                let Ok(call) = self.account.refusal(address) else {
                    self.notes.cut("there is no room even for a refusal");
                    return Box::pin(std::future::pending());
                };
                let turned = Turned::new(&request);
                let client = client.unwrap_or(self.peer);
                drop(request);
                Box::pin(async move {
                    let served = &in_progress.0;
                    let response =
                        front::turn_away(&served.shared, client, call.clone(), turned, error).await;
                    Ok(response.map(|body| Answer::new(body, call, &served.unsent, is_http2)))
                })
            }
        }
    }

    /// A second has passed: what has been coming, or waiting to be read, for too long ends the
    /// connection.
    pub(super) fn tick(&self) {
        self.notes.tick();
        if self.unsent.tick() {
            self.notes.cut("an answer was not read");
        }
        if Duration::from_secs(self.notes.partial_seconds().into()) > self.shared.limits.handshake {
            self.notes.cut("a request's head did not arrive in time");
        }
    }
}

/// What the request line and the headers take in memory; none if they are more than the limits.
fn header_bytes<B>(request: &Request<B>) -> Option<usize> {
    let headers = request.headers();
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    // As on the wire of HTTP/1.1: a colon, a blank and a line end.
    let text = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum::<usize>()
        + target;
    (headers.len() <= MAX_HEADERS && text <= MAX_HEADER_BYTES)
        .then_some(text + HEADER_OVERHEAD * headers.len())
}
