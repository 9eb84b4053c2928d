//! The condition keys of STS, from the IAM User Guide, "IAM and AWS STS condition context keys",
//! "Available keys for AWS STS".

use super::Presence::When;
use super::Source::Sts;
use super::Type::{Arn, Bool, Numeric, String};
use super::{ConditionKey, NO_ACTION, many, never, never_many, one};

const NO_CONTEXT: &str = "Brevet refuses the parameter ProvidedContexts";

/// The keys in the order of AWS's page.
pub(super) const KEYS: &[ConditionKey] = &[
    never(Sts, "sts:AWSServiceName", String, NO_ACTION),
    one(
        Sts,
        "sts:DurationSeconds",
        Numeric,
        When("on GetWebIdentityToken"),
        "the requested duration in seconds, or 300 if none is given",
    ),
    one(
        Sts,
        "sts:ExternalId",
        String,
        When("on AssumeRole, if the request has an ExternalId"),
        "the parameter ExternalId",
    ),
    many(
        Sts,
        "sts:IdentityTokenAudience",
        String,
        When("on GetWebIdentityToken"),
        "the requested audiences",
    ),
    never(Sts, "sts:RequestContext/", String, NO_CONTEXT),
    never_many(Sts, "sts:RequestContextProviders", Arn, NO_CONTEXT),
    one(
        Sts,
        "sts:RoleAuthorizedByIdp",
        Bool,
        When("on AssumeRoleWithWebIdentity"),
        "`true` if the token's claim `https://aws.amazon.com/roles` names the role, `false` if the token has no such claim; a token whose claim does not name the role is refused",
    ),
    one(
        Sts,
        "sts:RoleSessionName",
        String,
        When(
            "on AssumeRole, AssumeRoleForWorkload, AssumeRoleWithSAML and AssumeRoleWithWebIdentity",
        ),
        "the name of the requested session; on AssumeRoleWithSAML, it is the attribute RoleSessionName of the assertion",
    ),
    one(
        Sts,
        "sts:SigningAlgorithm",
        String,
        When("on GetWebIdentityToken"),
        "the parameter SigningAlgorithm",
    ),
    one(
        Sts,
        "sts:SourceIdentity",
        String,
        When(
            "on AssumeRole, AssumeRoleWithSAML and AssumeRoleWithWebIdentity, when a source identity is passed or \
            inherited",
        ),
        "the source identity of the requested session",
    ),
    never(Sts, "sts:TaskPolicyArn", Arn, "Brevet has no AssumeRoot"),
    many(
        Sts,
        "sts:TransitiveTagKeys",
        String,
        When("when transitive tag keys are passed, and on a session that has transitive tags"),
        "the passed keys and the keys of the session's transitive tags",
    ),
];
