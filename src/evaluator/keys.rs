//! The condition keys that AWS documents for global use, IAM, STS and federation: which of them a
//! request to this broker has, when, and with which value.
//!
//! A documented key that AWS has in a request and this broker had not would make a Deny on it deny
//! nothing. So every documented key has an entry here, also those that no request here can have:
//! `brevet policy check` warns where a statement depends on one of these. `docs/condition-keys.md` shows
//! this table; a test compares the two.

use super::document::Kind;

/// What a key's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text.
    String,
    /// An ARN.
    Arn,
    /// `true` or `false`.
    Bool,
    /// ISO 8601 or seconds since 1970.
    Date,
    /// A number.
    Numeric,
    /// An address.
    IpAddress,
}

/// When a request has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Every request that a policy decides has it.
    Always,
    /// A clause that says when: "on temporary credentials".
    When(&'static str),
    /// No request has it; a clause that says why.
    Never(&'static str),
}

/// The page that documents a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// IAM User Guide, "AWS global condition context keys".
    Global,
    /// IAM User Guide, "IAM and AWS STS condition context keys", "Available keys for IAM".
    Iam,
    /// The same page, "Available keys for AWS OIDC federation".
    Oidc,
    /// The same page, "Available keys for SAML-based AWS STS federation".
    Saml,
    /// The same page, "Available keys for AWS STS".
    Sts,
}

/// A condition key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As AWS writes it; a trailing `/` stands for a family of keys. A leading `:` stands for the name of
    /// an OpenID Connect provider, and `:` alone for any claim of its tokens.
    pub name: &'static str,
    /// Of its values.
    pub r#type: Type,
    /// Whether it may have several values.
    pub multivalued: bool,
    /// When a request has it.
    pub presence: Presence,
    /// What it says where it is present.
    pub value: &'static str,
    /// Where AWS documents it.
    pub source: Source,
}

use Presence::{Always, Never, When};
use Source::{Global, Iam, Oidc, Saml, Sts};
use Type::{Arn, Bool, Date, IpAddress, Numeric, String};

const fn one(
    source: Source,
    name: &'static str,
    r#type: Type,
    presence: Presence,
    value: &'static str,
) -> Key {
    Key {
        name,
        r#type,
        multivalued: false,
        presence,
        value,
        source,
    }
}

const fn many(
    source: Source,
    name: &'static str,
    r#type: Type,
    presence: Presence,
    value: &'static str,
) -> Key {
    Key {
        name,
        r#type,
        multivalued: true,
        presence,
        value,
        source,
    }
}

const fn never(source: Source, name: &'static str, r#type: Type, why: &'static str) -> Key {
    Key {
        name,
        r#type,
        multivalued: false,
        presence: Never(why),
        value: "",
        source,
    }
}

const fn never_many(source: Source, name: &'static str, r#type: Type, why: &'static str) -> Key {
    Key {
        name,
        r#type,
        multivalued: true,
        presence: Never(why),
        value: "",
        source,
    }
}

const SIGNED: Presence = When("on every signed call; AssumeRoleWithWebIdentity is not signed");
const TEMPORARY: Presence = When("on temporary credentials");
const NO_ORGANIZATION: &str = "accounts are in no organization";
const NO_SERVICE: &str = "no AWS service calls this broker";
const NO_VPC: &str = "no request comes through a VPC endpoint";
const NO_RUNTIME: &str = "no AWS service hands out sessions of this broker";
const NO_MCP: &str = "no AWS MCP server calls this broker";
const NO_SAML: &str = "AssumeRoleWithSAML is not answered";
const NO_CONTEXT: &str = "ProvidedContexts are refused";
const NO_ACTION: &str = "no action that has it is answered";
const NO_FIDO: &str = "FIDO security keys are not registered here";

