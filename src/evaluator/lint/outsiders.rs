//! Who from outside an account a trust policy lets in, for a list of them.

use serde::Serialize;

use crate::evaluator::document::Policy;
use crate::evaluator::principals::{PrincipalPattern, Principals};
use crate::evaluator::statement::Effect;
use crate::evaluator::strangers;

/// Somebody from outside an account whom a trust policy lets in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outsider {
    /// As the policy names it; `*` is everybody.
    pub principal: String,
    /// The statement's position.
    pub statement: usize,
    /// What else must hold: `StringEquals sts:externalid [x]`.
    pub conditions: Vec<String>,
}

/// Who from outside of `account` a role's trust policy lets in.
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
        let conditions = statement
            .conditions
            .iter()
            .map(|c| format!("{} {} [{}]", c.operator(), c.key(), c.wanted().join(", ")));
        let conditions: Vec<String> = conditions.collect();
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
