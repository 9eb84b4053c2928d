//! The condition keys that a service may set for a request to it: keys with its own prefix, and the
//! tags of its resources and requests. Only the broker sets the keys of the principal, of its
//! session and of the time.

/// The maximum number of condition keys in one request.
pub const MAX_KEYS: usize = 64;
/// The maximum number of values of one key.
const MAX_VALUES: usize = 32;
/// The maximum total length in bytes of all names and values in one request.
pub const MAX_BYTES: usize = 16_384;
/// The maximum length in bytes of a key's name.
const MAX_NAME: usize = 256;
/// The maximum length in bytes of a value.
const MAX_VALUE: usize = 2_048;
/// Prefixes of global condition keys that a service may set, because they describe the request and
/// its resource: IAM User Guide, "AWS global condition context keys", "Properties of the resource"
/// and "Properties of the request".
const FAMILIES: [&str; 2] = ["aws:resourcetag/", "aws:requesttag/"];
const TAG_KEYS: &str = "aws:tagkeys";
/// Keys of a client's connection, which a gateway knows and the broker does not.
const OF_CLIENT: [&str; 4] = [
    "aws:referer",
    "aws:securetransport",
    "aws:sourceip",
    "aws:useragent",
];
/// The key of Amazon S3 that the broker sets by itself.
const RESOURCE_ACCOUNT: &str = "s3:resourceaccount";
/// Prefixes that no service may use, because the broker sets these condition keys and performs
/// these actions itself.
const RESERVED: [&str; 6] = ["aws", "brevet", "iam", "localhost", "saml", "sts"];

/// Returns whether a text may be the prefix of a service's actions and condition keys: 1 to 64 letters, digits and
/// hyphens, and no reserved prefix. Since it has no dot, a service cannot set a key for a claim of an OpenID Connect
/// provider.
pub fn is_service(prefix: &str) -> bool {
    (1..=64).contains(&prefix.len())
        && prefix
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !RESERVED.iter().any(|r| r.eq_ignore_ascii_case(prefix))
}

/// Checks the keys that a service sets for one of its actions.
///
/// # Errors
/// The rule that a key breaks, as a clause that follows the field's name: "must have …".
pub fn check(keys: &[(String, Vec<String>)], service: &str) -> Result<(), String> {
    let allowed = || {
        format!(
            "keys of the service (`{service}:…`), `aws:ResourceTag/…`, `aws:RequestTag/…` and `aws:TagKeys`"
        )
    };
    checked(keys, allowed, |name| is_allowed(name, service))
}

/// Checks the keys that a gateway to an object store sets. These may also be keys of its client's connection, such as
/// `aws:SourceIp`, because the operator trusts the gateway.
///
/// # Errors
/// The rule that a key breaks, as a clause that follows the field's name: "must have …".
pub fn check_of_gateway(keys: &[(String, Vec<String>)]) -> Result<(), String> {
    let is_one = |name: &str, own: &str| own.eq_ignore_ascii_case(name);
    let allowed = || {
        "`aws:ResourceTag/…`, `aws:RequestTag/…`, `aws:TagKeys`, `aws:Referer`, `aws:SecureTransport`, `aws:SourceIp`, \
         `aws:UserAgent`, and keys of Amazon S3 (`s3:…`) except `s3:ResourceAccount`"
            .to_owned()
    };
    checked(keys, allowed, |name| match is_one(name, RESOURCE_ACCOUNT) {
        true => false,
        false => OF_CLIENT.iter().any(|own| is_one(name, own)) || is_allowed(name, "s3"),
    })
}

/// Checks the number, names and lengths of keys. `allowed` describes the keys for which `is_allowed` holds.
fn checked(
    keys: &[(String, Vec<String>)],
    allowed: impl Fn() -> String,
    is_allowed: impl Fn(&str) -> bool,
) -> Result<(), String> {
    if keys.len() > MAX_KEYS || bytes(keys) > MAX_BYTES {
        return Err(format!(
            "must have at most {MAX_KEYS} keys, and at most {MAX_BYTES} bytes of names and values"
        ));
    }
    for (at, (name, values)) in keys.iter().enumerate() {
        if !is_allowed(name) {
            return Err(format!(
                "must have only {}, with names of at most {MAX_NAME} bytes; no other key is accepted, and the broker itself \
                 sets those of the principal, its session and the time",
                allowed()
            ));
        }
        let mut earlier = keys.iter().take(at);
        if earlier.any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err(
                "must not repeat a key; keys are compared without regard to case".to_owned(),
            );
        }
        if !(1..=MAX_VALUES).contains(&values.len()) || values.iter().any(|v| v.len() > MAX_VALUE) {
            return Err(format!(
                "must have 1 to {MAX_VALUES} values of at most {MAX_VALUE} bytes for each key"
            ));
        }
    }
    Ok(())
}

