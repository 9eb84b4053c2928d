//! Determines the permissions that operations on one object need.

use std::borrow::Cow;

use super::{Check, OF_STORE, acl, has_acl, key_of, not_supported, one};
use crate::evaluator::Value;
use crate::s3::copy_source::CopySource;
use crate::s3::head::Head;
use crate::s3::key::ObjectKey;
use crate::s3::refusal::{Code, S3Refusal};
use crate::s3::route::Routed;
use crate::s3::tagging;

/// The condition keys of a request about an existing object whose values the broker does not know.
const OF_OBJECT: &[&str] = &[
    "s3:existingobjecttag/",
    "s3:buckettag/",
    "aws:resourcetag/",
    "s3:tlsversion",
];
/// The keys of [`OF_OBJECT`], and those of tags that come from the body or from the copied object.
const TAGS: &[&str] = &[
    "s3:requestobjecttag/",
    "s3:requestobjecttagkeys",
    "s3:existingobjecttag/",
    "s3:buckettag/",
    "aws:resourcetag/",
    "s3:tlsversion",
];
/// The keys of [`OF_OBJECT`], and those of an access control list in the body.
pub(super) const ACL_IN_BODY: &[&str] = &[
    "s3:x-amz-acl",
    "s3:x-amz-grant-full-control",
    "s3:x-amz-grant-read",
    "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write",
    "s3:x-amz-grant-write-acp",
    "s3:existingobjecttag/",
    "s3:buckettag/",
    "aws:resourcetag/",
    "s3:tlsversion",
];
/// The unknown condition keys of a request with retention headers. The remaining days are among them, because stores
/// count them differently.
const LOCKED: &[&str] = &[
    "s3:object-lock-remaining-retention-days",
    "s3:buckettag/",
    "aws:resourcetag/",
    "s3:tlsversion",
];
/// The unknown condition keys of a request with the retention or the legal hold in its body, and of the permission to
/// bypass a retention.
const LOCK: &[&str] = &[
    "s3:object-lock-legal-hold",
    "s3:object-lock-mode",
    "s3:object-lock-remaining-retention-days",
    "s3:object-lock-retain-until-date",
    "s3:buckettag/",
    "aws:resourcetag/",
    "s3:tlsversion",
];

const COPIES_TAGS: &str = "CopyObject also copies the tags of its source, so the caller needs permission to read and \
    to write tags. To copy without these tags, set `x-amz-tagging-directive` to REPLACE.";

/// An object that a permission is for: its bucket, its name, and its version if the request names
/// one.
struct Object<'a, 'k> {
    bucket: &'a str,
    key: &'k ObjectKey<'a>,
    version: Option<Cow<'a, str>>,
}

impl<'a> Object<'a, '_> {
    /// Returns the permission checks of an action on the object, one for each name under which the
    /// store could find it. The second action applies if the request names a version.
    fn check(
        &self,
        (action, of_version): (&'static str, &'static str),
        unknown: &'static [&'static str],
        keys: &[(Cow<'static, str>, Value<'a>)],
    ) -> Vec<Check<'a>> {
        let version = self.version.clone();
        let version = version.map(|id| ("s3:versionid".into(), one(id)));
        let keys: Vec<_> = keys.iter().cloned().chain(version).collect();
        let readings = self.key.readings().map(|name| Check {
            action: if self.version.is_some() {
                of_version
            } else {
                action
            },
            bucket: Some(self.bucket),
            resource: ["arn:aws:s3:::", self.bucket, "/", name].concat(),
            keys: keys.clone(),
            unknown,
            note: None,
        });
        readings.collect()
    }
}

/// Returns the condition keys of an action on an object whose values the broker does not know; `None` if the action is
/// not in this table, so that the keys for all other actions apply.
pub(super) fn unknown_of(action: &str) -> Option<&'static [&'static str]> {
    Some(match action {
        "s3:PutObjectTagging" | "s3:PutObjectVersionTagging" => TAGS,
        "s3:PutObjectRetention" | "s3:PutObjectLegalHold" | "s3:BypassGovernanceRetention" => LOCK,
        "s3:DeleteObjectTagging"
        | "s3:DeleteObjectVersionTagging"
        | "s3:GetObject"
        | "s3:GetObjectAcl"
        | "s3:GetObjectAttributes"
        | "s3:GetObjectTagging"
        | "s3:GetObjectVersion"
        | "s3:GetObjectVersionAcl"
        | "s3:GetObjectVersionAttributes"
        | "s3:GetObjectVersionTagging"
        | "s3:PutObjectAcl"
        | "s3:PutObjectVersionAcl" => OF_OBJECT,
        _ => return None,
    })
}

/// Returns the pair of actions for a request that needs the same action with and without a version.
fn just(action: &'static str) -> (&'static str, &'static str) {
    (action, action)
}

