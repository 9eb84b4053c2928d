//! The whole documents before and after a change, as `brevet changes --documents` prints them.

use serde_json::Value;

use super::Failure;
use crate::base::digest::{hex, sha256};
use crate::store::Documents;

/// Adds the documents before and after a change to the line that is printed for it.
///
/// # Errors
/// A document does not have the digest that the change records for it, so it was altered in the database.
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
                "change {sequence}: the digest of its {name} does not match the change: the document was altered in the \
                 database. Leave out --documents to print the feed itself"
            )
            .into());
        }
        if let Value::Object(fields) = line {
            fields.insert(name.to_owned(), serde_json::from_str(&text)?);
        }
    }
    Ok(())
}
