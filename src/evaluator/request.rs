//! The input and the output of the evaluator: a request, the policies in force for it, and the
//! decision.
//!
//! This file has only types; `evaluate.rs` has the rules.

use super::context::RequestContext;
use super::document::Policy;

/// The principal that makes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal<'a> {
    /// An IAM user, with a long-term key or a session of its own.
    User {
        /// The 12-digit id of the user's account.
        account: &'a str,
        /// The user's ARN, `arn:aws:iam::ACCOUNT:user/PATH/NAME`.
        arn: &'a str,
        /// The user's unique id (`AIDA…`), if known.
        id: Option<&'a str>,
    },
    /// A session of a role: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    RoleSession {
        /// The 12-digit id of the role's account.
        account: &'a str,
        /// The role's name without its path.
        role: &'a str,
        /// The role's ARN with its path, if known. Without it, the role is identified by its name.
        role_arn: Option<&'a str>,
        /// The session's ARN, which contains the role's name without its path.
        arn: &'a str,
        /// The role's unique id (`AROA…`), if known.
        id: Option<&'a str>,
    },
    /// A session of GetFederationToken: `arn:aws:sts::ACCOUNT:federated-user/NAME`.
    FederatedUser {
        /// The 12-digit id of the account whose user made the session.
        account: &'a str,
        /// The session's ARN, which contains `NAME`, the `Name` of the call.
        arn: &'a str,
    },
    /// An identity provider, by ARN or domain. Of the entries of a Principal element, only `Federated` ones and `*` can
    /// name it.
    Federated(&'a str),
    /// A service, such as `ec2.amazonaws.com`. Of the entries of a Principal element, only `Service` ones and `*` can
    /// name it.
    Service(&'a str),
    /// Nobody: the request has no credentials. Only `*` names it, and only the policy of a resource
    /// can let it in.
    Anonymous,
}

impl<'a> Principal<'a> {
    /// The 12-digit account id, or `None` for principals outside any account.
    pub(super) fn account(&self) -> Option<&'a str> {
        match self {
            Self::User { account, .. }
            | Self::RoleSession { account, .. }
            | Self::FederatedUser { account, .. } => Some(account),
            Self::Federated(_) | Self::Service(_) | Self::Anonymous => None,
        }
    }

    /// The partition of the principal's ARN, such as `aws`; `None` for principals outside any account.
    pub(super) fn partition(&self) -> Option<&'a str> {
        match self {
            Self::User { arn, .. }
            | Self::RoleSession { arn, .. }
            | Self::FederatedUser { arn, .. } => arn.split(':').nth(1),
            Self::Federated(_) | Self::Service(_) | Self::Anonymous => None,
        }
    }
}

/// A request to decide: a principal wants to perform an action on a resource.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The caller. Principal elements are matched against it, and its account decides whether the rules for one account
    /// or those for cross-account access apply.
    pub principal: Principal<'a>,
    /// The action, as `service:Name`.
    pub action: &'a str,
    /// The resource's ARN, taken literally even if it contains `*` or `?`.
    pub resource: &'a str,
    /// The account that owns the resource, which is needed because not every ARN contains it.
    pub resource_account: &'a str,
    /// The values that the request has for condition keys.
    pub context: &'a RequestContext<'a>,
}

/// The policies in force for one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policies<'a> {
    /// The managed and inline policies of the user and its groups, or of the role.
    pub identity: &'a [&'a Policy],
    /// The resource's policy, or the role's trust policy.
    pub resource: Option<&'a Policy>,
    /// Whether `resource` is a trust policy, which must always allow the request itself.
    pub resource_is_trust: bool,
    /// The policies that limit the principal's session.
    pub session: SessionPolicies<'a>,
    /// The permissions boundary of the user or role, if it has one.
    pub boundary: Option<&'a Policy>,
    /// Service control policies from the root down, one list for each level. `None` outside an
    /// organization.
    pub service_control: Option<&'a [&'a [&'a Policy]]>,
    /// Resource control policies from the root down, one list for each level; `None` outside an
    /// organization. The default `RCPFullAWSAccess` is implied and not listed.
    pub resource_control: Option<&'a [&'a [&'a Policy]]>,
}

/// The policies that limit what a session may do. The default value limits nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionPolicies<'a> {
    /// The session policies with which the session was requested, which are combined as one
    /// document. `None` if none was passed.
    pub passed: Option<&'a [&'a Policy]>,
    /// The scope-down policies by which the session was narrowed later. Each must allow the
    /// request, even if the policy of the resource names the session itself.
    pub scope_down: &'a [&'a Policy],
}