pub(super) fn checks<'a>(
    head: &Head<'a>,
    routed: &'a Routed<'a>,
    key: &'a ObjectKey<'a>,
) -> Result<Vec<Check<'a>>, S3Refusal> {
    let object = Object {
        bucket: routed.bucket.unwrap_or_default(),
        key,
        version: routed.version.clone(),
    };
    let read = |action, of_version| object.check((action, of_version), OF_OBJECT, &[]);
    let checks = match routed.operation.name {
        "GetObject" | "HeadObject" => read("s3:GetObject", "s3:GetObjectVersion"),
        "GetObjectAcl" => read("s3:GetObjectAcl", "s3:GetObjectVersionAcl"),
        "GetObjectAttributes" => [
            read("s3:GetObject", "s3:GetObjectVersion"),
            read("s3:GetObjectAttributes", "s3:GetObjectVersionAttributes"),
        ]
        .concat(),
        "GetObjectTagging" => read("s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
        "GetObjectLegalHold" => object.check(just("s3:GetObjectLegalHold"), OF_STORE, &[]),
        "GetObjectRetention" => object.check(just("s3:GetObjectRetention"), OF_STORE, &[]),
        "PutObject" => written(head, &object, "true", &[])?,
        "CopyObject" => copied(head, &object, source(routed)?)?,
        "CreateMultipartUpload" => written(head, &object, "false", &[])?,
        "UploadPart" => part(&object, &[]),
        "UploadPartCopy" => {
            let source = source(routed)?;
            let copied = ("s3:x-amz-copy-source".into(), one(source.as_condition()));
            [source_read(source), part(&object, &[copied])].concat()
        }
        "CompleteMultipartUpload" => {
            let keys: Vec<_> = conditional(head).chain([creation("true")]).collect();
            object.check(just("s3:PutObject"), OF_STORE, &keys)
        }
        "AbortMultipartUpload" => object.check(just("s3:AbortMultipartUpload"), OF_STORE, &[]),
        "ListParts" => object.check(just("s3:ListMultipartUploadParts"), OF_STORE, &[]),
        "DeleteObject" => deletion(head, object.bucket, key, object.version.clone())?,
        "DeleteObjectTagging" => read("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"),
        "PutObjectTagging" => {
            let actions = ("s3:PutObjectTagging", "s3:PutObjectVersionTagging");
            object.check(actions, TAGS, &[])
        }
        "PutObjectAcl" => {
            let keys: Vec<_> = acl(head).collect();
            let actions = ("s3:PutObjectAcl", "s3:PutObjectVersionAcl");
            let unknown = if keys.is_empty() {
                ACL_IN_BODY
            } else {
                OF_OBJECT
            };
            object.check(actions, unknown, &keys)
        }
        "PutObjectLegalHold" => object.check(just("s3:PutObjectLegalHold"), LOCK, &[]),
        "PutObjectRetention" => {
            let mut checks = object.check(just("s3:PutObjectRetention"), LOCK, &[]);
            if bypasses(head)? {
                checks.extend(object.check(just("s3:BypassGovernanceRetention"), LOCK, &[]));
            }
            checks
        }
        "RestoreObject" => {
            return Err(S3Refusal::new(
                Code::NotImplemented,
                "This broker does not support RestoreObject, because its body may name a bucket to write into, \
                 and the broker does not see the body.",
            ));
        }
        name => return Err(not_supported(name)),
    };
    Ok(checks)
}

/// Returns the permissions that are needed to delete an object, or one version of it.
pub(super) fn deletion<'a>(
    head: &Head<'a>,
    bucket: &'a str,
    key: &ObjectKey<'a>,
    version: Option<Cow<'a, str>>,
) -> Result<Vec<Check<'a>>, S3Refusal> {
    let object = Object {
        bucket,
        key,
        version,
    };
    let keys: Vec<_> = key_of(head, "if-match").into_iter().collect();
    let actions = ("s3:DeleteObject", "s3:DeleteObjectVersion");
    let mut checks = object.check(actions, OF_STORE, &keys);
    if bypasses(head)? {
        checks.extend(object.check(just("s3:BypassGovernanceRetention"), LOCK, &[]));
    }
    Ok(checks)
}

/// Returns whether the request asks to bypass governance retention.
fn bypasses(head: &Head<'_>) -> Result<bool, S3Refusal> {
    match head.header("x-amz-bypass-governance-retention") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(S3Refusal::new(
            Code::InvalidArgument,
            "The header 'x-amz-bypass-governance-retention' must be `true` or `false`.",
        )),
    }
}

fn source<'a>(routed: &'a Routed<'a>) -> Result<&'a CopySource<'a>, S3Refusal> {
    let source = routed.source.as_ref();
    source.ok_or_else(|| {
        S3Refusal::new(
            Code::InvalidArgument,
            "The header 'x-amz-copy-source' is missing.",
        )
    })
}

fn object_of<'a>(source: &'a CopySource<'a>) -> Object<'a, 'a> {
    Object {
        bucket: source.bucket,
        key: &source.key,
        version: source.version.map(Cow::Borrowed),
    }
}

