//! Explains a decision: what every statement did, and why a statement did not apply. [`evaluate`] keeps no trace, so
//! that decisions cost nothing extra; an explanation goes through the statements once more.

use serde::Serialize;

use super::condition::Condition;
use super::context::{RequestContext, Value};
use super::evaluate::evaluate;
use super::matching::{action_matches, resource_matches};
use super::naming::principal_matches;
use super::request::{Decision, Policies, Request, Source, StatementRef};
use super::statement::{Effect, Statement};

/// A decision, and a report about every statement that was considered.
#[derive(Debug)]
pub struct Explanation {
    /// The decision, as [`evaluate`] makes it.
    pub decision: Decision,
    /// One report for every statement of every policy in force, in order.
    pub statements: Vec<StatementReport>,
    /// The keys of conditions, in lower case, for which the request has no value.
    pub missing_keys: Vec<String>,
}

/// How one statement compares with the request, part by part.
#[derive(Debug)]
pub struct StatementReport {
    /// The policy and the statement's position in it.
    pub at: StatementRef,
    /// The statement's Sid; `None` if the policy gives it none.
    pub sid: Option<String>,
    /// Whether the statement's Effect is Deny.
    pub denies: bool,
    /// Whether the statement applies, which requires that all of the following match.
    pub applies: bool,
    /// Whether the statement names the principal; `None` in a policy without Principal elements.
    pub principal: Option<bool>,
    /// Whether Action or NotAction covers the requested action.
    pub action: bool,
    /// Whether Resource or NotResource covers the requested resource.
    pub resource: bool,
    /// One report for each condition, that is for each operator and key.
    pub conditions: Vec<ConditionReport>,
}

/// How one condition compares with the request.
#[derive(Debug, Serialize)]
pub struct ConditionReport {
    /// The operator as the policy spells it, such as `ForAnyValue:StringLike`.
    pub operator: String,
    /// The condition key, in lower case.
    pub key: String,
    /// The wanted values as the policy spells them.
    pub wanted: Vec<String>,
    /// The request's values, or `None` if the request does not have the key.
    pub got: Option<Vec<String>>,
    /// Whether the condition holds. A condition whose meaning AWS leaves open holds in a Deny and
    /// fails in an Allow.
    pub holds: bool,
    /// A hint on how the value nearly matched, such as "differs only in case".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_miss: Option<&'static str>,
}

/// Decides a request, and reports what each statement did.
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

fn condition(
    condition: &Condition,
    context: &RequestContext<'_>,
    in_doubt: bool,
) -> ConditionReport {
    let got: Option<Vec<String>> = context.lookup(condition.key()).map(|value| match value {
        Value::One(text) => vec![text.to_string()],
        Value::Many(texts) => texts.iter().map(|t| t.to_string()).collect(),
    });
    let holds = condition.holds(context, in_doubt);
    let near_miss = match &got {
        Some(got) if !holds => near_miss(condition.operator(), got, condition.wanted()),
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

fn near_miss(operator: &str, got: &[String], wanted: &[Box<str>]) -> Option<&'static str> {
    let takes_wildcards = operator.contains("Like") || operator.contains("Arn");
    let pairs = || {
        got.iter()
            .flat_map(|g| wanted.iter().map(move |w| (g.as_str(), &**w)))
    };
    if pairs().any(|(g, w)| g != w && g.eq_ignore_ascii_case(w)) {
        Some("differs only in case")
    } else if pairs().any(|(g, w)| g != w && g.trim() == w.trim()) {
        Some("differs only in white space")
    } else if pairs().any(|(g, w)| g.trim_end_matches('/') == w.trim_end_matches('/') && g != w) {
        Some("differs only in a trailing slash")
    } else if !takes_wildcards && pairs().any(|(_, w)| w.contains(['*', '?'])) {
        Some("wildcards work only with StringLike and the Arn operators")
    } else {
        None
    }
}

impl StatementReport {
    /// The report in one line: that the statement applies, or the reason why it does not.
    pub fn why(&self) -> String {
        if self.applies {
            return "applies".to_owned();
        }
        let mut reasons = Vec::new();
        if self.principal == Some(false) {
            reasons.push("does not name the principal".to_owned());
        }
        if !self.action {
            reasons.push("does not cover the action".to_owned());
        }
        if !self.resource {
            reasons.push("does not cover the resource".to_owned());
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
                "requires {} {} `{wanted}`, but the request has {got}{near}",
                condition.operator, condition.key
            ));
        }
        reasons.join("; ")
    }
}
