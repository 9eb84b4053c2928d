//! A refusal by policy: what the audit and whoever may know are told of it.

use serde::Serialize;
use serde_json::value::RawValue;

use super::facts::Facts;
use crate::evaluator::{Decision, Outcome, Source};

/// A refusal: which action was not allowed, and why (for those who may know, not for the caller).
pub struct Denied {
    /// `sts:AssumeRole`, `sts:TagSession`, …
    pub action: String,
    /// What the evaluator said.
    pub decision: Decision,
    /// What the request said: condition keys in lower case.
    pub keys: Vec<(String, Vec<String>)>,
    /// What no statement says.
    pub note: Option<&'static str>,
}

impl Denied {
    /// A refusal that no policy made.
    pub fn because(action: String, facts: &Facts<'_>, note: &'static str) -> Self {
        let decision = Decision {
            outcome: Outcome::ImplicitlyDenied,
            by: None,
        };
        Self {
            action,
            decision,
            keys: facts.keys.listed(),
            note: Some(note),
        }
    }
}

/// What the audit says of a refusal.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Audited {
    decision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<usize>,
}

impl Denied {
    /// Which kind of policy and which statement decided, for the audit.
    pub fn audited(&self) -> Option<Box<RawValue>> {
        let by = self.decision.by;
        let audited = Audited {
            decision: format!("{:?}", self.decision.outcome),
            denied_by: by.map(|s| match s.source {
                Source::Identity(_) => "identity policy",
                Source::Resource => "trust policy",
                Source::Session(_) => "session policy",
                Source::Boundary => "permissions boundary",
                Source::ServiceControl(..) => "service control policy",
                Source::ResourceControl(..) => "resource control policy",
            }),
            statement: by.map(|s| s.index),
        };
        serde_json::value::to_raw_value(&audited).ok()
    }
}
