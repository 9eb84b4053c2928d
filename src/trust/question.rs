//! The input of the evaluator: a request, with all policies that apply to it.

use std::sync::Arc;

use super::denied::Denied;
use super::facts::Facts;
use crate::base::arn::AccountId;
use crate::caller::Caller;
use crate::directory::{ControlPolicy, Directory, Levels, Member};
use crate::evaluator::{
    self, Decision, Outcome, Policies, Policy, Principal, Request, RequestContext, SessionPolicies,
    Source,
};
use crate::session::policies::Compiled;

/// The facts about a bucket that decide who may access it: its owner and its policy.
pub struct OwnedBucket<'a> {
    /// The account that owns the bucket.
    pub owner: AccountId,
    /// The policy of the bucket, if it has one.
    pub policy: Option<&'a Policy>,
}

/// The verdict of a caller's policies on a request, for a service that decides together with a policy of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// A statement denies the request, or it is beyond limits that no policy of a bucket extends.
    Deny,
    /// Nothing allows the request, but a policy of the bucket may still allow it.
    NoMatch,
}

/// A request, with references to all policies that apply to it.
pub(super) struct Question<'a> {
    pub(super) principal: Principal<'a>,
    pub(super) account: AccountId,
    pub(super) identity: Vec<&'a Policy>,
    pub(super) boundary: Option<&'a Policy>,
    /// The policies that limit the caller's session.
    pub(super) session: InForce<'a>,
    pub(super) context: &'a RequestContext<'a>,
    pub(super) action: &'a str,
    pub(super) resource: &'a str,
    pub(super) resource_account: AccountId,
    /// The policy of the resource: the trust policy of a role, or the policy of a bucket.
    pub(super) trust: Option<&'a Policy>,
    /// The principal's account in its organization; `None` if the account belongs to none, and for a principal without
    /// an account of its own, such as an identity provider.
    pub(super) principal_member: Option<&'a Member>,
    /// The account of the resource in its organization; `None` if it belongs to none.
    pub(super) resource_member: Option<&'a Member>,
}

/// The policies that limit a session, with the managed ones in their present version. The default limits nothing.
#[derive(Default)]
pub(super) struct InForce<'a> {
    /// The session policies; `None` if none were passed.
    passed: Option<Vec<&'a Policy>>,
    scope_down: Vec<&'a Policy>,
}

impl<'a> InForce<'a> {
    /// Looks up the managed session policies. If one of them no longer exists, the session is denied everything,
    /// because the policy might have denied anything.
    pub(super) fn new(policies: &'a Compiled, directory: &'a Directory) -> Self {
        let managed = policies.arns.iter().map(|arn| {
            directory
                .managed_policy(arn)
                .unwrap_or_else(|| directory.closed_policy())
        });
        let inline = policies.inline.iter();
        let passed = || inline.chain(managed.map(Arc::as_ref)).collect();
        Self {
            passed: policies.was_passed().then(passed),
            scope_down: policies.scope_down.iter().collect(),
        }
    }

    /// Whether any policy limits the session.
    fn limits(&self) -> bool {
        self.passed.is_some() || !self.scope_down.is_empty()
    }

    fn as_policies(&self) -> SessionPolicies<'_> {
        SessionPolicies {
            passed: self.passed.as_deref(),
            scope_down: &self.scope_down,
        }
    }
}

impl<'a> Question<'a> {
    /// Makes the question whether the caller may do something with a resource of its own account.
    pub(super) fn own(
        caller: &'a Caller,
        directory: &'a Directory,
        facts: &'a Facts<'a>,
        action: &'a str,
        resource: &'a str,
    ) -> Self {
        let session = caller.session();
        Self {
            principal: caller.principal(),
            account: caller.account(),
            identity: caller.policies().iter().map(Arc::as_ref).collect(),
            boundary: caller.boundary(),
            session: session
                .map(|s| InForce::new(&s.policies, directory))
                .unwrap_or_default(),
            context: &facts.keys,
            action,
            resource,
            resource_account: caller.account(),
            trust: None,
            principal_member: directory
                .member(caller.account())
                .filter(|_| caller.federated().is_none()),
            resource_member: directory.member(caller.account()),
        }
    }

    /// Makes the question whether the caller may do something with a bucket or an object in it. If `caller` is `None`,
    /// the request has no credentials, and only the policy of the bucket can allow it.
    pub(super) fn on_bucket(
        caller: Option<&'a Caller>,
        directory: &'a Directory,
        facts: &'a Facts<'a>,
        action: &'a str,
        resource: &'a str,
        bucket: &OwnedBucket<'a>,
    ) -> Self {
        let owner = bucket.owner;
        let resource_member = directory.member(owner);
        match caller {
            Some(caller) => Self {
                resource_account: owner,
                trust: bucket.policy,
                resource_member,
                ..Self::own(caller, directory, facts, action, resource)
            },
            None => Self {
                principal: Principal::Anonymous,
                account: owner,
                identity: Vec::new(),
                boundary: None,
                session: InForce::default(),
                context: &facts.keys,
                action,
                resource,
                resource_account: owner,
                trust: bucket.policy,
                principal_member: None,
                resource_member,
            },
        }
    }

    /// Whether the resource is in Amazon S3, so that its policy is not a trust policy.
    fn is_in_s3(&self) -> bool {
        self.action.starts_with("s3:")
    }

