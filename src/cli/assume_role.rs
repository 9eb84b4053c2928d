//! `brevet assume-role`: gets credentials for a role over gRPC, and prints them for a shell, a program or
//! AWS's own tools.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::aws::{self, FAILED_PROFILE, Settings};
use super::{CallArguments, Failure, input, print, terminal, values};
use crate::base::secret::Secret;
use crate::client::{
    AssumeRole, AssumeRoleWithSaml, AssumeRoleWithWebIdentity, AssumedRole, Credentials, SamlRole,
    WebIdentityRole,
};

/// The most bytes of a response that are read. The broker has a lower limit.
const MAX_RESPONSE_BYTES: u64 = 256 << 10;

const EXAMPLES: &str = "\
Examples:
  eval \"$(brevet assume-role --role-arn Demo --format env)\"
      Makes the shell act as the role. If the call fails, the shell is left without credentials.
  brevet assume-role --role-arn arn:aws:iam::111122223333:role/Demo --role-session-name deploy-42
      Prints JSON, as `aws sts assume-role` does.
  brevet assume-role --role-arn Admin --serial-number arn:aws:iam::111122223333:mfa/alice
      Asks for the code of the MFA device on the terminal.
  brevet assume-role --web-identity-token-file ci.jwt --role-arn arn:aws:iam::111122223333:role/C
      Proves who you are with the provider's token instead of an access key.

  brevet assume-role --saml-response-file r --saml-provider-arn \"$IDP\" --role-arn \"$ROLE\"
      Proves who you are with the response of the SAML identity provider IDP.";

/// Get credentials for a role, over gRPC
///
/// Asks the broker for a session of a role and prints its credentials. The call is signed with the
/// credentials that AWS's own tools would use: keys in the environment, or a profile of
/// ~/.aws/config. A role in your own account can be given by its name instead of its ARN.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct AssumeRoleArguments {
    #[command(flatten)]
    call: CallArguments,
    /// The role: arn:aws:iam::ACCOUNT:role/NAME, or the NAME of one in your own account
    #[arg(long, value_name = "ARN")]
    role_arn: String,
    /// The name of the session: 2 to 64 letters, digits and `_+=,.@-` [default: USER@HOST]
    #[arg(long, value_name = "NAME")]
    role_session_name: Option<String>,
    /// How long the session lasts, in seconds: 900 to 129600 [default: 3600]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    duration_seconds: Option<i32>,
    /// A session policy, which limits what the session may do: JSON, or file://PATH
    #[arg(long, value_name = "JSON", value_parser = values::policy)]
    policy: Option<String>,
    /// A managed policy that limits what the session may do; may be given up to 10 times
    #[arg(long = "policy-arn", value_name = "ARN")]
    policy_arns: Vec<String>,
    /// A session tag; may be given up to 50 times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = values::tag)]
    tags: Vec<(String, String)>,
    /// The key of a session tag that is passed on to sessions assumed from this one; may be repeated
    #[arg(long = "transitive-tag-key", value_name = "KEY")]
    transitive_tag_keys: Vec<String>,
    /// The external id that you agreed on with the role's owner
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// The person or program behind the session; sessions assumed from it keep the same value
    #[arg(long, value_name = "NAME")]
    source_identity: Option<String>,
    /// The ARN (or serial number) of your MFA device
    #[arg(long, value_name = "ARN")]
    serial_number: Option<String>,
    /// The current code of the MFA device [default: asked for on the terminal]
    #[arg(long, value_name = "DIGITS", requires = "serial_number")]
    token_code: Option<String>,
    /// A file with a token of an OpenID Connect provider, `-` for standard input; the token proves who
    /// you are, and no access key is needed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tags", "transitive_tag_keys", "external_id", "source_identity", "serial_number"])]
    web_identity_token_file: Option<PathBuf>,
    /// A file with the form field SAMLResponse of a SAML identity provider, or `-` for standard input;
    /// with it, no access key is needed
    #[arg(long, value_name = "FILE", requires = "saml_provider_arn", conflicts_with_all = ["web_identity_token_file", "role_session_name", "tags", "transitive_tag_keys", "external_id", "source_identity", "serial_number"])]
    saml_response_file: Option<PathBuf>,
    /// The ARN of the SAML provider whose response --saml-response-file names
    #[arg(long, value_name = "ARN", requires = "saml_response_file")]
    saml_provider_arn: Option<String>,
    /// How to print the credentials
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON as `aws sts assume-role` prints it
    Json,
    /// Lines for `eval "$(…)"` in a POSIX shell; if the command fails, eval fails too and the shell is
    /// left without credentials
    Env,
    /// JSON for `credential_process` in ~/.aws/config
    CredentialProcess,
}

