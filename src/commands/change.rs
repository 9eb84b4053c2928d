//! What the change feed says of a change: who made it, what differs, and which sessions it ended.
//! Policy documents are given by their digest, and no secret is in it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base::digest::{hex, sha256};
use crate::directory::SECRET_FIELDS;
use crate::directory::resource::Resource;
use crate::revocations::{Mark, Selector};
use crate::store::Documents;

/// Who makes a change, as the feed and the audit log record it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// `IAMUser`, `AssumedRole`; `Operator` for somebody at the broker's own machine.
    pub r#type: String,
    /// Of a principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// The key that signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Of an operator: the system account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The call, as answer and audit name it.
    #[serde(rename = "requestID", skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Actor {
    /// Somebody at the broker's own machine, by system account.
    pub fn operator(user_name: &str) -> Self {
        Self {
            r#type: "Operator".to_owned(),
            arn: None,
            access_key_id: None,
            user_name: Some(user_name.to_owned()),
            request_id: None,
        }
    }

    /// Its JSON text, as the feed holds it.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// What the feed says of one change.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Detail {
    /// What was, of the fields that changed: policies by digest, no secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// The SHA-256 of the whole thing as it was, as the store keeps it beside the feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_sha256: Option<String>,
    /// The same of the thing as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_sha256: Option<String>,
    /// What ended with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<Revoked>,
    /// The tags of a role that override a rule on whom it may let in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<String>,
    /// The entries of a directory file that came, with their unique ids (of access keys: their users'
    /// ARNs), and those that went, without: kind, ARN or id, and the unique id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<(String, String, Option<String>)>,
    /// The whole thing before and after, which is kept beside the feed.
    #[serde(skip)]
    pub documents: Documents,
}

impl Detail {
    /// Of a thing that was changed, made or deleted.
    pub(super) fn of(old: Option<&Resource>, new: Option<&Resource>) -> Self {
        let (old, new) = (old.map(public), new.map(public));
        let documents = Documents {
            before: old.as_ref().map(Value::to_string),
            after: new.as_ref().map(Value::to_string),
        };
        let (before, after) = differing(old, new);
        Self {
            before,
            after,
            before_sha256: documents.before.as_deref().map(digest),
            after_sha256: documents.after.as_deref().map(digest),
            documents,
            ..Self::default()
        }
    }
}

/// A revocation as a change of the feed carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Revoked {
    /// See [`Selector`].
    pub selector: String,
    /// Twelve digits.
    pub account: String,
    /// Of the selector.
    pub value: String,
    /// Sessions issued under an earlier change have ended.
    pub before_sequence: i64,
    /// Sessions issued before this second since 1970 have ended.
    pub before_seconds: i64,
    /// When the last of them would have ended by itself.
    pub expires_at: i64,
}

impl Revoked {
    /// Describes a revocation mark for the feed.
    pub fn new(selector: Selector, account: &str, value: &str, mark: Mark) -> Self {
        Self {
            selector: selector.as_str().to_owned(),
            account: account.to_owned(),
            value: value.to_owned(),
            before_sequence: mark.before_sequence,
            before_seconds: mark.before_seconds,
            expires_at: mark.expires_at,
        }
    }
}

/// The fields that differ, before and after: policies by digest, no secrets.
fn differing(old: Option<Value>, new: Option<Value>) -> (Option<Value>, Option<Value>) {
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let pick = |of: &Map<String, Value>, other: &Map<String, Value>| {
                let differing = of.iter().filter(|(k, v)| other.get(*k) != Some(v));
                Value::Object(
                    differing
                        .map(|(k, v)| (k.clone(), digested(v.clone())))
                        .collect(),
                )
            };
            (Some(pick(&old, &new)), Some(pick(&new, &old)))
        }
        (old, new) => (old.map(digested), new.map(digested)),
    }
}

/// A resource without its secrets.
pub(super) fn public(resource: &Resource) -> Value {
    let text = resource.text().unwrap_or_default();
    let mut value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut value {
        for (name, field) in fields.iter_mut() {
            let sealed = name.strip_prefix("Sealed").unwrap_or(name);
            if SECRET_FIELDS.contains(&sealed) {
                // Whether it changed can be told, and no more.
                *field = json!(format!("sealed {}", digest(&field.to_string())));
            }
        }
    }
    value
}

/// Policy documents and metadata as their digests.
fn digested(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, field)| {
                let whole = name.ends_with("Document");
                let field = if whole {
                    json!(format!("sha256:{}", digest(&field.to_string())))
                } else {
                    digested(field)
                };
                (name, field)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(digested).collect(),
        other => other,
    }
}

pub(super) fn digest(text: &str) -> String {
    hex(&sha256(text.as_bytes()))
}
