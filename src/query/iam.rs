//! The IAM API (version 2010-05-08). AWS's published model of the API determines how inputs are
//! checked and outputs are written.

use std::future::Future;
use std::pin::Pin;

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
use crate::ops::iam::action::{Action, Iam};
use crate::ops::iam::actions::{self, Visitor};
use crate::ops::iam::catalogue::{self, Tier};

pub(super) const VERSION: &str = "2010-05-08";
const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// The future of an answer. It is boxed, because otherwise every call's future would be as large as
/// that of the largest action.
type Answer<'a> = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send + 'a>>;

pub(super) async fn serve(mut call: Call<'_>, action: &str) -> Response<Full<Bytes>> {
    call.respond = call.respond.within(NAMESPACE);
    match actions::visit(action, call) {
        Ok(answer) => answer.await,
        Err(call) => refuse(call, action).await,
    }
}

impl<'a> Visitor for Call<'a> {
    type Output = Answer<'a>;

    fn visit<A: Action>(self) -> Answer<'a> {
        Box::pin(self.run::<Iam<A>>())
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
    let tier = catalogue::tier(action);
    let action = crate::audit::clip(action);
    let error = match tier {
        Some(Tier::Must | Tier::Should) => Error::NotAvailable(action.clone().into()),
        Some(Tier::Refused(why)) => Error::RefusedAction {
            action: action.clone(),
            why,
        },
        None => Error::InvalidAction {
            action: action.clone(),
            version: VERSION.to_owned(),
        },
    };
    call.refuse(Service::Iam, action, error).await
}
