//! The condition keys for claims of OpenID Connect tokens, from the IAM User Guide, "IAM and AWS
//! STS condition context keys", "Available keys for AWS OIDC federation".

use super::Presence::When;
use super::Source::Oidc;
use super::Type::String;
use super::{ConditionKey, many, one};

/// The keys in the order of AWS's page.
pub(super) const KEYS: &[ConditionKey] = &[
    many(
        Oidc,
        ":amr",
        String,
        When(
            "on AssumeRoleWithWebIdentity and on the session that it issued, if the token has the claim",
        ),
        "the claim `amr`; a list gives several values",
    ),
    one(
        Oidc,
        ":aud",
        String,
        When("on AssumeRoleWithWebIdentity and on the session that it issued"),
        "the claim `azp`, or `aud` if there is no `azp`",
    ),
    one(
        Oidc,
        ":email",
        String,
        When("on AssumeRoleWithWebIdentity, if the token has the claim"),
        "the claim `email`",
    ),
    one(
        Oidc,
        ":oaud",
        String,
        When("on AssumeRoleWithWebIdentity"),
        "the claim `aud`; several audiences give several values",
    ),
    one(
        Oidc,
        ":sub",
        String,
        When("on AssumeRoleWithWebIdentity and on the session that it issued"),
        "the claim `sub`",
    ),
    one(
        Oidc,
        ":",
        String,
        When("on AssumeRoleWithWebIdentity, for each claim of the token"),
        "the claim; a list gives several values, and the names of nested claims are joined with `/`",
    ),
];