/// The broker's answer to either operation.
enum Answer {
    Role(AssumedRole),
    WebIdentity(WebIdentityRole),
    Saml(SamlRole),
}

pub(super) fn run(arguments: &AssumeRoleArguments) -> Result<(), Failure> {
    let settings = Settings::of(&arguments.call)?;
    let answer = super::runtime()?.block_on(ask(&settings, arguments))?;
    print(&settings, &answer, arguments.format)
}

async fn ask(settings: &Settings, arguments: &AssumeRoleArguments) -> Result<Answer, Failure> {
    let session_name = arguments
        .role_session_name
        .clone()
        .unwrap_or_else(|| settings.default_session_name());
    // clap does not ask for the file if another option excludes it.
    if arguments.saml_response_file.is_none() && arguments.saml_provider_arn.is_some() {
        return Err("--saml-provider-arn: requires --saml-response-file".into());
    }
    if let (Some(file), Some(provider)) =
        (&arguments.saml_response_file, &arguments.saml_provider_arn)
    {
        check_whole_arn(&arguments.role_arn, "--saml-response-file")?;
        let response = input::read_text(file, MAX_RESPONSE_BYTES)?;
        let request = AssumeRoleWithSaml {
            role_arn: arguments.role_arn.clone(),
            principal_arn: provider.clone(),
            response: Secret::new(response.trim().to_owned()).into(),
            duration_seconds: arguments.duration_seconds,
            policy: arguments.policy.clone(),
            policy_arns: arguments.policy_arns.clone(),
        };
        let client = settings.anonymous()?;
        return Ok(Answer::Saml(client.assume_role_with_saml(&request).await?));
    }
    if let Some(file) = &arguments.web_identity_token_file {
        check_whole_arn(&arguments.role_arn, "--web-identity-token-file")?;
        let request = AssumeRoleWithWebIdentity {
            role_arn: arguments.role_arn.clone(),
            role_session_name: session_name,
            token: aws::web_identity_token(file)?.into(),
            duration_seconds: arguments.duration_seconds,
            policy: arguments.policy.clone(),
            policy_arns: arguments.policy_arns.clone(),
        };
        return Ok(Answer::WebIdentity(
            settings
                .anonymous()?
                .assume_role_with_web_identity(&request)
                .await?,
        ));
    }
    let client = settings.client().await?;
    let role_arn = super::role_arn(&client, &arguments.role_arn).await?;
    let mfa = match (&arguments.serial_number, &arguments.token_code) {
        (Some(serial), Some(code)) => Some((serial.clone(), code.clone())),
        (Some(serial), None) => Some((
            serial.clone(),
            terminal::ask_code(serial, "give --token-code")?.to_string(),
        )),
        (None, _) => None,
    };
    let request = AssumeRole {
        role_arn,
        role_session_name: session_name,
        duration_seconds: arguments.duration_seconds,
        policy: arguments.policy.clone(),
        policy_arns: arguments.policy_arns.clone(),
        tags: arguments.tags.clone(),
        transitive_tag_keys: arguments.transitive_tag_keys.clone(),
        external_id: arguments.external_id.clone(),
        source_identity: arguments.source_identity.clone(),
        mfa,
    };
    Ok(Answer::Role(client.assume_role(&request).await?))
}

/// Checks that a role is given by its ARN. Without an access key, the account of a mere name is unknown.
fn check_whole_arn(role_arn: &str, option: &str) -> Result<(), Failure> {
    if role_arn.starts_with("arn:") {
        return Ok(());
    }
    let rule = format!("with {option} the account of a name is unknown; write the role's ARN");
    Err(format!("--role-arn {role_arn}: {rule}, arn:aws:iam::ACCOUNT:role/{role_arn}").into())
}

