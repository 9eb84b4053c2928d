//! The operators' listener: `/healthz`, `/readyz`, `/metrics`. Its answers contain no secrets, and no request changes
//! anything.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Shared;
use crate::base::legible::Legible;
use crate::metrics::SamlProviderLabel;
use crate::routes::{self, Operator};
use crate::sessions::Standing;

/// The maximum number of connections: enough for a scraper, a load balancer and some people.
const MAX_CONNECTIONS: usize = 64;
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(300);

/// Accepts connections until the daemon has ended, so that `/readyz` still answers "shutting down" during a shutdown.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let service = service_fn(|request| answer(&shared, &request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .max_headers(32)
                .serve_connection(TokioIo::new(stream), service);
            // A failed connection of an operator needs no handling.
            let _ = tokio::time::timeout(MAX_CONNECTION_AGE, connection).await;
        });
    }
}

fn answer(
    shared: &Shared,
    request: &Request<Incoming>,
) -> std::future::Ready<Result<Response<Full<Bytes>>, Infallible>> {
    let route = routes::operator(request.uri().path());
    let (status, text) = match (request.method(), route) {
        (&Method::GET, Operator::Health) => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET, Operator::Readiness) => ready(shared),
        (&Method::GET, Operator::Metrics) => (StatusCode::OK, metrics(shared)),
        (&Method::GET, Operator::Unknown) => (
            StatusCode::NOT_FOUND,
            "not found; the pages are /healthz, /readyz and /metrics\n".to_owned(),
        ),
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET is allowed\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = match route {
        Operator::Metrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        Operator::Health | Operator::Readiness | Operator::Unknown => "text/plain; charset=utf-8",
    };
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    std::future::ready(Ok(response))
}

fn metrics(shared: &Shared) -> String {
    let (metrics, admission) = (&shared.broker.metrics, &shared.admission);
    let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    metrics
        .calls_in_flight
        .set(gauge(admission.calls_in_flight()));
    metrics
        .request_memory_bytes
        .set(gauge(admission.request_memory_bytes()));
    metrics
        .long_request_bytes
        .set(gauge(admission.long_request_bytes()));
    metrics.clock_behind_seconds.set(gauge(
        usize::try_from(shared.broker.clock.lag().as_secs()).unwrap_or(usize::MAX),
    ));
    let age = shared
        .broker
        .feed
        .age(shared.broker.clock.monotonic())
        .as_secs();
    metrics
        .feed_age_seconds
        .set(i64::try_from(age).unwrap_or(i64::MAX));
    saml_providers(shared);
    metrics.render()
}

/// The maximum number of SAML providers with metrics of their own.
const MAX_SAML_PROVIDERS: usize = 1_000;

/// Sets the metrics that say for how long each SAML provider of the current directory can be used without interruption.
fn saml_providers(shared: &Shared) {
    let (directory, now) = (shared.broker.directory.load(), shared.broker.clock.now());
    let family = &shared.broker.metrics.saml_provider_usable_seconds;
    family.clear();
    for provider in directory.saml_providers().take(MAX_SAML_PROVIDERS) {
        let metadata = provider.metadata.as_ref().ok();
        let end = metadata.and_then(|metadata| metadata.usable_without_a_gap(now));
        let left = end.map_or(0, |end| end.since(now).as_secs());
        let label = SamlProviderLabel {
            provider: provider.arn.to_string(),
        };
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        family.get_or_create(&label).set(left);
    }
}

/// The answer of `/readyz`: ready if the broker can issue credentials safely. The answer mentions that Redis is
/// unavailable, but is still ready then.
fn ready(shared: &Shared) -> (StatusCode, String) {
    let degraded = match shared.broker.sessions.standing() {
        Standing::Down => "redis does not answer; the broker issues sessions without records",
        Standing::Odd => {
            "a key of this cluster in Redis holds a value of a type that brokers do not write; delete the key \
             that the log names"
        }
        Standing::Up | Standing::Unfit(_) => "",
    };
    match shared.is_ready() {
        Ok(()) if degraded.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
        Ok(()) => (StatusCode::OK, format!("ready; degraded: {degraded}\n")),
        Err(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {}\n", Legible(&reason)),
        ),
    }
}
