//! Decides what a principal may do at another service that asks the broker. As for a request to the broker itself, the
//! principal's own policies, boundary and session policies and the policies of its organization take part in the
//! decision.
//!
//! The broker knows the principal and the time. It cannot know some other facts, such as the address of the service's
//! client. An Allow statement that depends on such a fact does not apply, and a Deny statement that depends on one
//! does.
//!
//! A gateway to an object store decides together with policies of its own on buckets, so it gets the decision of
//! the session policies as well, and learns what a policy of its own cannot override ([`Verdict`]).

use std::sync::Arc;

use super::facts::Facts;
use super::question::{Question, Verdict};
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

/// The keys of [`OF_CONNECTION`], and the other condition keys of a request that a gateway to an object store may leave
/// out of its question: the tags of buckets and objects, and the headers and parameters of Amazon S3 that it does not
/// pass on.
const NOT_TOLD: &[&str] = &[
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
    "aws:resourcetag/",
    "aws:requesttag/",
    "aws:tagkeys",
    "s3:authtype",
    "s3:buckettag/",
    "s3:existingobjecttag/",
    "s3:if-match",
    "s3:if-none-match",
    "s3:locationconstraint",
    "s3:object-lock-legal-hold",
    "s3:object-lock-mode",
    "s3:object-lock-remaining-retention-days",
    "s3:object-lock-retain-until-date",
    "s3:objectcreationoperation",
    "s3:requestobjecttag/",
    "s3:requestobjecttagkeys",
    "s3:signatureage",
    "s3:signatureversion",
    "s3:tlsversion",
    "s3:x-amz-content-sha256",
    "s3:x-amz-copy-source",
    "s3:x-amz-grant-full-control",
    "s3:x-amz-grant-read",
    "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write",
    "s3:x-amz-grant-write-acp",
    "s3:x-amz-metadata-directive",
    "s3:x-amz-object-ownership",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-server-side-encryption-customer-algorithm",
    "s3:x-amz-storage-class",
    "s3:x-amz-website-redirect-location",
];

/// A principal about whom another service asks.
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

    /// A caller whose requests go through a gateway to an object store.
    pub fn through_gateway(caller: &'a Caller, directory: &'a Directory, now: Timestamp) -> Self {
        let mut facts = Facts::elsewhere(caller, directory, now);
        facts.unknown(NOT_TOLD);
        Self {
            who: Who::Caller(caller, Box::new(facts)),
            directory,
            now,
        }
    }

    /// The two verdicts on a request through a gateway: that of all policies of the caller, and that of its session
    /// policies by themselves, if it has any. Only a caller makes such requests; a role is refused.
    pub fn verdicts(&self, asked: &RequestElsewhere<'_>) -> (Verdict, Option<Verdict>) {
        match &self.who {
            Who::Caller(caller, facts) => {
                let facts = (**facts).clone();
                self.question(caller, facts, asked, |question| question.verdicts())
            }
            Who::Role(_) => (Verdict::Deny, None),
        }
    }

    /// Decides a request. `Ok(Ok(()))` allows it; `Ok(Err(_))` refuses it and has the reason.
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
        facts: Facts<'b>,
        asked: &RequestElsewhere<'b>,
    ) -> Result<(), Box<Denied>>
    where
        'a: 'b,
    {
        self.question(caller, facts, asked, |question| {
            let decision = question.decide();
            match decision.is_allowed() {
                true => Ok(()),
                false => Err(question.denied(decision)),
            }
        })
    }

    fn question<'b, T>(
        &self,
        caller: &'b Caller,
        mut facts: Facts<'b>,
        asked: &RequestElsewhere<'b>,
        answer: impl FnOnce(&Question<'_>) -> T,
    ) -> T
    where
        'a: 'b,
    {
        let directory: &'b Directory = self.directory;
        let owner = account_that_owns(asked.resource).unwrap_or(caller.account());
        match asked.action.starts_with("s3:") {
            true => facts.of_bucket(owner, directory.member(owner)),
            false => {
                facts.keys.set("aws:resourceaccount", owner.to_string());
                facts.resource_organization(directory.member(owner));
            }
        }
        facts.said_by_service(asked.keys);
        let question = Question {
            resource_account: owner,
            resource_member: directory.member(owner),
            ..Question::own(caller, directory, &facts, asked.action, asked.resource)
        };
        answer(&question)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::keys::{self, Source};

    #[test]
    fn az_08_what_a_gateway_does_not_tell_is_open() {
        // What the gateway tells of every request that has it, and what the broker itself knows.
        let known = [
            "s3:delimiter",
            "s3:max-keys",
            "s3:prefix",
            "s3:resourceaccount",
            "s3:versionid",
            "s3:x-amz-acl",
        ];
        let of_s3 = keys::all().filter(|key| key.source == Source::S3);
        for key in of_s3.map(|key| key.name.to_lowercase()) {
            let lists = [
                known.contains(&key.as_str()),
                NOT_TOLD.contains(&key.as_str()),
            ];
            assert_eq!(lists.iter().filter(|has| **has).count(), 1, "{key}");
        }
        assert!(OF_CONNECTION.iter().all(|key| NOT_TOLD.contains(key)));
    }
}
