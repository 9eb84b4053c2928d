//! The commands of `brevet`, one function for each. Data goes to standard output, everything for people to
//! standard error.

mod assume_role;
mod audit;
mod backup;
mod beside;
mod changes;
mod check;
mod clock;
mod demo;
mod directory_file;
mod documents;
mod explain;
mod health;
mod import;
mod init;
mod journal;
mod keys;
mod mfa;
mod only_with;
mod operator;
mod organization;
mod policy;
mod provider;
mod rekey;
mod relocate;
mod report;
mod restore;
mod saml;
mod second_factor;
mod serve;
mod sessions;
mod sign_ins;
mod store;
mod version;
mod web_identity_token;
mod whoami;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::agent::{AgentArguments, run_agent};
use crate::command_line::{
    CallArguments, Failure, aws, configure, credential_process, exec, input, login, print, role,
    role_arn, runtime, session_credentials, terminal, values, variables,
};
use crate::log::{self, LogArguments, LogFormat};
use crate::process;
use operator::operator;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

const EXAMPLES: &str = "\
Examples:
  brevet serve --dev
      Starts a demo account on 127.0.0.1:7480 and prints commands to paste.
  brevet init /var/lib/brevet
      Makes a configuration, its keys and a first administrator, for production.
  brevet whoami
      Shows your identity as the broker sees it, and which credentials and settings were used.

Exit status: 0 for success, 1 for a failure or a negative result, 2 for an error in the command
line. `brevet exec` has the exit status of the program that it runs.";

/// A self-hosted broker of temporary credentials that speaks AWS STS and gRPC
///
/// `brevet serve` is the broker. Commands that take --config work directly on its files and its store;
/// commands that take --endpoint call a running broker, and sign their calls as AWS's own tools do.
#[derive(Debug, Parser)]
#[command(name = "brevet", version, styles = STYLES, arg_required_else_help = true, max_term_width = 100, after_long_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    // Every command accepts these two; only the commands that log show them in their help.
    #[arg(
        long,
        global = true,
        hide = true,
        env = "BREVET_LOG",
        value_name = "FILTER"
    )]
    log: Option<String>,
    #[arg(long, global = true, hide = true, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArguments),
    Agent(Box<AgentArguments>),
    Init(init::InitArguments),
    Check(check::CheckArguments),
    Health(health::HealthArguments),
    Whoami(whoami::WhoamiArguments),
    AssumeRole(Box<assume_role::AssumeRoleArguments>),
    CredentialProcess(Box<credential_process::CredentialProcessArguments>),
    Exec(Box<exec::ExecArguments>),
    Login(Box<login::LoginArguments>),
    #[command(subcommand)]
    Configure(configure::ConfigureCommand),
    WebIdentityToken(web_identity_token::WebIdentityTokenArguments),
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    #[command(subcommand)]
    SignIns(sign_ins::SignInsCommand),
    #[command(subcommand)]
    Mfa(mfa::MfaCommand),
    Explain(explain::ExplainArguments),
    Import(import::ImportArguments),
    Export(store::ExportArguments),
    Changes(changes::ChangesArguments),
    Backup(backup::BackupArguments),
    Restore(restore::RestoreArguments),
    Rekey(rekey::RekeyArguments),
    Move(relocate::MoveArguments),
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    #[command(subcommand)]
    Clock(clock::ClockCommand),
    #[command(subcommand)]
    Keyring(keys::KeyringCommand),
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    #[command(subcommand)]
    Saml(saml::SamlCommand),
    #[command(subcommand)]
    Provider(provider::ProviderCommand),
    #[command(subcommand)]
    Organization(organization::OrganizationCommand),
    Seal(keys::SealArguments),
    Version(version::VersionArguments),
    Completions(version::CompletionsArguments),
    Man(version::ManArguments),
}

