//! `brevet provider`: sets properties of an identity provider that AWS's API cannot set, such as a client secret.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::beside::unmarked;
use super::store::{master_key, opened};
use super::{ConfigArgument, Failure, clock, input, journal, operator, print};
use crate::base::entropy::SystemEntropy;
use crate::base::secret::Secret;
use crate::commands::{CommandContext, put_client_secret};
use crate::config::Config;
use crate::server;

/// The maximum length in bytes of a file with a secret.
const MAX_SECRET_BYTES: u64 = 4_096;

const EXAMPLES: &str = "\
Examples:
  brevet provider secret --config brevet.toml --arn \"$IDP\" --client-id brevet --file -
      Reads the client secret from standard input. IDP is the provider's ARN:
      arn:aws:iam::111122223333:oidc-provider/idp.example.com";

const SECRET_EXAMPLES: &str = "\
Examples:
  brevet provider secret --config brevet.toml --arn \"$IDP\" --client-id brevet --file -
      Reads the secret from standard input; brokers may be running. IDP is the provider's ARN:
      arn:aws:iam::111122223333:oidc-provider/idp.example.com
  brevet provider secret --config brevet.toml --arn \"$IDP\" --client-id brevet --none
      The client is a public one: it has no secret.";

/// Manage the properties of an identity provider that sign-in needs
///
/// Providers themselves are made with `aws iam create-open-id-connect-provider` or `brevet import`. These commands set
/// properties for which AWS's API has no parameter.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum ProviderCommand {
    Secret(SecretArguments),
}

/// Set the client secret with which the broker signs people in at an OpenID Connect provider
///
/// The secret is the client secret that the provider issued to this client. The store keeps it sealed under the master
/// key, and no command prints it. The broker uses this client for all further sign-ins. Running brokers apply the
/// change within two seconds. The change is recorded in the change feed and in the log of commands.
#[derive(Debug, Args)]
#[command(after_long_help = SECRET_EXAMPLES)]
pub(super) struct SecretArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The ARN of the provider: arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH
    #[arg(long, value_name = "ARN")]
    arn: String,
    /// The client id of the broker at the provider; it must be one of the provider's client ids in the directory
    #[arg(long, value_name = "ID")]
    client_id: String,
    /// A file with the secret, which may end with a line break; `-` for standard input
    #[arg(long, value_name = "FILE", required_unless_present = "none")]
    file: Option<PathBuf>,
    /// Remove the secret, so that the broker is a public client
    #[arg(long, conflicts_with = "file")]
    none: bool,
}

pub(super) fn run(command: ProviderCommand) -> Result<(), Failure> {
    match command {
        ProviderCommand::Secret(arguments) => secret(&arguments),
    }
}

fn secret(arguments: &SecretArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    if let Some(path) = &config.directory {
        return Err(format!(
            "[directory] file: the directory is managed in {}; put ClientID and ClientSecret (or, from \
             `brevet seal`, SealedClientSecret) into its Brevet.OpenIDConnectProviders[]",
            path.display()
        )
        .into());
    }
    let secret = match &arguments.file {
        Some(path) => Some(read_secret(path)?),
        None => None,
    };
    let (_, master_key) = master_key(&config)?;
    let (runtime, store) = opened(&config, Some(&master_key))?;
    let entropy = SystemEntropy::new();
    let context = CommandContext {
        store: &store,
        master_key: &master_key,
        entropy: &entropy,
        now: clock::now(&config)?,
        issuer: config.issuer.as_deref(),
    };
    let parameters = json!({
        "arn": arguments.arn,
        "clientId": arguments.client_id,
        "hasSecret": secret.is_some(),
    });
    let log = journal::of(&config);
    let sequence = journal::recorded(&log, "PutClientSecret", parameters, || {
        let actor = operator();
        let put = put_client_secret(
            context,
            &actor,
            &arguments.arn,
            &arguments.client_id,
            secret.as_ref(),
        );
        let sequence = runtime.block_on(put)?;
        let left = runtime.block_on(server::entrance(&config, Some(&master_key)).leave(&store));
        left.map_err(|error| unmarked(&error))?;
        Ok((sequence, json!({"sequenceNumber": sequence})))
    })?;
    runtime.block_on(store.close());
    let (arn, id) = (
        print::visible(&arguments.arn),
        print::visible(&arguments.client_id),
    );
    let what = match secret {
        Some(_) => "with its secret",
        None => "as a public client",
    };
    print::line(format_args!(
        "As of change {sequence}, the broker signs people in at {arn} as the client {id}, {what}."
    ))?;
    print::note("Every connected broker applies the change within 2 s.");
    Ok(())
}

/// Reads the secret, without the line break at its end.
fn read_secret(path: &std::path::Path) -> Result<Secret<String>, Failure> {
    let bytes = input::read(path, MAX_SECRET_BYTES)?;
    let text = std::str::from_utf8(&bytes).map(|text| text.trim_end_matches(['\r', '\n']));
    match text {
        Ok(text) if !text.is_empty() => Ok(Secret::new(text.to_owned())),
        _ => Err(format!(
            "{}: must contain the client secret as UTF-8 text, and must not be empty",
            path.display()
        )
        .into()),
    }
}
