//! Calls actions of the IAM API for a user of the pages, on the user's own account and with its own
//! permissions.

use serde_json::{Map, Value};

use super::problem::Problem;
use super::visit::{SignedInUser, Visit};
use crate::error::Error;
use crate::ops;
use crate::ops::iam::action::{Action, Iam};
use crate::sign_in::choose;

/// The error of a refused action, with its id in the audit log.
pub(super) struct Refused {
    pub(super) error: Error,
    pub(super) request_id: String,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::refused(&refused.error, Some(refused.request_id))
    }
}

/// Calls an action as this user, with parameters in the form of AWS's model. The parameters in
/// `secret` are left out of the audit log.
///
/// # Errors
/// [`Refused`] if the user's policies do not allow the action, or the action fails.
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