/// Credentials with the names that `aws sts assume-role` prints and `credential_process` expects.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Printed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u8>,
    access_key_id: &'a str,
    secret_access_key: &'a str,
    session_token: &'a str,
    expiration: String,
}

impl Printed<'_> {
    /// Refuses a value with characters that its kind never has: what is printed here goes into shells,
    /// files and the requests of other programs.
    fn check(&self) -> Result<(), Failure> {
        let letters = |value: &str, more: &str| {
            !value.is_empty()
                && value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || more.as_bytes().contains(&b))
        };
        for (what, value, more) in [
            ("access key id", self.access_key_id, ""),
            ("secret access key", self.secret_access_key, "+/="),
            ("session token", self.session_token, "+/=_-"),
        ] {
            if !letters(value, more) {
                let fault = "contains characters that no credential has";
                return Err(
                    format!("the broker's answer cannot be trusted: its {what} {fault}").into(),
                );
            }
        }
        Ok(())
    }
}

fn print(settings: &Settings, answer: &Answer, format: Format) -> Result<(), Failure> {
    let role = match answer {
        Answer::Role(role)
        | Answer::WebIdentity(WebIdentityRole { role, .. })
        | Answer::Saml(SamlRole { role, .. }) => role,
    };
    let credentials = &role.credentials;
    let token = credentials
        .session_token
        .as_ref()
        .ok_or("the answer has no session token")?;
    let printed = Printed {
        version: (format == Format::CredentialProcess).then_some(1),
        access_key_id: &credentials.access_key_id,
        secret_access_key: credentials.secret_access_key.expose(),
        session_token: token.expose(),
        expiration: credentials
            .expires_at()
            .ok_or("the answer has no expiration")?
            .to_string(),
    };
    printed.check()?;
    match format {
        Format::CredentialProcess => print::json_line(&printed),
        Format::Env => print::block(exports(settings, credentials, &printed)?),
        Format::Json => {
            let user = serde_json::json!({"AssumedRoleId": role.assumed_role_id, "Arn": role.arn});
            let mut shown = serde_json::json!({"Credentials": printed, "AssumedRoleUser": user, "PackedPolicySize": role.packed_policy_size});
            if let Some(fields) = shown.as_object_mut() {
                if !role.source_identity.is_empty() {
                    fields.insert(
                        "SourceIdentity".to_owned(),
                        role.source_identity.as_str().into(),
                    );
                }
                for (name, value) in vouched(answer) {
                    fields.insert(name.to_owned(), value.into());
                }
            }
            print::json(&shown)
        }
    }
}

/// The members of the response about the user of an identity provider, as `aws sts` prints them.
fn vouched(answer: &Answer) -> Vec<(&'static str, &str)> {
    match answer {
        Answer::Role(_) => Vec::new(),
        Answer::WebIdentity(identity) => vec![
            ("SubjectFromWebIdentityToken", &identity.subject),
            ("Provider", &identity.provider),
            ("Audience", &identity.audience),
        ],
        Answer::Saml(identity) => vec![
            ("Subject", &identity.subject),
            ("SubjectType", &identity.subject_type),
            ("Issuer", &identity.issuer),
            ("Audience", &identity.audience),
            ("NameQualifier", &identity.name_qualifier),
        ],
    }
}

/// Variables of earlier credentials; each would be stronger than the new ones, or contradict them.
const STALE: [&str; 4] = [
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SECURITY_TOKEN",
    "AWS_ACCOUNT_ID",
];
/// The variables that hold the credentials.
const OWN: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
];

