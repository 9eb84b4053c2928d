//! Decides whether a request can be allowed at all if some of its condition keys are not known.
//! This is for questions such as "who may assume this role", which do not say what the network
//! address or the MFA code is.

use super::condition::Condition;
use super::document::Policy;
use super::evaluate::{denies, evaluate};
use super::index::Index;
use super::matching::{action_matches, applies_to_resource};
use super::naming::principal_matches;
use super::pattern::ArnPattern;
use super::principals::Principals;
use super::request::{Policies, Request, SessionPolicies};
use super::statement::{Actions, Effect, Resources, Statement};

/// Whether a request is allowed for some or for all values of the unknown keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Possibility {
    /// The request is allowed, whatever the values are.
    Always,
    /// The decision depends on the values.
    Depends {
        /// The conditions on unknown keys under which Allow statements apply, one text for each statement. Every kind
        /// of policy that must allow the request needs a statement whose conditions hold.
        when: Vec<String>,
        /// The conditions of Deny statements, one text for each statement. The request is denied if
        /// all conditions of one statement hold.
        unless: Vec<String>,
    },
    /// The request is denied, whatever the values are.
    Never,
}

/// Decides a request if some keys are not known: those that the context lacks and for which
/// `unknown`, called with the name in lower case, is true. Other keys that the context lacks count
/// as absent.
pub fn possible(
    request: &Request<'_>,
    policies: &Policies<'_>,
    unknown: &dyn Fn(&str) -> bool,
) -> Possibility {
    let worst = Supposed::new(policies, unknown, false);
    if worst.with(|policies| evaluate(request, policies).is_allowed()) {
        return Possibility::Always;
    }
    let best = Supposed::new(policies, unknown, true);
    if !best.with(|policies| evaluate(request, policies).is_allowed()) {
        return Possibility::Never;
    }
    let bounded = policies.boundary.is_some();
    let (mut when, mut unless) = (Vec::new(), Vec::new());
    let originals = policies.in_force().map(|(_, policy)| policy);
    best.with(|best| {
        worst.with(|worst| {
            let supposed = best.in_force().zip(worst.in_force());
            for (original, ((_, best), (_, worst))) in originals.zip(supposed) {
                let allowing = best.statements.iter().map(|s| {
                    s.effect == Effect::Allow
                        && principal_matches(s, request, bounded) != Some(false)
                        && action_matches(s, request)
                        && applies_to_resource(s, request)
                });
                note(original, allowing, unknown, &mut when);
                let denying = worst.statements.iter().map(|s| {
                    s.effect == Effect::Deny
                        && action_matches(s, request)
                        && denies(s, request, bounded)
                });
                note(original, denying, unknown, &mut unless);
            }
        });
    });
    Possibility::Depends { when, unless }
}

/// Adds to `notes` the conditions on unknown keys of the statements for which `applies` is true. It adds none for a
/// policy without Principal elements of which a statement applies unconditionally, because the other statements then
/// make no difference.
fn note(
    policy: &Policy,
    applies: impl Iterator<Item = bool>,
    unknown: &dyn Fn(&str) -> bool,
    notes: &mut Vec<String>,
) {
    let mut of_policy = Vec::new();
    for (statement, _) in policy.statements.iter().zip(applies).filter(|(_, a)| *a) {
        let mut open: Vec<String> = Vec::new();
        for condition in &statement.conditions {
            if condition.keys().any(unknown) {
                open.push(condition.text());
            }
        }
        for key in resources(statement).flat_map(ArnPattern::variables) {
            if unknown(key) {
                open.push(format!("the resource matches the value of {key}"));
            }
        }
        match &statement.principals {
            _ if !open.is_empty() => {}
            Principals::Implied => return,
            // Another statement of a resource's policy may grant more than this one.
            _ => continue,
        }
        of_policy.push(open.join(" and "));
    }
    for text in of_policy {
        if !notes.contains(&text) {
            notes.push(text);
        }
    }
}

/// The policies of a request, changed so that unknown keys decide either for it or against it.
struct Supposed {
    identity: Vec<Policy>,
    resource: Option<Policy>,
    resource_is_trust: bool,
    session: Option<Vec<Policy>>,
    scope_down: Vec<Policy>,
    boundary: Option<Policy>,
    service_control: Option<Vec<Vec<Policy>>>,
    resource_control: Option<Vec<Vec<Policy>>>,
}

