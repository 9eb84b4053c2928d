//! The program `brevet-agent`, which runs next to workloads and does not contain the broker.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::configure::{self, ConfigureCommand};
use super::credential_process::{self, CredentialProcessArguments};
use super::exec::{self, ExecArguments};
use super::login::{self, LoginArguments};
use super::{Failure, failure, print};
use crate::agent::{AgentArguments, run_agent};
use crate::log::{self, LogFormat};
use crate::process;

/// The agent of Brevet, which gives workloads credentials as an instance profile does
///
/// `brevet-agent agent` serves the endpoints from which AWS SDKs get credentials. The broker itself is `brevet serve`,
/// which is another program.
#[derive(Debug, Parser)]
#[command(
    name = "brevet-agent",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(AgentArguments),
    CredentialProcess(Box<CredentialProcessArguments>),
    Exec(Box<ExecArguments>),
    Login(Box<LoginArguments>),
    #[command(subcommand)]
    Configure(ConfigureCommand),
}

/// Runs the command line of `brevet-agent` and returns its exit status: 0 for success, 1 for a failure, 2 for a
/// command line that was not understood. For `exec`, it is the exit status of the program.
pub fn main() -> ExitCode {
    process::keep_memory_private();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // If the reader has gone away, nothing is missing.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Err(error) = log_to_stderr(&arguments.command) {
        print::note(format_args!("error: --log (or BREVET_LOG): {error}"));
        return ExitCode::from(2);
    }
    let result = match arguments.command {
        Command::Agent(arguments) => run_agent(&arguments),
        Command::CredentialProcess(arguments) => credential_process::run(&arguments),
        Command::Exec(arguments) => exec::run(*arguments),
        Command::Login(arguments) => login::run(&arguments),
        Command::Configure(command) => configure::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is::<print::ReaderIsGone>() => ExitCode::SUCCESS,
        Err(failure) => failure::failed(&failure),
    }
}

fn log_to_stderr(command: &Command) -> Result<(), Failure> {
    let (arguments, default) = match command {
        Command::Agent(agent) => (Some(&agent.log), None),
        Command::CredentialProcess(_) | Command::Login(_) | Command::Configure(_) => (None, None),
        Command::Exec(exec) => (Some(&exec.log), Some(exec::DEFAULT_LOG)),
    };
    let filter = arguments.and_then(|log| log.log.as_deref());
    let format = arguments.and_then(|log| log.log_format);
    log::to_stderr(filter.or(default), format.unwrap_or(LogFormat::Text))
}
