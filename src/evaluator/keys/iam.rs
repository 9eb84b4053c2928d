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
    one(
        Iam,
        "iam:AssociatedResourceArn",
        Arn,
        When(
            "when a role is added to an instance profile, or a user or role gets the tag `brevet:instance-profile`",
        ),
        "the ARN of the instance profile, or of the user or role that is tagged",
    ),
    never(Iam, "iam:DelegationDuration", String, NO_ACTION),
    never(Iam, "iam:DelegationRequestOwner", Arn, NO_ACTION),
    never(Iam, "iam:FIDO-FIPS-140-2-certification", String, NO_FIDO),
    never(Iam, "iam:FIDO-FIPS-140-3-certification", String, NO_FIDO),
    never(Iam, "iam:FIDO-certification", String, NO_FIDO),
    never(Iam, "iam:NotificationChannel", String, NO_ACTION),
    never(Iam, "iam:OrganizationsPolicyId", String, NO_ACTION),
    one(
        Iam,
        "iam:PassedToService",
        String,
        When(
            "when a role is added to an instance profile, or a user or role gets the tag `brevet:instance-profile`",
        ),
        "`ec2.amazonaws.com`",
    ),
    one(
        Iam,
        "iam:PermissionsBoundary",
        Arn,
        When("on the actions for users and roles for which AWS documents this key"),
        "the ARN of the requested permissions boundary, or of the one that the user or role has",
    ),
    one(
        Iam,
        "iam:PolicyARN",
        Arn,
        When("when a managed policy is attached or detached"),
        "the ARN of the policy",
    ),
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
