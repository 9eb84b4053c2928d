//! `brevet policy`: checks and tries policies by calling the evaluator on files, or on the directory that a
//! broker serves.

mod analyze;
mod assume;
mod check;
mod live;
mod simulate;
mod statements;
mod test_cases;

use clap::Subcommand;

use super::Failure;

const EXAMPLES: &str = "\
Examples:
  brevet policy check --account 111122223333 trust.json
  brevet policy simulate --config brevet.toml --principal bob --action iam:GetUser
  brevet policy who-may-assume --config brevet.toml Deploy
  brevet policy may-assume --config brevet.toml bob
  brevet policy analyze directory.json";

/// Check, try and explain policies
///
/// These commands decide with the same code as the broker. `simulate --principal`, `who-may-assume` and `may-assume`
/// read the directory that a broker serves; the others work on files, without a broker.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum PolicyCommand {
    Check(check::CheckArguments),
    Simulate(simulate::SimulateArguments),
    WhoMayAssume(assume::WhoMayAssumeArguments),
    MayAssume(assume::MayAssumeArguments),
    Explain(test_cases::ExplainArguments),
    Analyze(analyze::AnalyzeArguments),
}

pub(super) fn run(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::Check(arguments) => check::run(&arguments),
        PolicyCommand::Simulate(arguments) => simulate::run(&arguments),
        PolicyCommand::WhoMayAssume(arguments) => assume::who_may_assume(&arguments),
        PolicyCommand::MayAssume(arguments) => assume::may_assume(&arguments),
        PolicyCommand::Explain(arguments) => test_cases::explain(&arguments),
        PolicyCommand::Analyze(arguments) => analyze::run(&arguments),
    }
}
