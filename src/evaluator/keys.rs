//! The condition keys that AWS documents for global use, IAM, STS, federation and S3: which of them a
//! request to this broker has, when, and with which value.
//!
//! If AWS has a documented key in a request and this broker did not, a Deny on that key would deny
//! nothing. So every documented key has an entry here, including those that no request to this
//! broker can have: `brevet policy check` warns if a statement depends on one of these.
//! `docs/reference/condition-keys.md` shows this table, and a test compares the two.

mod global;
mod iam;
mod oidc;
mod s3;
mod saml;
mod sts;

use super::kind::PolicyKind;

/// The type of a key's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text, compared with the `String…` operators.
    String,
    /// An Amazon Resource Name, compared with the `Arn…` operators.
    Arn,
    /// `true` or `false`, compared with `Bool`.
    Bool,
    /// A date in ISO 8601 or in seconds since 1970.
    Date,
    /// A decimal number, compared with the `Numeric…` operators.
    Numeric,
    /// An IPv4 or IPv6 address, compared with `IpAddress` and `NotIpAddress`.
    IpAddress,
}

/// When a request has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Every request that policies are evaluated for has it.
    Always,
    /// Only some requests have it. The text says which ones: "on temporary credentials".
    When(&'static str),
    /// No request has it. The text says why.
    Never(&'static str),
    /// Requests to object stores may have it, but its value is not known here; the text says why. A
    /// statement that depends on it never allows, and denies whatever else it covers.
    Unknown(&'static str),
}

/// The AWS documentation page that describes a key.
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
    /// Service Authorization Reference, "Condition keys for Amazon S3".
    S3,
}

/// A documented condition key, and what a request to this broker has for it.
#[derive(Debug, Clone, Copy)]
pub struct ConditionKey {
    /// The name as AWS writes it. A trailing `/` denotes a family of keys. A leading `:` stands in
    /// for the name of an OpenID Connect provider, and a bare `:` for any claim of its tokens.
    pub name: &'static str,
    /// The type of the key's values, which determines the operators that fit.
    pub r#type: Type,
    /// Whether the key may have several values.
    pub multivalued: bool,
    /// Which requests have the key: all, some or none.
    pub presence: Presence,
    /// What value the key has if it is present.
    pub value: &'static str,
    /// The page on which AWS documents the key.
    pub source: Source,
}

const fn one(
    source: Source,
    name: &'static str,
    r#type: Type,
    presence: Presence,
    value: &'static str,
) -> ConditionKey {
    ConditionKey {
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
) -> ConditionKey {
    ConditionKey {
        multivalued: true,
        ..one(source, name, r#type, presence, value)
    }
}

const fn never(
    source: Source,
    name: &'static str,
    r#type: Type,
    why: &'static str,
) -> ConditionKey {
    one(source, name, r#type, Presence::Never(why), "")
}

const fn never_many(
    source: Source,
    name: &'static str,
    r#type: Type,
    why: &'static str,
) -> ConditionKey {
    many(source, name, r#type, Presence::Never(why), "")
}

const fn unknown(
    source: Source,
    name: &'static str,
    r#type: Type,
    presence: Presence,
) -> ConditionKey {
    one(source, name, r#type, presence, "")
}

/// The reason why no request has certain keys of IAM and STS.
const NO_ACTION: &str = "Brevet has no action whose requests have this key";

/// All keys in the order of AWS's pages.
pub fn all() -> impl Iterator<Item = &'static ConditionKey> {
    PAGES.into_iter().flatten()
}

const PAGES: [&[ConditionKey]; 6] = [
    global::KEYS,
    iam::KEYS,
    oidc::KEYS,
    saml::KEYS,
    sts::KEYS,
    s3::KEYS,
];

/// Finds the entry of a key by its name, ignoring case. `None` for a key that AWS does not document
/// for these services.
pub fn find(name: &str) -> Option<&'static ConditionKey> {
    if let Some(claim) = claim(name) {
        let exact = all().find(|k| {
            k.name
                .strip_prefix(':')
                .is_some_and(|c| c.eq_ignore_ascii_case(claim))
        });
        return exact.or_else(|| all().find(|k| k.name == ":"));
    }
    all().find(|k| match k.name.strip_suffix('/') {
        Some(family) => name
            .split_once('/')
            .is_some_and(|(prefix, rest)| prefix.eq_ignore_ascii_case(family) && !rest.is_empty()),
        None => k.name.eq_ignore_ascii_case(name),
    })
}

/// The claim that a key names after its provider: `sub` in `idp.example.com/tenant:sub`. A
/// provider's name begins with a host, which contains a dot or is `localhost` in development; the
/// prefix of a service does not.
fn claim(name: &str) -> Option<&str> {
    let (host, _) = name.split_once([':', '/'])?;
    let (provider, claim) = name.rsplit_once(':')?;
    let is_host = host.contains('.') || host.eq_ignore_ascii_case("localhost");
    (is_host && !provider.is_empty() && !claim.is_empty()).then_some(claim)
}

/// Explains why the value of a key is not known here, although requests may have it.
pub fn why_unknown(name: &str) -> Option<&'static str> {
    match find(name)?.presence {
        Presence::Unknown(why) => Some(why),
        _ => None,
    }
}

/// Explains why a request cannot have the key when a policy of this kind is evaluated. `None` if it
/// can.
pub fn why_absent(name: &str, kind: PolicyKind) -> Option<&'static str> {
    let Some(key) = find(name) else {
        return Some("this broker does not know the key");
    };
    match key.presence {
        Presence::Never(why) => Some(why),
        // A login is decided by the role's trust policy; the caller has no policies of its own yet.
        _ if key.source == Source::Oidc
            && ![":amr", ":aud", ":sub"].contains(&key.name)
            && !matches!(
                kind,
                PolicyKind::Trust | PolicyKind::Resource | PolicyKind::ResourceControl
            ) =>
        {
            Some("a session keeps only the claims `amr`, `aud` and `sub` of its token")
        }
        _ if key.source == Source::Saml
            && !["saml:namequalifier", "saml:sub", "saml:sub_type"].contains(&key.name)
            && !matches!(
                kind,
                PolicyKind::Trust | PolicyKind::Resource | PolicyKind::ResourceControl
            ) =>
        {
            Some(
                "a session keeps only `saml:namequalifier`, `saml:sub` and `saml:sub_type` of its assertion",
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ConditionKey {
        /// The key as a policy would name it, with variable parts in capitals.
        fn written(&self) -> String {
            match self.name {
                ":" => "PROVIDER:CLAIM".to_owned(),
                name if name.starts_with(':') => format!("PROVIDER{name}"),
                "sts:RequestContext/" => format!("{}CONTEXT-KEY", self.name),
                name if name.ends_with('/') => format!("{name}TAG-KEY"),
                name => name.to_owned(),
            }
        }
    }

    /// The table in the form of the page `condition-keys.md`.
    fn markdown() -> String {
        let mut text =
            "| key | type | present | value | documented under |\n| --- | --- | --- | --- | --- |\n".to_owned();
        for key in all() {
            let r#type = match key.r#type {
                Type::String => "String",
                Type::Arn => "ARN",
                Type::Bool => "Bool",
                Type::Date => "Date",
                Type::Numeric => "Numeric",
                Type::IpAddress => "IP address",
            };
            let (present, value) = match key.presence {
                Presence::Always => ("always".to_owned(), key.value),
                Presence::When(clause) => (clause.to_owned(), key.value),
                Presence::Never(why) => (format!("not supported: {why}"), "`policy check` warns"),
                Presence::Unknown(why) => (
                    format!("not known: {why}"),
                    "an Allow that depends on it does not apply, and a Deny does; `policy check` warns",
                ),
            };
            let source = match key.source {
                Source::Global => "global",
                Source::Iam => "IAM",
                Source::Oidc => "OIDC",
                Source::Saml => "SAML",
                Source::Sts => "STS",
                Source::S3 => "S3",
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
        let page = include_str!("../../docs/reference/condition-keys.md");
        assert!(
            page.contains(&markdown()),
            "docs/reference/condition-keys.md must have this table:\n{}",
            markdown()
        );
    }

    #[test]
    fn every_key_is_found_by_its_name_in_any_case() {
        for key in all() {
            let name = key.written().replace("PROVIDER", "idp.example.com/tenant");
            let found = find(&name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(found.name, key.name);
            assert_eq!(find(&name.to_ascii_uppercase()).unwrap().name, key.name);
        }
        let mut names: Vec<_> = all().map(|k| k.name.to_ascii_lowercase()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all().count(), "a key has two entries");
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
            (
                "s3:ExistingObjectTag/a.b:sub",
                Some("s3:ExistingObjectTag/"),
            ),
            ("aws:PrincipalTag", None),
            ("aws:PrincipalTag/", None),
            ("s3:prefix", Some("s3:prefix")),
            ("s3:prefixes", None),
            ("idp.example.com:", None),
            ("sub", None),
        ] {
            assert_eq!(find(name).map(|k| k.name), expected, "{name}");
        }
    }

    #[test]
    fn a_key_can_be_absent_for_one_kind_of_policy_alone() {
        for kind in [
            PolicyKind::Identity,
            PolicyKind::Boundary,
            PolicyKind::Session,
        ] {
            assert!(
                why_absent("idp.example.com:groups", kind).is_some(),
                "{kind:?}"
            );
            assert!(
                why_absent("idp.example.com:sub", kind).is_none(),
                "{kind:?}"
            );
        }
        assert!(why_absent("idp.example.com:groups", PolicyKind::Trust).is_none());
        assert_eq!(
            why_absent("aws:SourceVpc", PolicyKind::Trust),
            Some("no request comes through a VPC endpoint")
        );
        assert!(why_absent("s3:prefix", PolicyKind::Identity).is_none());
        assert!(why_absent("s3:prefixes", PolicyKind::Identity).is_some());
        assert!(why_unknown("S3:ExistingObjectTag/Team").is_some());
        assert!(why_unknown("s3:prefix").is_none());
    }
}
