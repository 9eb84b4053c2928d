//! `brevet exec`: runs a program with credentials of a role, and keeps them fresh while it runs.

mod child;
mod endpoint;

use std::ffi::OsString;

use clap::Args;

use super::aws::Settings;
use super::role::{self, SessionArguments};
use super::variables;
use super::{Failure, runtime};
use crate::log::LogArguments;

pub(crate) use child::{Ended, NotRun};

/// The log filter of this command if none is chosen. It shows little, because the terminal belongs to the
/// program.
pub(crate) const DEFAULT_LOG: &str = "error,brevet=warn";

const EXAMPLES: &str = "\
Examples:
  brevet exec --role Deploy -- aws s3 ls
      Runs `aws` with credentials of the role, which are replaced before they expire.
  brevet exec --role Deploy --policy-arn arn:aws:iam::aws:policy/ReadOnlyAccess -- ./report
      Limits the program to the actions that both the role and this policy allow.
  brevet exec --role Deploy --env -- terraform plan
      Puts the credentials into the environment, for programs that cannot use an endpoint.";

/// Run a program with credentials of a role
///
/// The program gets its credentials from a container credentials endpoint on 127.0.0.1 with a random port and token.
/// Every AWS SDK supports such endpoints, and the credentials are renewed as long as the program runs. With --env, the
/// credentials are in the environment instead, and are not renewed. Other credentials are removed from the program's
/// environment. Signals are passed on to the program. The exit status is that of the program, or 128 plus the signal's
/// number if a signal ended it.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ExecArguments {
    #[command(flatten)]
    session: SessionArguments,
    /// Put the credentials into the environment of the program; they are not replaced when they expire
    #[arg(long)]
    env: bool,
    #[command(flatten)]
    pub(crate) log: LogArguments,
    /// The program to run, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Gets credentials, and runs the program with them.
///
/// # Errors
/// There are no credentials, or the program cannot be run. Once it has run, the error is [`Ended`], with its exit
/// status. With `--env`, the program replaces this process, and this function does not return.
pub(crate) fn run(arguments: ExecArguments) -> Result<(), Failure> {
    let settings = Settings::of(&arguments.session.role.call)?;
    if !arguments.env {
        let (session, command) = (arguments.session, arguments.command);
        return runtime()?.block_on(async {
            let endpoint = endpoint::start(&settings, session).await?;
            child::run(&command, &endpoint.variables).await
        });
    }
    let session = runtime()?.block_on(role::session(&settings, &arguments.session))?;
    let mut set = variables::of_session(&session)?;
    set.extend(variables::of_settings(&settings)?);
    Err(child::replace(&arguments.command, &set))
}
