//! Simulates a request. The result is the decision of [`evaluate`], the statements that made it,
//! what each kind of policy says by itself, and which condition keys are missing.
//!
//! A decision stops at the first statement that settles it and allocates nothing. A simulation goes
//! through the policies once more, so it costs more and is only for showing.

use super::document::Policy;
use super::evaluate::{denies, evaluate, grant, identity_grant};
use super::matching::{action_matches, applies_to_resource};
use super::naming::{Named, principal_matches};
use super::request::{Outcome, Policies, Request, Source, StatementRef};
use super::statement::{Effect, Statement};

/// The decision about a request, and the reasons for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulation {
    /// The decision, as [`evaluate`] makes it.
    pub outcome: Outcome,
    /// The statements that made the decision. For an explicit deny, these are the statements that deny, except those in
    /// policies of organizations. For an allowed request, these are the statements of identity and resource policies
    /// that allow it. For an implicit deny, there are none.
    pub matched: Vec<StatementRef>,
    /// The condition keys, in lower case, that the request lacks although a relevant statement
    /// depends on them. Keys that only policies of organizations use are left out, because AWS does
    /// not show those policies in an account.
    pub missing_keys: Vec<String>,
    /// The decision of the identity policies by themselves.
    pub identity: Outcome,
    /// The decision of the resource's policy by itself; `None` if there is none.
    pub resource: Option<Outcome>,
    /// Whether the permissions boundary allows the request; `None` if there is none.
    pub boundary: Option<bool>,
    /// Whether the policies of the organization allow the request; `None` outside an organization.
    pub organization: Option<bool>,
}

/// Decides a request, and collects the reasons for the decision.
pub fn simulate(request: &Request<'_>, policies: &Policies<'_>) -> Simulation {
    let outcome = evaluate(request, policies).outcome;
    let bounded = policies.boundary.is_some();
    let matched = match outcome {
        Outcome::ExplicitlyDenied => denying(request, policies),
        Outcome::Allowed => allowing(request, policies),
        Outcome::ImplicitlyDenied => Vec::new(),
    };
    let mut missing_keys = Vec::new();
    for (source, policy) in policies.in_force() {
        if !is_of_organization(source) {
            policy.missing_keys(request, bounded, &mut missing_keys);
        }
    }
    let says = |policies: &[&Policy], allowed: bool| {
        let denied = policies.iter().any(|p| {
            !applying(p, Effect::Deny, request, |s| denies(s, request, bounded)).is_empty()
        });
        match (denied, allowed) {
            (true, _) => Outcome::ExplicitlyDenied,
            (false, true) => Outcome::Allowed,
            (false, false) => Outcome::ImplicitlyDenied,
        }
    };
    Simulation {
        outcome,
        matched,
        missing_keys: missing_keys.into_iter().map(str::to_owned).collect(),
        identity: says(
            policies.identity,
            identity_grant(request, policies).is_some(),
        ),
        resource: policies
            .resource
            .map(|policy| says(&[policy], grant(policy, request).is_some())),
        boundary: policies
            .boundary
            .map(|policy| says(&[policy], allows(policy, request)) == Outcome::Allowed),
        organization: organization(request, policies),
    }
}

fn is_of_organization(source: Source) -> bool {
    matches!(
        source,
        Source::ServiceControl(..) | Source::ResourceControl(..)
    )
}

/// Whether the organization's policies allow the request; `None` if there are none.
fn organization(request: &Request<'_>, policies: &Policies<'_>) -> Option<bool> {
    if policies.service_control.is_none() && policies.resource_control.is_none() {
        return None;
    }
    let bounded = policies.boundary.is_some();
    let denied = policies
        .in_force()
        .filter(|(source, _)| is_of_organization(*source))
        .any(|(_, p)| {
            !applying(p, Effect::Deny, request, |s| denies(s, request, bounded)).is_empty()
        });
    let levels = policies.service_control.unwrap_or_default();
    // Service control policies limit only principals that belong to an account.
    let allowed = request.principal.account().is_none()
        || levels
            .iter()
            .all(|level| level.iter().any(|p| allows(p, request)));
    Some(allowed && !denied)
}

/// Whether a policy without Principal elements has an Allow statement that applies to the request.
fn allows(policy: &Policy, request: &Request<'_>) -> bool {
    !applying(policy, Effect::Allow, request, |s| {
        applies_to_resource(s, request)
    })
    .is_empty()
}

/// All statements that deny the request, except those of organizations.
fn denying(request: &Request<'_>, policies: &Policies<'_>) -> Vec<StatementRef> {
    let bounded = policies.boundary.is_some();
    let in_force = policies
        .in_force()
        .filter(|(source, _)| !is_of_organization(*source));
    in_force
        .flat_map(|(source, policy)| {
            let at = applying(policy, Effect::Deny, request, |s| {
                denies(s, request, bounded)
            });
            at.into_iter()
                .map(move |index| StatementRef { source, index })
        })
        .collect()
}

/// All statements that allow the request, in the policies that can grant.
fn allowing(request: &Request<'_>, policies: &Policies<'_>) -> Vec<StatementRef> {
    let mut matched = Vec::new();
    let identity = match identity_grant(request, policies) {
        Some(_) => policies.identity,
        None => &[],
    };
    for (i, policy) in identity.iter().enumerate() {
        let at = applying(policy, Effect::Allow, request, |s| {
            applies_to_resource(s, request)
        });
        let source = Source::Identity(i);
        matched.extend(at.into_iter().map(|index| StatementRef { source, index }));
    }
    let Some(policy) = policies.resource else {
        return matched;
    };
    // In the principal's own account, a resource policy that only names the account grants nothing.
    let is_own = request.principal.account() == Some(request.resource_account);
    let named_account_only = is_own
        && !policies.resource_is_trust
        && matches!(grant(policy, request), Some((Named::Account, _)));
    if !named_account_only {
        let at = applying(policy, Effect::Allow, request, |s| {
            principal_matches(s, request, false) == Some(true) && applies_to_resource(s, request)
        });
        let source = Source::Resource;
        matched.extend(at.into_iter().map(|index| StatementRef { source, index }));
    }
    matched
}

/// The positions of the statements with this effect that cover the action and pass `test`, in
/// order.
fn applying(
    policy: &Policy,
    effect: Effect,
    request: &Request<'_>,
    test: impl Fn(&Statement) -> bool,
) -> Vec<usize> {
    let candidates = policy.index.candidates(effect, request.action);
    let mut found: Vec<usize> = candidates
        .filter(|(at, sure)| {
            policy
                .statements
                .get(*at)
                .is_some_and(|s| (*sure || action_matches(s, request)) && test(s))
        })
        .map(|(at, _)| at)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
