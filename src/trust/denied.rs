//! Describes a refusal by policy for the audit log, and for callers who may see the reason.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::facts::Facts;
use crate::evaluator::{Decision, Outcome, Source};

/// A refusal: the action that was not allowed, and the reason. The reason is for the audit log, and for callers who may
/// see it.
pub struct Denied {
    /// The action, such as `sts:AssumeRole` or `sts:TagSession`.
    pub action: String,
    /// The evaluator's decision. If a statement denied the request, the decision names the statement.
    pub decision: Decision,
    /// The id of the service or resource control policy with the statement that denied the request; `None` if no such
    /// policy did.
    pub control_policy: Option<String>,
    /// The condition keys of the request, in lower case, with their values.
    pub keys: Vec<(String, Vec<String>)>,
    /// A sentence with the reason, if the reason is not a statement of a policy.
    pub note: Option<Cow<'static, str>>,
}

impl Denied {
    /// A refusal for a reason that is not in any policy.
    pub fn because(action: String, facts: &Facts<'_>, note: impl Into<Cow<'static, str>>) -> Self {
        let decision = Decision {
            outcome: Outcome::ImplicitlyDenied,
            by: None,
        };
        Self {
            action,
            decision,
            control_policy: None,
            keys: facts.keys.listed(),
            note: Some(note.into()),
        }
    }
}

/// The fields of an audit record that describe a refusal.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Audited<'a> {
    decision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_number: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Denied {
    /// The details of the refusal for the audit record: the evaluator's outcome, and the note if there is one. If a
    /// statement decided, also its index and the kind of its policy, with the id of a service or resource control
    /// policy or the number of a scope-down policy.
    pub fn audited(&self) -> Option<Box<RawValue>> {
        let by = self.decision.by;
        let audited = Audited {
            decision: format!("{:?}", self.decision.outcome),
            denied_by: by.map(|s| match s.source {
                Source::Identity(_) => "identity policy",
                Source::Resource if self.action.starts_with("s3:") => "bucket policy",
                Source::Resource => "trust policy",
                Source::Session(_) => "session policy",
                Source::ScopeDown(_) => "scope-down policy",
                Source::Boundary => "permissions boundary",
                Source::ServiceControl(..) => "service control policy",
                Source::ResourceControl(..) => "resource control policy",
            }),
            policy_id: self.control_policy.as_deref(),
            policy_number: by.and_then(|s| match s.source {
                Source::ScopeDown(n) => Some(n + 1),
                _ => None,
            }),
            statement: by.map(|s| s.index),
            reason: self.note.as_deref(),
        };
        serde_json::value::to_raw_value(&audited).ok()
    }
}
