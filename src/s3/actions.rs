//! The permissions that an operation needs: actions, resources, and the condition keys that come
//! from the head of the request.
//!
//! Amazon S3 User Guide, "Required permissions for Amazon S3 API operations", and Service
//! Authorization Reference, "Actions, resources, and condition keys for Amazon S3". Operations that
//! are not listed here are refused.

mod object;

use std::borrow::Cow;

use super::delete_objects;
use super::head::Head;
use super::payload::Payload;
use super::refusal::{Code, S3Refusal};
use super::route::Routed;
use super::store::StoreRules;
use crate::evaluator::Value;

/// One permission that the caller must have for a request.
#[derive(Debug, Clone)]
pub struct Check<'a> {
    /// The action, such as `s3:GetObject`.
    pub action: &'static str,
    /// The bucket that the permission is for, or that contains the object; `None` if the permission
    /// is for the store.
    pub bucket: Option<&'a str>,
    /// The ARN of the bucket or object, or `arn:aws:s3:::*` for the store.
    pub resource: String,
    /// The condition keys of this action, in lower case, besides those that every request has.
    pub keys: Vec<(Cow<'static, str>, Value<'a>)>,
    /// The condition keys whose values the broker does not know, because only the store or the proxy knows them, or
    /// because they are in the body of the request.
    pub unknown: &'static [&'static str],
    /// A sentence for the caller about what to do after a refusal, if that is not obvious.
    pub note: Option<&'static str>,
}

/// The condition keys whose values the broker never knows: only the store knows tags, and only the
/// proxy knows the version of TLS.
const OF_STORE: &[&str] = &["s3:buckettag/", "aws:resourcetag/", "s3:tlsversion"];
const WITH_TAGS_IN_BODY: &[&str] = &[
    "s3:buckettag/",
    "aws:resourcetag/",
    "s3:tlsversion",
    "aws:requesttag/",
    "aws:tagkeys",
    "s3:locationconstraint",
];

/// Returns the condition keys of an action whose values the broker does not know, for the
/// explanation of an earlier refusal.
pub fn unknown_of(action: &str) -> &'static [&'static str] {
    object::unknown_of(action).unwrap_or(match action {
        "s3:CreateBucket" | "s3:PutBucketTagging" => WITH_TAGS_IN_BODY,
        _ => OF_STORE,
    })
}

