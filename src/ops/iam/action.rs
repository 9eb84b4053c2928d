//! [`Action`]: what an action of the IAM API is, and how it is authorised.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::base::arn::IamArn;
use crate::base::names::Tag;
use crate::budgets::CountedAs;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;
use crate::trust::{self, SessionRequest};

/// One action of the IAM API.
pub trait Action: DeserializeOwned + Send + 'static {
    /// As AWS names it. Policies name it `iam:NAME`.
    const NAME: &'static str;
    /// Whether it leaves everything as it is.
    const READ_ONLY: bool;
    /// Whether the answer holds a secret.
    const HANDS_OUT: bool = false;
    /// In the model's shape.
    type Output: Serialize;

    /// From input to output.
    fn run(self, cx: &mut Context<'_>) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// An action as an operation.
pub struct Iam<A> {
    action: A,
    parameters: Option<Box<RawValue>>,
}

impl<A: Action> Iam<A> {
    /// From an input that has its model's shape, and what of it the audit may know.
    ///
    /// # Errors
    /// When it has not.
    pub fn parse(input: Map<String, Value>, audited: Map<String, Value>) -> Result<Self, Error> {
        let action = serde_json::from_value(Value::Object(input)).map_err(|error| {
            tracing::error!(%error, action = A::NAME, "an input of the model's shape is not understood");
            Error::InternalFailure
        })?;
        Ok(Self {
            action,
            parameters: serde_json::value::to_raw_value(&audited).ok(),
        })
    }
}

impl<A: Action> Operation for Iam<A> {
    const NAME: &'static str = A::NAME;
    const COUNTED_AS: CountedAs = CountedAs::Call;
    const SERVICE: Service = Service::Iam;
    const OPEN_TO: OpenTo = OpenTo::UserSessionsWithMfa;
    const READ_ONLY: bool = A::READ_ONLY;
    const HANDS_OUT: bool = A::HANDS_OUT;
    type Output = Value;

    fn parameters(&self) -> Option<Box<RawValue>> {
        self.parameters.clone()
    }

    async fn run(self, cx: &mut Context<'_>) -> Result<Value, Error> {
        let output = self.action.run(cx).await?;
        serde_json::to_value(output).map_err(|_| Error::InternalFailure)
    }
}

/// As policies name an action.
pub(super) fn permission<A: Action>() -> String {
    format!("{}:{}", Service::Iam.prefix(), A::NAME)
}

/// What an action is authorised on.
pub(super) struct Resource<'a> {
    /// Its ARN, or `*`.
    pub arn: &'a str,
    /// The tags that it has.
    pub tags: &'a [Tag],
    /// The tags that the request brings.
    pub requested_tags: &'a [Tag],
}

impl<'a> Resource<'a> {
    /// A resource with the tags that it has.
    pub fn new(arn: &'a str, tags: &'a [Tag]) -> Self {
        Self {
            arn,
            tags,
            requested_tags: &[],
        }
    }

    /// No resource in particular.
    pub fn any() -> Self {
        Self::new("*", &[])
    }

    /// A resource that is to be made with these tags: they are its own already.
    pub fn to_be_made(arn: &'a str, tags: &'a [Tag]) -> Self {
        Self {
            arn,
            tags,
            requested_tags: tags,
        }
    }
}

/// The caller's own policies must allow the action on the resource.
///
/// # Errors
/// [`Error::AccessDenied`], whether or not the resource exists.
pub(super) fn permit<A: Action>(
    cx: &mut Context<'_>,
    resource: &Resource<'_>,
) -> Result<(), Error> {
    let mut facts = cx.facts().session(&SessionRequest {
        tags: resource.requested_tags,
        ..SessionRequest::default()
    });
    let of_user_or_role =
        IamArn::parse(resource.arn).is_some_and(|arn| ["user", "role"].contains(&arn.kind));
    facts.resource_tags(resource.tags, of_user_or_role);
    let permission = permission::<A>();
    let permitted = trust::permit(
        cx.caller(),
        &cx.directory,
        &facts,
        &permission,
        resource.arn,
    );
    let denied = permitted.err();
    drop(facts);
    denied.map_or(Ok(()), |denied| Err(cx.refuse(&denied, resource.arn)))
}
