//! Claims at the top level of web identity tokens, for services that look for `groups`, `policy` or `scope` there.
//!
//! The operator allows the names of such claims in the configuration. A role lists its claims in its tag
//! `brevet:claims`, and has the value of each claim in a tag of the same name.
//!
//! Only the tags of the role or user itself count, because whoever assumes a role chooses the tags of the session.

use serde_json::{Map, Value};

use crate::base::names::Tag;

/// The tag that names the claims of a role or user, separated by blanks.
pub const TAG: &str = "brevet:claims";
/// The maximum number of claims that a configuration may allow.
pub const MAX_CLAIMS: usize = 16;
/// Claims whose value is a list: RFC 9068 section 2.2.3.1. The tag has the members of the list, separated by blanks.
const LISTS: [&str; 3] = ["groups", "roles", "entitlements"];
/// Claims about the issuer and the audience of the token, about its subject and how it was authenticated, and about
/// security events. A configuration cannot allow them: RFC 7519 section 4.1, RFC 7800, RFC 8417 section 2.2, RFC 8693
/// section 4, OpenID Connect Core 1.0 sections 2 and 7.
const RESERVED: [&str; 25] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "azp",
    "nonce",
    "auth_time",
    "acr",
    "amr",
    "at_hash",
    "c_hash",
    "s_hash",
    "sid",
    "act",
    "may_act",
    "client_id",
    "cnf",
    "events",
    "toe",
    "txn",
    "typ",
    "sub_jwk",
];

/// Whether the configuration may allow a claim with this name: it must be a plain word of at most 64 characters, and
/// must not be a claim that only the broker sets.
pub fn is_allowable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        && name.len() <= 64
        && !RESERVED.iter().any(|r| r.eq_ignore_ascii_case(name))
}

/// The claims in the tags of a role or user. Claims whose names are not in `allowed` are left out.
pub fn of(tags: &[Tag], allowed: &[String]) -> Map<String, Value> {
    let value = |key: &str| {
        let tag = tags.iter().find(|tag| tag.key == key);
        tag.map(|tag| tag.value.as_str())
    };
    let names = value(TAG).unwrap_or_default().split(' ');
    let claims = names.filter(|name| allowed.iter().any(|a| a == name));
    let claims = claims.filter_map(|name| {
        let value = value(name)?;
        let claim = match LISTS.contains(&name) {
            true => value
                .split(' ')
                .filter(|member| !member.is_empty())
                .collect(),
            false => Value::from(value),
        };
        Some((name.to_owned(), claim))
    });
    claims.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Vec<Tag> {
        let tag = |(key, value): &(&str, &str)| Tag {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        pairs.iter().map(tag).collect()
    }

    #[test]
    fn a_claim_needs_the_operator_the_list_and_the_value() {
        let allowed = ["groups", "scope", "policy"].map(str::to_owned);
        let role = tags(&[
            (TAG, "groups scope email  missing"),
            ("groups", "ops  payments"),
            ("scope", "read write"),
            ("policy", "readwrite"),
            ("email", "root@example.com"),
        ]);
        assert_eq!(
            Value::from(of(&role, &allowed)),
            json!({"groups": ["ops", "payments"], "scope": "read write"}),
        );
        assert!(of(&role, &[]).is_empty());
        assert!(of(&tags(&[("groups", "ops")]), &allowed).is_empty());
        assert!(of(&tags(&[(TAG, "groups"), ("Groups", "ops")]), &allowed).is_empty());
        let empty = of(&tags(&[(TAG, "groups"), ("groups", "")]), &allowed);
        assert_eq!(Value::from(empty), json!({"groups": []}));
    }

    #[test]
    fn az_08_what_the_broker_says_is_no_tag() {
        for name in [
            "iss",
            "sub",
            "Aud",
            "exp",
            "nbf",
            "act",
            "amr",
            "cnf",
            "client_id",
        ] {
            assert!(!is_allowable(name), "{name}");
        }
        for name in [
            "",
            "1x",
            "https://sts.amazonaws.com/",
            "a b",
            "é",
            "a.b",
            &"a".repeat(65),
        ] {
            assert!(!is_allowable(name), "{name}");
        }
        for name in ["groups", "policy", "scope", "email", "preferred_username"] {
            assert!(is_allowable(name), "{name}");
        }
    }
}
