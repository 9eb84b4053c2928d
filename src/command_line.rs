//! The code that the commands of `brevet` and `brevet-agent` share: how they find a broker and credentials, how
//! they print, and the commands that both programs have. Data goes to standard output, everything for people to
//! standard error.

mod agent_program;
mod agent_socket;
pub(crate) mod aws;
pub(crate) mod configure;
pub(crate) mod credential_process;
pub(crate) mod exec;
pub(crate) mod failure;
pub(crate) mod input;
pub(crate) mod login;
mod port;
pub(crate) mod print;
pub(crate) mod role;
pub(crate) mod session_credentials;
pub(crate) mod terminal;
pub(crate) mod values;
pub(crate) mod variables;

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Client;

pub use agent_program::main as agent_main;

/// Why a command failed: a text for the person at the terminal.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The heading in `--help` under which the flags of [`CallArguments`] are listed.
const CALL: &str = "Broker and credentials";

/// The flags that say which broker to call, and with which credentials.
#[derive(Debug, Args)]
pub(crate) struct CallArguments {
    /// The URL of the broker [env: BREVET_ENDPOINT, AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL; then the
    /// profile's; default: http://127.0.0.1:7480]
    #[arg(long, help_heading = CALL, visible_alias = "endpoint-url", value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// The region for which calls are signed [env: AWS_REGION, AWS_DEFAULT_REGION; then the profile's; default:
    /// us-east-1]
    #[arg(long, help_heading = CALL, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// A profile of ~/.aws/config; it takes precedence over keys in the environment [env: AWS_PROFILE]
    #[arg(long, help_heading = CALL, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// A PEM file with the CA that signed the broker's certificate [env: AWS_CA_BUNDLE; then the
    /// profile's; default: the system's]
    #[arg(long, help_heading = CALL, visible_alias = "ca-bundle", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Allow http:// to other machines; credentials are then sent unencrypted
    #[arg(long, help_heading = CALL)]
    pub(crate) plaintext_off_loopback: bool,
}

/// The ARN of a role. If `text` is a name, the account is that of the caller.
pub(crate) async fn role_arn(client: &Client, text: &str) -> Result<String, Failure> {
    if text.starts_with("arn:") {
        return Ok(text.to_owned());
    }
    let name = text.strip_prefix("role/").unwrap_or(text);
    let legal = |c: char| c.is_ascii_alphanumeric() || "_+=,.@/-".contains(c);
    if name.is_empty() || !name.chars().all(legal) {
        let rule = "must be arn:aws:iam::ACCOUNT:role/NAME, or the name of a role of your own account, which has only \
             letters, digits and `_+=,.@/-`";
        return Err(format!("--role-arn {text}: {rule}").into());
    }
    let account = client.get_caller_identity().await?.account;
    Ok(role::arn_of_name(&account, name))
}

/// Makes the Tokio runtime of a command that sends or serves requests.
///
/// # Errors
/// The operating system has not enough threads or file descriptors.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // A write beyond a limit on the size of files is an error then, such as any other that says that there
    // is no room: without a handler the signal ends the process. It stays installed.
    let _inside = runtime.enter();
    let beyond_limit = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    drop(signal(beyond_limit)?);
    drop(_inside);
    Ok(runtime)
}
