//! Finds the credentials to sign with, in botocore's order: the environment; then, of the chosen profile, `role_arn`
//! with `source_profile` or `credential_source`, a web identity token, a sign-in of a person, keys in the credentials
//! file, `credential_process`, keys in the configuration file. A source that AWS's tools support and Brevet does not is
//! refused by name: skipping it could sign as somebody else.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::ini::Section;
use super::{Environment, Settings, text, words};
use crate::base::clock::{Clock, SystemClock};
use crate::base::secret::Secret;
use crate::client::{AssumeRole, AssumeRoleWithWebIdentity, Credentials};
use crate::command_line::{Failure, input, terminal};

/// The maximum number of bytes that are read from a `credential_process`.
const MAX_OUTPUT_BYTES: u64 = 64 << 10;
/// The maximum length in bytes of a web identity token that STS accepts.
const MAX_TOKEN_BYTES: u64 = 20_000;
/// The variable with the names of the profiles whose `credential_process` is running, one per line. A
/// process that calls `brevet` with its own profile is refused, because it would start itself for ever.
const RUNNING: &str = "BREVET_CREDENTIAL_PROCESS_OF";

/// Credentials, and a text that says where they were found.
pub(crate) struct Found {
    pub(crate) credentials: Credentials,
    pub(crate) from: String,
}

impl Found {
    fn new(credentials: Credentials, from: impl Into<String>) -> Self {
        Self {
            credentials,
            from: from.into(),
        }
    }
}

/// Finds the credentials to sign with.
///
/// # Errors
/// There are none, a setting is incomplete or not supported (the message names it), a file cannot be read, a
/// `credential_process` fails, or the broker refuses the role that the profile assumes or does not answer.
pub(super) async fn find(settings: &Settings) -> Result<Found, Failure> {
    let environment = &settings.environment;
    // A profile that is named by a flag takes precedence over keys in the environment, as in AWS's tools.
    let by_flag = settings
        .profile
        .as_ref()
        .is_some_and(|p| p.from == "--profile");
    if !by_flag && let Some(found) = of_environment(environment)? {
        return Ok(found);
    }
    let name = settings.profile_name();
    let profile = settings.files.profile(name).unwrap_or_default();
    if is_role(&profile) {
        return role(settings, name, vec![name.to_owned()]).await;
    }
    let variables = if by_flag { None } else { Some(environment) };
    match of_profile(settings, name, &profile, variables).await? {
        Some(found) => Ok(found),
        None => Err(nothing(settings)),
    }
}

/// Finds the keys in the environment, if AWS_ACCESS_KEY_ID is set.
fn of_environment(environment: &Environment) -> Result<Option<Found>, Failure> {
    let Some(id) = environment.get("AWS_ACCESS_KEY_ID") else {
        return Ok(None);
    };
    let secret = environment.get("AWS_SECRET_ACCESS_KEY").ok_or(
        "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not; export both, or unset both",
    )?;
    let token = ["AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"]
        .into_iter()
        .find_map(|name| Some((name, environment.get(name)?)));
    if let (Some((name, _)), true) = (token, id.starts_with("AKIA")) {
        return Err(format!(
            "AWS_ACCESS_KEY_ID is {id}, a long-term key, but {name} is also set, although long-term keys have no \
             session token; run `unset {name}`"
        )
        .into());
    }
    Ok(Some(Found::new(
        Credentials::new(id, secret, token.map(|(_, token)| token)),
        "AWS_ACCESS_KEY_ID in the environment",
    )))
}

/// Whether a profile assumes a role with the credentials of another source.
fn is_role(profile: &Section) -> bool {
    text(profile, "role_arn").is_some() && text(profile, "web_identity_token_file").is_none()
}

fn has_keys(profile: &Section) -> bool {
    profile.contains_key("aws_access_key_id") || profile.contains_key("aws_secret_access_key")
}