/// The total length in bytes of all names and values, which [`MAX_BYTES`] limits.
pub fn bytes(keys: &[(String, Vec<String>)]) -> usize {
    let of_one = |(name, values): &(String, Vec<String>)| {
        name.len() + values.iter().map(String::len).sum::<usize>()
    };
    keys.iter().map(of_one).sum()
}

fn is_allowed(name: &str, service: &str) -> bool {
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return false;
    }
    let lower = name.to_ascii_lowercase();
    let of_family = |family: &&str| {
        lower
            .strip_prefix(*family)
            .is_some_and(|rest| !rest.is_empty())
    };
    let of_service = name.split_once(':').is_some_and(|(prefix, rest)| {
        prefix.eq_ignore_ascii_case(service) && !rest.is_empty() && is_service(prefix)
    });
    of_service || lower == TAG_KEYS || FAMILIES.iter().any(of_family)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Vec<(String, Vec<String>)> {
        vec![(name.to_owned(), vec!["x".to_owned()])]
    }

    #[test]
    fn az_08_a_service_says_nothing_of_who_asks_and_how() {
        for name in [
            "s3:prefix",
            "S3:Prefix",
            "aws:ResourceTag/team",
            "aws:RequestTag/team",
            "aws:TagKeys",
        ] {
            assert_eq!(check(&key(name), "s3"), Ok(()), "{name}");
        }
        for name in [
            "aws:MultiFactorAuthPresent",
            "AWS:multifactorauthpresent",
            "aws:SourceIp",
            "aws:PrincipalArn",
            "aws:PrincipalTag/team",
            "aws:userid",
            "aws:username",
            "aws:CurrentTime",
            "aws:SourceIdentity",
            "aws:ResourceAccount",
            "aws:ResourceTag/",
            "aws:FederatedProvider",
            "sts:ExternalId",
            "saml:sub",
            "accounts.google.com:sub",
            "localhost:sub",
            "ec2:SourceInstanceARN",
            "s3",
            "s3:",
            ":x",
            "",
        ] {
            assert!(check(&key(name), "s3").is_err(), "{name}");
        }
        for service in [
            "aws",
            "sts",
            "IAM",
            "brevet",
            "saml",
            "localhost",
            "a.b",
            "",
            "a b",
        ] {
            assert!(!is_service(service), "{service}");
            assert!(check(&key(&format!("{service}:x")), service).is_err());
        }
    }

    #[test]
    fn az_08_a_gateway_says_of_its_client_only_what_its_connection_shows() {
        for name in ["aws:SourceIp", "AWS:useragent", "s3:prefix", "s3:VersionId"] {
            assert_eq!(check_of_gateway(&key(name)), Ok(()), "{name}");
        }
        for name in [
            "aws:PrincipalArn",
            "aws:username",
            "aws:PrincipalTag/team",
            "aws:MultiFactorAuthPresent",
            "aws:CurrentTime",
            "aws:RequestedRegion",
            "aws:ResourceAccount",
            "S3:resourceAccount",
            "sts:ExternalId",
            "iam:ResourceTag/team",
        ] {
            assert!(check_of_gateway(&key(name)).is_err(), "{name}");
        }
        let twice = [key("aws:SourceIp"), key("aws:sourceip")].concat();
        assert!(check_of_gateway(&twice).is_err());
    }

    #[test]
    fn keys_are_bounded_and_each_has_one_meaning() {
        let many = |n: usize| {
            (0..n)
                .flat_map(|i| key(&format!("s3:k{i}")))
                .collect::<Vec<_>>()
        };
        assert!(check(&many(MAX_KEYS), "s3").is_ok());
        assert!(check(&many(MAX_KEYS + 1), "s3").is_err());
        let twice = [key("s3:a"), key("S3:A")].concat();
        assert!(check(&twice, "s3").is_err());
        let with = |values: Vec<String>| vec![("s3:a".to_owned(), values)];
        assert!(check(&with(Vec::new()), "s3").is_err());
        assert!(check(&with(vec!["x".repeat(MAX_VALUE)]), "s3").is_ok());
        assert!(check(&with(vec!["x".repeat(MAX_VALUE + 1)]), "s3").is_err());
        assert!(check(&with(vec![String::new(); MAX_VALUES + 1]), "s3").is_err());
        let most = MAX_BYTES / MAX_VALUE;
        assert!(check(&with(vec!["x".repeat(MAX_VALUE); most]), "s3").is_err());
    }
}