/// Returns all permissions that a request needs. The caller must have each of them.
///
/// # Errors
/// [`S3Refusal`] if the operation is not supported, if a header has an invalid value, or if the body of DeleteObjects
/// is missing or is not accepted.
pub fn checks<'a>(
    head: &Head<'a>,
    routed: &'a Routed<'a>,
    payload: Payload<'_>,
    rules: &StoreRules,
) -> Result<Vec<Check<'a>>, S3Refusal> {
    if let Some(key) = &routed.key {
        return object::checks(head, routed, key);
    }
    let Some(bucket) = routed.bucket else {
        return match routed.operation.name {
            "ListBuckets" => Ok(vec![Check {
                bucket: None,
                ..Check::on_bucket("s3:ListAllMyBuckets", "*")
            }]),
            name => Err(not_supported(name)),
        };
    };
    let on = |action| Check::on_bucket(action, bucket);
    let checks = match routed.operation.name {
        "CreateBucket" => create_bucket(head, bucket),
        "DeleteBucket" => vec![on("s3:DeleteBucket")],
        "DeleteObjects" => {
            let condemned = delete_objects::read(head, payload, rules)?;
            let mut checks = Vec::with_capacity(condemned.len());
            for each in condemned {
                let version = each.version.map(Cow::Owned);
                checks.extend(object::deletion(head, bucket, &each.key, version)?);
            }
            checks
        }
        "HeadBucket" => vec![on("s3:ListBucket")],
        "ListObjects" | "ListObjectsV2" => vec![listing("s3:ListBucket", bucket, routed)],
        "ListObjectVersions" => vec![listing("s3:ListBucketVersions", bucket, routed)],
        "ListMultipartUploads" => vec![on("s3:ListBucketMultipartUploads")],
        "GetBucketAccelerateConfiguration" => vec![on("s3:GetAccelerateConfiguration")],
        "PutBucketAccelerateConfiguration" => vec![on("s3:PutAccelerateConfiguration")],
        "GetBucketAcl" => vec![on("s3:GetBucketAcl")],
        "PutBucketAcl" => vec![Check {
            unknown: if has_acl(head) {
                OF_STORE
            } else {
                object::ACL_IN_BODY
            },
            ..on("s3:PutBucketAcl").with(acl(head))
        }],
        "GetBucketCors" => vec![on("s3:GetBucketCORS")],
        "PutBucketCors" | "DeleteBucketCors" => vec![on("s3:PutBucketCORS")],
        "GetBucketEncryption" => vec![on("s3:GetEncryptionConfiguration")],
        "PutBucketEncryption" | "DeleteBucketEncryption" => {
            vec![on("s3:PutEncryptionConfiguration")]
        }
        "GetBucketLifecycleConfiguration" => vec![on("s3:GetLifecycleConfiguration")],
        "PutBucketLifecycleConfiguration" | "DeleteBucketLifecycle" => {
            vec![on("s3:PutLifecycleConfiguration")]
        }
        "GetBucketLocation" => vec![on("s3:GetBucketLocation")],
        "GetBucketLogging" => vec![on("s3:GetBucketLogging")],
        "GetBucketNotificationConfiguration" => vec![on("s3:GetBucketNotification")],
        "PutBucketNotificationConfiguration" => vec![on("s3:PutBucketNotification")],
        "GetObjectLockConfiguration" => vec![on("s3:GetBucketObjectLockConfiguration")],
        "PutObjectLockConfiguration" => vec![on("s3:PutBucketObjectLockConfiguration")],
        "GetBucketOwnershipControls" => vec![on("s3:GetBucketOwnershipControls")],
        "PutBucketOwnershipControls" | "DeleteBucketOwnershipControls" => {
            vec![on("s3:PutBucketOwnershipControls")]
        }
        "GetPublicAccessBlock" => vec![on("s3:GetBucketPublicAccessBlock")],
        "PutPublicAccessBlock" | "DeletePublicAccessBlock" => {
            vec![on("s3:PutBucketPublicAccessBlock")]
        }
        "GetBucketRequestPayment" => vec![on("s3:GetBucketRequestPayment")],
        "PutBucketRequestPayment" => vec![on("s3:PutBucketRequestPayment")],
        "GetBucketTagging" => vec![on("s3:GetBucketTagging")],
        "PutBucketTagging" | "DeleteBucketTagging" => vec![Check {
            unknown: WITH_TAGS_IN_BODY,
            ..on("s3:PutBucketTagging")
        }],
        "GetBucketVersioning" => vec![on("s3:GetBucketVersioning")],
        "PutBucketVersioning" => vec![on("s3:PutBucketVersioning")],
        "GetBucketWebsite" => vec![on("s3:GetBucketWebsite")],
        "PutBucketWebsite" => vec![on("s3:PutBucketWebsite")],
        "DeleteBucketWebsite" => vec![on("s3:DeleteBucketWebsite")],
        "GetBucketPolicy" | "GetBucketPolicyStatus" | "PutBucketPolicy" | "DeleteBucketPolicy" => {
            return Err(S3Refusal::new(
                Code::NotImplemented,
                "The policies of buckets are in the broker's directory (Brevet.BucketPolicies) and not in the \
                 object store: change the policy in the directory.",
            ));
        }
        "PutBucketLogging"
        | "PutBucketReplication"
        | "PutBucketInventoryConfiguration"
        | "PutBucketAnalyticsConfiguration" => {
            return Err(S3Refusal::new(
                Code::NotImplemented,
                "This request names, in its body, a bucket into which the object store will write, and the broker \
                 does not see the body: ask the operator of the object store to make this change.",
            ));
        }
        name => return Err(not_supported(name)),
    };
    Ok(checks)
}

