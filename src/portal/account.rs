//! Actions of the IAM API that a user takes in the pages, on its own account and in its own name.

use serde_json::{Map, Value};

use super::problem::Problem;
use super::visit::{SignedInUser, Visit};
use crate::error::Error;
use crate::ops;
use crate::ops::iam::action::{Action, Iam};
use crate::sign_in::choose;

/// A refused action, with the id under which the audit log has it.
pub(super) struct Refused {
    pub(super) error: Error,
    pub(super) request_id: String,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::refused(&refused.error, Some(refused.request_id))
    }
}

/// Calls an action as this user, with parameters in the form of AWS's model. `secret` are parameters that
/// the audit log must not have.
///
/// # Errors
/// [`Refused`] if the user's policies do not allow it, or the action itself refuses.
pub(super) async fn call<A: Action>(
    visit: &Visit<'_>,
    me: &SignedInUser,
    parameters: &[(&str, &str)],
    secret: &[(&str, &str)],
) -> Result<Value, Refused> {
    let map = |all: &[(&str, &str)]| -> Map<String, Value> {
        let pairs = all.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect()
    };
    let audited = map(parameters);
    let mut input = audited.clone();
    input.extend(map(secret));
    let evidence = choose::evidence(&me.sign_in);
    let input = Iam::<A>::parse(input, audited);
    let reply = ops::serve(visit.broker, Ok(evidence), input, visit.origin.clone()).await;
    let request_id = reply.request_id;
    reply.result.map_err(|error| Refused { error, request_id })
}
