//! The IAM API (version 2010-05-08) on the same listener: which actions are answered, by which
//! operation.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use super::model::IAM;
use super::{Parameters, Respond};
use crate::authn::Evidence;
use crate::broker::Broker;
use crate::error::Error;
use crate::ops::iam::mfa_devices::{
    CreateVirtualMfaDevice, DeactivateMfaDevice, DeleteVirtualMfaDevice, EnableMfaDevice,
    ListMfaDevices, ListVirtualMfaDevices, ResyncMfaDevice,
};
use crate::ops::iam::{Action, Iam};
use crate::ops::{self, Service};
use crate::origin::Origin;

/// The API version that every request names.
pub(super) const VERSION: &str = "2010-05-08";
/// The namespace of its answers.
const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// One request on its way to its operation.
struct Call<'a> {
    broker: &'a Arc<Broker>,
    respond: &'a Respond,
    parameters: Parameters,
    evidence: Result<Evidence, Error>,
    origin: Origin,
}

/// Serves one request of the IAM API.
pub(super) async fn serve(
    broker: &Arc<Broker>,
    respond: &Respond,
    action: &str,
    parameters: Parameters,
    evidence: Result<Evidence, Error>,
    origin: Origin,
) -> Response<Full<Bytes>> {
    let respond = &Respond {
        namespace: NAMESPACE,
        ..*respond
    };
    let call = Call {
        broker,
        respond,
        parameters,
        evidence,
        origin,
    };
    match action {
        CreateVirtualMfaDevice::NAME => call.run::<CreateVirtualMfaDevice>().await,
        DeactivateMfaDevice::NAME => call.run::<DeactivateMfaDevice>().await,
        DeleteVirtualMfaDevice::NAME => call.run::<DeleteVirtualMfaDevice>().await,
        EnableMfaDevice::NAME => call.run::<EnableMfaDevice>().await,
        ListMfaDevices::NAME => call.run::<ListMfaDevices>().await,
        ListVirtualMfaDevices::NAME => call.run::<ListVirtualMfaDevices>().await,
        ResyncMfaDevice::NAME => call.run::<ResyncMfaDevice>().await,
        other => call.refuse(other).await,
    }
}

impl Call<'_> {
    async fn run<A: Action>(mut self) -> Response<Full<Bytes>> {
        let Some(model) = IAM.as_ref() else {
            return self.refuse(A::NAME).await;
        };
        let input = model.read(A::NAME, &mut self.parameters).and_then(|input| {
            let audited = model.audited(A::NAME, &input);
            Iam::<A>::parse(input, audited)
        });
        let reply = ops::serve(self.broker, self.evidence, input, self.origin).await;
        match reply.result {
            Ok(output) => {
                let elements = model.write(A::NAME, &output);
                self.respond.success(A::NAME, elements, &reply.request_id)
            }
            Err(error) => self.respond.failure(&reply.request_id, &error),
        }
    }

    async fn refuse(self, action: &str) -> Response<Full<Bytes>> {
        let known = IAM.as_ref().is_some_and(|model| model.has(action));
        let action = crate::audit::clip(action);
        let error = match known {
            true => Error::NotAvailable(action.clone().into()),
            false => Error::InvalidAction {
                action: action.clone(),
                version: VERSION.to_owned(),
            },
        };
        let reply = ops::refuse(
            self.broker,
            Service::Iam,
            action,
            self.evidence,
            error,
            self.origin,
        )
        .await;
        self.respond.failure(&reply.request_id, &reply.error)
    }
}