/// Lines for a POSIX shell that export the credentials, the region and the endpoints, and unset what
/// belonged to other credentials.
fn exports(
    settings: &Settings,
    credentials: &Credentials,
    printed: &Printed<'_>,
) -> Result<String, Failure> {
    let mut lines = format!("unset {}\n", STALE.join(" "));
    let mut export = |name: &str, value: &str, more: &str| -> Result<(), Failure> {
        // A shell runs this line, so a value outside its alphabet is never printed.
        if value.is_empty()
            || !value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || more.as_bytes().contains(&b))
        {
            return Err(format!(
                "the broker's answer cannot be trusted: {name} contains characters that no credential has"
            )
            .into());
        }
        Ok(writeln!(lines, "export {name}='{value}'")?)
    };
    export("AWS_ACCESS_KEY_ID", &credentials.access_key_id, "")?;
    export("AWS_SECRET_ACCESS_KEY", printed.secret_access_key, "+/=")?;
    export("AWS_SESSION_TOKEN", printed.session_token, "+/=_-")?;
    export("AWS_CREDENTIAL_EXPIRATION", &printed.expiration, ":-")?;
    export("AWS_REGION", &settings.region.value, "-")?;
    export("AWS_DEFAULT_REGION", &settings.region.value, "-")?;
    let mut endpoints = settings.endpoints_of_profile();
    endpoints.insert(
        "AWS_ENDPOINT_URL_STS".to_owned(),
        settings.endpoint.value.clone(),
    );
    for (name, url) in &endpoints {
        export(name, url, ":/.-_[]%~")?;
    }
    Ok(lines)
}

/// What `--format env` prints after a failure: `eval` ends in an error, and the shell is left without any
/// credentials instead of keeping the more powerful ones that it had.
pub(super) fn failed_exports() -> String {
    let mut unset: Vec<&str> = OWN.iter().chain(&STALE).copied().collect();
    unset.retain(|name| *name != "AWS_PROFILE");
    format!(
        "unset {}\nexport AWS_PROFILE='{FAILED_PROFILE}'\nfalse\n",
        unset.join(" ")
    )
}

impl AssumeRoleArguments {
    /// Whether the output is meant for `eval` in a shell.
    pub(super) fn is_for_a_shell(&self) -> bool {
        self.format == Format::Env
    }
}

/// Whether a command line that could not be parsed asked for `--format env`.
pub(super) fn was_for_a_shell(arguments: &[String]) -> bool {
    let format =
        |pair: &[String]| matches!(pair, [flag, value] if flag == "--format" && value == "env");
    arguments.iter().any(|a| a == "assume-role")
        && (arguments.iter().any(|a| a == "--format=env") || arguments.windows(2).any(format))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::aws::Environment;

    #[test]
    fn what_a_shell_would_run_is_never_printed() {
        let settings = Settings::for_tests(Environment::default());
        let printed = |secret: &str, token: &str, expiration: &str| {
            let credentials = Credentials::new("ASIA0123456789ABCDEF", secret, Some(token));
            let printed = Printed {
                version: None,
                access_key_id: &credentials.access_key_id,
                secret_access_key: secret,
                session_token: token,
                expiration: expiration.to_owned(),
            };
            exports(&settings, &credentials, &printed)
        };
        let good = printed("ab+/0=", "AB_c-d", "2026-01-02T03:04:05Z").unwrap();
        assert!(
            good.contains("export AWS_SESSION_TOKEN='AB_c-d'\n")
                && good.contains("export AWS_REGION='us-east-1'\n")
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
            assert!(
                printed(bad, "AB", "2026-01-02T03:04:05Z").is_err(),
                "{bad:?} as a secret"
            );
            assert!(
                printed("ab", bad, "2026-01-02T03:04:05Z").is_err(),
                "{bad:?} as a token"
            );
            assert!(
                printed("ab", "AB", bad).is_err(),
                "{bad:?} as an expiration"
            );
            // For programs too.
            let checked = |id, secret, token| {
                let (version, expiration) = (None, String::new());
                Printed {
                    version,
                    access_key_id: id,
                    secret_access_key: secret,
                    session_token: token,
                    expiration,
                }
                .check()
            };
            assert!(checked("ASIA", "ab+/", "A_-").is_ok());
            assert!(
                checked(bad, "ab", "AB").is_err() && checked("ASIA", bad, "AB").is_err(),
                "{bad:?}"
            );
            assert!(checked("ASIA", "ab", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_command_line_that_was_not_understood_still_fails_closed() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(was_for_a_shell(&words(
            "brevet assume-role --rolearn x --format env"
        )));
        assert!(was_for_a_shell(&words("brevet assume-role --format=env")));
        assert!(!was_for_a_shell(&words(
            "brevet assume-role --format json env"
        )));
        assert!(!was_for_a_shell(&words("brevet explain --format env")));
    }
}
