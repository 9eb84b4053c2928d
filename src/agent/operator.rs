//! The operators' listener: `/healthz`, `/readyz`, `/metrics`. It shows no secrets and changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::ALLOW;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;

use super::front::Refused;
use super::handouts::Slot;
use super::listener::{Answer, Face};
use super::metrics::Metrics;

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers the requests of operators and of monitoring.
pub struct Operator {
    /// The sessions that the agent must have before it reports that it is ready.
    pub pinned: Vec<Arc<Slot>>,
    pub metrics: Arc<Metrics>,
}

impl Face for Operator {
    async fn answer(&self, request: &Request<Incoming>, _peer: SocketAddr) -> Answer {
        if request.method() != Method::GET {
            return Answer::new(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "only GET is allowed\n",
            )
            .header(ALLOW, HeaderValue::from_static("GET"));
        }
        match request.uri().path() {
            "/healthz" => Answer::new(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" if self.pinned.iter().all(|slot| slot.session().is_some()) => {
                Answer::new(StatusCode::OK, TEXT, "ready\n")
            }
            "/readyz" => Answer::new(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "not ready: this agent has no valid session for at least one workload of its \
                 configuration; the log of the agent says \
                why\n",
            ),
            "/metrics" => Answer::new(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.metrics.render(),
            ),
            _ => Answer::new(
                StatusCode::NOT_FOUND,
                TEXT,
                "not found; the pages are /healthz, /readyz and /metrics\n",
            ),
        }
    }

    fn refuse(&self, refused: Refused) -> Answer {
        Answer::new(refused.status, TEXT, format!("{}\n", refused.message))
    }
}
