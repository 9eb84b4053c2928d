//! Prints errors about a command line that was not understood, and lines that tell a shell about a
//! failure.

use std::io::Write;
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{assume_role, print, variables};
use crate::base::legible::Form;

pub(super) use crate::command_line::failure::{failed, with_free_space};

/// Prints the error about a command line that was not understood, or the help that it asked for, and
/// returns the exit status.
pub(super) fn not_understood(mut error: clap::Error, words: &[String]) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // If the reader has gone away, nothing is missing.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if assume_role::was_for_a_shell(words) {
        nothing_for_the_shell();
    }
    let tips = tips(&error);
    if !tips.is_empty() {
        error.insert(
            ContextKind::Suggested,
            ContextValue::StyledStrs(tips.into_iter().map(StyledStr::from).collect()),
        );
    }
    // The command line may contain text of strangers.
    let text = error.render();
    let text = match print::may_colour_stderr() {
        true => print::in_colours(&text.ansi().to_string(), Form::Lines),
        false => print::visible_lines(&text.to_string()),
    };
    // If standard error cannot be written, the exit status is all there is.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    ExitCode::from(2)
}

/// Hints that clap cannot give: where a missing value could come from.
fn tips(error: &clap::Error) -> Vec<&'static str> {
    let about = |flag: &str| match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(arguments)) => arguments.iter().any(|a| a.starts_with(flag)),
        Some(ContextValue::String(argument)) => argument.starts_with(flag),
        _ => false,
    };
    match error.kind() {
        ErrorKind::MissingRequiredArgument if about("--config") => vec![
            "name a configuration with --config FILE, or for the whole shell: export BREVET_CONFIG=FILE",
            "`brevet init DIR` makes a configuration, with keys, a store and a first administrator",
            "`brevet serve --dev` needs no configuration: it starts a demo account on this machine only",
        ],
        ErrorKind::ValueValidation if about("--listen") => {
            vec![
                "an address is an IP address and a port, such as 127.0.0.1:7480; port 0 takes any free one",
            ]
        }
        ErrorKind::InvalidValue if about("--format") && is_credential_process(error) => {
            vec![
                "`brevet credential-process` prints credentials for `credential_process` in ~/.aws/config",
            ]
        }
        ErrorKind::ValueValidation if about("--operator") => {
            vec!["an address is an IP address and a port, such as 127.0.0.1:7481"]
        }
        _ => Vec::new(),
    }
}

/// Whether a value that was not understood is `credential-process`.
fn is_credential_process(error: &clap::Error) -> bool {
    matches!(error.get(ContextKind::InvalidValue), Some(ContextValue::String(value)) if value == "credential-process")
}

/// Prints lines for a shell after `--format env` has failed: `eval` of them fails, and leaves the shell without
/// credentials.
pub(super) fn nothing_for_the_shell() {
    // Without a reader, nothing evaluates the lines.
    let _ = print::block(variables::failed_exports());
}
