//! The commands: one function each, returning an exit status. Standard output is data, standard
//! error is talk.

mod assume_role;
mod demo;
mod explain;
mod init;
mod keys;
mod mfa;
mod policy;
mod serve;
mod sessions;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::client::{Client, Credentials, Endpoint};
use crate::commands::Actor;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

/// A self-hosted broker of temporary credentials that speaks AWS STS and gRPC.
#[derive(Debug, Parser)]
#[command(name = "brevet", version, styles = STYLES, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What to log: `info`, `debug`, `brevet=trace`, … (by default without what hostile peers make h2 say)
    #[arg(long, global = true, env = "BREVET_LOG", default_value = "info,h2=error", value_name = "FILTER")]
    log: String,
    /// How to log.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker
    Serve(ServeArguments),
    /// Make a configuration, its keys, and a first administrator
    Init {
        /// The folder to make; it must not hold anything yet
        dir: PathBuf,
        /// The first account: twelve digits (default: any)
        #[arg(long, value_name = "ACCOUNT_ID")]
        account: Option<String>,
        #[command(flatten)]
        store: StoreArguments,
    },
    /// Check a configuration and everything that it names, without listening
    Check {
        /// The configuration
        #[arg(long, env = "BREVET_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Get credentials for a role, over gRPC
    AssumeRole(Box<AssumeRoleArguments>),
    /// List, show and end sessions
    #[command(subcommand)]
    Sessions(SessionsCommand),
    /// MFA devices: `aws iam` has the rest
    #[command(subcommand)]
    Mfa(MfaCommand),
    /// Tell why a call was refused: opens the encoded message of an AccessDenied
    Explain {
        #[command(flatten)]
        call: CallArguments,
        /// The encoded message, or the whole error; `-` or nothing: from standard input
        message: Option<String>,
        /// Print JSON as DecodeAuthorizationMessage answers it
        #[arg(long)]
        json: bool,
    },
    /// Bring the directory in the store to what a file declares; shows what would change
    Import {
        #[command(flatten)]
        config: ConfigArgument,
        /// What `aws iam get-account-authorization-details` or `brevet export` prints
        file: PathBuf,
        /// Do it
        #[arg(long)]
        apply: bool,
        /// Delete what is in the file's accounts and not in the file
        #[arg(long)]
        prune: bool,
    },
    /// Print the directory in the store
    Export {
        #[command(flatten)]
        config: ConfigArgument,
    },
    /// Print the change feed, one JSON object a line
    Changes {
        #[command(flatten)]
        config: ConfigArgument,
        /// After this change
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        after: i64,
    },
    /// Copy a SQLite store, running or not, to a new file
    Backup {
        #[command(flatten)]
        config: ConfigArgument,
        /// The copy
        file: PathBuf,
    },
    /// Put a backup in the store's place; everything that was issued before ends
    Restore {
        #[command(flatten)]
        config: ConfigArgument,
        /// The backup
        #[arg(required_unless_present = "accept", conflicts_with = "accept")]
        file: Option<PathBuf>,
        /// The store was put back by other means: go on with it as it is
        #[arg(long)]
        accept: bool,
    },
    /// Seal the secrets in the store under a new master key
    Rekey {
        #[command(flatten)]
        config: ConfigArgument,
        /// Only put the new key in the file, for copying it to the other brokers first
        #[arg(long)]
        publish: bool,
    },
    /// List or turn the keys of session tokens
    #[command(subcommand)]
    Keyring(KeyringCommand),
    /// Check, try and explain policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Seal the secrets that stand in a directory file in clear
    Seal {
        /// The configuration that names the directory and its master key
        #[arg(long, env = "BREVET_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
struct ConfigArgument {
    /// The configuration
    #[arg(long, env = "BREVET_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct StoreArguments {
    /// Keep the store in PostgreSQL: postgres://USER@HOST/DATABASE (default: a SQLite file)
    #[arg(long = "store", value_name = "URL")]
    url: Option<String>,
    /// A private file with the PostgreSQL user's password
    #[arg(long = "store-password-file", value_name = "FILE", requires = "url")]
    password_file: Option<PathBuf>,
}

/// The broker to call, and how to sign for it.
#[derive(Debug, Args)]
struct CallArguments {
    /// The broker
    #[arg(long, env = "BREVET_ENDPOINT", default_value = "http://127.0.0.1:7480", value_name = "URL")]
    endpoint: String,
    /// The region to sign for
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1")]
    region: String,
    /// PEM of the CA that signed the broker's certificate
    #[arg(long, env = "AWS_CA_BUNDLE", value_name = "FILE")]
    ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum MfaCommand {
    /// A new device: shows a QR code for a phone, and asks for two codes of it
    Enroll {
        #[command(flatten)]
        call: CallArguments,
        /// For this user [default: whoever signs]
        #[arg(long, value_name = "NAME")]
        user_name: Option<String>,
        /// What to call the device [default: the user's name]
        #[arg(long, value_name = "NAME")]
        device_name: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// Sessions on record that have not ended, those that end first first
    List {
        #[command(flatten)]
        call: CallArguments,
        /// Of this role alone
        #[arg(long, value_name = "ARN")]
        role_arn: Option<String>,
        /// At most so many: 1 to 1,000
        #[arg(long, default_value_t = 100, value_name = "NUMBER")]
        max_items: i32,
        /// Where the last answer ended
        #[arg(long, value_name = "MARKER")]
        marker: Option<String>,
    },
    /// One session on record
    Show {
        #[command(flatten)]
        call: CallArguments,
        /// Its id: 32 hexadecimal digits
        session_id: String,
    },
    /// End sessions, whether they are on record or not; says how far it has spread
    Revoke(Box<RevokeArguments>),
}

#[derive(Debug, Args)]
struct RevokeArguments {
    #[command(flatten)]
    call: CallArguments,
    #[command(flatten)]
    selector: RevokeSelector,
}

/// One of the first five, or a time, or both.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct RevokeSelector {
    /// One session: 32 hexadecimal digits
    #[arg(long, value_name = "ID", conflicts_with_all = ["access_key_id", "principal_arn", "role_arn", "source_identity"])]
    session_id: Option<String>,
    /// What an access key signs for, and what came from it: ASIA… or AKIA…
    #[arg(long, value_name = "ID", conflicts_with_all = ["principal_arn", "role_arn", "source_identity"])]
    access_key_id: Option<String>,
    /// What came from a user or a role session
    #[arg(long, value_name = "ARN", conflicts_with_all = ["role_arn", "source_identity"])]
    principal_arn: Option<String>,
    /// All sessions of a role
    #[arg(long, value_name = "ARN", conflicts_with = "source_identity")]
    role_arn: Option<String>,
    /// Whoever stands behind the chain
    #[arg(long, value_name = "NAME")]
    source_identity: Option<String>,
    /// Those issued before, by the clock of the broker that did: 2026-01-02T03:04:05Z; by itself: all of the account
    #[arg(long, value_name = "TIME")]
    issued_before: Option<String>,
}

#[derive(Debug, Args)]
struct ServeArguments {
    /// The configuration
    #[arg(long, env = "BREVET_CONFIG", value_name = "FILE", required_unless_present = "dev", conflicts_with = "dev")]
    config: Option<PathBuf>,
    /// Try it: made-up keys, a demo account, nothing kept, loopback alone
    #[arg(long)]
    dev: bool,
    /// With --dev: write what the demo holds to this file, mode 0600, once everything listens
    #[arg(long, value_name = "FILE", requires = "dev")]
    world: Option<PathBuf>,
    /// With --dev: a directory file instead of the demo account
    #[arg(long, value_name = "FILE", requires = "dev")]
    directory: Option<PathBuf>,
    /// With --dev: the address to listen on, port 0 for any free one [default: 127.0.0.1:7480]
    #[arg(long, value_name = "ADDR", requires = "dev")]
    listen: Option<std::net::SocketAddr>,
    /// With --dev: keep session records in this Redis
    #[arg(long, value_name = "URL", requires = "dev")]
    redis: Option<String>,
    /// With --dev: write audit records to this file
    #[arg(long, value_name = "FILE", requires = "dev")]
    audit: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct AssumeRoleArguments {
    #[command(flatten)]
    call: CallArguments,
    /// The role: arn:aws:iam::ACCOUNT:role/NAME
    #[arg(long, value_name = "ARN")]
    role_arn: String,
    /// What to call the session
    #[arg(long, value_name = "NAME")]
    role_session_name: String,
    /// 900 to 129600
    #[arg(long, value_name = "SECONDS")]
    duration_seconds: Option<i32>,
    /// A session policy: JSON
    #[arg(long, value_name = "JSON")]
    policy: Option<String>,
    /// A managed session policy; may stand ten times
    #[arg(long = "policy-arn", value_name = "ARN")]
    policy_arns: Vec<String>,
    /// A session tag; may stand fifty times
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// A tag key that sessions made with this one inherit
    #[arg(long = "transitive-tag-key", value_name = "KEY")]
    transitive_tag_keys: Vec<String>,
    /// What the role's owner told you
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// Who stands behind the chain of sessions
    #[arg(long, value_name = "NAME")]
    source_identity: Option<String>,
    /// Your MFA device
    #[arg(long, value_name = "ARN", requires = "token_code")]
    serial_number: Option<String>,
    /// Its code
    #[arg(long, value_name = "DIGITS", requires = "serial_number")]
    token_code: Option<String>,
    /// How to print the credentials
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As `aws sts assume-role` prints it
    Json,
    /// For `eval "$(…)"` in a shell
    Env,
    /// For `credential_process` in ~/.aws/config
    CredentialProcess,
}

#[derive(Debug, Subcommand)]
enum KeyringCommand {
    /// Ids, states and since when
    List {
        /// The keyring
        file: PathBuf,
    },
    /// Use the next key, keep the current one for its sessions, publish a new next one
    Rotate {
        /// The keyring
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Look for what is malformed, and for what is most likely not meant
    Check {
        /// Policy documents
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// What they are [default: by their elements]
        #[arg(long, value_enum)]
        kind: Option<PolicyKind>,
        /// Their owner: principals of other accounts are foreign
        #[arg(long, value_name = "ACCOUNT_ID")]
        account: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Decide cases, one JSON object a line; 1 if one differs from what it expects
    Simulate {
        /// Cases, as tests/data/policy/FORMAT.md has them
        #[arg(long, value_name = "FILE")]
        cases: PathBuf,
    },
    /// Tell what every statement did in one case
    Explain {
        /// Cases, as for `simulate`
        #[arg(long, value_name = "FILE")]
        cases: PathBuf,
        /// The case
        name: String,
    },
    /// List who from outside an account may assume which of its roles; 1 if there is anybody
    Analyze {
        /// What `brevet import` takes
        #[arg(value_name = "FILE", required_unless_present = "directory", conflicts_with = "directory")]
        file: Option<PathBuf>,
        /// The same
        #[arg(long, value_name = "FILE")]
        directory: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PolicyKind {
    /// Of a user, group or role
    Identity,
    /// A permissions boundary
    Boundary,
    /// Passed for a session
    Session,
    /// A role's trust policy
    Trust,
    /// Of a resource
    Resource,
    /// A service control policy
    Scp,
    /// A resource control policy
    Rcp,
}

/// What went wrong, in words for the person at the terminal.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command line. 0: done, 1: it failed, 2: it was not understood.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = log_to_stderr(&arguments) {
        eprintln!("error: --log: {error}");
        return ExitCode::from(2);
    }
    let result = match arguments.command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Init { dir, account, store } => init::run(&dir, account.as_deref(), store),
        Command::Check { config } => serve::check(&config),
        Command::AssumeRole(arguments) => assume_role::run(*arguments),
        Command::Sessions(command) => sessions::run(command),
        Command::Mfa(command) => mfa::run(command),
        Command::Explain { call, message, json } => explain::run(&call, message, json),
        Command::Import { config, file, apply, prune } => store::import(&config.config, &file, apply, prune),
        Command::Export { config } => store::export(&config.config),
        Command::Changes { config, after } => store::changes(&config.config, after),
        Command::Backup { config, file } => store::backup(&config.config, &file),
        Command::Restore { config, file, .. } => store::restore(&config.config, file.as_deref()),
        Command::Rekey { config, publish } => store::rekey(&config.config, publish),
        Command::Keyring(KeyringCommand::List { file }) => keys::list(&file),
        Command::Keyring(KeyringCommand::Rotate { file }) => keys::rotate(&file),
        Command::Seal { config } => keys::seal(&config),
        Command::Policy(command) => policy::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(arguments: &Arguments) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&arguments.log)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
}

impl CallArguments {
    /// A client of that broker, with the credentials of the environment.
    fn client(&self) -> Result<Client, Failure> {
        let read = |p: &PathBuf| std::fs::read_to_string(p).map_err(|e| format!("--ca {}: {e}", p.display()));
        let ca_pem = self.ca.as_ref().map(read).transpose()?;
        let endpoint = Endpoint { url: self.endpoint.clone(), region: self.region.clone(), ca_pem };
        let get = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let need =
            |name: &str| get(name).ok_or_else(|| format!("{name} is not set: export the access key to sign with"));
        let token = get("AWS_SESSION_TOKEN");
        let credentials =
            Credentials::new(&need("AWS_ACCESS_KEY_ID")?, &need("AWS_SECRET_ACCESS_KEY")?, token.as_deref());
        Ok(Client::new(&endpoint, credentials)?)
    }
}

/// Whoever runs this command, by system account.
fn operator() -> Actor {
    // The account counts; the name is for people.
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_default();
    Actor::operator(format!("uid {} {name}", rustix::process::getuid().as_raw()).trim_end())
}

/// How many warnings are printed one by one.
const WARNED: usize = 200;

/// What is most likely not meant, on standard error.
fn warn(warnings: &[String]) {
    for warning in warnings.iter().take(WARNED) {
        eprintln!("warning: {warning}");
    }
    if warnings.len() > WARNED {
        eprintln!("warning: … and {} more", warnings.len() - WARNED);
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
