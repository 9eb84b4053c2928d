//! The message as DecodeAuthorizationMessage returns it, as far as the reader may see it.

use serde_json::{Value, json};

use super::Message;
use super::disclosure::Disclosure;
use crate::base::clock::Timestamp;
use crate::evaluator::{ConditionReport, StatementReport};

impl Message {
    /// The message in AWS's JSON format, with an additional report of what every statement does.
    pub fn decoded(&self, disclosure: &Disclosure) -> Value {
        let reports = disclosure
            .explained
            .as_ref()
            .map(|e| e.explanation.statements.as_slice())
            .unwrap_or_default();
        let visible: Vec<&StatementReport> =
            reports.iter().filter(|s| disclosure.shows(s)).collect();
        // Nothing is revealed about the policies of another account, not even that one of them
        // denies: it could belong to the principal's account or to the resource's.
        let sees_all = disclosure.of_principal && disclosure.of_resource;
        let explicit_deny =
            self.explicit_deny && (sees_all || visible.iter().any(|s| s.applies && s.denies));
        let matched = visible
            .iter()
            .filter(|s| s.applies && s.denies == explicit_deny)
            .map(|s| disclosure.matched(s));
        let statements = visible.iter().map(|s| disclosure.reported(s));
        let keys = self
            .keys
            .iter()
            .filter(|(name, _)| disclosure.may_know(name))
            .map(|(name, got)| values(name, got));
        json!({
            "allowed": false,
            "explicitDeny": explicit_deny,
            "matchedStatements": {"items": matched.collect::<Vec<_>>()},
            "failures": {"items": []},
            "context": {
                "principal": {"id": self.principal_id, "arn": self.arn},
                "action": self.action,
                "resource": self.resource,
                "conditions": {"items": keys.collect::<Vec<_>>()},
            },
            "explanation": {
                "requestId": self.request_id,
                "eventTime": Timestamp::from_seconds(self.at).to_string(),
                "summary": self.summary(disclosure, &visible, explicit_deny),
                "policiesChangedSince": disclosure.changed,
                "statements": statements.collect::<Vec<_>>(),
            },
        })
    }

    /// Explains in a few sentences why the request was refused.
    fn summary(
        &self,
        disclosure: &Disclosure,
        visible: &[&StatementReport],
        explicit_deny: bool,
    ) -> String {
        // The note is about the caller's own credentials.
        if let Some(note) = self.note.as_ref().filter(|_| disclosure.of_principal) {
            return note.clone();
        }
        let silent = disclosure.explained.as_ref();
        let silent = silent
            .and_then(|e| e.silent.as_ref())
            .filter(|_| disclosure.of_principal);
        let mut text = match (&disclosure.missing, &disclosure.explained) {
            (Some(missing), _) => missing.clone(),
            (None, None) => {
                "The principal no longer exists, so its policies cannot be shown.".to_owned()
            }
            (None, Some(_)) if explicit_deny => {
                match visible.iter().find(|s| s.denies && s.applies) {
                    Some(s) => {
                        format!("{} denies the request.", disclosure.place(s))
                    }
                    None => "The statement that denied the request cannot be shown: it was changed or removed since, \
                        or belongs to a session policy that was too long for this message.".to_owned(),
                }
            }
            (None, Some(_)) => match (silent, nearest(visible)) {
                (Some(target), _) => format!(
                    "No service control policy that is attached to {target} allows the request."
                ),
                (None, Some((s, c))) => {
                    let got = match &c.got {
                        _ if !disclosure.may_know(&c.key) => {
                            "a value that is shown only to the other account".to_owned()
                        }
                        Some(got) => format!("`{}`", got.join("`, `")),
                        None => "no value for this key".to_owned(),
                    };
                    let near = c.near_miss.map(|n| format!(" ({n})")).unwrap_or_default();
                    format!(
                        "No policy denies the request, but at least one policy that must allow it does not (identity, \
                        resource, session, scope-down, boundary or organization). Closest match: {} requires {} {} \
                        `{}`, but the request has {got}{near}.",
                        disclosure.place(s),
                        c.operator,
                        c.key,
                        c.wanted.join("`, `"),
                    )
                }
                (None, None) => "No policy denies the request, but at least one policy that must allow it does not \
                (identity, resource, session, scope-down, boundary or organization).".to_owned(),
            },
        };
        if self.cut && self.limits.is_empty() {
            text.push_str(
                " The session's own policies were too long to be included in the message.",
            );
        }
        if disclosure.changed {
            text.push_str(
                " Policies have changed since the request was refused; this explanation uses the current ones.",
            );
        }
        text
    }
}

impl Disclosure {
    /// A statement that made the decision, in AWS's JSON format.
    fn matched(&self, statement: &StatementReport) -> Value {
        let conditions = statement.conditions.iter();
        let conditions = conditions.map(|c| values(&c.key, &c.wanted));
        json!({
            "statementId": statement.sid.as_deref().unwrap_or_default(),
            "effect": if statement.denies { "DENY" } else { "ALLOW" },
            "sourcePolicyType": self.policy(statement).0,
            "sourcePolicyId": self.control(statement).map(|c| c.id.as_str()),
            "conditions": {"items": conditions.collect::<Vec<_>>()},
        })
    }

    /// Describes, in a format of Brevet's own, how a statement applies to the request.
    fn reported(&self, statement: &StatementReport) -> Value {
        let (policy, number) = self.policy(statement);
        let control = self.control(statement);
        let conditions = statement.conditions.iter().map(|c| {
            json!({
                "operator": c.operator, "key": c.key, "wanted": c.wanted,
                "got": c.got.as_ref().filter(|_| self.may_know(&c.key)),
                "holds": c.holds, "nearMiss": c.near_miss,
            })
        });
        json!({
            "policy": policy, "policyNumber": number,
            "policyId": control.map(|c| c.id.as_str()),
            "policyName": control.map(|c| c.name.as_str()),
            "attachedTo": control.map(|c| c.target.as_str()),
            "statement": statement.at.index, "sid": statement.sid,
            "effect": if statement.denies { "Deny" } else { "Allow" },
            "applies": statement.applies,
            "matches": {
                "principal": statement.principal,
                "action": statement.action,
                "resource": statement.resource,
            },
            "conditions": conditions.collect::<Vec<_>>(),
        })
    }
}

fn values(key: &str, values: &[String]) -> Value {
    json!({"key": key, "values": {"items": values.iter().map(|v| json!({"value": v})).collect::<Vec<_>>()}})
}

/// Finds a condition that kept an allowing statement from applying, preferably one that was nearly met. `None` if no
/// visible statement failed only because of its conditions.
fn nearest<'a>(
    visible: &[&'a StatementReport],
) -> Option<(&'a StatementReport, &'a ConditionReport)> {
    let close = visible
        .iter()
        .filter(|s| !s.denies && s.action && s.resource && s.principal != Some(false));
    let failed = close.flat_map(|s| {
        s.conditions
            .iter()
            .filter(|c| !c.holds)
            .map(move |c| (*s, c))
    });
    failed
        .clone()
        .find(|(_, c)| c.near_miss.is_some())
        .or_else(|| failed.clone().next())
}
