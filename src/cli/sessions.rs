//! `brevet sessions`: lists, shows and revokes sessions over gRPC, for administrators of an account.

mod list;
mod revoke;
mod show;

use clap::Subcommand;

use super::Failure;
use list::ListArguments;
use revoke::RevokeArguments;
use show::ShowArguments;

pub(super) use show::at;

const EXAMPLES: &str = "\
Examples:
  brevet sessions list
  brevet sessions show 0123456789abcdef0123456789abcdef
  brevet sessions revoke --role-arn Demo --dry-run";

/// List, show and revoke sessions
///
/// For administrators of an account. The calls are signed like all others, and the caller's policies must allow
/// brevet:ListSessions, brevet:DescribeSession or brevet:RevokeSessions. Only `revoke --all --config` makes no call: it
/// writes to the store of the configuration.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum SessionsCommand {
    List(ListArguments),
    Show(ShowArguments),
    Revoke(Box<RevokeArguments>),
}

pub(super) fn run(command: SessionsCommand) -> Result<(), Failure> {
    let runtime = super::runtime()?;
    match command {
        SessionsCommand::List(arguments) => runtime.block_on(list::run(arguments)),
        SessionsCommand::Show(arguments) => runtime.block_on(show::run(arguments)),
        SessionsCommand::Revoke(arguments) => runtime.block_on(revoke::run(*arguments)),
    }
}
