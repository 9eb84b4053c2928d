//! Environment variables that make AWS's tools act as a session, in a shell and in a child process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use super::Failure;
use super::aws::{FAILED_PROFILE, Settings};
use super::session_credentials::{SessionCredentials, has_only_letters_and};

/// Variables of earlier credentials, each of which would take precedence over the new ones or contradict them.
const STALE: [&str; 4] = [
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SECURITY_TOKEN",
    "AWS_ACCOUNT_ID",
];
/// The variables that [`of_session`] sets.
const OWN: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
];

/// Variables that contain credentials or say where they are. A program that acts as a role must not inherit them.
const OF_CREDENTIALS: [&str; 18] = [
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_ACCOUNT_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_CREDENTIAL_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
];

/// The prefix of variables with tokens for single services, such as AWS_BEARER_TOKEN_BEDROCK.
const OF_TOKENS: &str = "AWS_BEARER_TOKEN_";
/// The variables in which programs look for a proxy.
const OF_PROXIES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// Whether a program that acts as a role must not inherit this variable.
pub(crate) fn is_of_credentials(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| OF_CREDENTIALS.contains(&name) || name.starts_with(OF_TOKENS))
}

/// Returns the variables that exempt 127.0.0.1 from the proxy of a program, so that the proxy sees neither the
/// container endpoint's token nor the credentials. Empty if no proxy is set.
pub(crate) fn without_proxy(
    inherited: impl Fn(&str) -> Option<OsString>,
) -> Vec<(&'static str, OsString)> {
    let set = |name: &str| inherited(name).filter(|value| !value.is_empty());
    if !OF_PROXIES.iter().any(|name| set(name).is_some()) {
        return Vec::new();
    }
    let names = ["no_proxy", "NO_PROXY"];
    let mut hosts = names.iter().find_map(|name| set(name)).unwrap_or_default();
    if !hosts.is_empty() {
        hosts.push(",");
    }
    hosts.push("127.0.0.1");
    names.map(|name| (name, hosts.clone())).into()
}

/// The variables with the credentials of a session.
///
/// # Errors
/// A text for the operator, if a value has a character that such values never have.
pub(crate) fn of_session(session: &SessionCredentials) -> Result<Vec<(String, String)>, Failure> {
    let [id, secret, token, expiration] = OWN;
    checked([
        (id, session.access_key_id.as_str(), ""),
        (secret, session.secret_access_key.expose(), "+/="),
        (token, session.session_token.expose(), "+/=_-"),
        (expiration, &session.expires_at.to_string(), ":-"),
    ])
}

/// Returns the variables that make a program get its credentials from a container endpoint. They also hide the profile
/// files, because SDKs prefer the keys of a profile, and disable the instance metadata service, which some SDKs ask if
/// the endpoint refuses.
///
/// # Errors
/// A value has a character that no URL and no token has.
pub(crate) fn of_endpoint(full_uri: &str, token: &str) -> Result<Vec<(String, String)>, Failure> {
    checked([
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", full_uri, ":/."),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", token, ""),
        ("AWS_CONFIG_FILE", "/dev/null", "/"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null", "/"),
        ("AWS_EC2_METADATA_DISABLED", "true", ""),
    ])
}

/// The variables with the region and the endpoints, so that a program which does not use the
/// profile reaches the same servers.
///
/// # Errors
/// A text for the operator, if a value has a character that no region and no URL has.
pub(crate) fn of_settings(settings: &Settings) -> Result<Vec<(String, String)>, Failure> {
    let region = settings.region.value.as_str();
    let mut endpoints: BTreeMap<String, String> = settings.endpoints_of_profile();
    endpoints.insert(
        "AWS_ENDPOINT_URL_STS".to_owned(),
        settings.endpoint.value.clone(),
    );
    let regions = [
        ("AWS_REGION", region, "-"),
        ("AWS_DEFAULT_REGION", region, "-"),
    ];
    let endpoints = endpoints.iter();
    checked(
        regions
            .into_iter()
            .chain(endpoints.map(|(name, url)| (name.as_str(), url.as_str(), ":/.-_[]%~"))),
    )
}

