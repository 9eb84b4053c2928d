//! The IAM API (version 2010-05-08) on the same listener: which actions are answered, by which
//! operation.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use super::answer::Element;
use super::call::{Call, Query};
use super::model::IAM;
use crate::authn::Evidence;
use crate::base::form::Parameters;
use crate::error::Error;
use crate::ops::Service;
use crate::ops::iam::mfa_devices::{
    CreateVirtualMfaDevice, DeactivateMfaDevice, DeleteVirtualMfaDevice, EnableMfaDevice,
    ListMfaDevices, ListVirtualMfaDevices, ResyncMfaDevice,
};
use crate::ops::iam::{Action, Iam};

/// The API version that every request names.
pub(super) const VERSION: &str = "2010-05-08";
/// The namespace of its answers.
const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// Serves one request of the IAM API.
pub(super) async fn serve(mut call: Call<'_>, action: &str) -> Response<Full<Bytes>> {
    call.respond = call.respond.within(NAMESPACE);
    match action {
        CreateVirtualMfaDevice::NAME => call.run::<Iam<CreateVirtualMfaDevice>>().await,
        DeactivateMfaDevice::NAME => call.run::<Iam<DeactivateMfaDevice>>().await,
        DeleteVirtualMfaDevice::NAME => call.run::<Iam<DeleteVirtualMfaDevice>>().await,
        EnableMfaDevice::NAME => call.run::<Iam<EnableMfaDevice>>().await,
        ListMfaDevices::NAME => call.run::<Iam<ListMfaDevices>>().await,
        ListVirtualMfaDevices::NAME => call.run::<Iam<ListVirtualMfaDevices>>().await,
        ResyncMfaDevice::NAME => call.run::<Iam<ResyncMfaDevice>>().await,
        other => refuse(call, other).await,
    }
}

impl<A: Action> Query for Iam<A> {
    fn read(form: &mut Parameters, _: &mut Result<Evidence, Error>) -> Result<Self, Error> {
        let model = IAM.as_ref().ok_or(Error::InternalFailure)?;
        let input = model.read(A::NAME, form)?;
        let audited = model.audited(A::NAME, &input);
        Self::parse(input, audited)
    }

    fn write(output: Self::Output) -> Option<Vec<Element>> {
        IAM.as_ref()?.write(A::NAME, &output)
    }
}

async fn refuse(call: Call<'_>, action: &str) -> Response<Full<Bytes>> {
    let known = IAM.as_ref().is_some_and(|model| model.has(action));
    let action = crate::audit::clip(action);
    let error = match known {
        true => Error::NotAvailable(action.clone().into()),
        false => Error::InvalidAction {
            action: action.clone(),
            version: VERSION.to_owned(),
        },
    };
    call.refuse(Service::Iam, action, error).await
}
