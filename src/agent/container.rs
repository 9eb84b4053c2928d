//! The container endpoint in the form of Amazon ECS: each workload has its own path and token, and gets the role that
//! is configured for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{ALLOW, AUTHORIZATION};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::audit::{Audit, Recipient};
use super::front::Refused;
use super::handouts::Slot;
use super::imds::Parts;
use super::listener::{Answer, Face};
use super::metrics::HandOuts;
use super::refusal::Refusal;
use super::session::RoleSession;
use super::workload_token::WorkloadToken;
use crate::base::clock::Clock;

pub const LISTENER: &str = "container";
const JSON: &str = "application/json";

/// A workload that may ask for credentials.
pub struct Workload {
    /// The workload in audit lines.
    recipient: Recipient,
    token: WorkloadToken,
    slot: Arc<Slot>,
}

impl Workload {
    /// Makes a workload that gets the sessions of `slot` for its token. `name` is its name in audit lines.
    pub fn new(name: &str, token: WorkloadToken, slot: Arc<Slot>) -> Self {
        let recipient = Recipient {
            listener: LISTENER,
            workload: name.to_owned(),
            proof: "container-token",
        };
        Self {
            recipient,
            token,
            slot,
        }
    }
}

pub struct Container {
    /// The workloads, by the paths at which they ask.
    workloads: HashMap<String, Workload>,
    clock: Arc<dyn Clock>,
    audit: Arc<Audit>,
    hand_outs: HandOuts,
}

impl Container {
    pub fn new(workloads: HashMap<String, Workload>, parts: Parts) -> Self {
        Self {
            workloads,
            clock: parts.clock,
            audit: parts.audit,
            hand_outs: parts.metrics.hand_outs(LISTENER),
        }
    }

    /// Counts a request whose workload did not prove who it is, and makes the answer that refuses it.
    fn unproven(&self, status: StatusCode, code: &str, message: &str) -> Answer {
        self.hand_outs.unproven.inc();
        error(status, code, message)
    }
}

impl Face for Container {
    async fn answer(&self, request: &Request<Incoming>, peer: SocketAddr) -> Answer {
        if request.method() != Method::GET {
            return method_not_allowed();
        }
        let Some(workload) = self.workloads.get(request.uri().path()) else {
            return self.unproven(
                StatusCode::NOT_FOUND,
                "ResourceNotFound",
                "There are no credentials at this path. The path is /credentials/ followed by the name of a \
                 [[container.workload]] at an agent, and /credentials at the endpoint of `brevet exec`.",
            );
        };
        let given = match authorization(request.headers()) {
            Ok(given) => given,
            Err(message) => {
                return self.unproven(
                    StatusCode::UNAUTHORIZED,
                    "MissingAuthenticationToken",
                    message,
                );
            }
        };
        if !workload.token.is(given) {
            return self.unproven(
                StatusCode::FORBIDDEN,
                "AccessDenied",
                "The header Authorization does not hold the token of this workload, or the agent cannot read the \
                 token (the agent's log then says why). For a workload of an agent, set \
                 AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE to the token_file of its [[container.workload]]; `brevet \
                 exec` itself sets AWS_CONTAINER_AUTHORIZATION_TOKEN for its program.",
            );
        }
        let now = self.clock.now();
        let result = workload.slot.get(now).await;
        let result = result.as_deref();
        self.hand_outs.count(result.map(|_| ()));
        let peer = || Some(peer.to_string());
        self.audit
            .handed_out(now, &workload.recipient, peer, result);
        credentials(result)
    }

    fn refuse(&self, refused: Refused) -> Answer {
        refusal_of_front(refused)
    }
}

/// Reads the header `Authorization`, in which SDKs send only the token.
///
/// # Errors
/// A sentence for the client, if the header is missing, empty or duplicate.
pub fn authorization(headers: &HeaderMap) -> Result<&[u8], &'static str> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    match (given.next(), given.next()) {
        (Some(value), None) if !value.is_empty() => Ok(value.as_bytes()),
        (Some(_), Some(_)) => Err("The header Authorization must be sent once."),
        (Some(_), None) => {
            Err("The header Authorization is empty; it must hold the token of the workload or pod.")
        }
        (None, _) => Err(
            "The header Authorization is missing; it must hold the token of the workload or pod.",
        ),
    }
}

/// Makes the answer with credentials, or with the reason why there are none. If the broker refuses for good, the status
/// is a 4xx, so that no SDK takes the refusal for a temporary fault.
pub fn credentials(result: Result<&RoleSession, &Refusal>) -> Answer {
    match result {
        Ok(session) => Answer::new(StatusCode::OK, JSON, session.container_document.clone()),
        Err(Refusal::Denied { code, message }) => error(StatusCode::FORBIDDEN, code, message),
        Err(refusal @ Refusal::Unavailable { .. }) => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            &refusal.to_string(),
        ),
    }
}

/// Makes an error in the form that SDKs show to their users.
pub fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    let document = json!({"code": code, "message": message});
    Answer::new(status, JSON, document.to_string())
}

pub fn method_not_allowed() -> Answer {
    error(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "Only GET is allowed for this path.",
    )
    .header(ALLOW, HeaderValue::from_static("GET"))
}

/// Makes the answer to a request that [`super::front::check`] refused.
pub fn refusal_of_front(refused: Refused) -> Answer {
    let code = match refused.status {
        StatusCode::FORBIDDEN => "AccessDenied",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        _ => "InvalidRequest",
    };
    error(refused.status, code, refused.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_the_whole_header_and_is_sent_once() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        assert_eq!(authorization(&headers(&["Bearer x"])).unwrap(), b"Bearer x");
        assert!(
            authorization(&headers(&[]))
                .unwrap_err()
                .contains("must hold")
        );
        assert!(
            authorization(&headers(&[""]))
                .unwrap_err()
                .contains("must hold")
        );
        assert!(
            authorization(&headers(&["a", "a"]))
                .unwrap_err()
                .contains("once")
        );
    }

    #[test]
    fn errors_are_json_with_code_and_message() {
        let denied = Refusal::Denied {
            code: "AccessDenied".to_owned(),
            message: "User: x is not \"authorized\".".to_owned(),
        };
        assert_eq!(
            credentials(Err(&denied)).into_response().status(),
            StatusCode::FORBIDDEN
        );
        let away = Refusal::Unavailable {
            reason: "the broker has not answered yet".to_owned(),
        };
        assert_eq!(
            credentials(Err(&away)).into_response().status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(
            method_not_allowed().into_response().status(),
            StatusCode::METHOD_NOT_ALLOWED
        );
    }
}
