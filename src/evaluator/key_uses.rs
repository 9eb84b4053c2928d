//! Finds the condition keys that a policy names, in its Condition elements and as variables.

use super::condition::Condition;
use super::context::RequestContext;
use super::document::Policy;
use super::matching::{action_matches, resource_matches};
use super::naming::principal_matches;
use super::pattern::{ArnPattern, Match};
use super::request::Request;
use super::statement::{Resources, Statement};

impl Policy {
    /// The condition keys that the policy names in Condition elements and in `${…}`, in lower case,
    /// each once, in the order of the document.
    pub fn context_keys(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        for statement in &self.statements {
            add(
                &mut keys,
                resources(statement).flat_map(ArnPattern::variables),
            );
            add(
                &mut keys,
                statement.conditions.iter().flat_map(Condition::keys),
            );
        }
        keys
    }

    /// Adds the condition keys, in lower case, that the request lacks and that decide whether a statement applies to
    /// it. If none is added, further keys in the request cannot change the result of this policy.
    pub(super) fn missing_keys<'a>(
        &'a self,
        request: &Request<'_>,
        bounded: bool,
        missing: &mut Vec<&'a str>,
    ) {
        let absent = |key: &&str| request.context.lookup(key).is_none();
        for statement in &self.statements {
            if !action_matches(statement, request)
                || principal_matches(statement, request, bounded) == Some(false)
            {
                continue;
            }
            let variables = resources(statement).flat_map(ArnPattern::variables);
            add(missing, variables.filter(absent));
            if may_match(statement, request) {
                let keys = statement.conditions.iter().flat_map(Condition::keys);
                add(missing, keys.filter(absent));
            }
        }
    }
}

/// Whether the resource matches, or might match if a variable had a value.
fn may_match(statement: &Statement, request: &Request<'_>) -> bool {
    let lacks_value = |context: &RequestContext<'_>| {
        resources(statement).any(|p| p.matches(request.resource, context) == Match::NoValue)
    };
    resource_matches(statement, request) || lacks_value(request.context)
}

fn resources(statement: &Statement) -> impl Iterator<Item = &ArnPattern> {
    let patterns = match &statement.resources {
        Resources::Implied => &[][..],
        Resources::Are(patterns) | Resources::AreNot(patterns) => patterns,
    };
    patterns.iter()
}

fn add<'a>(keys: &mut Vec<&'a str>, more: impl Iterator<Item = &'a str>) {
    for key in more {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
}
