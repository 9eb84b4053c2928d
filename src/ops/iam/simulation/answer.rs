//! The results of a simulation in the form that the API returns.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::evaluator::{Outcome, Position, Simulation};
use crate::ops::iam::page::PageEnd;

/// One page of results, with one result for each action.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Results {
    pub(super) evaluation_results: Vec<ActionResult>,
    #[serde(flatten)]
    pub(super) end: PageEnd,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ActionResult {
    pub(super) eval_action_name: String,
    pub(super) eval_resource_name: &'static str,
    pub(super) eval_decision: &'static str,
    pub(super) matched_statements: Vec<Statement>,
    pub(super) missing_context_values: Vec<String>,
    pub(super) organizations_decision_detail: Option<OrganizationsDecision>,
    pub(super) permissions_boundary_decision_detail: Option<BoundaryDecision>,
    pub(super) eval_decision_details: Option<BTreeMap<&'static str, &'static str>>,
    pub(super) resource_specific_results: Option<Vec<ResourceResult>>,
}

impl ActionResult {
    /// Counts the matched statements in the result, including those of single resources.
    pub(super) fn statements(&self) -> usize {
        let single = self.resource_specific_results.iter().flatten();
        let single: usize = single.map(|result| result.matched_statements.len()).sum();
        self.matched_statements.len() + single
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ResourceResult {
    pub(super) eval_resource_name: String,
    pub(super) eval_resource_decision: &'static str,
    pub(super) matched_statements: Vec<Statement>,
    pub(super) missing_context_values: Vec<String>,
    pub(super) eval_decision_details: Option<BTreeMap<&'static str, &'static str>>,
    pub(super) permissions_boundary_decision_detail: Option<BoundaryDecision>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Statement {
    pub(super) source_policy_id: String,
    pub(super) source_policy_type: &'static str,
    pub(super) start_position: Option<Place>,
    pub(super) end_position: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl From<Position> for Place {
    fn from(Position { line, column }: Position) -> Self {
        Self { line, column }
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OrganizationsDecision {
    pub(super) allowed_by_organizations: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BoundaryDecision {
    pub(super) allowed_by_permissions_boundary: bool,
}

/// Returns the decision of each kind of policy on a request across accounts, for
/// `EvalDecisionDetails`.
pub(super) fn by_kind(
    simulation: &Simulation,
) -> impl Iterator<Item = (&'static str, Outcome)> + use<> {
    let boundary = simulation.boundary.map(|allowed| match allowed {
        true => Outcome::Allowed,
        false => Outcome::ImplicitlyDenied,
    });
    [
        ("IAM Policy", Some(simulation.identity)),
        // Without a policy, the resource lets nobody in from another account.
        (
            "Resource Policy",
            Some(simulation.resource.unwrap_or(Outcome::ImplicitlyDenied)),
        ),
        ("Permissions Boundary", boundary),
    ]
    .into_iter()
    .filter_map(|(kind, outcome)| Some((kind, outcome?)))
}

pub(super) fn boundary_decision(allowed_by_permissions_boundary: bool) -> BoundaryDecision {
    BoundaryDecision {
        allowed_by_permissions_boundary,
    }
}

/// Orders decisions: a more restrictive decision has a higher rank.
pub(super) fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Allowed => 0,
        Outcome::ImplicitlyDenied => 1,
        Outcome::ExplicitlyDenied => 2,
    }
}

/// Returns the decision in the spelling of the API, such as `implicitDeny`.
pub(super) fn decision(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "allowed",
        Outcome::ImplicitlyDenied => "implicitDeny",
        Outcome::ExplicitlyDenied => "explicitDeny",
    }
}
