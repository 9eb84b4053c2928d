//! One request, from its form to its operation.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use super::answer::Element;
use super::off_the_workers;
use super::respond::Respond;
use crate::authn::{Evidence, Proof};
use crate::base::form::Parameters;
use crate::base::http::CHANGE;
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::{self, Operation, Service};
use crate::origin::Origin;

/// An operation that can be called in the Query protocol.
pub(super) trait Query: Operation {
    /// Takes the operation's parameters out of the form, and checks them. `evidence` holds the signature of
    /// the request; an operation whose proof is in its parameters replaces it by that proof.
    ///
    /// # Errors
    /// [`Error::Validation`] for the first parameter that breaks a rule, or [`Error::Malformed`] for an unknown
    /// parameter.
    fn read(form: &mut Parameters, evidence: &mut Result<Evidence, Error>) -> Result<Self, Error>;

    /// The elements of the result; `None` for an action without a result.
    fn write(output: Self::Output) -> Option<Vec<Element>>;
}

/// A request whose form was parsed, but whose action was not yet looked up.
pub(super) struct Call<'a> {
    pub(super) broker: &'a Arc<Broker>,
    pub(super) respond: Respond,
    pub(super) form: Parameters,
    pub(super) evidence: Result<Evidence, Error>,
    pub(super) origin: Origin,
    /// Whether the form is long, so that reading it would delay other calls.
    pub(super) is_long: bool,
}

impl Call<'_> {
    /// Reads the form as this operation's, and runs it.
    pub(super) async fn run<A: Query>(mut self) -> Response<Full<Bytes>> {
        if A::PROOF != Proof::Signature {
            // The proof is a parameter, so a signature is ignored.
            self.evidence = Ok(Evidence::Anonymous);
        }
        let (input, evidence) = if self.is_long {
            let (mut form, mut evidence) = (self.form, self.evidence);
            let work = move || (A::read(&mut form, &mut evidence), evidence);
            off_the_workers(&self.origin, work)
                .await
                .unwrap_or_else(|error| (Err(error.clone()), Err(error)))
        } else {
            let input = A::read(&mut self.form, &mut self.evidence);
            (input, self.evidence)
        };
        let reply = ops::serve(self.broker, evidence, input, self.origin).await;
        let mut response = match reply.result {
            Ok(output) => self
                .respond
                .success(A::NAME, A::write(output), &reply.request_id),
            Err(error) => self.respond.failure(&reply.request_id, &error),
        };
        if let Some(change) = reply.change {
            response.headers_mut().insert(CHANGE, change.into());
        }
        response
    }

    pub(super) async fn refuse(
        self,
        service: Service,
        action: String,
        error: Error,
    ) -> Response<Full<Bytes>> {
        let reply = ops::refuse(
            self.broker,
            service,
            action,
            self.evidence,
            error,
            self.origin,
        )
        .await;
        self.respond.failure(&reply.request_id, &reply.error)
    }
}