/// Assumes the role of a profile. `visited` lists the profiles that refer to this one by `source_profile`, so that a
/// circle of profiles is refused.
async fn role(settings: &Settings, name: &str, visited: Vec<String>) -> Result<Found, Failure> {
    let profile = settings.files.profile(name).unwrap_or_default();
    let source = match (
        text(&profile, "source_profile"),
        text(&profile, "credential_source"),
    ) {
        (Some(_), Some(_)) => {
            return Err(format!(
                "the profile `{name}` has both source_profile and credential_source; keep one"
            )
            .into());
        }
        (None, None) => {
            let rule = "has role_arn but neither source_profile nor credential_source; set source_profile to the \
                profile whose credentials may assume the role";
            return Err(format!("the profile `{name}` {rule}").into());
        }
        (None, Some("Environment")) => {
            let rule = "has credential_source = Environment, but AWS_ACCESS_KEY_ID is not set; export an access key";
            of_environment(&settings.environment)?
                .ok_or_else(|| format!("the profile `{name}` {rule}"))?
        }
        (None, Some(other)) => {
            let rule = "which brevet does not support; use Environment, or source_profile";
            return Err(
                format!("the profile `{name}` has credential_source = {other}, {rule}").into(),
            );
        }
        (Some(source), None) => source_of(settings, name, source, visited).await?,
    };
    let role_arn = text(&profile, "role_arn").unwrap_or_default();
    let duration = text(&profile, "duration_seconds").map(|d| {
        d.parse::<i32>().map_err(|_| {
            format!("duration_seconds = {d} of the profile `{name}` must be a number of seconds")
        })
    });
    let mfa = match text(&profile, "mfa_serial") {
        Some(serial) if !settings.may_ask => {
            return Err(format!(
                "the profile `{name}` needs a code of the MFA device {serial}, which this command asks for only when \
                it starts; run the command again"
            )
            .into());
        }
        Some(serial) => Some((
            serial.to_owned(),
            terminal::ask_code(serial, "run this command on a terminal")?.to_string(),
        )),
        None => None,
    };
    let session = text(&profile, "role_session_name");
    let request = AssumeRole {
        role_arn: role_arn.to_owned(),
        role_session_name: session.map_or_else(
            || default_session_name(&settings.environment),
            str::to_owned,
        ),
        duration_seconds: duration.transpose()?,
        external_id: text(&profile, "external_id").map(str::to_owned),
        mfa,
        ..AssumeRole::default()
    };
    let from = format!(
        "the profile `{name}`: {role_arn}, assumed with {}",
        source.from
    );
    let assumed = settings
        .client_with(source.credentials)?
        .assume_role(&request)
        .await?;
    Ok(Found::new(assumed.credentials, from))
}

/// Finds the credentials of a `source_profile`.
async fn source_of(
    settings: &Settings,
    name: &str,
    source: &str,
    mut visited: Vec<String>,
) -> Result<Found, Failure> {
    let profile = settings.files.profile(source).ok_or_else(|| {
        format!(
            "the profile `{name}` has source_profile = {source}, but there is no such profile in {} or in the \
             credentials file",
            settings.files.place()
        )
    })?;
    // A profile may name itself, for its own keys.
    if visited.iter().any(|v| v == source) && !(source == name && has_keys(&profile)) {
        let rule = "at least one profile of this chain must have credentials itself";
        return Err(format!(
            "source_profile is circular: {} -> {source}; {rule}",
            visited.join(" -> ")
        )
        .into());
    }
    visited.push(source.to_owned());
    if !has_keys(&profile) && is_role(&profile) {
        return Box::pin(role(settings, source, visited)).await;
    }
    let found = of_profile(settings, source, &profile, None).await?;
    found.ok_or_else(|| {
        format!("the profile `{source}`, which is source_profile of `{name}`, has no credentials")
            .into()
    })
}

/// Finds the credentials of a profile that does not assume a role with another source. If `environment` is
/// set, the variables of a web identity token take precedence over the profile's options.
async fn of_profile(
    settings: &Settings,
    name: &str,
    profile: &Section,
    environment: Option<&Environment>,
) -> Result<Option<Found>, Failure> {
    if let Some(found) = web_identity(settings, name, profile, environment).await? {
        return Ok(Some(found));
    }
    let refused = |option: &str, what: &str| -> Failure {
        format!(
            "the profile `{name}` has {option}, but brevet cannot {what}. Export the profile's credentials first: \
             eval \"$(aws configure export-credentials --profile {name} --format env)\""
        )
        .into()
    };
    if let Some(credentials) = settings
        .sso_credentials(name, profile, SystemClock.now())
        .await?
    {
        let from =
            format!("the role of the profile `{name}`, with the sign-in in ~/.aws/sso/cache");
        return Ok(Some(Found::new(credentials, from)));
    }
    if let Some(keys) = settings.files.credentials.get(name)
        && let Some(found) = keys_of(keys, name, "the credentials file")?
    {
        return Ok(Some(found));
    }
    if let Some(command) = text(profile, "credential_process") {
        return process(settings, name, command).map(Some);
    }
    if let Some(keys) = settings.files.in_config(name)
        && let Some(found) = keys_of(keys, name, "the configuration file")?
    {
        return Ok(Some(found));
    }
    if profile.contains_key("login_session") {
        return Err(refused("login_session", "use sessions of `aws login`"));
    }
    Ok(None)
}