/// The table, in the order of AWS's pages.
pub const KEYS: &[Key] = &[
    one(
        Global,
        "aws:PrincipalArn",
        Arn,
        SIGNED,
        "the user's ARN; on a role session its role's; of a federated user its own",
    ),
    one(
        Global,
        "aws:PrincipalAccount",
        String,
        SIGNED,
        "the principal's account",
    ),
    never_many(Global, "aws:PrincipalOrgPaths", String, NO_ORGANIZATION),
    never(Global, "aws:PrincipalOrgID", String, NO_ORGANIZATION),
    one(
        Global,
        "aws:PrincipalTag/",
        String,
        When("for each tag of the user, of the role and of the session"),
        "the tag's value; a session tag overrides a role's",
    ),
    one(Global, "aws:PrincipalIsAWSService", Bool, SIGNED, "`false`"),
    never(Global, "aws:PrincipalServiceName", String, NO_SERVICE),
    never_many(Global, "aws:PrincipalServiceNamesList", String, NO_SERVICE),
    one(
        Global,
        "aws:PrincipalType",
        String,
        SIGNED,
        "`User`, `AssumedRole` or `FederatedUser`",
    ),
    one(
        Global,
        "aws:userid",
        String,
        SIGNED,
        "`AIDA…`, `AROA…:SESSION` or `ACCOUNT:NAME`",
    ),
    one(
        Global,
        "aws:username",
        String,
        When("on a user's access key and on its own sessions"),
        "the user's name",
    ),
    never(
        Global,
        "aws:AssumedRoot",
        Bool,
        "AssumeRoot is not answered",
    ),
    one(
        Global,
        "aws:FederatedProvider",
        String,
        When(
            "on AssumeRoleWithWebIdentity, and on the session that it made; not on sessions that were assumed with that one",
        ),
        "the provider's ARN",
    ),
    one(
        Global,
        "aws:TokenIssueTime",
        Date,
        TEMPORARY,
        "when this session was issued",
    ),
    never(
        Global,
        "aws:SignInSessionArn",
        Arn,
        "sessions do not come from AWS Sign-In",
    ),
    one(
        Global,
        "aws:MultiFactorAuthAge",
        Numeric,
        When("where an MFA code was given: with the call, or for the user's own session"),
        "seconds since then",
    ),
    one(
        Global,
        "aws:MultiFactorAuthPresent",
        Bool,
        When("on temporary credentials, and where an MFA code comes with the call"),
        "`true` where an MFA code was given, with the call or for the user's own session",
    ),
    never(Global, "aws:ChatbotSourceArn", Arn, NO_RUNTIME),
    never(Global, "aws:Ec2InstanceSourceVpc", String, NO_RUNTIME),
    never(
        Global,
        "aws:Ec2InstanceSourcePrivateIPv4",
        IpAddress,
        NO_RUNTIME,
    ),
    one(
        Global,
        "aws:SourceIdentity",
        String,
        When("on a session that has a source identity"),
        "the source identity",
    ),
    never(Global, "ec2:RoleDelivery", Numeric, NO_RUNTIME),
    never(Global, "ec2:SourceInstanceArn", Arn, NO_RUNTIME),
    never(Global, "glue:RoleAssumedBy", String, NO_RUNTIME),
    never(Global, "glue:CredentialIssuingService", String, NO_RUNTIME),
    never(Global, "codebuild:BuildArn", Arn, NO_RUNTIME),
    never(Global, "codebuild:ProjectArn", Arn, NO_RUNTIME),
    never(Global, "lambda:SourceFunctionArn", Arn, NO_RUNTIME),
    never(Global, "ssm:SourceInstanceArn", Arn, NO_RUNTIME),
    never(
        Global,
        "identitystore:UserId",
        String,
        "there are no users of IAM Identity Center",
    ),
    one(
        Global,
        "aws:SourceIp",
        IpAddress,
        Always,
        "the client's address",
    ),
    never(Global, "aws:SourceVpc", String, NO_VPC),
    never(Global, "aws:SourceVpcArn", Arn, NO_VPC),
    never(Global, "aws:SourceVpce", String, NO_VPC),
    never(Global, "aws:VpceAccount", String, NO_VPC),
    never(Global, "aws:VpceOrgID", String, NO_VPC),
    never_many(Global, "aws:VpceOrgPaths", String, NO_VPC),
    never(Global, "aws:VpcSourceIp", IpAddress, NO_VPC),
    one(
        Global,
        "aws:ResourceAccount",
        String,
        Always,
        "the account of the role, user or device that is asked for; else the caller's",
    ),
    never(Global, "aws:ResourceOrgID", String, NO_ORGANIZATION),
    never_many(Global, "aws:ResourceOrgPaths", String, NO_ORGANIZATION),
    one(
        Global,
        "aws:ResourceTag/",
        String,
        When(
            "for each tag of the role, user or device that is asked for, and of a device that is made",
        ),
        "the tag's value",
    ),
    never_many(Global, "aws:CalledVia", String, NO_SERVICE),
    never(Global, "aws:CalledViaFirst", String, NO_SERVICE),
    never(Global, "aws:CalledViaLast", String, NO_SERVICE),
    never(Global, "aws:CalledViaAWSMCP", String, NO_MCP),
    one(Global, "aws:ViaAWSService", Bool, Always, "`false`"),
    one(Global, "aws:ViaAWSMCPService", Bool, Always, "`false`"),
    one(Global, "aws:CurrentTime", Date, Always, "the broker's time"),
    one(
        Global,
        "aws:EpochTime",
        Date,
        Always,
        "the broker's time in seconds since 1970",
    ),
    one(
        Global,
        "aws:referer",
        String,
        When("when the client sends a `Referer` header"),
        "the header's first 512 characters",
    ),
    one(
        Global,
        "aws:RequestedRegion",
        String,
        Always,
        "the region that the signature names; where nothing is signed, the broker's first region",
    ),
    one(
        Global,
        "aws:RequestTag/",
        String,
        When("for each tag that is passed"),
        "the tag's value",
    ),
    many(
        Global,
        "aws:TagKeys",
        String,
        When("when tags are passed"),
        "the keys of these tags",
    ),
    one(
        Global,
        "aws:SecureTransport",
        Bool,
        Always,
        "whether the connection is TLS",
    ),
    never(Global, "aws:SourceAccount", String, NO_SERVICE),
    never(Global, "aws:SourceArn", Arn, NO_SERVICE),
    never(Global, "aws:SourceOrgID", String, NO_SERVICE),
    never_many(Global, "aws:SourceOrgPaths", String, NO_SERVICE),
    one(
        Global,
        "aws:UserAgent",
        String,
        Always,
        "the first 512 characters of the `User-Agent` header; empty without one",
    ),
    never(Global, "aws:IsMcpServiceAction", Bool, NO_MCP),
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
        When("for each tag of the role or user that is asked for"),
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

/// The entry of a key, whose name is compared without case; none for a key that AWS does not document
/// for these services.
pub fn find(name: &str) -> Option<&'static Key> {
    if let Some(claim) = claim(name) {
        let exact = KEYS.iter().find(|k| {
            k.name
                .strip_prefix(':')
                .is_some_and(|c| c.eq_ignore_ascii_case(claim))
        });
        return exact.or_else(|| KEYS.iter().find(|k| k.name == ":"));
    }
    KEYS.iter().find(|k| match k.name.strip_suffix('/') {
        Some(family) => name
            .split_once('/')
            .is_some_and(|(prefix, rest)| prefix.eq_ignore_ascii_case(family) && !rest.is_empty()),
        None => k.name.eq_ignore_ascii_case(name),
    })
}

