//! The feed's record of a change: who made it, what differs, and which sessions it ended. Policy
//! documents are recorded by digest, and secrets not at all.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base::digest::{hex, sha256};
use crate::directory::SECRET_FIELDS;
use crate::directory::resource::Resource;
use crate::revocations::{Mark, Selector};
use crate::store::Documents;

/// Who made a change, as the feed and the audit log record it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// `IAMUser` or `AssumedRole`; `Operator` for an operator on the broker's own machine,
    /// and `Broker` for the broker itself.
    pub r#type: String,
    /// The principal's ARN; absent for an operator and for a broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// The id of the access key that signed the call; absent if none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// For an operator, the user on the system, as in `uid 0 (root), login uid 1000 (alice)`. For a broker, the setting
    /// or the kind of resource that made it change the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The id of the request, which its answer and its audit record also contain.
    #[serde(rename = "requestID", skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Actor {
    /// Describes an operator on the broker's own machine by a text such as `uid 0 (root), login uid 1000 (alice)`.
    pub fn operator(user_name: &str) -> Self {
        Self {
            r#type: "Operator".to_owned(),
            arn: None,
            access_key_id: None,
            user_name: Some(user_name.to_owned()),
            request_id: None,
        }
    }

    /// Describes a broker that changes the directory by itself, because of a setting of its
    /// configuration or of what it has found.
    pub fn broker(reason: &str) -> Self {
        Self {
            r#type: "Broker".to_owned(),
            ..Self::operator(reason)
        }
    }

    /// Formats the actor as the JSON text that the feed stores.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Detail {
    /// The values before the change of the fields that differ. Policies are given by digest, secrets not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The values after the change of the fields that differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// The SHA-256 of the whole resource before the change; `None` if the change created it, or is only about
    /// revocations, the entries of a directory file or a resealed secret. The resource itself is in
    /// [`Detail::documents`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_sha256: Option<String>,
    /// The SHA-256 of the whole resource after the change; `None` if the change deleted it, or is not about a resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_sha256: Option<String>,
    /// The revocations by which the change ended sessions; empty if it ended none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<Revoked>,
    /// Tags of a role that switch off a rule about whom its trust policy may allow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<String>,
    /// The entries that were added to or removed from a directory file, each with its kind and its ARN or id. An added
    /// entry also has its unique id (an access key: the ARN of its user).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<(String, String, Option<String>)>,
    /// The whole resource before and after the change. The store keeps both in a table apart from the feed.
    #[serde(skip)]
    pub documents: Documents,
}

impl Detail {
    /// Describes a resource that was created, changed or deleted.
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

/// A revocation in the form in which the feed records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Revoked {
    /// The name of the [`Selector`]: whether an access key, a principal, a role or something else was revoked.
    pub selector: String,
    pub account: String,
    /// The value to which the selector applies, such as a principal's ARN.
    pub value: String,
    /// The number of a change. Sessions issued under an earlier change have ended.
    pub before_sequence: i64,
    /// Sessions issued before this time, in seconds since 1970, have ended.
    pub before_seconds: i64,
    /// When the last of the ended sessions would have expired, in seconds since 1970.
    pub expires_at: i64,
    /// Whether the mark replaces an older one whose time came from a wrong clock.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaces: bool,
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
            replaces: false,
        }
    }
}

/// Finds the fields that differ, and returns their old and their new values, with policies as digests and without
/// secrets. If there is only an old or only a new value, returns the whole value.
fn differing(old: Option<Value>, new: Option<Value>) -> (Option<Value>, Option<Value>) {
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let pick = |of: &Map<String, Value>, other: &Map<String, Value>| {
                let differing = of.iter().filter(|(k, v)| other.get(*k) != Some(v));
                digested(Value::Object(
                    differing.map(|(k, v)| (k.clone(), v.clone())).collect(),
                ))
            };
            (Some(pick(&old, &new)), Some(pick(&new, &old)))
        }
        (old, new) => (old.map(digested), new.map(digested)),
    }
}

/// Formats a resource as JSON, with a digest in place of each secret.
pub(super) fn public(resource: &Resource) -> Value {
    let text = resource.text().unwrap_or_default();
    let mut value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut value {
        for (name, field) in fields.iter_mut() {
            let sealed = name.strip_prefix("Sealed").unwrap_or(name);
            if SECRET_FIELDS.contains(&sealed) {
                // Only whether the secret has changed can be seen.
                *field = json!(format!("sealed {}", digest(&field.to_string())));
            }
        }
    }
    value
}

/// Replaces policy documents and metadata by their digests.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_recorded_by_digest_whether_or_not_the_resource_is_new() {
        let resource = |text: &str| {
            json!({"Arn": "a", "AssumeRolePolicyDocument": {"Version": text}, "SAMLMetadataDocument": text,
                "RolePolicyList": [{"PolicyName": "p", "PolicyDocument": {"Version": text}}]})
        };
        let changed = differing(Some(resource("canary")), Some(resource("canary2")));
        let created = differing(None, Some(resource("canary")));
        let deleted = differing(Some(resource("canary")), None);
        for recorded in [changed.0, changed.1, created.1, deleted.0] {
            let recorded = recorded.unwrap();
            assert!(!recorded.to_string().contains("canary"), "{recorded}");
            for document in [
                &recorded["AssumeRolePolicyDocument"],
                &recorded["SAMLMetadataDocument"],
                &recorded["RolePolicyList"][0]["PolicyDocument"],
            ] {
                assert!(document.as_str().unwrap().starts_with("sha256:"));
            }
        }
    }
}