/// Reads the access key in a section. `place` names the file in texts for people.
fn keys_of(section: &Section, name: &str, place: &str) -> Result<Option<Found>, Failure> {
    let Some(id) = text(section, "aws_access_key_id") else {
        return Ok(None);
    };
    let secret = text(section, "aws_secret_access_key").ok_or_else(|| {
        format!(
            "the profile `{name}` in {place} has aws_access_key_id but no aws_secret_access_key; set both"
        )
    })?;
    let token = text(section, "aws_session_token").or_else(|| text(section, "aws_security_token"));
    Ok(Some(Found::new(
        Credentials::new(id, secret, token),
        format!("the profile `{name}` in {place}"),
    )))
}

/// Assumes a role with a token of an OpenID Connect provider, if the environment or the profile names a
/// token file.
async fn web_identity(
    settings: &Settings,
    name: &str,
    profile: &Section,
    environment: Option<&Environment>,
) -> Result<Option<Found>, Failure> {
    let setting = |variable: &str, option: &str| {
        let of_environment = environment.and_then(|e| e.get(variable));
        of_environment
            .or_else(|| text(profile, option))
            .map(str::to_owned)
    };
    let Some(file) = setting("AWS_WEB_IDENTITY_TOKEN_FILE", "web_identity_token_file") else {
        return Ok(None);
    };
    let role_arn = setting("AWS_ROLE_ARN", "role_arn").ok_or_else(|| {
        let variable = match environment {
            Some(_) => "AWS_ROLE_ARN, or ",
            None => "",
        };
        format!("no role is named for the web identity token {file}: set {variable}role_arn of the profile `{name}`")
    })?;
    let session = setting("AWS_ROLE_SESSION_NAME", "role_session_name");
    let request = AssumeRoleWithWebIdentity {
        role_arn: role_arn.clone(),
        role_session_name: session.unwrap_or_else(|| default_session_name(&settings.environment)),
        token: web_identity_token(Path::new(&file))?.into(),
        duration_seconds: None,
        policy: None,
        policy_arns: Vec::new(),
    };
    let answer = settings
        .anonymous()?
        .assume_role_with_web_identity(&request)
        .await?;
    Ok(Some(Found::new(
        answer.role.credentials,
        format!("{role_arn}, assumed with the web identity token {file}"),
    )))
}

/// Reads a token of a provider from a file, or from standard input for `-`.
///
/// # Errors
/// The file cannot be read, or does not look like a JSON Web Token.
pub(crate) fn web_identity_token(file: &Path) -> Result<Secret<String>, Failure> {
    let bytes = input::read(file, MAX_TOKEN_BYTES)?;
    let token = std::str::from_utf8(&bytes)
        .map(str::trim)
        .unwrap_or_default();
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.=".contains(&b);
    if token.is_empty() || !token.bytes().all(legal) {
        return Err(format!(
            "{}: must hold a JSON Web Token and nothing else",
            file.display()
        )
        .into());
    }
    Ok(Secret::new(token.to_owned()))
}

/// The output of a `credential_process`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    version: Option<i64>,
    access_key_id: Option<String>,
    secret_access_key: Option<Zeroizing<String>>,
    session_token: Option<Zeroizing<String>>,
}

