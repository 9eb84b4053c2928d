//! Flags that have a meaning only together with another flag.
//!
//! clap does not enforce `requires` if the required flag conflicts with a third flag that was
//! given. The first flag would then be ignored silently. `sessions revoke --config FILE --provider
//! ARN` must not be read as `--all --config FILE`.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// For each entry, the words of a command, a flag of it, and the flag that must be given with it.
/// Flags are named by their ids.
const ONLY_WITH: &[(&[&str], &str, &str)] = &[
    (&["serve"], "world", "dev"),
    (&["serve"], "directory", "dev"),
    (&["serve"], "listen", "dev"),
    (&["serve"], "redis", "dev"),
    (&["serve"], "audit", "dev"),
    (&["assume-role"], "token_code", "serial_number"),
    (&["assume-role"], "saml_provider_arn", "saml_response_file"),
    (&["assume-role"], "saml_response_file", "saml_provider_arn"),
    (&["credential-process"], "token_code", "serial_number"),
    (&["exec"], "token_code", "serial_number"),
    (&["exec"], "saml_provider_arn", "saml_response_file"),
    (&["exec"], "saml_response_file", "saml_provider_arn"),
    (
        &["credential-process"],
        "saml_provider_arn",
        "saml_response_file",
    ),
    (
        &["credential-process"],
        "saml_response_file",
        "saml_provider_arn",
    ),
    (
        &["sessions", "revoke"],
        "deactivate_access_key",
        "access_key_id",
    ),
    (&["sessions", "revoke"], "config", "all"),
    (&["sessions", "revoke"], "account", "all"),
    (&["sessions", "revoke"], "subject", "provider"),
];

/// Refuses a flag that was given without the flag that it needs.
///
/// # Errors
/// [`clap::Error`] that names both flags.
pub(super) fn check(command: &mut Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    let mut words = Vec::new();
    let mut matches = matches;
    while let Some((word, below)) = matches.subcommand() {
        words.push(word);
        matches = below;
    }
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let lonely = ONLY_WITH
        .iter()
        .find(|(path, flag, other)| *path == words && given(flag) && !given(other));
    let Some((_, flag, other)) = lonely else {
        return Ok(());
    };
    let flag = flag.replace('_', "-");
    let other = other.replace('_', "-");
    Err(command.error(
        ErrorKind::MissingRequiredArgument,
        format!("--{flag} can only be used with --{other}"),
    ))
}
