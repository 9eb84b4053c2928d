//! [`Action`]: an action of the IAM API and its authorization.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::base::arn::IamArn;
use crate::base::names::Tag;
use crate::budgets::CountedAs;
use crate::directory::declaration;
use crate::error::Error;
use crate::ops::context::Context;
use crate::ops::operation::{OpenTo, Operation};
use crate::ops::service::Service;
use crate::trust::{self, SessionRequest};

pub trait Action: DeserializeOwned + Send + 'static {
    /// The name of the action in AWS. Policies call it `iam:NAME`.
    const NAME: &'static str;
    /// Whether the action only reads. Its audit record says so, too.
    const READ_ONLY: bool;
    /// Whether the answer contains a secret, so that its audit record must be on stable storage
    /// first.
    const HANDS_OUT: bool = false;
    type Output: Serialize;

    /// Authorizes the caller and performs the action. Returns the output in the form of AWS's
    /// model.
    fn run(self, cx: &mut Context<'_>) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// Wraps an [`Action`] as an [`Operation`], which the broker can serve.
pub struct Iam<A> {
    action: A,
    parameters: Option<Box<RawValue>>,
}

impl<A: Action> Iam<A> {
    /// Creates the operation. `input` has the form of AWS's model, and `audited` is the part of it
    /// that may appear in the audit log.
    ///
    /// # Errors
    /// [`Error::InternalFailure`] if the input does not have that form, which would be a bug.
    pub fn parse(input: Map<String, Value>, audited: Map<String, Value>) -> Result<Self, Error> {
        let action = serde_json::from_value(Value::Object(input)).map_err(|error| {
            tracing::error!(%error, action = A::NAME, "an input that matches AWS's model could not be parsed, which is a bug in Brevet; the call was refused");
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

/// Returns the name of an action in policies, such as `iam:EnableMFADevice`.
pub(super) fn permission<A: Action>() -> String {
    format!("{}:{}", Service::Iam.prefix(), A::NAME)
}

pub(super) struct Resource<'a> {
    /// The ARN that `Resource` elements of policies are compared with, or `*` if the action
    /// concerns no particular resource.
    pub arn: &'a str,
    /// The resource's name in a refusal: what the request named. The ARN could tell a caller
    /// without permission that the resource exists.
    pub shown_as: &'a str,
    /// The tags of the resource, for the condition keys `aws:ResourceTag/…`.
    pub tags: &'a [Tag],
    /// The tags in the request, for the condition keys `aws:RequestTag/…` and `aws:TagKeys`.
    pub requested_tags: &'a [Tag],
    /// The tag keys in a request that removes tags, for the condition key `aws:TagKeys`.
    pub requested_keys: &'a [String],
    /// The action's own condition keys, such as `iam:PolicyARN`, with their values.
    pub keys: Vec<(&'static str, &'a str)>,
}

impl<'a> Resource<'a> {
    /// Describes an existing resource for a request that sends no tags.
    pub fn new(arn: &'a str, tags: &'a [Tag]) -> Self {
        Self {
            arn,
            shown_as: arn,
            tags,
            requested_tags: &[],
            requested_keys: &[],
            keys: Vec::new(),
        }
    }

    /// Describes the resource `*`, for actions that concern no particular resource.
    pub fn any() -> Self {
        Self::new("*", &[])
    }

    /// Describes a resource that the request creates with these tags. They count both as the
    /// request's tags and as the resource's own.
    pub fn to_be_made(arn: &'a str, tags: &'a [Tag]) -> Self {
        Self {
            requested_tags: tags,
            ..Self::new(arn, tags)
        }
    }

    /// Adds a condition key of the action. Without a value, the key stays absent.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: Option<&'a str>) -> Self {
        self.keys.extend(value.map(|value| (key, value)));
        self
    }
}

/// Converts the tags of a request to the type that condition keys use.
pub(super) fn requested(tags: &[declaration::Tag]) -> Vec<Tag> {
    let tags = tags.iter().map(|tag| Tag {
        key: tag.key.clone(),
        value: tag.value.clone(),
    });
    tags.collect()
}

/// Checks that the caller's own policies allow the action on the resource.
///
/// # Errors
/// [`Error::AccessDenied`] if they do not, whether or not the resource exists.
pub(super) fn permit<A: Action>(
    cx: &mut Context<'_>,
    resource: &Resource<'_>,
) -> Result<(), Error> {
    permit_as(cx, &permission::<A>(), resource)
}

/// Checks that the caller's own policies allow a further action that the called action implies,
/// such as `iam:TagRole` for a role that is created with tags.
///
/// # Errors
/// The same as for [`permit`].
pub(super) fn permit_as(
    cx: &mut Context<'_>,
    permission: &str,
    resource: &Resource<'_>,
) -> Result<(), Error> {
    let mut facts = cx.facts().session(&SessionRequest {
        tags: resource.requested_tags,
        ..SessionRequest::default()
    });
    let of_user_or_role =
        IamArn::parse(resource.arn).is_some_and(|arn| ["user", "role"].contains(&arn.kind));
    facts.resource_tags(resource.tags, of_user_or_role);
    facts.iam(&resource.keys, resource.requested_keys);
    let permitted = trust::permit(cx.caller(), &cx.directory, &facts, permission, resource.arn);
    let denied = permitted.err();
    drop(facts);
    let Some(denied) = denied else {
        return Ok(());
    };
    Err(match cx.refuse(&denied, resource.arn) {
        Error::AccessDenied {
            principal,
            action,
            encoded_message,
            ..
        } => Error::AccessDenied {
            principal,
            action,
            resource: resource.shown_as.to_owned(),
            encoded_message,
        },
        other => other,
    })
}
