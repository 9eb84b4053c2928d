//! Decides what a principal may do at another service that asks the broker. As for a request to the broker itself, the
//! principal's own policies, boundary and session policies and the policies of its organization take part in the
//! decision.
//!
//! The broker knows the principal and the time, but not other facts, such as the address of the service's client. An
//! Allow statement that depends on an unknown fact does not apply, and a Deny statement that depends on one does.

use std::sync::Arc;

use super::facts::Facts;
use super::question::Question;
use super::simulated::WhatIf;
use super::{Denied, account_that_owns};
use crate::base::clock::Timestamp;
use crate::caller::Caller;
use crate::directory::{Dangling, Directory, Role};
use crate::evaluator::{Decision, Outcome, Possibility};

/// The condition keys, in lower case, that describe the connection of a client to the service.
const OF_CONNECTION: &[&str] = &[
    "aws:sourceip",
    "aws:securetransport",
    "aws:useragent",
    "aws:referer",
    "aws:requestedregion",
    "aws:vpcsourceip",
    "aws:sourcevpc",
    "aws:sourcevpcarn",
    "aws:sourcevpce",
    "aws:vpceaccount",
    "aws:vpceorgid",
    "aws:vpceorgpaths",
    "aws:ec2instancesourcevpc",
    "aws:ec2instancesourceprivateipv4",
];

/// A principal about whose permissions another service asks.
pub enum Judged {
    /// A user with a long-term credential, or the holder of a session.
    Caller(Caller),
    /// A role, without a particular session. The decision must hold for every session of the role without session
    /// policies.
    Role(Arc<Role>),
}

/// A request to another service, as that service describes it to the broker.
#[derive(Debug, Clone, Copy)]
pub struct RequestElsewhere<'a> {
    /// The action at the other service, as `service:Name`.
    pub action: &'a str,
    /// The ARN of the requested resource.
    pub resource: &'a str,
    /// The condition keys that the service knows, with their values.
    pub keys: &'a [(String, Vec<String>)],
}

/// A principal, with the facts that are the same for all of its requests.
pub struct Elsewhere<'a> {
    who: Who<'a>,
    directory: &'a Directory,
    now: Timestamp,
}

enum Who<'a> {
    Caller(&'a Caller, Box<Facts<'a>>),
    Role(&'a Role),
}

impl<'a> Elsewhere<'a> {
    /// Prepares the decisions about a principal in this state of the directory.
    pub fn new(judged: &'a Judged, directory: &'a Directory, now: Timestamp) -> Self {
        let who = match judged {
            Judged::Caller(caller) => {
                let mut facts = Facts::elsewhere(caller, directory, now);
                facts.unknown(OF_CONNECTION);
                Who::Caller(caller, Box::new(facts))
            }
            Judged::Role(role) => Who::Role(role),
        };
        Self {
            who,
            directory,
            now,
        }
    }

    /// Decides a request. `Ok(Ok(()))` allows the request. `Ok(Err(_))` refuses it and holds the reason.
    ///
    /// # Errors
    /// [`Dangling`] if a policy to which the principal refers is missing.
    pub fn decide(
        &self,
        asked: &RequestElsewhere<'_>,
    ) -> Result<Result<(), Box<Denied>>, Dangling> {
        match &self.who {
            Who::Caller(caller, facts) => Ok(self.of_caller(caller, (**facts).clone(), asked)),
            Who::Role(role) => self.of_role(role, asked),
        }
    }

    fn of_caller<'b>(
        &self,
        caller: &'b Caller,
        mut facts: Facts<'b>,
        asked: &RequestElsewhere<'b>,
    ) -> Result<(), Box<Denied>>
    where
        'a: 'b,
    {
        let directory: &'b Directory = self.directory;
        let owner = account_that_owns(asked.resource).unwrap_or(caller.account());
        facts.keys.set("aws:resourceaccount", owner.to_string());
        facts.resource_organization(directory.member(owner));
        facts.said_by_service(asked.keys);
        let question = Question {
            resource_account: owner,
            resource_member: directory.member(owner),
            ..Question::own(caller, directory, &facts, asked.action, asked.resource)
        };
        let decision = question.decide();
        match decision.is_allowed() {
            true => Ok(()),
            false => Err(question.denied(decision)),
        }
    }

    fn of_role(
        &self,
        role: &Role,
        asked: &RequestElsewhere<'_>,
    ) -> Result<Result<(), Box<Denied>>, Dangling> {
        let what_if = WhatIf::new(
            self.directory,
            &role.arn,
            asked.action,
            asked.resource,
            asked.keys,
            self.now,
        )?;
        Ok(match what_if.map(|request| request.possible()) {
            Some(Possibility::Always) => Ok(()),
            other => Err(refused(asked, other.and_then(depends))),
        })
    }
}

/// Names the conditions on which a decision depends, as a sentence; `None` if it depends on none.
fn depends(possibility: Possibility) -> Option<String> {
    let Possibility::Depends { when, unless } = possibility else {
        return None;
    };
    let conditions: Vec<String> = when.into_iter().chain(unless).collect();
    Some(format!(
        "The decision depends on values of the session and the connection, but this question names only the role: {}.",
        conditions.join("; ")
    ))
}

fn refused(asked: &RequestElsewhere<'_>, note: Option<String>) -> Box<Denied> {
    Box::new(Denied {
        action: asked.action.to_owned(),
        decision: Decision {
            outcome: Outcome::ImplicitlyDenied,
            by: None,
        },
        control_policy: None,
        keys: Vec::new(),
        note: note.map(Into::into),
    })
}
