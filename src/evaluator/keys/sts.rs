//! The keys of STS: IAM User Guide, "IAM and AWS STS condition context keys", "Available keys for
//! AWS STS".

use super::Presence::When;
use super::Source::Sts;
use super::Type::{Arn, Bool, Numeric, String};
use super::{Key, NO_ACTION, many, never, never_many, one};

const NO_CONTEXT: &str = "ProvidedContexts are refused";

/// In the order of the page.
pub(super) const KEYS: &[Key] = &[
    never(Sts, "sts:AWSServiceName", String, NO_ACTION),
    one(
        Sts,
        "sts:DurationSeconds",
        Numeric,
        When("on GetWebIdentityToken"),
        "the duration that is asked for, or 300",
    ),
    one(
        Sts,
        "sts:ExternalId",
        String,
        When("on AssumeRole, when it is passed"),
        "ExternalId",
    ),
    many(
        Sts,
        "sts:IdentityTokenAudience",
        String,
        When("on GetWebIdentityToken"),
        "the audiences that are asked for",
    ),
    never(Sts, "sts:RequestContext/", String, NO_CONTEXT),
    never_many(Sts, "sts:RequestContextProviders", Arn, NO_CONTEXT),
    one(
        Sts,
        "sts:RoleAuthorizedByIdp",
        Bool,
        When("on AssumeRoleWithWebIdentity"),
        "`true` if the token's claim `https://aws.amazon.com/roles` names the role, `false` if the token has no such claim; a claim that does not name the role refuses the token",
    ),
    one(
        Sts,
        "sts:RoleSessionName",
        String,
        When("on AssumeRole and AssumeRoleWithWebIdentity"),
        "RoleSessionName",
    ),
    one(
        Sts,
        "sts:SigningAlgorithm",
        String,
        When("on GetWebIdentityToken"),
        "SigningAlgorithm",
    ),
    one(
        Sts,
        "sts:SourceIdentity",
        String,
        When("on AssumeRole and AssumeRoleWithWebIdentity, when one is passed or inherited"),
        "the source identity of the session that is asked for",
    ),
    never(Sts, "sts:TaskPolicyArn", Arn, "AssumeRoot is not answered"),
    many(
        Sts,
        "sts:TransitiveTagKeys",
        String,
        When("when some are passed, and on a session that has transitive tags"),
        "the keys that are passed and those of the session's transitive tags",
    ),
];
