//! The documents of changes of the feed, as `brevet changes --documents` prints them.

use serde_json::Value;

use super::Failure;
use crate::base::digest::{hex, sha256};
use crate::store::Documents;

/// Adds to what is printed of a change what the thing was before and after it.
///
/// # Errors
/// When a document is not the one that the change has the digest of.
pub(super) fn add(line: &mut Value, sequence: i64, documents: Documents) -> Result<(), Failure> {
    let both = [
        ("BeforeDocument", "BeforeSha256", documents.before),
        ("AfterDocument", "AfterSha256", documents.after),
    ];
    for (name, digest, text) in both {
        let Some(text) = text else { continue };
        let digest = line
            .get("Detail")
            .and_then(|detail| detail.get(digest))
            .and_then(Value::as_str);
        if digest != Some(hex(&sha256(text.as_bytes())).as_str()) {
            return Err(format!(
                "change {sequence}: its {name} has another digest than the change says: it was altered in the database; \
                 without --documents the feed is printed"
            )
            .into());
        }
        if let Value::Object(fields) = line {
            fields.insert(name.to_owned(), serde_json::from_str(&text)?);
        }
    }
    Ok(())
}
