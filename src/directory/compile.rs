//! Checks and compiles the parts that several kinds of resources share: policies, ids, ARNs and
//! tags.

use super::shape::{self, Document};
use super::strangers::UNBOUND_SUBJECT;
use super::{DirectoryError, fault};
use crate::base::arn::{AccountId, IamArn};
use crate::base::names::{self, Tag, is_iam_name};
use crate::evaluator::{Policy, PolicyKind};

/// Compiles a policy document. A missing document is an error.
pub(super) fn compile(
    place: &str,
    kind: PolicyKind,
    document: Option<&Document>,
) -> Result<Policy, DirectoryError> {
    let document = document.ok_or_else(|| fault(place, "is required"))?;
    let text = document.text().map_err(|rule| fault(place, rule))?;
    Policy::parse(kind, &text).map_err(|e| fault(place, e.to_string()))
}

/// Makes a policy that denies everything, even if other policies allow it.
pub(super) fn deny_all(kind: PolicyKind) -> Result<Policy, DirectoryError> {
    let whom = if kind == PolicyKind::Trust {
        r#""Principal":"*""#
    } else {
        r#""Resource":"*""#
    };
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"Closed","Effect":"Deny","Action":"*",{whom}}}]}}"#
    );
    Policy::parse(kind, &text).map_err(|e| fault("closed", e.to_string()))
}

/// Checks that a unique id consists of 16 to 128 letters and digits.
pub(super) fn unique_id(place: &str, id: &str) -> Result<(), DirectoryError> {
    if !(16..=128).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(fault(
            place,
            "the unique id must be 16 to 128 letters and digits; leave it out to have one generated",
        ));
    }
    Ok(())
}

/// Checks that an ARN has this kind and ends in this name. Returns the account in it.
pub(super) fn identity_arn(
    place: &str,
    arn: &str,
    kind: &str,
    name: &str,
) -> Result<AccountId, DirectoryError> {
    if !is_iam_name(name, 128) {
        return Err(fault(
            place,
            "the name must be 1 to 128 letters, digits or characters of `+=,.@_-`",
        ));
    }
    match IamArn::parse(arn) {
        Some(parsed)
            if parsed.kind == kind
                && parsed.name == name
                && arn.len() <= 2048
                && arn.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(parsed.account)
        }
        _ => Err(fault(
            format!("{place}: Arn"),
            format!(
                "must be `arn:aws:iam::ACCOUNT:{kind}/{name}`, with the path before the name if there is one, and at most \
                 2048 characters"
            ),
        )),
    }
}

/// Checks the tags of a resource, whose keys must be unique without regard to case.
pub(super) fn tags(place: &str, tags: &[shape::Tag]) -> Result<Box<[Tag]>, DirectoryError> {
    let mut checked: Vec<Tag> = Vec::with_capacity(tags.len());
    for tag in tags {
        // AWS's service-linked roles have reserved `aws:` tags, and an export may contain them.
        let key = tag.key.strip_prefix("aws:").unwrap_or(&tag.key);
        // An earlier version accepted `oidc.eks.*.amazonaws.com` here, which no tag of AWS can
        // contain.
        let value = if tag.key == UNBOUND_SUBJECT {
            tag.value.replace('*', "")
        } else {
            tag.value.clone()
        };
        let legal = names::tag_key("Key", key).and_then(|()| names::tag_value("Value", &value));
        legal.map_err(|e| fault(format!("{place}: Tags"), format!("{} {}", e.field, e.rule)))?;
        if checked.iter().any(|t| t.key.eq_ignore_ascii_case(&tag.key)) {
            return Err(fault(
                format!("{place}: Tags"),
                format!("duplicate key `{}`", tag.key),
            ));
        }
        checked.push(Tag {
            key: tag.key.clone(),
            value: tag.value.clone(),
        });
    }
    Ok(checked.into())
}
