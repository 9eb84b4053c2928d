//! The commands of the agent, which `brevet` and `brevet-agent` share. Data goes to standard output, everything for
//! people to standard error.

mod agent;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::base::legible::Form;
use crate::log::{self, LogFormat};
use crate::process;

pub use agent::{AgentArguments, run as run_agent};

/// Why a command failed, in words for the person at the terminal.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The sidecar of Brevet: gives workloads credentials the way an instance profile does
///
/// `brevet-agent agent` answers the addresses that every SDK asks. The broker itself is `brevet serve`, which is
/// another program.
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
}

/// Runs the command line of `brevet-agent` and returns its exit status: 0 for success, 1 for a failure, 2 for a
/// command line that was not understood.
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
    let Command::Agent(agent) = &arguments.command;
    let format = agent.log.log_format.unwrap_or(LogFormat::Text);
    if let Err(error) = log::to_stderr(agent.log.log.as_deref(), format) {
        note(&format!("error: --log (or BREVET_LOG): {error}"));
        return ExitCode::from(2);
    }
    let result = match arguments.command {
        Command::Agent(arguments) => run_agent(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            note(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line for people to standard error.
pub fn note(text: &str) {
    // If standard error is closed, nobody reads.
    let _ = writeln!(std::io::stderr().lock(), "{}", Form::Lines.of(text));
}
