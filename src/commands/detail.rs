//! What a change of the feed says of itself.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Revoked, differing, digest, public};
use crate::directory::resource::Resource;
use crate::store::Documents;

/// What a change of the feed says of itself.
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
