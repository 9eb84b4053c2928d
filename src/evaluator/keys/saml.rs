//! The keys of a SAML assertion: IAM User Guide, "IAM and AWS STS condition context keys",
//! "Available keys for SAML-based AWS STS federation".

use super::Source::Saml;
use super::Type::String;
use super::{Key, never, never_many};

const NO_SAML: &str = "AssumeRoleWithSAML is not answered";

/// In the order of the page.
pub(super) const KEYS: &[Key] = &[
    never(Saml, "saml:aud", String, NO_SAML),
    never_many(Saml, "saml:cn", String, NO_SAML),
    never(Saml, "saml:commonName", String, NO_SAML),
    never(Saml, "saml:doc", String, NO_SAML),
    never_many(Saml, "saml:eduorghomepageuri", String, NO_SAML),
    never_many(Saml, "saml:eduorgidentityauthnpolicyuri", String, NO_SAML),
    never_many(Saml, "saml:eduorglegalname", String, NO_SAML),
    never_many(Saml, "saml:eduorgsuperioruri", String, NO_SAML),
    never_many(Saml, "saml:eduorgwhitepagesuri", String, NO_SAML),
    never_many(Saml, "saml:edupersonaffiliation", String, NO_SAML),
    never_many(Saml, "saml:edupersonassurance", String, NO_SAML),
    never_many(Saml, "saml:edupersonentitlement", String, NO_SAML),
    never_many(Saml, "saml:edupersonnickname", String, NO_SAML),
    never(Saml, "saml:edupersonorgdn", String, NO_SAML),
    never_many(Saml, "saml:edupersonorgunitdn", String, NO_SAML),
    never(Saml, "saml:edupersonprimaryaffiliation", String, NO_SAML),
    never(Saml, "saml:edupersonprimaryorgunitdn", String, NO_SAML),
    never(Saml, "saml:edupersonprincipalname", String, NO_SAML),
    never_many(Saml, "saml:edupersonscopedaffiliation", String, NO_SAML),
    never_many(Saml, "saml:edupersontargetedid", String, NO_SAML),
    never(Saml, "saml:givenName", String, NO_SAML),
    never(Saml, "saml:iss", String, NO_SAML),
    never(Saml, "saml:mail", String, NO_SAML),
    never(Saml, "saml:name", String, NO_SAML),
    never(Saml, "saml:namequalifier", String, NO_SAML),
    never(Saml, "saml:organizationStatus", String, NO_SAML),
    never(Saml, "saml:primaryGroupSID", String, NO_SAML),
    never(Saml, "saml:sub", String, NO_SAML),
    never(Saml, "saml:sub_type", String, NO_SAML),
    never(Saml, "saml:surname", String, NO_SAML),
    never(Saml, "saml:uid", String, NO_SAML),
    never(Saml, "saml:x500UniqueIdentifier", String, NO_SAML),
];