impl<'a> Policies<'a> {
    /// Lists every policy in force, with its place in `self`.
    pub(super) fn in_force(&self) -> impl Iterator<Item = (Source, &'a Policy)> + use<'a> {
        let levels = |set: Option<&'a [&'a [&'a Policy]]>, source: fn(usize, usize) -> Source| {
            let set = set.unwrap_or_default().iter().enumerate();
            set.flat_map(move |(l, level)| {
                level
                    .iter()
                    .enumerate()
                    .map(move |(i, p)| (source(l, i), *p))
            })
        };
        let identity = self
            .identity
            .iter()
            .enumerate()
            .map(|(i, p)| (Source::Identity(i), *p));
        let session = self
            .session
            .passed
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(|(i, p)| (Source::Session(i), *p));
        let scope_down = self
            .session
            .scope_down
            .iter()
            .enumerate()
            .map(|(i, p)| (Source::ScopeDown(i), *p));
        identity
            .chain(self.resource.map(|p| (Source::Resource, p)))
            .chain(session)
            .chain(scope_down)
            .chain(self.boundary.map(|p| (Source::Boundary, p)))
            .chain(levels(self.service_control, Source::ServiceControl))
            .chain(levels(self.resource_control, Source::ResourceControl))
    }
}

/// The possible results of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All required policies allow the request, and none denies it.
    Allowed,
    /// A Deny statement applies.
    ExplicitlyDenied,
    /// No statement denies the request, but a policy that must allow it does not.
    ImplicitlyDenied,
}

/// The policy in force to which a statement belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A policy of [`Policies::identity`], by position.
    Identity(usize),
    /// The resource's policy or the role's trust policy.
    Resource,
    /// A policy of [`SessionPolicies::passed`], by position.
    Session(usize),
    /// A policy of [`SessionPolicies::scope_down`], by position.
    ScopeDown(usize),
    /// The permissions boundary of the principal.
    Boundary,
    /// A policy of [`Policies::service_control`], by level and position.
    ServiceControl(usize, usize),
    /// A policy of [`Policies::resource_control`], by level and position.
    ResourceControl(usize, usize),
}

/// A statement, by its position in the policies in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementRef {
    /// The policy that contains the statement.
    pub source: Source,
    /// The statement's position in the policy, from 0.
    pub index: usize,
}

/// The result of an evaluation, and the statement that decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request is allowed, explicitly denied or implicitly denied.
    pub outcome: Outcome,
    /// The statement that denied or allowed the request; `None` for an implicit deny.
    pub by: Option<StatementRef>,
}

impl Decision {
    /// The implicit deny: a policy that must allow the request does not.
    pub(super) const MISSING: Self = Self {
        outcome: Outcome::ImplicitlyDenied,
        by: None,
    };

    pub(super) const fn allowed(by: StatementRef) -> Self {
        Self {
            outcome: Outcome::Allowed,
            by: Some(by),
        }
    }

    pub(super) const fn denied(by: StatementRef) -> Self {
        Self {
            outcome: Outcome::ExplicitlyDenied,
            by: Some(by),
        }
    }

    /// Whether the request may proceed. Both kinds of denial return false.
    pub fn is_allowed(&self) -> bool {
        self.outcome == Outcome::Allowed
    }
}
