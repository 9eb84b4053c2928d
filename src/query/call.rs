//! One request on its way to its operation.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use super::answer::Element;
use super::respond::Respond;
use crate::authn::{Evidence, Proof};
use crate::base::form::Parameters;
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::{self, Operation, Service};
use crate::origin::Origin;

/// An operation that a form asks for, and the elements that answer it.
pub(super) trait Query: Operation {
    /// The checked request; what `form` still has then is unknown. An operation whose proof is in
    /// its parameters puts it into `evidence`; for all others that is the signature already.
    ///
    /// # Errors
    /// Names the first parameter that breaks a rule, and the rule.
    fn read(form: &mut Parameters, evidence: &mut Result<Evidence, Error>) -> Result<Self, Error>;

    /// The result's elements; none for an action without a result.
    fn write(output: Self::Output) -> Option<Vec<Element>>;
}

/// A request that was read, and whose action is not known yet.
pub(super) struct Call<'a> {
    pub(super) broker: &'a Arc<Broker>,
    pub(super) respond: Respond,
    pub(super) form: Parameters,
    pub(super) evidence: Result<Evidence, Error>,
    pub(super) origin: Origin,
}

impl Call<'_> {
    /// Runs the operation that the form asks for.
    pub(super) async fn run<A: Query>(mut self) -> Response<Full<Bytes>> {
        if A::PROOF != Proof::Signature {
            // The proof is a parameter: a signature that comes along is not looked at.
            self.evidence = Ok(Evidence::Anonymous);
        }
        let input = A::read(&mut self.form, &mut self.evidence);
        let reply = ops::serve(self.broker, self.evidence, input, self.origin).await;
        match reply.result {
            Ok(output) => self
                .respond
                .success(A::NAME, A::write(output), &reply.request_id),
            Err(error) => self.respond.failure(&reply.request_id, &error),
        }
    }

    /// Refuses an action that is not answered.
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
