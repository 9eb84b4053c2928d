//! Lists the principals outside an account that a trust policy allows.

use serde::Serialize;

use crate::evaluator::condition::Condition;
use crate::evaluator::document::Policy;
use crate::evaluator::principals::{PrincipalPattern, Principals};
use crate::evaluator::statement::Effect;
use crate::evaluator::strangers;

/// A principal outside an account that a trust policy allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outsider {
    /// The principal as the policy names it; `*` is everybody.
    pub principal: String,
    /// The position of the statement, from 0.
    pub statement: usize,
    /// The conditions that must hold as well, such as `StringEquals sts:externalid [x]`.
    pub conditions: Vec<String>,
}

/// Lists the principals outside `account` that a role's trust policy allows.
pub fn outsiders(trust: &Policy, account: &str) -> Vec<Outsider> {
    let mut found = Vec::new();
    for (index, statement) in trust
        .statements
        .iter()
        .enumerate()
        .filter(|(_, s)| s.effect == Effect::Allow)
    {
        let Principals::Are(patterns) = &statement.principals else {
            continue;
        };
        let foreign = |pattern: &PrincipalPattern| match pattern {
            PrincipalPattern::Any | PrincipalPattern::AnyAws => Some("*".to_owned()),
            PrincipalPattern::Federated(provider) => Some(provider.to_string()),
            PrincipalPattern::Service(service) => Some(service.to_string()),
            _ => strangers::foreign(pattern, account),
        };
        let conditions: Vec<String> = statement.conditions.iter().map(Condition::text).collect();
        for principal in patterns.iter().filter_map(foreign) {
            found.push(Outsider {
                principal,
                statement: index,
                conditions: conditions.clone(),
            });
        }
    }
    found
}
