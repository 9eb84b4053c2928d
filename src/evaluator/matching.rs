//! Checks whether a statement covers the action and the resource of a request.

use super::pattern::{ArnPattern, Match};
use super::request::Request;
use super::statement::{ActionPattern, Actions, Effect, Resources, Statement};

/// Whether the resource and the conditions match. Callers must check the principal and the action.
pub(super) fn applies_to_resource(statement: &Statement, request: &Request<'_>) -> bool {
    let in_doubt = statement.effect.applies_in_doubt();
    resource_matches(statement, request)
        && statement
            .conditions
            .iter()
            .all(|c| c.holds(request.context, in_doubt))
}

/// Whether the Action or NotAction element covers the action.
pub(super) fn action_matches(statement: &Statement, request: &Request<'_>) -> bool {
    match &statement.actions {
        Actions::Are(patterns) => patterns.iter().any(|p| p.matches(request)),
        Actions::AreNot(patterns) => !patterns.iter().any(|p| p.matches(request)),
    }
}

/// Whether the Resource or NotResource element covers the resource.
pub(super) fn resource_matches(statement: &Statement, request: &Request<'_>) -> bool {
    match &statement.resources {
        Resources::Implied => true,
        Resources::Are(patterns) => patterns.iter().any(|p| match matched(p, request) {
            None => statement.effect.applies_in_doubt(),
            Some(matched) => matched == Match::Yes,
        }),
        Resources::AreNot(patterns) => excluded(patterns, statement.effect, request),
    }
}

/// Whether a `NotResource` element covers the resource. A variable without a value matches nothing,
/// and AWS does not document what follows: a Deny then applies and an Allow does not.
fn excluded(patterns: &[ArnPattern], effect: Effect, request: &Request<'_>) -> bool {
    let mut doubt = false;
    for pattern in patterns {
        match matched(pattern, request) {
            Some(Match::Yes) => return false,
            Some(Match::No) => {}
            Some(Match::NoValue) | None => doubt = true,
        }
    }
    !doubt || effect.applies_in_doubt()
}

/// Compares a pattern with the resource. `None` if that depends on a key whose value is not known
/// here.
fn matched(pattern: &ArnPattern, request: &Request<'_>) -> Option<Match> {
    let open = |key: &str| request.context.is_unknown(key);
    if request.context.has_unknown() && pattern.variables().any(open) {
        return None;
    }
    Some(pattern.matches(request.resource, request.context))
}

impl ActionPattern {
    fn matches(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Named { service, name, .. } => {
                request.action.split_once(':').is_some_and(|(s, n)| {
                    service.matches_ignore_case(s, request.context) == Match::Yes
                        && name.matches_ignore_case(n, request.context) == Match::Yes
                })
            }
        }
    }
}