fn source_read<'a>(source: &'a CopySource<'a>) -> Vec<Check<'a>> {
    object_of(source).check(("s3:GetObject", "s3:GetObjectVersion"), OF_OBJECT, &[])
}

/// Returns the permissions that are needed to upload a part. The properties of the object were
/// checked when the upload began.
fn part<'a>(object: &Object<'a, '_>, keys: &[(Cow<'static, str>, Value<'a>)]) -> Vec<Check<'a>> {
    let keys: Vec<_> = keys.iter().cloned().chain([creation("false")]).collect();
    object.check(just("s3:PutObject"), OF_STORE, &keys)
}

/// Returns the permissions that are needed to copy an object: to read the source and to write the object, and to read
/// and write tags unless the request replaces them. The broker does not know whether the source has tags, so it always
/// requires the permissions for tags.
fn copied<'a>(
    head: &Head<'a>,
    object: &Object<'a, '_>,
    source: &'a CopySource<'a>,
) -> Result<Vec<Check<'a>>, S3Refusal> {
    let directive = |name: &str| match head.header(name) {
        None | Some("COPY") => Ok(true),
        Some("REPLACE") => Ok(false),
        Some(_) => Err(S3Refusal::new(
            Code::InvalidArgument,
            format!("The header '{name}' must be COPY or REPLACE."),
        )),
    };
    directive("x-amz-metadata-directive")?;
    let mut checks = source_read(source);
    let from = ("s3:x-amz-copy-source".into(), one(source.as_condition()));
    checks.extend(written(head, object, "true", &[from])?);
    if directive("x-amz-tagging-directive")? {
        let actions = ("s3:GetObjectTagging", "s3:GetObjectVersionTagging");
        let read = object_of(source).check(actions, OF_OBJECT, &[]);
        let write = object.check(just("s3:PutObjectTagging"), TAGS, &[]);
        checks.extend(read.into_iter().chain(write).map(|check| Check {
            note: Some(COPIES_TAGS),
            ..check
        }));
    }
    Ok(checks)
}

/// Returns the permissions that are needed to write an object with the properties in the headers,
/// such as tags and retention.
fn written<'a>(
    head: &Head<'a>,
    object: &Object<'a, '_>,
    creates: &'static str,
    more: &[(Cow<'static, str>, Value<'a>)],
) -> Result<Vec<Check<'a>>, S3Refusal> {
    const PLAIN: [&str; 6] = [
        "x-amz-metadata-directive",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-storage-class",
        "x-amz-website-redirect-location",
    ];
    const RETENTION: [&str; 2] = [
        "x-amz-object-lock-mode",
        "x-amz-object-lock-retain-until-date",
    ];
    const HOLD: &str = "x-amz-object-lock-legal-hold";
    let mut keys: Vec<(Cow<'static, str>, Value<'a>)> = more.to_vec();
    keys.extend(acl(head));
    keys.extend(PLAIN.into_iter().filter_map(|name| key_of(head, name)));
    keys.extend(conditional(head));
    keys.push(creation(creates));
    for name in RETENTION.into_iter().chain([HOLD]) {
        if let (Some(value), Some(short)) = (head.header(name), name.strip_prefix("x-amz-")) {
            keys.push((["s3:", short].concat().into(), one(value)));
        }
    }
    let tags = head.header("x-amz-tagging");
    if let Some(tags) = tags {
        let tags = tagging::parse(tags)?;
        for (key, value) in &tags {
            let name = ["s3:requestobjecttag/", &key.to_ascii_lowercase()].concat();
            keys.push((name.into(), one(value.clone())));
        }
        let names = tags.into_iter().map(|(key, _)| key).collect();
        keys.push(("s3:requestobjecttagkeys".into(), Value::Many(names)));
    }
    let locks = RETENTION.iter().any(|name| head.header(name).is_some());
    let unknown = if locks { LOCKED } else { OF_STORE };
    let mut checks = object.check(just("s3:PutObject"), unknown, &keys);
    let also = [
        ("s3:PutObjectAcl", has_acl(head)),
        ("s3:PutObjectTagging", tags.is_some()),
        ("s3:PutObjectRetention", locks),
        ("s3:PutObjectLegalHold", head.header(HOLD).is_some()),
    ];
    for (action, _) in also.into_iter().filter(|(_, needed)| *needed) {
        checks.extend(object.check(just(action), unknown, &keys));
    }
    Ok(checks)
}

/// Returns the condition keys of the headers that make a write conditional.
fn conditional<'a>(
    head: &Head<'a>,
) -> impl Iterator<Item = (Cow<'static, str>, Value<'a>)> + use<'a> {
    let names = ["if-match", "if-none-match"];
    names.map(|name| key_of(head, name)).into_iter().flatten()
}

/// Returns the condition key `s3:ObjectCreationOperation`, which says whether the request itself
/// creates the object.
fn creation<'a>(creates: &'static str) -> (Cow<'static, str>, Value<'a>) {
    ("s3:objectcreationoperation".into(), one(creates))
}
