//! Explicit deny, boundaries, session policies, allow. Knows no role and no store.
//!
//! IAM User Guide, "Policy evaluation logic" and "Cross-account policy evaluation logic".

use super::context::Context;
use super::document::{ActionPattern, Actions, Effect, Policy, PrincipalPattern, Principals, Resources, Statement};
use super::pattern::Match;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal<'a> {
    /// An IAM user, by ARN.
    User {
        /// Twelve digits.
        account: &'a str,
        /// The user's ARN.
        arn: &'a str,
    },
    /// A session of a role: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    RoleSession {
        /// Twelve digits.
        account: &'a str,
        /// The role's name without its path.
        role: &'a str,
        /// The session's ARN.
        arn: &'a str,
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
    fn account(&self) -> Option<&'a str> {
        match self {
            Self::User { account, .. } | Self::RoleSession { account, .. } | Self::FederatedUser { account, .. } => {
                Some(account)
            }
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

/// Which of the policies in force a statement stands in.
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
    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        self.outcome == Outcome::Allowed
    }
}

/// How a resource policy names the principal it allows, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    /// By its account alone: that account's own policies must allow too.
    Account,
    /// By its role: within boundary and session policies.
    Role,
    /// Itself, or everybody: nothing limits the grant.
    Directly,
}

/// Judges one request. Allocates nothing and has no other input than its arguments.
pub fn evaluate(request: &Request<'_>, policies: &Policies<'_>) -> Decision {
    let bounded = policies.boundary.is_some();
    let denied = |source: Source, policy: &Policy| {
        let index = policy.first(Effect::Deny, request, |s| denies(s, request, bounded));
        index.map(|index| Decision { outcome: Outcome::ExplicitlyDenied, by: Some(StatementRef { source, index }) })
    };
    let missing = Decision { outcome: Outcome::ImplicitlyDenied, by: None };

    if let Some(denial) = in_force(policies).find_map(|(source, policy)| denied(source, policy)) {
        return denial;
    }

    let resource = policies.resource.and_then(|p| grant(p, request));
    let allowed = |by| Decision { outcome: Outcome::Allowed, by: Some(by) };
    let Some(account) = request.principal.account() else {
        // Services and identity providers have no policies of their own.
        return resource.map_or(missing, |(_, index)| allowed(StatementRef { source: Source::Resource, index }));
    };

    let levels = policies.service_control.unwrap_or_default();
    if !levels.iter().all(|level| level.iter().any(|p| allow(p, request).is_some())) {
        return missing;
    }
    let within = policies.boundary.is_none_or(|p| allow(p, request).is_some())
        && policies.session.is_none_or(|set| set.iter().any(|p| allow(p, request).is_some()));
    let identity = match request.principal {
        // A federated user has the calling user's policies, cut by its session policies; with none
        // passed it has nothing.
        Principal::FederatedUser { .. } if policies.session.is_none() => None,
        _ => policies.identity.iter().enumerate().find_map(|(i, p)| {
            let index = allow(p, request)?;
            Some(StatementRef { source: Source::Identity(i), index })
        }),
    };
    let by_resource = resource.map(|(named, index)| (named, StatementRef { source: Source::Resource, index }));

    if account != request.resource_account {
        return match (by_resource, identity) {
            (Some((_, by)), Some(_)) if within => allowed(by),
            _ => missing,
        };
    }
    match by_resource {
        Some((Named::Directly, by)) => allowed(by),
        Some((Named::Role, by)) if within => allowed(by),
        Some((Named::Account, by)) if policies.resource_is_trust && within && identity.is_some() => allowed(by),
        _ if policies.resource_is_trust => missing,
        _ => identity.filter(|_| within).map_or(missing, allowed),
    }
}

/// Every policy in force with its place.
pub(super) fn in_force<'a>(policies: &Policies<'a>) -> impl Iterator<Item = (Source, &'a Policy)> {
    let levels = |set: Option<&'a [&'a [&'a Policy]]>, source: fn(usize, usize) -> Source| {
        let set = set.unwrap_or_default().iter().enumerate();
        set.flat_map(move |(l, level)| level.iter().enumerate().map(move |(i, p)| (source(l, i), *p)))
    };
    let identity = policies.identity.iter().enumerate().map(|(i, p)| (Source::Identity(i), *p));
    let session = policies.session.unwrap_or_default().iter().enumerate().map(|(i, p)| (Source::Session(i), *p));
    identity
        .chain(policies.resource.map(|p| (Source::Resource, p)))
        .chain(session)
        .chain(policies.boundary.map(|p| (Source::Boundary, p)))
        .chain(levels(policies.service_control, Source::ServiceControl))
        .chain(levels(policies.resource_control, Source::ResourceControl))
}

/// The first statement of a policy without principals that allows.
fn allow(policy: &Policy, request: &Request<'_>) -> Option<usize> {
    policy.first(Effect::Allow, request, |s| applies_to_resource(s, request))
}

impl Policy {
    /// The first statement of this effect that speaks of the action and passes `test`.
    fn first(&self, effect: Effect, request: &Request<'_>, test: impl Fn(&Statement) -> bool) -> Option<usize> {
        let candidates = self.index.candidates(effect, request.action);
        candidates
            .filter(|(at, sure)| {
                self.statements.get(*at).is_some_and(|s| (*sure || action_matches(s, request)) && test(s))
            })
            .map(|(at, _)| at)
            .min()
    }
}