#[derive(Debug, Args)]
struct ConfigArgument {
    /// The broker's configuration file
    #[arg(long, env = "BREVET_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command line and returns its exit status: 0 for success, 1 for a failure, 2 for a command line that was not
/// understood. For `exec`, it is the exit status of the program.
pub fn main() -> ExitCode {
    process::keep_memory_private();
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let arguments = match understood(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return report::not_understood(error, &words),
    };
    if let Err(error) = log_to_stderr(&arguments) {
        print::note(format_args!(
            "error: --log (or BREVET_LOG): {error}; write a level, such as info or debug, or brevet=trace"
        ));
        return ExitCode::from(2);
    }
    let judges = matches!(
        &arguments.command,
        Command::Policy(_) | Command::Saml(_) | Command::Audit(_) | Command::Check(_)
    );
    let for_a_shell = matches!(&arguments.command, Command::AssumeRole(a) if a.is_for_a_shell());
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        // The exit status of these commands is a verdict, and none was reached.
        Err(failure) if failure.is::<print::ReaderIsGone>() => ExitCode::from(u8::from(judges)),
        Err(failure) => {
            if for_a_shell {
                report::nothing_for_the_shell();
            }
            report::failed(&failure)
        }
    }
}

/// Parses the command line, and refuses flags that need another flag which is missing ([`only_with`]).
fn understood(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let mut command = Arguments::command();
    let matches = command.try_get_matches_from_mut(words)?;
    only_with::check(&mut command, &matches)?;
    Arguments::from_arg_matches(&matches)
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Agent(arguments) => run_agent(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Whoami(arguments) => whoami::run(&arguments),
        Command::AssumeRole(arguments) => assume_role::run(&arguments),
        Command::CredentialProcess(arguments) => credential_process::run(&arguments),
        Command::Exec(arguments) => exec::run(*arguments),
        Command::Login(arguments) => login::run(&arguments),
        Command::Configure(command) => configure::run(command),
        Command::WebIdentityToken(arguments) => web_identity_token::run(&arguments),
        Command::Sessions(command) => sessions::run(command),
        Command::SignIns(command) => sign_ins::run(command),
        Command::Mfa(command) => mfa::run(command),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Export(arguments) => store::export(&arguments),
        Command::Changes(arguments) => changes::run(&arguments),
        Command::Backup(arguments) => backup::backup(&arguments),
        Command::Restore(arguments) => restore::restore(&arguments),
        Command::Rekey(arguments) => rekey::run(&arguments),
        Command::Move(arguments) => relocate::run(&arguments),
        Command::Audit(command) => audit::run(command),
        Command::Clock(command) => clock::run(command),
        Command::Keyring(command) => keys::run(&command),
        Command::Policy(command) => policy::run(command),
        Command::Saml(command) => saml::run(command),
        Command::Provider(command) => provider::run(command),
        Command::Organization(command) => organization::run(command),
        Command::Seal(arguments) => keys::seal(&arguments),
        Command::Version(arguments) => version::run(&arguments),
        Command::Completions(arguments) => version::completions(&arguments),
        Command::Man(arguments) => version::man(&arguments),
    }
}

/// Sets up the log by the flags of the command, or else by the flags that all commands accept, or else by BREVET_LOG.
/// `brevet exec` logs less by default than other commands.
fn log_to_stderr(arguments: &Arguments) -> Result<(), Failure> {
    let shown = match &arguments.command {
        Command::Serve(arguments) => Some(&arguments.log),
        Command::Agent(arguments) => Some(&arguments.log),
        Command::Exec(arguments) => Some(&arguments.log),
        Command::WebIdentityToken(arguments) => Some(&arguments.log),
        _ => None,
    };
    let of_environment = std::env::var("BREVET_LOG").ok().filter(|v| !v.is_empty());
    let filter = shown
        .and_then(|s| s.log.clone())
        .or_else(|| arguments.log.clone())
        .or(of_environment);
    let filter = match &arguments.command {
        Command::Exec(_) => filter.or_else(|| Some(exec::DEFAULT_LOG.to_owned())),
        _ => filter,
    };
    let format = shown
        .and_then(|s| s.log_format)
        .or(arguments.log_format)
        .unwrap_or(LogFormat::Text);
    log::to_stderr(filter.as_deref(), format)
}

/// The maximum number of warnings that are printed; the others are only counted.
const WARNED: usize = 200;

/// Prints warnings to standard error. They are about input that is valid but probably a mistake.
fn warn(warnings: &[String]) {
    for warning in warnings.iter().take(WARNED) {
        print::note(format_args!("warning: {}", print::visible(warning)));
    }
    if warnings.len() > WARNED {
        print::note(format_args!(
            "warning: … and {} more",
            warnings.len() - WARNED
        ));
    }
}

#[cfg(test)]
mod tests;
