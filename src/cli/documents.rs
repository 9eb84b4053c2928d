//! The whole documents before and after a change, as `brevet changes --documents` prints them.

use serde_json::Value;

use super::Failure;
use crate::base::digest::{hex, sha256};
use crate::store::Documents;

/// Adds the documents before and after a change to the line that is printed for it.
///
/// # Errors
/// A document is missing, or does not have the digest that the change records for it: somebody removed or altered it in
/// the database.
pub(super) fn add(line: &mut Value, sequence: i64, documents: Documents) -> Result<(), Failure> {
    let both = [
        ("BeforeDocument", "BeforeSha256", documents.before),
        ("AfterDocument", "AfterSha256", documents.after),
    ];
    for (name, digest, text) in both {
        let digest = line
            .get("Detail")
            .and_then(|detail| detail.get(digest))
            .and_then(Value::as_str);
        let Some(text) = text else {
            if digest.is_some() {
                return Err(format!(
                    "change {sequence}: the {name} of this change is missing, although the change contains the digest \
                    of the document: somebody removed the document from the database. Leave out --documents to print \
                    the feed itself"
                )
                .into());
            }
            continue;
        };
        if digest != Some(hex(&sha256(text.as_bytes())).as_str()) {
            return Err(format!(
                "change {sequence}: the {name} of this change does not match the digest in the change: somebody \
                altered the document in the database. Leave out --documents to print the feed itself"
            )
            .into());
        }
        if let Value::Object(fields) = line {
            fields.insert(name.to_owned(), serde_json::from_str(&text)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_that_is_missing_or_another_one_is_named() {
        let digest = hex(&sha256(b"{}"));
        let of = |after: Option<&str>| {
            let mut line = json!({"Detail": {"AfterSha256": digest}});
            let documents = Documents {
                before: None,
                after: after.map(str::to_owned),
            };
            add(&mut line, 7, documents)
                .map(|()| line)
                .map_err(|error| error.to_string())
        };
        assert_eq!(of(Some("{}")).unwrap()["AfterDocument"], json!({}));
        for (documents, named) in [(None, "is missing"), (Some("[]"), "does not match")] {
            let error = of(documents).unwrap_err();
            assert!(
                error.contains("change 7") && error.contains(named),
                "{error}"
            );
        }
    }
}