impl<'a> Check<'a> {
    /// Returns the name and the version of the object if this is the permission to delete an
    /// object; `None` for any other permission.
    pub fn deleted(&self) -> Option<(&str, Option<&str>)> {
        if !matches!(self.action, "s3:DeleteObject" | "s3:DeleteObjectVersion") {
            return None;
        }
        let key = self.resource.strip_prefix("arn:aws:s3:::")?;
        let key = key.strip_prefix(self.bucket?)?.strip_prefix('/')?;
        let version = self.keys.iter().find_map(|(name, value)| match value {
            Value::One(id) if name == "s3:versionid" => Some(&**id),
            _ => None,
        });
        Some((key, version))
    }

    fn on_bucket(action: &'static str, bucket: &'a str) -> Self {
        Self {
            action,
            bucket: Some(bucket),
            resource: ["arn:aws:s3:::", bucket].concat(),
            keys: Vec::new(),
            unknown: OF_STORE,
            note: None,
        }
    }

    fn with(mut self, keys: impl IntoIterator<Item = (Cow<'static, str>, Value<'a>)>) -> Self {
        self.keys.extend(keys);
        self
    }
}

fn not_supported(name: &str) -> S3Refusal {
    S3Refusal::new(
        Code::NotImplemented,
        format!("This broker does not support {name} for object stores."),
    )
}

/// Returns the permission to list objects, with the request's parameters, such as `prefix`, as
/// condition keys.
fn listing<'a>(action: &'static str, bucket: &'a str, routed: &'a Routed<'a>) -> Check<'a> {
    let parameters = ["prefix", "delimiter", "max-keys"].into_iter();
    let sent = parameters.filter_map(|name| Some((name, routed.parameter(name)?)));
    Check::on_bucket(action, bucket)
        .with(sent.map(|(name, value)| (["s3:", name].concat().into(), one(value))))
}

fn create_bucket<'a>(head: &Head<'a>, bucket: &'a str) -> Vec<Check<'a>> {
    let ownership = key_of(head, "x-amz-object-ownership");
    let keys: Vec<_> = acl(head).chain(ownership).collect();
    let create = Check {
        unknown: WITH_TAGS_IN_BODY,
        ..Check::on_bucket("s3:CreateBucket", bucket).with(keys.clone())
    };
    let mut checks = vec![create];
    let mut also = |action| checks.push(Check::on_bucket(action, bucket).with(keys.clone()));
    if has_acl(head) {
        also("s3:PutBucketAcl");
    }
    if head.header("x-amz-object-ownership").is_some() {
        also("s3:PutBucketOwnershipControls");
    }
    if head.header("x-amz-bucket-object-lock-enabled").is_some() {
        also("s3:PutBucketObjectLockConfiguration");
        also("s3:PutBucketVersioning");
    }
    checks
}

/// The headers that grant permissions on an object or bucket (ACLs).
const ACL: [&str; 6] = [
    "x-amz-acl",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
];

fn has_acl(head: &Head<'_>) -> bool {
    ACL.iter().any(|name| head.header(name).is_some())
}

fn acl<'a>(head: &Head<'a>) -> impl Iterator<Item = (Cow<'static, str>, Value<'a>)> {
    ACL.into_iter().filter_map(|name| key_of(head, name))
}

/// Returns the condition key for a header, which has the prefix `s3:`; `None` if the request does
/// not have the header.
fn key_of<'a>(head: &Head<'a>, name: &str) -> Option<(Cow<'static, str>, Value<'a>)> {
    Some((["s3:", name].concat().into(), one(head.header(name)?)))
}

fn one<'a>(value: impl Into<Cow<'a, str>>) -> Value<'a> {
    Value::One(value.into())
}

#[cfg(test)]
mod tests;
