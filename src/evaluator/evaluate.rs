//! Evaluates one request: explicit denies first, then the policies that only limit (scope-down policies, service
//! control policies, the boundary, session policies), then the grants of the resource's and the principal's policies.
//!
//! The rules are in the IAM User Guide, "Policy evaluation logic" and "Cross-account policy evaluation logic".

use super::document::Policy;
use super::matching::{action_matches, applies_to_resource};
use super::naming::{Named, names, names_in, principal_matches};
use super::principals::Principals;
use super::request::{Decision, Policies, Principal, Request, Source, StatementRef};
use super::statement::{Effect, Statement};

/// Decides one request. The decision depends only on the arguments. Allocates nothing, unless the request has keys
/// whose values are unknown.
pub fn evaluate(request: &Request<'_>, policies: &Policies<'_>) -> Decision {
    if let Some(by) = denial(request, policies) {
        return Decision::denied(by);
    }
    if !is_within_scope(request, policies) {
        return Decision::MISSING;
    }
    let resource = policies.resource.and_then(|p| grant(p, request));
    let Some(account) = request.principal.account() else {
        // Services, identity providers and callers without credentials have no policies of their own.
        return resource.map_or(Decision::MISSING, |(_, by)| Decision::allowed(by));
    };

    let levels = policies.service_control.unwrap_or_default();
    if !levels
        .iter()
        .all(|level| level.iter().any(|p| allow(p, request).is_some()))
    {
        return Decision::MISSING;
    }
    let within = policies
        .boundary
        .is_none_or(|p| allow(p, request).is_some())
        && policies
            .session
            .passed
            .is_none_or(|set| set.iter().any(|p| allow(p, request).is_some()));
    let identity = identity_grant(request, policies);

    if account != request.resource_account {
        return match (resource, identity) {
            (Some((_, by)), Some(_)) if within => Decision::allowed(by),
            _ => Decision::MISSING,
        };
    }
    match resource {
        Some((Named::Directly, by)) => Decision::allowed(by),
        Some((Named::Role, by)) if within => Decision::allowed(by),
        Some((Named::Account, by))
            if policies.resource_is_trust && within && identity.is_some() =>
        {
            Decision::allowed(by)
        }
        _ if policies.resource_is_trust => Decision::MISSING,
        _ => identity
            .filter(|_| within)
            .map_or(Decision::MISSING, Decision::allowed),
    }
}

/// Whether each scope-down policy allows the request. Unlike session policies, they limit everything
/// that the session can do, even what a resource's policy grants: IAM User Guide, "Permissions for
/// GetScopedCredentials".
fn is_within_scope(request: &Request<'_>, policies: &Policies<'_>) -> bool {
    let mut scope_down = policies.session.scope_down.iter();
    scope_down.all(|policy| allow(policy, request).is_some())
}

/// Finds the first Deny statement in force that applies to the request.
fn denial(request: &Request<'_>, policies: &Policies<'_>) -> Option<StatementRef> {
    let bounded = policies.boundary.is_some();
    policies.in_force().find_map(|(source, policy)| {
        let index = policy.first(Effect::Deny, request, |s| denies(s, request, bounded))?;
        Some(StatementRef { source, index })
    })
}

/// Finds the statement of the principal's own policies that allows the request.
pub(super) fn identity_grant(
    request: &Request<'_>,
    policies: &Policies<'_>,
) -> Option<StatementRef> {
    // A federated user has the calling user's policies, limited by its session policies. Without
    // session policies it has no permissions.
    if matches!(request.principal, Principal::FederatedUser { .. })
        && policies.session.passed.is_none()
    {
        return None;
    }
    policies.identity.iter().enumerate().find_map(|(i, p)| {
        let index = allow(p, request)?;
        let source = Source::Identity(i);
        Some(StatementRef { source, index })
    })
}

/// Finds the first Allow statement that applies, in a policy without Principal elements.
fn allow(policy: &Policy, request: &Request<'_>) -> Option<usize> {
    policy.first(Effect::Allow, request, |s| applies_to_resource(s, request))
}

impl Policy {
    /// Finds the first statement with this effect that covers the action and passes `test`.
    fn first(
        &self,
        effect: Effect,
        request: &Request<'_>,
        test: impl Fn(&Statement) -> bool,
    ) -> Option<usize> {
        let candidates = self.index.candidates(effect, request.action);
        candidates
            .filter(|(at, sure)| {
                self.statements
                    .get(*at)
                    .is_some_and(|s| (*sure || action_matches(s, request)) && test(s))
            })
            .map(|(at, _)| at)
            .min()
    }
}

/// Finds the strongest grant in a resource or trust policy, with the statement that makes it.
pub(super) fn grant(policy: &Policy, request: &Request<'_>) -> Option<(Named, StatementRef)> {
    let mut best = None;
    for (index, statement) in policy.statements.iter().enumerate() {
        if statement.effect != Effect::Allow {
            continue;
        }
        let named = match &statement.principals {
            Principals::Implied => None,
            Principals::Are(patterns) => patterns
                .iter()
                .filter_map(|p| names_in(statement, p, &request.principal))
                .max(),
            // If an entry may name the caller, it does, because this Allow is meant for all others.
            Principals::AreNot(patterns) => patterns
                .iter()
                .all(|p| names(p, &request.principal, Effect::Deny).is_none())
                .then_some(Named::Directly),
        };
        if let Some(named) = named
            && best.is_none_or(|(strongest, _)| named > strongest)
            && action_matches(statement, request)
            && applies_to_resource(statement, request)
        {
            let source = Source::Resource;
            best = Some((named, StatementRef { source, index }));
        }
    }
    best
}

/// Whether a Deny statement applies to the request if it covers the action.
pub(super) fn denies(statement: &Statement, request: &Request<'_>, bounded: bool) -> bool {
    principal_matches(statement, request, bounded) != Some(false)
        && applies_to_resource(statement, request)
}
