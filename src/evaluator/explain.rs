//! A decision as an answer: what every statement did, and why not. Costs nothing when nobody asks:
//! [`evaluate`] keeps no trace, and this goes over the statements once more.

use serde::Serialize;

use super::condition::Condition;
use super::context::{Context, Value};
use super::evaluate::evaluate;
use super::matching::{action_matches, resource_matches};
use super::naming::principal_matches;
use super::request::{Decision, Policies, Request, Source, StatementRef};
use super::statement::{Effect, Statement};

/// A decision and everything behind it.
#[derive(Debug)]
pub struct Explanation {
    /// As [`evaluate`] decides.
    pub decision: Decision,
    /// Every statement of every policy in force, in order.
    pub statements: Vec<StatementReport>,
    /// Condition keys that a statement asks for and the request does not have, in lower case.
    pub missing_keys: Vec<String>,
}

/// What one statement did.
#[derive(Debug)]
pub struct StatementReport {
    /// Which statement it is.
    pub at: StatementRef,
    /// Its Sid.
    pub sid: Option<String>,
    /// Whether it denies.
    pub denies: bool,
    /// Whether it applies: all of the following.
    pub applies: bool,
    /// Whether it names the principal; none where no Principal is allowed.
    pub principal: Option<bool>,
    /// Whether it speaks of the action.
    pub action: bool,
    /// Whether it speaks of the resource.
    pub resource: bool,
    /// Operator by operator, key by key.
    pub conditions: Vec<ConditionReport>,
}

/// What one condition wanted, and what it got.
#[derive(Debug, Serialize)]
pub struct ConditionReport {
    /// As written: `ForAnyValue:StringLike`.
    pub operator: String,
    /// In lower case.
    pub key: String,
    /// As written.
    pub wanted: Vec<String>,
    /// None: the request does not have the key.
    pub got: Option<Vec<String>>,
    /// Whether it holds.
    pub holds: bool,
    /// What would have made it hold: "differs only in case".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_miss: Option<&'static str>,
}

/// Judges a request and says why.
pub fn explain(request: &Request<'_>, policies: &Policies<'_>) -> Explanation {
    let decision = evaluate(request, policies);
    let bounded = policies.boundary.is_some();
    let mut statements = Vec::new();
    let mut missing_keys = Vec::new();
    for (source, policy) in policies.in_force() {
        for (index, statement) in policy.statements.iter().enumerate() {
            let report = report(source, index, statement, request, bounded);
            for condition in report.conditions.iter().filter(|c| c.got.is_none()) {
                if !missing_keys.contains(&condition.key) {
                    missing_keys.push(condition.key.clone());
                }
            }
            statements.push(report);
        }
    }
    Explanation {
        decision,
        statements,
        missing_keys,
    }
}

fn report(
    source: Source,
    index: usize,
    statement: &Statement,
    request: &Request<'_>,
    bounded: bool,
) -> StatementReport {
    let conditions: Vec<_> = statement
        .conditions
        .iter()
        .map(|c| condition(c, request.context, statement.effect.applies_in_doubt()))
        .collect();
    let principal = principal_matches(statement, request, bounded);
    let (action, resource) = (
        action_matches(statement, request),
        resource_matches(statement, request),
    );
    StatementReport {
        at: StatementRef { source, index },
        sid: statement.sid.as_deref().map(str::to_owned),
        denies: statement.effect == Effect::Deny,
        applies: principal != Some(false)
            && action
            && resource
            && conditions.iter().all(|c| c.holds),
        principal,
        action,
        resource,
        conditions,
    }
}

fn condition(condition: &Condition, context: &Context<'_>, in_doubt: bool) -> ConditionReport {
    let got: Option<Vec<String>> = context.lookup(condition.key()).map(|value| match value {
        Value::One(text) => vec![text.to_string()],
        Value::Many(texts) => texts.iter().map(|t| t.to_string()).collect(),
    });
    let holds = condition.holds(context, in_doubt);
    let near_miss = match &got {
        Some(got) if !holds => near_miss(got, condition.wanted()),
        _ => None,
    };
    ConditionReport {
        operator: condition.operator().to_owned(),
        key: condition.key().to_owned(),
        wanted: condition.wanted().iter().map(|w| w.to_string()).collect(),
        got,
        holds,
        near_miss,
    }
}

fn near_miss(got: &[String], wanted: &[Box<str>]) -> Option<&'static str> {
    let pairs = || {
        got.iter()
            .flat_map(|g| wanted.iter().map(move |w| (g.as_str(), &**w)))
    };
    if pairs().any(|(g, w)| g != w && g.eq_ignore_ascii_case(w)) {
        Some("differs only in case")
    } else if pairs().any(|(g, w)| g != w && g.trim() == w.trim()) {
        Some("differs only in white space")
    } else if pairs().any(|(g, w)| g.trim_end_matches('/') == w.trim_end_matches('/') && g != w) {
        Some("differs only in a slash at the end")
    } else if pairs().any(|(_, w)| w.contains(['*', '?'])) {
        Some("a wildcard in the wanted value works only with StringLike and Arn operators")
    } else {
        None
    }
}

impl StatementReport {
    /// In one line: why it does not apply, or that it does.
    pub fn why(&self) -> String {
        if self.applies {
            return "applies".to_owned();
        }
        let mut reasons = Vec::new();
        if self.principal == Some(false) {
            reasons.push("does not name the principal".to_owned());
        }
        if !self.action {
            reasons.push("does not speak of the action".to_owned());
        }
        if !self.resource {
            reasons.push("does not speak of the resource".to_owned());
        }
        for condition in self.conditions.iter().filter(|c| !c.holds) {
            let got = condition.got.as_ref().map_or("nothing".to_owned(), |got| {
                format!("`{}`", got.join("`, `"))
            });
            let wanted = condition.wanted.join("`, `");
            let near = condition
                .near_miss
                .map(|n| format!(" ({n})"))
                .unwrap_or_default();
            reasons.push(format!(
                "{} {}: wanted `{wanted}`, got {got}{near}",
                condition.operator, condition.key
            ));
        }
        reasons.join("; ")
    }
}
