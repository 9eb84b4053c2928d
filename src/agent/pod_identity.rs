//! The container endpoint in the form of the EKS Pod Identity agent. A pod shows its projected service-account
//! token; the broker checks it, and says which role the service account has.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use super::audit::{Audit, Recipient};
use super::container::{
    LISTENER, authorization, credentials, error, method_not_allowed, refusal_of_front,
};
use super::front::Refused;
use super::handouts::Handouts;
use super::imds::Parts;
use super::listener::{Answer, Face};
use super::metrics::HandOuts;
use super::pace::Pace;
use super::pod_token::UnverifiedPodToken;
use super::wanted::{PodToken, Wanted, WorkloadId, WorkloadWanted};
use crate::base::clock::Clock;

/// The path of the page with the credentials: Amazon EKS, "Learn how EKS Pod Identity works".
pub const PATH: &str = "/v1/credentials";

/// The EKS Pod Identity endpoint as a [`Face`] of a listener.
pub struct PodIdentity {
    /// The name of the cluster in the broker's directory.
    cluster: String,
    duration_seconds: Option<i32>,
    handouts: Arc<Handouts>,
    /// How many tokens an address may try.
    pace: Pace,
    clock: Arc<dyn Clock>,
    audit: Arc<Audit>,
    hand_outs: HandOuts,
}

impl PodIdentity {
    pub fn new(
        cluster: String,
        duration_seconds: Option<i32>,
        handouts: Arc<Handouts>,
        parts: Parts,
    ) -> Self {
        Self {
            cluster,
            duration_seconds,
            handouts,
            pace: Pace::new(parts.clock.clone()),
            clock: parts.clock,
            audit: parts.audit,
            hand_outs: parts.metrics.hand_outs(LISTENER),
        }
    }

    /// Describes the session for a pod with this token. The agent finds a session by the whole token, because only the
    /// signature proves to whom a token belongs: another token with the same claims is sent to the broker again.
    fn wanted(&self, token: PodToken) -> Wanted {
        Wanted::Workload(Box::new(WorkloadWanted {
            workload: WorkloadId::Pod {
                cluster: self.cluster.clone(),
                token,
            },
            role_arn: None,
            role_session_name: None,
            duration_seconds: self.duration_seconds,
            tags: Vec::new(),
        }))
    }

    fn unproven(&self, status: StatusCode, code: &str, message: &str) -> Answer {
        self.hand_outs.unproven.inc();
        error(status, code, message)
    }
}

impl Face for PodIdentity {
    async fn answer(&self, request: &Request<Incoming>, peer: SocketAddr) -> Answer {
        if request.method() != Method::GET {
            return method_not_allowed();
        }
        if request.uri().path() != PATH {
            let message =
                "This agent has nothing at this path. Credentials are at /v1/credentials.";
            return self.unproven(StatusCode::NOT_FOUND, "ResourceNotFound", message);
        }
        let given = match authorization(request.headers()) {
            Ok(given) => given,
            Err(message) => {
                return self.unproven(
                    StatusCode::BAD_REQUEST,
                    "InvalidParameterException",
                    message,
                );
            }
        };
        let now = self.clock.now();
        let token = match UnverifiedPodToken::read(given, now) {
            Ok(token) => token,
            Err(message) => {
                return self.unproven(StatusCode::BAD_REQUEST, "InvalidTokenException", message);
            }
        };
        let digest = token.token.digest();
        let wanted = self.wanted(token.token);
        // Several pods may share an address: what one of them tries takes nothing from those whose session is held.
        if !self.handouts.holds(&wanted) && !self.pace.may_try(peer.ip(), digest) {
            let message = "This address has tried 20 tokens within a minute that the broker has not accepted. Try again in a \
                 minute.";
            return self.unproven(
                StatusCode::TOO_MANY_REQUESTS,
                "ThrottlingException",
                message,
            );
        }
        let result = self.handouts.get(wanted, now).await;
        if result.is_ok() {
            self.pace.accepted(peer.ip(), digest);
        }
        let result = result.as_deref();
        self.hand_outs.count(result.map(|_| ()));
        // What the token says is true if the broker took it.
        let workload = match result {
            Ok(_) => token.pod.as_str(),
            Err(_) => "unproven pod",
        };
        let recipient = Recipient {
            listener: LISTENER,
            workload: workload.to_owned(),
            proof: "pod-token",
        };
        self.audit
            .handed_out(now, &recipient, || Some(peer.to_string()), result);
        credentials(result)
    }

    fn refuse(&self, refused: Refused) -> Answer {
        refusal_of_front(refused)
    }
}
