//! The condition keys that a request to this broker can have: name, type, and when it is present.
//! Any other key is legal in a policy and absent from every request.

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

/// A condition key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// In lower case; a trailing `/` or `:`, or a leading `:`, stands for a family of keys.
    pub name: &'static str,
    /// Of its values.
    pub r#type: Type,
    /// Whether it may have several values.
    pub multivalued: bool,
    /// When a request has it.
    pub present: &'static str,
}

const fn key(name: &'static str, r#type: Type, multivalued: bool, present: &'static str) -> Key {
    Key { name, r#type, multivalued, present }
}

/// The table.
pub const KEYS: &[Key] = &[
    key("aws:currenttime", Type::Date, false, "always"),
    key("aws:epochtime", Type::Date, false, "always"),
    key("aws:sourceip", Type::IpAddress, false, "always: the peer's address"),
    key("aws:securetransport", Type::Bool, false, "always: whether the connection is TLS"),
    key("aws:requestedregion", Type::String, false, "always: the broker's own region"),
    key("aws:useragent", Type::String, false, "when the client sends one"),
    key("aws:principalarn", Type::Arn, false, "always; of a role session its role's ARN"),
    key("aws:principalaccount", Type::String, false, "always"),
    key("aws:principaltype", Type::String, false, "always: User, AssumedRole or FederatedUser"),
    key("aws:principaltag/", Type::String, false, "for each tag of the user, or of role and session"),
    key("aws:userid", Type::String, false, "always"),
    key("aws:username", Type::String, false, "on a user's long-term key and its own sessions"),
    key("aws:multifactorauthpresent", Type::Bool, false, "on temporary credentials"),
    key("aws:tokenissuetime", Type::Date, false, "on temporary credentials"),
    key("aws:sourceidentity", Type::String, false, "on a session that has one"),
    key("aws:requesttag/", Type::String, false, "for each session tag that is asked for"),
    key("aws:tagkeys", Type::String, true, "when session tags are asked for"),
    key("aws:resourcetag/", Type::String, false, "for each tag of the role"),
    key("iam:resourcetag/", Type::String, false, "for each tag of the role"),
    key("sts:externalid", Type::String, false, "when it is passed"),
    key("sts:rolesessionname", Type::String, false, "on AssumeRole"),
    key("sts:sourceidentity", Type::String, false, "when one is passed or inherited"),
    key("sts:transitivetagkeys", Type::String, true, "when some are passed"),
    key("aws:multifactorauthage", Type::Numeric, false, "in seconds, where an MFA code was given"),
    key("sts:identitytokenaudience", Type::String, true, "on GetWebIdentityToken"),
    key("sts:signingalgorithm", Type::String, false, "on GetWebIdentityToken"),
    key("sts:durationseconds", Type::Numeric, false, "on GetWebIdentityToken"),
    // With the operations that make such sessions:
    key("aws:federatedprovider", Type::String, false, "on sessions of web identity and SAML"),
    key("saml:", Type::String, false, "of an assertion"),
    key(":aud", Type::String, false, "of a federated token, by provider"),
    key(":sub", Type::String, false, "of a federated token, by provider"),
];

/// The entry of a key given in lower case; none for a key that no request has.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| {
        if k.name.ends_with(['/', ':']) {
            name.strip_prefix(k.name).is_some_and(|rest| !rest.is_empty())
        } else if k.name.starts_with(':') {
            // A provider's name has a dot or a slash; a service's prefix has neither.
            name.strip_suffix(k.name).is_some_and(|provider| provider.contains(['.', '/']))
        } else {
            name == k.name
        }
    })
}