impl Supposed {
    fn new(policies: &Policies<'_>, unknown: &dyn Fn(&str) -> bool, in_favour: bool) -> Self {
        let one = |policy: &Policy| policy.supposing(unknown, in_favour);
        let list = |list: &[&Policy]| list.iter().map(|p| one(p)).collect::<Vec<_>>();
        let levels = |levels: Option<&[&[&Policy]]>| {
            levels.map(|levels| levels.iter().map(|level| list(level)).collect())
        };
        Self {
            identity: list(policies.identity),
            resource: policies.resource.map(one),
            resource_is_trust: policies.resource_is_trust,
            session: policies.session.passed.map(list),
            scope_down: list(policies.session.scope_down),
            boundary: policies.boundary.map(one),
            service_control: levels(policies.service_control),
            resource_control: levels(policies.resource_control),
        }
    }

    fn with<T>(&self, judge: impl FnOnce(&Policies<'_>) -> T) -> T {
        fn list(list: &[Policy]) -> Vec<&Policy> {
            list.iter().collect()
        }
        fn levels(levels: Option<&Vec<Vec<Policy>>>) -> Option<Vec<Vec<&Policy>>> {
            levels.map(|levels| levels.iter().map(|l| list(l)).collect())
        }
        fn slices<'a>(levels: Option<&'a Vec<Vec<&'a Policy>>>) -> Option<Vec<&'a [&'a Policy]>> {
            levels.map(|levels| levels.iter().map(Vec::as_slice).collect())
        }
        let identity = list(&self.identity);
        let session = self.session.as_deref().map(list);
        let scope_down = list(&self.scope_down);
        let service_control = levels(self.service_control.as_ref());
        let resource_control = levels(self.resource_control.as_ref());
        judge(&Policies {
            identity: &identity,
            resource: self.resource.as_ref(),
            resource_is_trust: self.resource_is_trust,
            session: SessionPolicies {
                passed: session.as_deref(),
                scope_down: &scope_down,
            },
            boundary: self.boundary.as_ref(),
            service_control: slices(service_control.as_ref()).as_deref(),
            resource_control: slices(resource_control.as_ref()).as_deref(),
        })
    }
}

impl Policy {
    /// The policy as it would be if every unknown key had the value that is best for the request
    /// (`in_favour`), or worst. Statements keep their positions.
    fn supposing(&self, unknown: &dyn Fn(&str) -> bool, in_favour: bool) -> Self {
        let supposed = |statement: &Statement| {
            let mut supposed = statement.clone();
            // Whether unknown keys make the statement apply, or keep it from applying.
            let applies = (statement.effect == Effect::Allow) == in_favour;
            if !supposed.suppose(unknown, applies) {
                supposed.actions = Actions::Are(Box::default());
            }
            supposed
        };
        let statements: Vec<Statement> = self.statements.iter().map(supposed).collect();
        Self {
            index: Index::new(&statements),
            statements: statements.into(),
        }
    }
}

impl Statement {
    /// Decides everything in the statement that depends on unknown keys, so that they make it apply
    /// or keep it from applying. Returns false if the statement can then apply to no request.
    fn suppose(&mut self, unknown: &dyn Fn(&str) -> bool, applies: bool) -> bool {
        let is_open = |condition: &Condition| condition.keys().any(unknown);
        if applies {
            let kept = self.conditions.iter().filter(|c| !is_open(c));
            self.conditions = kept.cloned().collect();
        } else if self.conditions.iter().any(is_open) {
            return false;
        }
        let is_open = |pattern: &ArnPattern| pattern.variables().any(unknown);
        match &mut self.resources {
            Resources::Implied => {}
            Resources::Are(patterns) if applies => {
                for pattern in patterns.iter_mut().filter(|p| is_open(p)) {
                    *pattern = ArnPattern::Any;
                }
            }
            Resources::AreNot(patterns) if !applies => {
                if patterns.iter().any(is_open) {
                    return false;
                }
            }
            Resources::Are(patterns) | Resources::AreNot(patterns) => {
                let kept = patterns.iter().filter(|p| !is_open(p));
                *patterns = kept.cloned().collect();
            }
        }
        true
    }
}

fn resources(statement: &Statement) -> impl Iterator<Item = &ArnPattern> {
    let patterns = match &statement.resources {
        Resources::Implied => &[][..],
        Resources::Are(patterns) | Resources::AreNot(patterns) => patterns,
    };
    patterns.iter()
}
