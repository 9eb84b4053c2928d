//! The calls of one connection: each is admitted or refused, and counted. The connection is closed if its client pauses
//! for too long.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response, Version};
use hyper::body::Incoming;

use crate::admission;
use crate::base::http::LongLived;
use crate::config::Limits;
use crate::error::Error;
use crate::proof::certificate::{Certified, ClientCertificate};
use crate::server::body::{Answer, Metered, Unsent};
use crate::server::front::{self, Turned};
use crate::server::proxies::{self, Client};
use crate::server::shared::Shared;
use crate::server::wire::{MAX_HEADER_BYTES, Notes};
use crate::{ops, routes};

/// The maximum number of headers of a request. Requests with more are refused.
pub(super) const MAX_HEADERS: usize = 64;
/// How many bytes of memory a header takes besides its name and value.
const HEADER_OVERHEAD: usize = 128;
/// When a connection was opened, and when its last call ended, to decide when an idle or old connection is closed.
struct Activity {
    born: Instant,
    calls: AtomicUsize,
    /// When the last call ended, in milliseconds after `born`.
    last: AtomicU64,
    /// How many calls were begun on the connection.
    served: AtomicU64,
}

impl Activity {
    /// Why the connection should be closed now: `age` or `idle`. `None` if it should stay open.
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

/// The state that all calls of a connection share.
pub(super) struct Served {
    shared: Arc<Shared>,
    peer: Client,
    account: Arc<admission::Connection>,
    certificate: Option<Certified>,
    activity: Activity,
    pub(super) notes: Arc<Notes>,
    pub(super) unsent: Unsent,
}

/// Counts a call as in progress until it is answered or aborted.
pub(super) struct InProgress(Arc<Served>);

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

/// The future of a call. It is boxed because hyper moves the future of each HTTP/2 call into a task of its own, which
/// keeps its memory until the client has read the answer.
pub(super) type Serving =
    Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

impl Served {
    /// The state of a connection that has just begun.
    pub(super) fn new(
        shared: Arc<Shared>,
        peer: Client,
        account: Arc<admission::Connection>,
        certificate: Option<Certified>,
    ) -> Self {
        Self {
            shared,
            peer,
            account,
            certificate,
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

    /// Whether any call was begun on the connection.
    pub(super) fn has_served(&self) -> bool {
        self.activity.served.load(Ordering::Relaxed) != 0
    }

    /// The certificate of the client, if the broker still trusts the CA that verified it. The certificate of a trusted
    /// proxy says nothing about its clients.
    fn certificate(&self) -> Option<Arc<ClientCertificate>> {
        let is_proxy = self.peer.may_forward && self.shared.listener.is_trusted(self.peer.ip);
        let trusted = self.shared.client_ca.load();
        let certificate = self.certificate.as_ref()?.under(trusted.as_deref())?;
        (!is_proxy).then(|| certificate.clone())
    }

    /// Why the connection should be closed now: `age` or `idle`. `None` if it should stay open.
    pub(super) fn verdict(&self) -> Option<&'static str> {
        self.activity.verdict(&self.shared.limits)
    }

    /// Admits a request, or refuses it before any of it is kept in memory.
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
                    served.certificate(),
                    request,
                )
                .await;
                // A stream keeps its connection from being idle.
                let is_long = response.extensions().get::<LongLived>().is_some();
                let open = is_long.then(|| InProgress::new(served.clone()));
                Ok(response
                    .map(|body| Answer::new(body, call, &served.unsent, is_http2).keeping(open)))
            }),
            Err(error) => {
                let Ok(call) = self.account.refusal(address) else {
                    self.notes
                        .cut("no memory is left even to refuse the request");
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

    /// Closes the connection if a request's head takes too long to arrive, or if the client does not read an answer.
    /// Must be called once a second.
    pub(super) fn tick(&self) {
        self.notes.tick();
        if self.unsent.tick() {
            self.notes.cut("the client did not read an answer in time");
        }
        if Duration::from_secs(self.notes.partial_seconds().into()) > self.shared.limits.handshake {
            self.notes
                .cut("the head of a request did not arrive in time");
        }
    }
}

/// How many bytes the request line and the headers take in memory; `None` if they exceed the limits.
fn header_bytes<B>(request: &Request<B>) -> Option<usize> {
    let headers = request.headers();
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    // As in HTTP/1.1, with a colon, a space and a line end for each header.
    let text = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum::<usize>()
        + target;
    (headers.len() <= MAX_HEADERS && text <= MAX_HEADER_BYTES)
        .then_some(text + HEADER_OVERHEAD * headers.len())
}
