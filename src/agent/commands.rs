//! The command that runs the agent. Data goes to standard output, messages for people go to
//! standard error.

mod agent;

use std::io::Write;

use crate::base::legible::Form;

pub use agent::{AgentArguments, run as run_agent};

/// The error of a command, with a message for the person at the terminal.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Writes a line for people to standard error.
pub fn note(text: &str) {
    // If standard error is closed, nobody reads.
    let _ = writeln!(std::io::stderr().lock(), "{}", Form::Lines.of(text));
}
