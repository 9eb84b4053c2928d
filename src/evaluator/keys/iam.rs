//! The condition keys of IAM, from the IAM User Guide, "IAM and AWS STS condition context keys",
//! "Available keys for IAM".

use super::Presence::When;
use super::Source::Iam;
use super::Type::{Arn, Numeric, String};
use super::{ConditionKey, NO_ACTION, never, never_many, one};

const NO_FIDO: &str = "Brevet does not register FIDO security keys";

/// The keys in the order of AWS's page.
pub(super) const KEYS: &[ConditionKey] = &[
    never(Iam, "iam:AWSServiceName", String, NO_ACTION),
    never_many(Iam, "iam:AccountPropertyNamespaces", String, NO_ACTION),
    never(Iam, "iam:AssociatedResourceArn", Arn, NO_ACTION),
    never(Iam, "iam:DelegationDuration", String, NO_ACTION),
    never(Iam, "iam:DelegationRequestOwner", Arn, NO_ACTION),
    never(Iam, "iam:FIDO-FIPS-140-2-certification", String, NO_FIDO),
    never(Iam, "iam:FIDO-FIPS-140-3-certification", String, NO_FIDO),
    never(Iam, "iam:FIDO-certification", String, NO_FIDO),
    never(Iam, "iam:NotificationChannel", String, NO_ACTION),
    never(Iam, "iam:OrganizationsPolicyId", String, NO_ACTION),
    never(Iam, "iam:PassedToService", String, NO_ACTION),
    never(Iam, "iam:PermissionsBoundary", Arn, NO_ACTION),
    never(Iam, "iam:PolicyARN", Arn, NO_ACTION),
    never(Iam, "iam:RegisterSecurityKey", String, NO_FIDO),
    one(
        Iam,
        "iam:ResourceTag/",
        String,
        When("for each tag of the requested role or user"),
        "the tag's value",
    ),
    never(Iam, "iam:RoleTemplateARN", Arn, NO_ACTION),
    never(
        Iam,
        "iam:ServiceSpecificCredentialAgeDays",
        Numeric,
        NO_ACTION,
    ),
    never(
        Iam,
        "iam:ServiceSpecificCredentialServiceName",
        String,
        NO_ACTION,
    ),
    never(Iam, "iam:TemplateArn", Arn, NO_ACTION),
];