/// The claim that a key names after its provider: `sub` of `idp.example.com/tenant:sub`. The name of a
/// provider begins with a host, which has a dot or is the `localhost` of development; the prefix of a
/// service has none.
fn claim(name: &str) -> Option<&str> {
    let (host, _) = name.split_once([':', '/'])?;
    let (provider, claim) = name.rsplit_once(':')?;
    let is_host = host.contains('.') || host.eq_ignore_ascii_case("localhost");
    (is_host && !provider.is_empty() && !claim.is_empty()).then_some(claim)
}

/// Why no request that a policy of this kind decides has the key; none: one can have it.
pub fn why_absent(name: &str, kind: Kind) -> Option<&'static str> {
    let Some(key) = find(name) else {
        return Some("it is not one of the keys that this broker knows");
    };
    match key.presence {
        Never(why) => Some(why),
        // A login is decided by the role's trust policy; whoever logs in has no policies yet.
        _ if key.source == Oidc
            && ![":amr", ":aud", ":sub"].contains(&key.name)
            && !matches!(kind, Kind::Trust | Kind::Resource | Kind::ResourceControl) =>
        {
            Some("of a token's claims a session has `amr`, `aud` and `sub` alone")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Key {
        /// The key as a policy would name it, with the parts that vary in capitals.
        fn written(&self) -> std::string::String {
            match self.name {
                ":" => "PROVIDER:CLAIM".to_owned(),
                name if name.starts_with(':') => format!("PROVIDER{name}"),
                "sts:RequestContext/" => format!("{}CONTEXT-KEY", self.name),
                name if name.ends_with('/') => format!("{name}TAG-KEY"),
                name => name.to_owned(),
            }
        }
    }

    /// The table as the page has it.
    fn markdown() -> std::string::String {
        let mut text =
            "| key | type | present | value | documented under |\n| --- | --- | --- | --- | --- |\n".to_owned();
        for key in KEYS {
            let r#type = match key.r#type {
                String => "String",
                Arn => "ARN",
                Bool => "Bool",
                Date => "Date",
                Numeric => "Numeric",
                IpAddress => "IP address",
            };
            let (present, value) = match key.presence {
                Always => ("always".to_owned(), key.value),
                When(clause) => (clause.to_owned(), key.value),
                Never(why) => (format!("not supported: {why}"), "`policy check` warns"),
            };
            let source = match key.source {
                Global => "global",
                Iam => "IAM",
                Oidc => "OIDC",
                Saml => "SAML",
                Sts => "STS",
            };
            let list = if key.multivalued { ", multivalued" } else { "" };
            text.push_str(&format!(
                "| `{}` | {type}{list} | {present} | {value} | {source} |\n",
                key.written()
            ));
        }
        text
    }

    #[test]
    fn the_page_of_condition_keys_shows_this_table() {
        let page = include_str!("../../docs/condition-keys.md");
        assert!(
            page.contains(&markdown()),
            "docs/condition-keys.md must have this table:\n{}",
            markdown()
        );
    }

    #[test]
    fn every_key_is_found_by_its_name_in_any_case() {
        for key in KEYS {
            let name = key.written().replace("PROVIDER", "idp.example.com/tenant");
            let found = find(&name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(found.name, key.name);
            assert_eq!(find(&name.to_ascii_uppercase()).unwrap().name, key.name);
        }
        let mut names: Vec<_> = KEYS.iter().map(|k| k.name.to_ascii_lowercase()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), KEYS.len(), "a key has two entries");
    }

    #[test]
    fn claims_are_told_from_keys_of_services() {
        for (name, expected) in [
            ("idp.example.com:sub", Some(":sub")),
            ("127.0.0.1:8080/realms/a:sub", Some(":sub")),
            ("localhost:8080:aud", Some(":aud")),
            ("idp.example.com:groups", Some(":")),
            (
                "idp.example.com:https://aws.amazon.com/source_identity",
                Some(":"),
            ),
            ("accounts.google.com:google/organization_number", Some(":")),
            ("aws:PrincipalTag/a.b:sub", Some("aws:PrincipalTag/")),
            ("s3:ExistingObjectTag/a.b:sub", None),
            ("aws:PrincipalTag", None),
            ("aws:PrincipalTag/", None),
            ("s3:prefix", None),
            ("idp.example.com:", None),
            ("sub", None),
        ] {
            assert_eq!(find(name).map(|k| k.name), expected, "{name}");
        }
    }

    #[test]
    fn a_key_can_be_absent_for_one_kind_of_policy_alone() {
        for kind in [Kind::Identity, Kind::Boundary, Kind::Session] {
            assert!(
                why_absent("idp.example.com:groups", kind).is_some(),
                "{kind:?}"
            );
            assert!(
                why_absent("idp.example.com:sub", kind).is_none(),
                "{kind:?}"
            );
        }
        assert!(why_absent("idp.example.com:groups", Kind::Trust).is_none());
        assert_eq!(why_absent("aws:SourceVpc", Kind::Trust), Some(NO_VPC));
        assert!(why_absent("s3:prefix", Kind::Identity).is_some());
    }
}
