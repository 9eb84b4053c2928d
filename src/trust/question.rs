//! A question to the evaluator: a request with the policies that apply to it.

use std::sync::Arc;

use super::denied::Denied;
use super::facts::Facts;
use crate::base::arn::AccountId;
use crate::caller::Caller;
use crate::directory::Directory;
use crate::evaluator::{self, Decision, Policies, Policy, Principal, Request, RequestContext};

/// A request, with references to all policies that apply to it.
pub(super) struct Question<'a> {
    pub(super) principal: Principal<'a>,
    pub(super) account: AccountId,
    pub(super) identity: Vec<&'a Policy>,
    pub(super) boundary: Option<&'a Policy>,
    /// The session policies of the caller's session; `None` if none were passed.
    pub(super) session: Option<Vec<&'a Policy>>,
    pub(super) context: &'a RequestContext<'a>,
    pub(super) action: &'a str,
    pub(super) resource: &'a str,
    pub(super) resource_account: AccountId,
    pub(super) trust: Option<&'a Policy>,
}

impl<'a> Question<'a> {
    /// A question about a resource of the caller's own account.
    pub(super) fn own(
        caller: &'a Caller,
        directory: &'a Directory,
        facts: &'a Facts<'a>,
        action: &'a str,
        resource: &'a str,
    ) -> Self {
        let cut = caller.session().filter(|s| s.is_restricted());
        Self {
            principal: caller.principal(),
            account: caller.account(),
            identity: caller.policies().iter().map(Arc::as_ref).collect(),
            boundary: caller.boundary(),
            session: cut
                .map(|s| session_policies(s.policy.as_ref(), &s.limits.policy_arns, directory)),
            context: &facts.keys,
            action,
            resource,
            resource_account: caller.account(),
            trust: None,
        }
    }

    pub(super) fn ask<T>(&self, answer: impl FnOnce(&Request<'_>, &Policies<'_>) -> T) -> T {
        let request = Request {
            principal: self.principal,
            action: self.action,
            resource: self.resource,
            resource_account: self.resource_account.as_str(),
            context: self.context,
        };
        let policies = Policies {
            identity: &self.identity,
            resource: self.trust,
            resource_is_trust: self.trust.is_some(),
            session: self.session.as_deref(),
            boundary: self.boundary,
            ..Policies::default()
        };
        answer(&request, &policies)
    }

    pub(super) fn decide(&self) -> Decision {
        self.ask(evaluator::evaluate)
    }

    /// Whether the session policies by themselves allow the request. A trust policy that names the
    /// session directly does not override them.
    pub(super) fn is_within_session_policies(&self) -> bool {
        let Some(session) = &self.session else {
            return true;
        };
        let request = Request {
            principal: self.principal,
            action: self.action,
            resource: self.resource,
            resource_account: self.account.as_str(),
            context: self.context,
        };
        let policies = Policies {
            identity: session,
            session: Some(session),
            ..Policies::default()
        };
        evaluator::evaluate(&request, &policies).is_allowed()
    }

    pub(super) fn denied(&self, decision: Decision) -> Box<Denied> {
        Box::new(Denied {
            action: self.action.to_owned(),
            decision,
            keys: self.context.listed(),
            note: None,
        })
    }
}

/// The policies that limit a session. A managed policy that no longer exists may have denied
/// anything, so a session that names it is denied everything.
pub(super) fn session_policies<'a>(
    inline: Option<&'a Policy>,
    arns: &[String],
    directory: &'a Directory,
) -> Vec<&'a Policy> {
    let managed = arns.iter().map(|arn| {
        directory
            .managed_policy(arn)
            .unwrap_or_else(|| directory.closed_policy())
    });
    inline.into_iter().chain(managed.map(Arc::as_ref)).collect()
}
