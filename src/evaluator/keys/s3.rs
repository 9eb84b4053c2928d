//! The condition keys of Amazon S3, from the Service Authorization Reference, "Actions, resources, and
//! condition keys for Amazon S3", "Condition keys for Amazon S3". Keys of access points, jobs and Storage
//! Lens, which Brevet does not have, are left out.

use super::Presence::{Unknown, When};
use super::Source::S3;
use super::Type::{Date, Numeric, String};
use super::{ConditionKey, Presence, many, one, unknown};

const SIGNED: Presence = When("on signed requests to object stores");
const LISTING: Presence = When("on a list of objects or versions, if the parameter is sent");
const HEADER: Presence =
    When("on the actions that have this header, if it is sent; not on the parts of an upload");

const OBJECT: Presence =
    Unknown("only the object store knows its value; the head of the request does not contain it");

/// The keys in alphabetical order.
pub(super) const KEYS: &[ConditionKey] = &[
    one(
        S3,
        "s3:authType",
        String,
        SIGNED,
        "`REST-HEADER`, or `REST-QUERY-STRING` for a presigned URL",
    ),
    unknown(S3, "s3:BucketTag/", String, OBJECT),
    one(
        S3,
        "s3:delimiter",
        String,
        LISTING,
        "the parameter `delimiter`",
    ),
    unknown(S3, "s3:ExistingObjectTag/", String, OBJECT),
    one(S3, "s3:if-match", String, HEADER, "the header `If-Match`"),
    one(
        S3,
        "s3:if-none-match",
        String,
        HEADER,
        "the header `If-None-Match`",
    ),
    unknown(
        S3,
        "s3:locationconstraint",
        String,
        Unknown("its value is in the body of the request, which the broker does not see"),
    ),
    one(
        S3,
        "s3:max-keys",
        Numeric,
        LISTING,
        "the parameter `max-keys`",
    ),
    one(S3, "s3:object-lock-legal-hold", String, HEADER, BODY_HOLD),
    one(S3, "s3:object-lock-mode", String, HEADER, BODY_MODE),
    unknown(
        S3,
        "s3:object-lock-remaining-retention-days",
        Numeric,
        Unknown("its value depends on how the object store counts days"),
    ),
    one(
        S3,
        "s3:object-lock-retain-until-date",
        Date,
        HEADER,
        BODY_DATE,
    ),
    one(
        S3,
        "s3:ObjectCreationOperation",
        String,
        When("when an object or a part is written"),
        "`true` for PutObject, CopyObject and CompleteMultipartUpload, otherwise `false`",
    ),
    one(
        S3,
        "s3:prefix",
        String,
        LISTING,
        "the parameter `prefix`, decoded",
    ),
    one(S3, "s3:RequestObjectTag/", String, HEADER, BODY_TAG),
    many(S3, "s3:RequestObjectTagKeys", String, HEADER, BODY_TAG_KEYS),
    one(
        S3,
        "s3:ResourceAccount",
        String,
        When("on requests to object stores"),
        "the account that owns the bucket",
    ),
    one(
        S3,
        "s3:signatureAge",
        Numeric,
        SIGNED,
        "the milliseconds since the date of the signature",
    ),
    one(
        S3,
        "s3:signatureversion",
        String,
        SIGNED,
        "`AWS4-HMAC-SHA256`",
    ),
    unknown(
        S3,
        "s3:TlsVersion",
        Numeric,
        Unknown("only the proxy in front of the object store knows its value"),
    ),
    one(
        S3,
        "s3:VersionId",
        String,
        When("on the actions for versions of objects, if the request names a version"),
        "the id of the version",
    ),
    one(S3, "s3:x-amz-acl", String, HEADER, "the header"),
    one(
        S3,
        "s3:x-amz-content-sha256",
        String,
        When("on requests to object stores"),
        "the hash of the payload that the request declares, or a word such as `UNSIGNED-PAYLOAD`",
    ),
    one(
        S3,
        "s3:x-amz-copy-source",
        String,
        HEADER,
        "the bucket and the object of the source, decoded, without a slash at the beginning and without the version",
    ),
    one(
        S3,
        "s3:x-amz-grant-full-control",
        String,
        HEADER,
        "the header",
    ),
    one(S3, "s3:x-amz-grant-read", String, HEADER, "the header"),
    one(S3, "s3:x-amz-grant-read-acp", String, HEADER, "the header"),
    one(S3, "s3:x-amz-grant-write", String, HEADER, "the header"),
    one(S3, "s3:x-amz-grant-write-acp", String, HEADER, "the header"),
    one(
        S3,
        "s3:x-amz-metadata-directive",
        String,
        HEADER,
        "the header",
    ),
    one(
        S3,
        "s3:x-amz-object-ownership",
        String,
        HEADER,
        "the header",
    ),
    one(
        S3,
        "s3:x-amz-server-side-encryption",
        String,
        HEADER,
        "the header",
    ),
    one(
        S3,
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
        String,
        HEADER,
        "the header",
    ),
    one(
        S3,
        "s3:x-amz-server-side-encryption-customer-algorithm",
        String,
        HEADER,
        "the header",
    ),
    one(S3, "s3:x-amz-storage-class", String, HEADER, "the header"),
    one(
        S3,
        "s3:x-amz-website-redirect-location",
        String,
        HEADER,
        "the header",
    ),
];

const BODY_HOLD: &str = "the header `x-amz-object-lock-legal-hold`; unknown on PutObjectLegalHold, which sends this \
value in its body";
const BODY_MODE: &str = "the header `x-amz-object-lock-mode`; unknown on PutObjectRetention, which sends this value in its body";
const BODY_DATE: &str = "the header `x-amz-object-lock-retain-until-date`; unknown on PutObjectRetention, which sends \
this value in its body";
const BODY_TAG: &str = "the tag's value in the header `x-amz-tagging`; unknown on PutObjectTagging, which sends the \
tags in its body";
const BODY_TAG_KEYS: &str = "the keys in the header `x-amz-tagging`; unknown on PutObjectTagging, which sends the \
tags in its body";