/// The strongest grant of a resource or trust policy, and its statement.
fn grant(policy: &Policy, request: &Request<'_>) -> Option<(Named, usize)> {
    let mut best = None;
    for (index, statement) in policy.statements.iter().enumerate() {
        if statement.effect != Effect::Allow {
            continue;
        }
        let named = match &statement.principals {
            Principals::Implied => None,
            Principals::Are(patterns) => patterns.iter().filter_map(|p| names(p, &request.principal)).max(),
            Principals::AreNot(patterns) => {
                patterns.iter().all(|p| names(p, &request.principal).is_none()).then_some(Named::Directly)
            }
        };
        if let Some(named) = named
            && best.is_none_or(|(strongest, _)| named > strongest)
            && action_matches(statement, request)
            && applies_to_resource(statement, request)
        {
            best = Some((named, index));
        }
    }
    best
}

/// Whether a Deny statement hits, its action apart.
fn denies(statement: &Statement, request: &Request<'_>, bounded: bool) -> bool {
    principal_matches(statement, request, bounded) != Some(false) && applies_to_resource(statement, request)
}

/// Whether the Principal element speaks of the caller; none where it may not stand.
pub(super) fn principal_matches(statement: &Statement, request: &Request<'_>, bounded: bool) -> Option<bool> {
    match (&statement.principals, statement.effect) {
        (Principals::Implied, _) => None,
        (Principals::Are(patterns), _) => Some(patterns.iter().any(|p| names(p, &request.principal).is_some())),
        (Principals::AreNot(patterns), Effect::Allow) => {
            Some(patterns.iter().all(|p| names(p, &request.principal).is_none()))
        }
        // "NotPrincipal" with "Deny" always hits a principal that has a permissions boundary; else
        // only a principal that is named in each of its forms (account, role, session) escapes.
        (Principals::AreNot(patterns), Effect::Deny) => Some(bounded || !names_fully(patterns, &request.principal)),
    }
}

fn names(pattern: &PrincipalPattern, principal: &Principal<'_>) -> Option<Named> {
    match (pattern, principal) {
        (PrincipalPattern::Any, _) => Some(Named::Directly),
        (PrincipalPattern::Federated(wanted), Principal::Federated(got)) => {
            (**wanted == **got).then_some(Named::Directly)
        }
        (PrincipalPattern::Service(wanted), Principal::Service(got)) => (**wanted == **got).then_some(Named::Directly),
        (PrincipalPattern::Account(wanted), _) => (Some(&**wanted) == principal.account()).then_some(Named::Account),
        (PrincipalPattern::Role { account, name }, Principal::RoleSession { account: got, role, .. }) => {
            (**account == **got && **name == **role).then_some(Named::Role)
        }
        (
            PrincipalPattern::Exact(wanted),
            Principal::User { arn, .. } | Principal::RoleSession { arn, .. } | Principal::FederatedUser { arn, .. },
        ) => (**wanted == **arn).then_some(Named::Directly),
        _ => None,
    }
}

fn names_fully(patterns: &[PrincipalPattern], principal: &Principal<'_>) -> bool {
    let named = |wanted| patterns.iter().any(|p| names(p, principal) == Some(wanted));
    match principal {
        Principal::Federated(_) | Principal::Service(_) => named(Named::Directly),
        _ if patterns.contains(&PrincipalPattern::Any) => true,
        Principal::RoleSession { .. } => named(Named::Directly) && named(Named::Role) && named(Named::Account),
        Principal::User { .. } | Principal::FederatedUser { .. } => named(Named::Directly) && named(Named::Account),
    }
}

/// Resource and conditions; principal and action are the callers' business.
fn applies_to_resource(statement: &Statement, request: &Request<'_>) -> bool {
    resource_matches(statement, request)
        && statement.conditions.iter().all(|c| c.holds(request.context, statement.effect))
}

pub(super) fn action_matches(statement: &Statement, request: &Request<'_>) -> bool {
    match &statement.actions {
        Actions::Are(patterns) => patterns.iter().any(|p| p.matches(request)),
        Actions::AreNot(patterns) => !patterns.iter().any(|p| p.matches(request)),
    }
}

pub(super) fn resource_matches(statement: &Statement, request: &Request<'_>) -> bool {
    match &statement.resources {
        Resources::Implied => true,
        Resources::Are(patterns) => patterns.iter().any(|p| p.matches(request.resource, request.context) == Match::Yes),
        Resources::AreNot(patterns) => excluded(patterns, statement.effect, request),
    }
}

/// `NotResource`: a variable without a value names nothing, and what that leaves is not
/// documented: a Deny then applies and an Allow does not.
fn excluded(patterns: &[super::pattern::ArnPattern], effect: Effect, request: &Request<'_>) -> bool {
    let mut doubt = false;
    for pattern in patterns {
        match pattern.matches(request.resource, request.context) {
            Match::Yes => return false,
            Match::No => {}
            Match::NoValue => doubt = true,
        }
    }
    !doubt || effect == Effect::Deny
}

impl ActionPattern {
    fn matches(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Named { service, name, .. } => request.action.split_once(':').is_some_and(|(s, n)| {
                service.matches_ignore_case(s, request.context) == Match::Yes
                    && name.matches_ignore_case(n, request.context) == Match::Yes
            }),
        }
    }
}