/// Checks variables, each given as its name, its value, and the characters that the value may contain besides letters
/// and digits. A shell may run the lines that set them.
fn checked<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
) -> Result<Vec<(String, String)>, Failure> {
    variables
        .into_iter()
        .map(|(name, value, more)| {
            if !has_only_letters_and(value, more) || !has_only_letters_and(name, "_") {
                let fault = "its name or its value contains characters that are never part of it";
                return Err(format!("the variable {name} cannot be set: {fault}").into());
            }
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Lines for a POSIX shell that export the credentials, the region and the endpoints, and unset the variables of
/// other credentials.
///
/// # Errors
/// The same as for [`of_session`] and [`of_settings`].
pub(crate) fn exports(
    settings: &Settings,
    session: &SessionCredentials,
) -> Result<String, Failure> {
    let mut lines = format!("unset {}\n", STALE.join(" "));
    for (name, value) in of_session(session)?.iter().chain(&of_settings(settings)?) {
        writeln!(lines, "export {name}='{value}'")?;
    }
    Ok(lines)
}

/// The lines that `--format env` prints after a failure. `eval` then ends with an error, and the shell is left
/// without credentials, instead of with earlier ones that may have more permissions.
pub(crate) fn failed_exports() -> String {
    let mut unset: Vec<&str> = OWN.iter().chain(&STALE).copied().collect();
    unset.retain(|name| *name != "AWS_PROFILE");
    format!(
        "unset {}\nexport AWS_PROFILE='{FAILED_PROFILE}'\nfalse\n",
        unset.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::aws::Environment;

    #[test]
    fn credentials_of_others_are_not_inherited() {
        for name in [
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
            "AWS_BEARER_TOKEN_BEDROCK",
        ] {
            assert!(is_of_credentials(OsStr::new(name)), "{name}");
        }
        for name in ["AWS_REGION", "AWS_ENDPOINT_URL", "PATH", "AWS_BEARER"] {
            assert!(!is_of_credentials(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_proxy_is_not_asked_for_credentials() {
        let of = |set: &[(&str, &str)]| {
            let found = without_proxy(|name| {
                let variable = set.iter().find(|(own, _)| *own == name);
                variable.map(|(_, value)| OsString::from(value))
            });
            let values: Vec<String> = found
                .into_iter()
                .map(|(name, value)| format!("{name}={}", value.display()))
                .collect();
            values.join(" ")
        };
        assert_eq!(of(&[("no_proxy", "a")]), "");
        assert_eq!(of(&[("HTTP_PROXY", "")]), "");
        let proxy = ("http_proxy", "http://proxy:3128");
        assert_eq!(of(&[proxy]), "no_proxy=127.0.0.1 NO_PROXY=127.0.0.1");
        let both = "no_proxy=.example.com,127.0.0.1 NO_PROXY=.example.com,127.0.0.1";
        assert_eq!(of(&[proxy, ("NO_PROXY", ".example.com")]), both);
    }

    #[test]
    fn what_a_shell_would_run_is_never_printed() {
        let settings = Settings::for_tests(Environment::default());
        let printed = |id: &str, secret: &str, token: &str| {
            exports(&settings, &SessionCredentials::for_tests(id, secret, token))
        };
        let good = printed("ASIA0123456789ABCDEF", "ab+/0=", "AB_c-d").unwrap();
        assert!(
            good.contains("export AWS_SESSION_TOKEN='AB_c-d'\n")
                && good.contains("export AWS_REGION='us-east-1'\n")
                && good.contains("export AWS_CREDENTIAL_EXPIRATION='2026-01-02T03:04:05Z'\n")
        );
        assert!(good.contains("export AWS_ENDPOINT_URL_STS='http://127.0.0.1:7480'\n"));
        assert!(good.starts_with(
            "unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SECURITY_TOKEN AWS_ACCOUNT_ID\n"
        ));
        for bad in [
            "$(touch x)",
            "a'b",
            "a`b`",
            "a;b",
            "a b",
            "a\nb",
            "",
            "é",
            "a\\b",
            "a\"b",
            "~",
        ] {
            assert!(printed(bad, "ab", "AB").is_err(), "{bad:?} as an id");
            assert!(printed("ASIA", bad, "AB").is_err(), "{bad:?} as a secret");
            assert!(printed("ASIA", "ab", bad).is_err(), "{bad:?} as a token");
        }
    }
}