/// Runs the `credential_process` of a profile. As with AWS's tools, the command is split into words, and no
/// shell is run.
///
/// # Errors
/// The command calls itself, cannot be run or fails, or its output is not as AWS's tools expect it.
fn process(settings: &Settings, name: &str, command: &str) -> Result<Found, Failure> {
    let fault = |what: String| -> Failure {
        format!("credential_process of the profile `{name}` {what}").into()
    };
    let running = settings.environment.get(RUNNING).unwrap_or_default();
    if running.lines().any(|profile| profile == name) {
        return Err(fault(
            "calls brevet with the same profile again, which would never end; name another profile in that command"
                .into(),
        ));
    }
    let words = words::split(command).map_err(|rule| fault(rule.to_owned()))?;
    let (program, arguments) = words
        .split_first()
        .ok_or_else(|| fault("is empty".into()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .env(RUNNING, format!("{running}\n{name}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| fault(format!("cannot run {program}: {error}")))?;
    let errors = child.stderr.take();
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(errors) = errors {
            // If it cannot be read, the failure is reported without it.
            let _ = errors.take(MAX_OUTPUT_BYTES).read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let mut output = Zeroizing::new(Vec::new());
    if let Some(printed) = child.stdout.take() {
        printed.take(MAX_OUTPUT_BYTES).read_to_end(&mut output)?;
    }
    let status = child.wait()?;
    let errors = errors.join().unwrap_or_default();
    if !status.success() {
        return Err(fault(format!("failed ({status}): {errors}")));
    }
    let printed: Printed = serde_json::from_slice(&output).map_err(|error| {
        fault(format!(
            "did not print JSON in the format of `credential_process`: {error}"
        ))
    })?;
    if printed.version != Some(1) {
        return Err(fault(
            "must print `\"Version\": 1`, the only version that is supported".into(),
        ));
    }
    let missing = |field: &str| fault(format!("printed no {field}"));
    let id = printed
        .access_key_id
        .ok_or_else(|| missing("AccessKeyId"))?;
    let secret = printed
        .secret_access_key
        .ok_or_else(|| missing("SecretAccessKey"))?;
    let token = printed.session_token.as_ref().map(|t| t.as_str());
    Ok(Found::new(
        Credentials::new(&id, &secret, token),
        format!("credential_process of the profile `{name}`"),
    ))
}

/// The error about missing credentials. It says where credentials were looked for, and what to do.
fn nothing(settings: &Settings) -> Failure {
    for variable in [
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ] {
        if settings.environment.get(variable).is_some() {
            return format!("{variable} is set, but brevet does not call container endpoints; use AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN, or a profile").into();
        }
    }
    let profile = match &settings.profile {
        Some(chosen) => format!("the profile `{}` has no credentials", chosen.value),
        None => format!(
            "{} has no profile `default` with credentials",
            settings.files.place()
        ),
    };
    if settings
        .profile
        .as_ref()
        .is_some_and(|chosen| chosen.from == "--profile")
    {
        return format!(
            "there are no credentials to sign with: {profile}. Name another one, or leave out --profile and export an \
             access key (`brevet init` and `brevet serve --dev` print one)"
        )
        .into();
    }
    format!(
        "there are no credentials to sign with: AWS_ACCESS_KEY_ID is not set, and {profile}. Export an access key \
         (`brevet init` and `brevet serve --dev` print one), or name a profile with --profile"
    )
    .into()
}

/// `USER@HOST`, cut and changed to fit the rule for names of sessions: 2 to 64 characters of `[\w+=,.@-]`.
pub(crate) fn default_session_name(environment: &Environment) -> String {
    let user = environment
        .get("USER")
        .or_else(|| environment.get("LOGNAME"))
        .map(str::to_owned);
    let user = user.unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()));
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    session_name(&user, host.split('.').next().unwrap_or_default())
}

fn session_name(user: &str, host: &str) -> String {
    let legal = |c: char| {
        if c.is_ascii_alphanumeric() || "_+=,.-".contains(c) {
            c
        } else {
            '-'
        }
    };
    let part = |text: &str, length: usize| text.chars().map(legal).take(length).collect::<String>();
    match (part(user, 31), part(host, 32)) {
        (user, host) if user.is_empty() && host.is_empty() => "brevet".to_owned(),
        (user, host) => format!("{user}@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_session_name_is_always_legal() {
        for (user, host, expected) in [
            ("alice", "laptop", "alice@laptop"),
            ("a b/ö", "h!", "a-b--@h-"),
            ("", "", "brevet"),
            ("x", "", "x@"),
            (
                &"u".repeat(100),
                &"h".repeat(100),
                &format!("{}@{}", "u".repeat(31), "h".repeat(32)),
            ),
        ] {
            assert_eq!(session_name(user, host), *expected);
            assert!(
                crate::base::names::RoleSessionName::parse(
                    "RoleSessionName",
                    &session_name(user, host)
                )
                .is_ok()
            );
        }
    }
}
