//! The keys of a token's claims: IAM User Guide, "IAM and AWS STS condition context keys",
//! "Available keys for AWS OIDC federation".

use super::Presence::When;
use super::Source::Oidc;
use super::Type::String;
use super::{Key, many, one};

/// In the order of the page.
pub(super) const KEYS: &[Key] = &[
    many(
        Oidc,
        ":amr",
        String,
        When("on AssumeRoleWithWebIdentity, and on the session that it made, if the token has it"),
        "the claim; a list has several values",
    ),
    one(
        Oidc,
        ":aud",
        String,
        When("on AssumeRoleWithWebIdentity, and on the session that it made"),
        "the claim `azp`; without one, `aud`",
    ),
    one(
        Oidc,
        ":email",
        String,
        When("on AssumeRoleWithWebIdentity, if the token has it"),
        "the claim",
    ),
    one(
        Oidc,
        ":oaud",
        String,
        When("on AssumeRoleWithWebIdentity"),
        "the claim `aud`; several audiences are several values",
    ),
    one(
        Oidc,
        ":sub",
        String,
        When("on AssumeRoleWithWebIdentity, and on the session that it made"),
        "the claim",
    ),
    one(
        Oidc,
        ":",
        String,
        When("on AssumeRoleWithWebIdentity, for each claim of the token"),
        "the claim; a list is multivalued, and the names of nested claims are joined by `/`",
    ),
];
