//! The keys of a SAML assertion: IAM User Guide, "IAM and AWS STS condition context keys",
//! "Available keys for SAML-based AWS STS federation".

use super::Presence::When;
use super::Source::Saml;
use super::Type::String;
use super::{ConditionKey, Presence, many, one};

const HERE: Presence = When("on AssumeRoleWithSAML");
const KEPT: Presence = When("on AssumeRoleWithSAML and on the session that it issued");
const SENT: Presence = When("on AssumeRoleWithSAML, if the assertion has the attribute");
const ATTRIBUTE: &str = "the attribute that AWS maps to this key";

/// The SAML condition keys, in the order in which the IAM User Guide lists them.
pub(super) const KEYS: &[ConditionKey] = &[
    one(
        Saml,
        "saml:aud",
        String,
        HERE,
        "the Recipient of the SubjectConfirmationData",
    ),
    many(Saml, "saml:cn", String, SENT, ATTRIBUTE),
    one(Saml, "saml:commonName", String, SENT, ATTRIBUTE),
    one(
        Saml,
        "saml:doc",
        String,
        HERE,
        "`ACCOUNT/PROVIDER`: the account and the name of the provider",
    ),
    many(Saml, "saml:eduorghomepageuri", String, SENT, ATTRIBUTE),
    many(
        Saml,
        "saml:eduorgidentityauthnpolicyuri",
        String,
        SENT,
        ATTRIBUTE,
    ),
    many(Saml, "saml:eduorglegalname", String, SENT, ATTRIBUTE),
    many(Saml, "saml:eduorgsuperioruri", String, SENT, ATTRIBUTE),
    many(Saml, "saml:eduorgwhitepagesuri", String, SENT, ATTRIBUTE),
    many(Saml, "saml:edupersonaffiliation", String, SENT, ATTRIBUTE),
    many(Saml, "saml:edupersonassurance", String, SENT, ATTRIBUTE),
    many(Saml, "saml:edupersonentitlement", String, SENT, ATTRIBUTE),
    many(Saml, "saml:edupersonnickname", String, SENT, ATTRIBUTE),
    one(Saml, "saml:edupersonorgdn", String, SENT, ATTRIBUTE),
    many(Saml, "saml:edupersonorgunitdn", String, SENT, ATTRIBUTE),
    one(
        Saml,
        "saml:edupersonprimaryaffiliation",
        String,
        SENT,
        ATTRIBUTE,
    ),
    one(
        Saml,
        "saml:edupersonprimaryorgunitdn",
        String,
        SENT,
        ATTRIBUTE,
    ),
    one(Saml, "saml:edupersonprincipalname", String, SENT, ATTRIBUTE),
    many(
        Saml,
        "saml:edupersonscopedaffiliation",
        String,
        SENT,
        ATTRIBUTE,
    ),
    many(Saml, "saml:edupersontargetedid", String, SENT, ATTRIBUTE),
    one(Saml, "saml:givenName", String, SENT, ATTRIBUTE),
    one(Saml, "saml:iss", String, HERE, "the Issuer"),
    one(Saml, "saml:mail", String, SENT, ATTRIBUTE),
    one(Saml, "saml:name", String, SENT, ATTRIBUTE),
    one(
        Saml,
        "saml:namequalifier",
        String,
        KEPT,
        "the hash of the Issuer, the account and the name of the provider",
    ),
    one(Saml, "saml:organizationStatus", String, SENT, ATTRIBUTE),
    one(Saml, "saml:primaryGroupSID", String, SENT, ATTRIBUTE),
    one(Saml, "saml:sub", String, KEPT, "the NameID"),
    one(
        Saml,
        "saml:sub_type",
        String,
        KEPT,
        "the Format of the NameID, without the prefix of SAML 2.0",
    ),
    one(Saml, "saml:surname", String, SENT, ATTRIBUTE),
    one(Saml, "saml:uid", String, SENT, ATTRIBUTE),
    one(Saml, "saml:x500UniqueIdentifier", String, SENT, ATTRIBUTE),
];
