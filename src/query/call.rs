//! One request of the Query protocol, from its parsed form to the call of its operation.

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
    /// Takes the operation's parameters out of the form, and checks them. `evidence` contains the signature of the
    /// request. An operation that authenticates its caller by a parameter, such as a web identity token, replaces it by
    /// that parameter.
    ///
    /// # Errors
    /// The error for the first parameter that breaks a rule, usually [`Error::Validation`], or [`Error::Malformed`] for
    /// an unknown parameter.
    fn read(form: &mut Parameters, evidence: &mut Result<Evidence, Error>) -> Result<Self, Error>;

    /// Returns the elements of the result; `None` for an action without a result.
    fn write(output: Self::Output) -> Option<Vec<Element>>;
}

/// A request whose form has been parsed, and whose action must still be looked up.
pub(super) struct Call<'a> {
    pub(super) broker: &'a Arc<Broker>,
    pub(super) respond: Respond,
    pub(super) form: Parameters,
    pub(super) evidence: Result<Evidence, Error>,
    pub(super) origin: Origin,
    /// Whether the form is so long that reading it would delay other calls. It is then read on a
    /// separate thread.
    pub(super) is_long: bool,
}

impl Call<'_> {
    /// Reads the parameters of the operation from the form, and runs the operation.
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
