//! What the actions of the IAM API share: how they are authorised and how they change the
//! directory. Each of them reads its model's input and answers in its model's shape.

pub mod mfa_devices;

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::context::Context;
use super::operation::{OpenTo, Operation};
use super::service::Service;
use crate::base::arn::IamArn;
use crate::base::names::Tag;
use crate::budgets::CountedAs;
use crate::commands::{self, Command, CommandContext};
use crate::directory::User;
use crate::error::Error;
use crate::trust::{self, SessionRequest};

/// How long an answer waits for its own change to be in force here.
const OWN_CHANGE: Duration = Duration::from_secs(2);

/// One action of the IAM API.
pub trait Action: DeserializeOwned + Send + 'static {
    /// As AWS names it.
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

/// The caller's own policies must allow the action on the resource, which has these tags; `asked`
/// are those that the request brings.
fn permit(
    cx: &mut Context<'_>,
    action: &'static str,
    resource: &str,
    tags: &[Tag],
    asked: &[Tag],
) -> Result<(), Error> {
    let mut facts = cx.facts().session(&SessionRequest {
        tags: asked,
        ..SessionRequest::default()
    });
    let of_user_or_role =
        IamArn::parse(resource).is_some_and(|arn| ["user", "role"].contains(&arn.kind));
    facts.resource_tags(tags, of_user_or_role);
    let denied = trust::permit(cx.caller(), &cx.directory, &facts, action, resource).err();
    drop(facts);
    denied.map_or(Ok(()), |denied| Err(cx.refuse(&denied, resource)))
}

/// A user that an action is about.
struct Target {
    name: String,
    /// As the directory has it; of a user that there is not, as it would be.
    arn: String,
    user: Option<std::sync::Arc<User>>,
}

impl Target {
    /// The user of that name in the caller's account; nothing named: the calling user. No store is
    /// asked: whether the caller may know is not decided yet.
    fn find(cx: &Context<'_>, user_name: Option<&str>) -> Result<Self, Error> {
        let own = cx.caller().user();
        let name = match (user_name, own) {
            (Some(name), _) => name,
            (None, Some(user)) => &user.name,
            (None, None) => {
                let rule = "must not be null: the caller is no user";
                return Err(crate::base::field::FieldError::new("UserName", rule).into());
            }
        };
        let account = cx.caller().account();
        let user = cx.directory.user_named(account, name).cloned();
        let arn = user.as_ref().map_or_else(
            || format!("arn:aws:iam::{account}:user/{name}"),
            |u| u.arn.to_string(),
        );
        Ok(Self {
            name: name.to_owned(),
            arn,
            user,
        })
    }

    fn tags(&self) -> &[Tag] {
        self.user.as_ref().map(|u| &*u.tags).unwrap_or_default()
    }

    /// It, if it is there.
    fn there(&self) -> Result<&std::sync::Arc<User>, Error> {
        let missing =
            || Error::NotFound(format!("The user with name {} cannot be found.", self.name));
        self.user.as_ref().ok_or_else(missing)
    }
}

/// Changes the directory, and waits until the change is in force here: what the caller asks next
/// sees it. `decide` says what is to be changed, or why not: before the store is asked for anything,
/// and again when it is this call's turn to write.
pub(super) async fn change(
    cx: &mut Context<'_>,
    decide: impl Fn(&mut Context<'_>) -> Result<Vec<Command>, Error>,
) -> Result<(), Error> {
    decide(cx)?;
    let master_key = cx
        .broker
        .master_key
        .load_full()
        .filter(|_| cx.broker.directory_is_in_the_store);
    let Some(master_key) = master_key else {
        return Err(Error::UnmodifiableEntity(
            "the directory is a file, and is changed there",
        ));
    };
    let writer = cx.wait(cx.broker.store.write()).await?;
    let commands = match decide(cx) {
        Ok(commands) => commands,
        Err(error) => {
            writer.abandon().await;
            return Err(error);
        }
    };
    let actor = cx.actor();
    let context = CommandContext {
        store: &cx.broker.store,
        master_key: &master_key,
        entropy: &*cx.broker.entropy,
        now: cx.now,
        issuer: cx.broker.issuer.as_deref(),
    };
    let sequence = commands::execute_in(writer, context, &actor, commands).await?;
    cx.broker.feed.nudge();
    let seen = async {
        while cx.broker.feed.sequence() < sequence {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // It is durable; a node that is late sees it later.
    let _ = tokio::time::timeout(OWN_CHANGE, seen).await;
    Ok(())
}
