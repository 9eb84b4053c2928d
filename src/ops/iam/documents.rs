//! Checks of policy documents in requests, with AWS's error texts.

use crate::directory::declaration::Document;
use crate::error::Error;
use crate::evaluator::{ParseError, Policy, PolicyKind};

/// Checks a policy document of a request by the rules of its kind, except for its length: the command
/// that writes it checks that.
///
/// # Errors
/// [`Error::MalformedPolicyDocument`], with AWS's text where clients compare it, otherwise with the
/// broken rule and its place in the document.
pub(super) fn checked(kind: PolicyKind, text: &str) -> Result<Document, Error> {
    let invalid = || Error::MalformedPolicyDocument("This policy contains invalid Json".to_owned());
    let document = Document::new(text).map_err(|_| invalid())?;
    // A JSON text may also be a string, in which a directory file may have an encoded document.
    if !text.trim_start().starts_with('{') {
        return Err(invalid());
    }
    // A document that is too long for any quota is refused by the quota.
    if text.chars().filter(|c| !c.is_whitespace()).count() > kind.max_characters() {
        return Ok(document);
    }
    match Policy::parse(kind, text) {
        Ok(_) => Ok(document),
        Err(error) => Err(Error::MalformedPolicyDocument(words(&error, kind, text))),
    }
}

/// Returns the error text for a document: AWS's text where clients compare it, otherwise the broken
/// rule and its place.
fn words(error: &ParseError, kind: PolicyKind, text: &str) -> String {
    let pointer = &error.place.pointer;
    let element = pointer.rsplit('/').next().unwrap_or_default();
    let prohibited: &[&str] = match kind {
        PolicyKind::Trust => &["Resource", "NotResource", "NotPrincipal"],
        _ => &["Principal", "NotPrincipal"],
    };
    if prohibited.contains(&element) {
        return format!("Has prohibited field {element}");
    }
    let principal = || {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        let of_type = pointer.split_once("/Principal/")?.1.split('/').next()?;
        let name = value.pointer(pointer)?.as_str()?;
        Some(format!(
            r#"Invalid principal in policy: "{of_type}":"{name}""#
        ))
    };
    principal().unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: PolicyKind, text: &str) -> String {
        checked(kind, text).unwrap_err().to_string()
    }

    #[test]
    fn documents_are_refused_in_the_words_that_clients_look_for() {
        for text in ["{", "[]", r#""{}""#, "nonsense"] {
            assert_eq!(
                refused(PolicyKind::Identity, text),
                "This policy contains invalid Json"
            );
        }
        let with = |element: &str| {
            format!(r#"{{"Statement":[{{"Effect":"Allow","Action":"sts:AssumeRole",{element}}}]}}"#)
        };
        assert_eq!(
            refused(
                PolicyKind::Trust,
                &with(r#""Principal":"*","Resource":"*""#)
            ),
            "Has prohibited field Resource"
        );
        assert_eq!(
            refused(
                PolicyKind::Identity,
                &with(r#""Resource":"*","Principal":"*""#)
            ),
            "Has prohibited field Principal"
        );
        let group = r#""Principal":{"AWS":["111122223333","arn:aws:iam::111122223333:group/g"]}"#;
        assert_eq!(
            refused(PolicyKind::Trust, &with(group)),
            r#"Invalid principal in policy: "AWS":"arn:aws:iam::111122223333:group/g""#
        );
        let rule = refused(PolicyKind::Identity, &with(r#""Resource":"x""#));
        assert!(rule.contains("/Statement/0/Resource"), "{rule}");
    }

    #[test]
    fn a_document_stays_as_it_is_written() {
        let text =
            "{ \"Statement\" : {\"Effect\":\"Allow\",\"Action\":\"s3:*\",\"Resource\":\"*\"} }";
        let document = checked(PolicyKind::Identity, text).unwrap();
        assert_eq!(document.text().unwrap(), text);
    }
}
