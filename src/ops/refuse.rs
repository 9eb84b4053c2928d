//! Refusals of calls that do not reach an operation. They are recorded and counted like any other
//! call.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::conclude;
use super::context::Context;
use super::operation::Operation;
use super::service::Service;
use crate::admission::Shed;
use crate::authn::Evidence;
use crate::broker::Broker;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::metrics;
use crate::origin::Origin;

/// The error with which a refused call is answered. The call's audit record has been written already.
pub struct Refusal {
    /// The id of the call in the answer, in the audit log and in log messages.
    pub request_id: String,
    pub error: Error,
}

/// Refuses and records a call to an unknown or unsupported action. A caller whose credentials are not accepted gets the
/// authentication error instead.
pub async fn refuse(
    broker: &Arc<Broker>,
    service: Service,
    name: String,
    evidence: Result<Evidence, Error>,
    error: Error,
    origin: Origin,
) -> Refusal {
    // Boxed, because refusals are part of every call's future and larger than most of it.
    let reply = Box::pin(conclude::<Nothing>(
        broker,
        service,
        name.into(),
        evidence,
        Err(error),
        origin,
    ))
    .await;
    Refusal {
        request_id: reply.request_id,
        error: reply.result.err().unwrap_or(Error::InternalFailure),
    }
}

/// Refuses and records a request that cannot be parsed, so that its caller cannot be authenticated
/// either.
pub async fn refuse_unread(
    broker: &Arc<Broker>,
    name: impl Into<String>,
    error: Error,
    origin: Origin,
) -> Refusal {
    let unread = Err(error);
    refuse(
        broker,
        Service::Sts,
        name.into(),
        unread,
        Error::InternalFailure,
        origin,
    )
    .await
}

/// The message to a caller whose request would exceed a limit of the broker on calls, memory or connections.
pub const NO_ROOM: &str =
    "The broker has no capacity for this request at the moment; try again in a few seconds.";

/// Counts a call that the broker does not accept because it is overloaded. Returns the error for
/// the caller.
pub fn shed(broker: &Broker, shed: Shed) -> Error {
    broker
        .metrics
        .shed
        .get_or_create(&metrics::Shed {
            reason: shed.reason(),
        })
        .inc();
    Error::Overloaded(NO_ROOM.into())
}

/// The operation type of calls that never reach an operation. It has no values, so it never runs.
enum Nothing {}

impl Operation for Nothing {
    const NAME: &'static str = "none";
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const HANDS_OUT: bool = false;
    type Output = ();

    fn parameters(&self) -> Option<Box<RawValue>> {
        None
    }

    async fn run(self, _: &mut Context<'_>) -> Result<(), Error> {
        match self {}
    }
}
