//! `brevet assume-role`: gets credentials for a role over gRPC, and prints them for a person or a shell.

use clap::{Args, ValueEnum};

use super::aws::Settings;
use super::role::{self, Answer, RoleArguments};
use super::session_credentials::SessionCredentials;
use super::{Failure, print, variables};

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
      Proves who you are with the response of a SAML identity provider. IDP is the ARN of the
      SAML provider at the broker, ROLE that of the role.";

/// Get credentials for a role, over gRPC
///
/// Asks the broker for a session of a role and prints its credentials. Signs the call with the credentials that AWS's
/// own tools would use: keys in the environment, or a profile of ~/.aws/config. A role in your own account can be given
/// by its name instead of its ARN.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct AssumeRoleArguments {
    #[command(flatten)]
    role: RoleArguments,
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
}

pub(super) fn run(arguments: &AssumeRoleArguments) -> Result<(), Failure> {
    let settings = Settings::of(&arguments.role.call)?;
    let answer = super::runtime()?.block_on(role::ask(&settings, &arguments.role))?;
    print(&settings, &answer, arguments.format)
}

fn print(settings: &Settings, answer: &Answer, format: Format) -> Result<(), Failure> {
    let role = answer.role();
    let session = SessionCredentials::of(role)?;
    if format == Format::Env {
        return print::block(variables::exports(settings, &session)?);
    }
    let mut shown = serde_json::json!({
        "Credentials": session.printed(None),
        "AssumedRoleUser": {"AssumedRoleId": role.assumed_role_id, "Arn": role.arn},
        "PackedPolicySize": role.packed_policy_size,
    });
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

/// The claims about the user of an identity provider, with the names that `aws sts` prints for them; empty for
/// AssumeRole.
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