    /// The service control policies that bind the principal: AWS Organizations User Guide, "Service
    /// control policies".
    fn service_control(&self) -> Option<Levels<'a>> {
        self.principal_member.and_then(Member::service_control)
    }

    /// The resource control policies that bind the resource. Of the services that support such policies, the broker
    /// decides on STS and Amazon S3: AWS Organizations User Guide, "Resource control policies".
    fn resource_control(&self) -> Option<Levels<'a>> {
        let supported = self.action.starts_with("sts:") || self.is_in_s3();
        let member = self.resource_member.filter(|_| supported);
        member.and_then(Member::resource_control)
    }

    pub(super) fn ask<T>(&self, answer: impl FnOnce(&Request<'_>, &Policies<'_>) -> T) -> T {
        let request = Request {
            principal: self.principal,
            action: self.action,
            resource: self.resource,
            resource_account: self.resource_account.as_str(),
            context: self.context,
        };
        let (service, resource) = (self.service_control(), self.resource_control());
        let (service, resource) = (
            service.as_deref().map(slices),
            resource.as_deref().map(slices),
        );
        let policies = Policies {
            identity: &self.identity,
            resource: self.trust,
            resource_is_trust: self.trust.is_some() && !self.is_in_s3(),
            session: self.session.as_policies(),
            boundary: self.boundary,
            service_control: service.as_deref(),
            resource_control: resource.as_deref(),
        };
        answer(&request, &policies)
    }

    pub(super) fn decide(&self) -> Decision {
        self.ask(evaluator::evaluate)
    }

    /// The verdict of all policies, and that of the session policies by themselves if there are any. Nothing is
    /// allowed unless both allow it. A permissions boundary and service control policies that do not allow the
    /// request deny it, as does another account's resource, so that a policy of a bucket cannot let it in.
    pub(super) fn verdicts(&self) -> (Verdict, Option<Verdict>) {
        let is_closed = || {
            self.account != self.resource_account
                || !self.is_within_boundary()
                || !self.is_within_service_control()
        };
        let all = match self.decide().outcome {
            Outcome::Allowed => Verdict::Allow,
            Outcome::ExplicitlyDenied => Verdict::Deny,
            Outcome::ImplicitlyDenied if is_closed() => Verdict::Deny,
            Outcome::ImplicitlyDenied => Verdict::NoMatch,
        };
        let session = self
            .session
            .limits()
            .then(|| match self.is_within_session_policies() {
                true => Verdict::Allow,
                false => Verdict::NoMatch,
            });
        (all, session)
    }

    /// Whether the session policies alone allow the request, and each scope-down policy alone does as well. A trust
    /// policy that names the session directly does not override them.
    pub(super) fn is_within_session_policies(&self) -> bool {
        let passed = self.session.passed.as_deref();
        passed.is_none_or(|passed| self.is_allowed_by(passed)) && self.silent_scope().is_none()
    }

    /// The number, counted from 1, of the first scope-down policy that does not allow the request; `None` if all allow
    /// it.
    fn silent_scope(&self) -> Option<usize> {
        let mut scope_down = self.session.scope_down.iter();
        let silent = scope_down.position(|policy| !self.is_allowed_by(&[policy]))?;
        Some(silent + 1)
    }

    /// Whether the permissions boundary alone allows the request. Without a boundary, this is true.
    pub(super) fn is_within_boundary(&self) -> bool {
        self.boundary
            .is_none_or(|boundary| self.is_allowed_by(&[boundary]))
    }

    /// Whether each level of service control policies allows the request.
    pub(super) fn is_within_service_control(&self) -> bool {
        self.silent_level().is_none()
    }

    /// The root, unit or account at which no service control policy allows the request; `None` if every level allows
    /// it.
    pub(super) fn silent_level(&self) -> Option<&'a str> {
        let levels = self.service_control().unwrap_or_default();
        let silent = levels.iter().position(|level| !self.is_allowed_by(level))?;
        self.principal_member?.target(silent)
    }

    /// Whether these policies would allow the request if they were the principal's only policies.
    fn is_allowed_by(&self, policies: &[&Policy]) -> bool {
        let request = Request {
            principal: self.principal,
            action: self.action,
            resource: self.resource,
            resource_account: self.account.as_str(),
            context: self.context,
        };
        let policies = Policies {
            identity: policies,
            session: SessionPolicies {
                passed: Some(policies),
                scope_down: &[],
            },
            ..Policies::default()
        };
        evaluator::evaluate(&request, &policies).is_allowed()
    }

    pub(super) fn denied(&self, decision: Decision) -> Box<Denied> {
        let silent = self
            .silent_scope()
            .filter(|_| decision.outcome == Outcome::ImplicitlyDenied);
        Box::new(Denied {
            action: self.action.to_owned(),
            decision,
            control_policy: self.control_policy(decision),
            keys: self.context.listed(),
            note: silent.map(|number| {
                format!("Scope-down policy {number} of the session does not allow the request.")
                    .into()
            }),
        })
    }

    /// The id of the service or resource control policy with the statement that denied the request; `None` if no such
    /// policy did.
    fn control_policy(&self, decision: Decision) -> Option<String> {
        let source = decision.by?.source;
        let (control, _) = self.attached(source)?;
        Some(control.id.to_string())
    }

    /// The service or resource control policy to which `source` refers, and the root, unit or account to which it is
    /// attached.
    pub(super) fn attached(&self, source: Source) -> Option<(&'a ControlPolicy, &'a str)> {
        let member = match source {
            Source::ServiceControl(..) => self.principal_member,
            Source::ResourceControl(..) => self.resource_member,
            _ => None,
        };
        member?.attached(source)
    }
}

fn slices<'l, 'a>(levels: &'l [Vec<&'a Policy>]) -> Vec<&'l [&'a Policy]> {
    levels.iter().map(Vec::as_slice).collect()
}
