//! A description, without secrets, of everything that determines which credentials sign a call. Two calls
//! with the same description have the same identity, so that a cache of credentials can be keyed by it.

use super::{Settings, text};

/// Variables that contain credentials, or the place of credentials.
const VARIABLES: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
];
/// Options of a profile that determine which credentials it stands for.
const OPTIONS: [&str; 13] = [
    "aws_access_key_id",
    "credential_process",
    "credential_source",
    "external_id",
    "mfa_serial",
    "role_arn",
    "role_session_name",
    "source_profile",
    "sso_account_id",
    "sso_role_name",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
];

/// The variables and options that determine which credentials sign a call: those in [`VARIABLES`], and those in
/// [`OPTIONS`] of the chosen profile and of the profiles to which it refers by `source_profile`.
pub(super) fn of(settings: &Settings) -> Vec<String> {
    let mut parts = Vec::new();
    for name in VARIABLES {
        if let Some(value) = settings.environment.get(name) {
            parts.push(format!("{name}={value}"));
        }
    }
    let mut visited: Vec<String> = Vec::new();
    let mut next = Some(settings.profile_name().to_owned());
    while let Some(name) = next.filter(|name| !visited.contains(name)) {
        let profile = settings.files.profile(&name).unwrap_or_default();
        parts.push(format!("profile {name}"));
        for option in OPTIONS {
            if let Some(value) = text(&profile, option) {
                parts.push(format!("{option}={value}"));
            }
        }
        next = text(&profile, "source_profile").map(str::to_owned);
        visited.push(name);
    }
    // A flag is stronger than the environment, so it matters which of them named the profile.
    parts.extend(
        settings
            .profile
            .as_ref()
            .map(|profile| profile.from.clone()),
    );
    parts
}
