//! The question and the answer: a request, the policies in force for it, and the decision.
//!
//! Only types: how they are judged is in `evaluate.rs`.

use super::context::Context;
use super::document::Policy;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal<'a> {
    /// An IAM user, by ARN.
    User {
        /// Twelve digits.
        account: &'a str,
        /// The user's ARN.
        arn: &'a str,
        /// The user's unique id (`AIDA…`), where it is known.
        id: Option<&'a str>,
    },
    /// A session of a role: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    RoleSession {
        /// Twelve digits.
        account: &'a str,
        /// The role's name without its path.
        role: &'a str,
        /// The role's ARN with its path. Where it is not known, the name says which role it is.
        role_arn: Option<&'a str>,
        /// The session's ARN.
        arn: &'a str,
        /// The role's unique id (`AROA…`), where it is known.
        id: Option<&'a str>,
    },
    /// A session of GetFederationToken: `arn:aws:sts::ACCOUNT:federated-user/NAME`.
    FederatedUser {
        /// Twelve digits.
        account: &'a str,
        /// The session's ARN.
        arn: &'a str,
    },
    /// An identity provider, by ARN or domain; only `Federated` entries name it.
    Federated(&'a str),
    /// A service; only `Service` entries name it.
    Service(&'a str),
}

impl<'a> Principal<'a> {
    /// Twelve digits; none for those who belong to no account.
    pub(super) fn account(&self) -> Option<&'a str> {
        match self {
            Self::User { account, .. }
            | Self::RoleSession { account, .. }
            | Self::FederatedUser { account, .. } => Some(account),
            Self::Federated(_) | Self::Service(_) => None,
        }
    }

    /// The partition of its ARN: `aws`, `aws-us-gov`, `aws-cn`.
    pub(super) fn partition(&self) -> Option<&'a str> {
        match self {
            Self::User { arn, .. }
            | Self::RoleSession { arn, .. }
            | Self::FederatedUser { arn, .. } => arn.split(':').nth(1),
            Self::Federated(_) | Self::Service(_) => None,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub principal: Principal<'a>,
    /// `service:Name`.
    pub action: &'a str,
    /// A literal name, even if it holds `*` or `?`.
    pub resource: &'a str,
    /// The account that owns the resource (not every ARN names it).
    pub resource_account: &'a str,
    /// What is known of each condition key.
    pub context: &'a Context<'a>,
}

/// The policies in force for one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policies<'a> {
    /// Of the user and its groups, or of the role; managed and inline.
    pub identity: &'a [&'a Policy],
    /// The resource's policy, or the role's trust policy.
    pub resource: Option<&'a Policy>,
    /// Whether `resource` is a trust policy, which must always allow.
    pub resource_is_trust: bool,
    /// Session policies, which act as one document; `None`: none was passed.
    pub session: Option<&'a [&'a Policy]>,
    /// The permissions boundary.
    pub boundary: Option<&'a Policy>,
    /// Service control policies from the root down, a list a level; `None`: not in an organization.
    pub service_control: Option<&'a [&'a [&'a Policy]]>,
    /// Resource control policies, likewise; what `RCPFullAWSAccess` allows is not spelled out.
    pub resource_control: Option<&'a [&'a [&'a Policy]]>,
}

impl<'a> Policies<'a> {
    /// Every policy in force with its place.
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
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(|(i, p)| (Source::Session(i), *p));
        identity
            .chain(self.resource.map(|p| (Source::Resource, p)))
            .chain(session)
            .chain(self.boundary.map(|p| (Source::Boundary, p)))
            .chain(levels(self.service_control, Source::ServiceControl))
            .chain(levels(self.resource_control, Source::ResourceControl))
    }
}

/// The three answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something allows and nothing denies.
    Allowed,
    /// A Deny statement applies.
    ExplicitlyDenied,
    /// Nothing denies, and something that is needed is missing.
    ImplicitlyDenied,
}

/// Which of the policies in force a statement belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `Policies::identity`, by position.
    Identity(usize),
    /// The resource's or the trust policy.
    Resource,
    /// `Policies::session`, by position.
    Session(usize),
    /// The permissions boundary.
    Boundary,
    /// `Policies::service_control`, by level and position.
    ServiceControl(usize, usize),
    /// `Policies::resource_control`, by level and position.
    ResourceControl(usize, usize),
}

/// A statement, by its place in the policies in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementRef {
    /// The policy.
    pub source: Source,
    /// The statement's position in it, from 0.
    pub index: usize,
}

/// The answer and the statement that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Allowed or not, and how.
    pub outcome: Outcome,
    /// The statement that denied, or that granted; none where something was missing.
    pub by: Option<StatementRef>,
}

impl Decision {
    /// Something that is needed does not allow.
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

    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        self.outcome == Outcome::Allowed
    }
}
