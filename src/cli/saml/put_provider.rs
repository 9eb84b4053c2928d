//! `brevet saml put-provider`: creates a SAML provider in the store, or replaces its metadata.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{MAX_METADATA_BYTES, metadata_warnings};
use crate::base::entropy::SystemEntropy;
use crate::cli::beside::unmarked;
use crate::cli::store::{master_key, opened};
use crate::cli::{ConfigArgument, Failure, clock, input, journal, operator, print, warn};
use crate::commands::{CommandContext, Put, put_saml_provider};
use crate::config::Config;
use crate::proof::saml::Metadata;
use crate::server;

const EXAMPLES: &str = "\
Examples:
  brevet saml put-provider --config brevet.toml --arn \"$IDP\" --metadata idp.xml
      Creates the provider, or renews its metadata; brokers may be running. IDP is its
      ARN: arn:aws:iam::111122223333:saml-provider/corp";

/// Create a SAML provider in the store, or renew its metadata
///
/// Checks the metadata document of the identity provider, and creates the provider with it or
/// replaces the document that it has. All other properties of the provider and all sessions stay as they are. Running
/// brokers apply the change within two seconds. The change is recorded in the change feed and in the log of commands.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(in crate::cli) struct PutProviderArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The provider: arn:aws:iam::ACCOUNT:saml-provider/NAME
    #[arg(long, value_name = "ARN")]
    arn: String,
    /// The metadata document of the identity provider, as XML; `-` for standard input
    #[arg(long, value_name = "FILE")]
    metadata: PathBuf,
    /// Accept metadata with another entity ID than the provider has, or metadata that has expired
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &PutProviderArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    if let Some(path) = &config.directory {
        return Err(format!(
            "[directory] file: the directory is managed in {}; put the document into its \
             Brevet.SAMLProviders[].SAMLMetadataDocument",
            path.display()
        )
        .into());
    }
    let name = arguments.metadata.display();
    let document = input::read_text(&arguments.metadata, MAX_METADATA_BYTES)?;
    let idp = Metadata::parse(document.as_bytes()).map_err(|error| format!("{name}: {error}"))?;
    let now = clock::now(&config)?;
    warn(&metadata_warnings(&idp, now));
    if let Some(end) = idp
        .usable_until()
        .filter(|end| *end <= now && !arguments.force)
    {
        let fix = "get the identity provider's current metadata, or add --force";
        return Err(format!(
            "{name}: the metadata or the last of its signing certificates expired at {end}; \
            {fix}"
        )
        .into());
    }
    let (_, master_key) = master_key(&config)?;
    let (runtime, store) = opened(&config, Some(&master_key))?;
    let entropy = SystemEntropy::new();
    let context = CommandContext {
        store: &store,
        master_key: &master_key,
        entropy: &entropy,
        now,
        issuer: config.issuer.as_deref(),
    };
    let parameters = json!({"arn": arguments.arn, "entityId": idp.entity_id()});
    let log = journal::of(&config);
    let put = journal::recorded(&log, "PutSAMLProvider", parameters, || {
        let actor = operator();
        let put = runtime.block_on(put_saml_provider(
            context,
            &actor,
            &arguments.arn,
            &document,
            &idp,
            arguments.force,
        ))?;
        let left = runtime.block_on(server::entrance(&config, Some(&master_key)).leave(&store));
        left.map_err(|error| unmarked(&error))?;
        let came_of_it = match put {
            Put::Created(sequence) | Put::Renewed(sequence) => json!({"sequenceNumber": sequence}),
            Put::Unchanged => json!({"changed": false}),
        };
        Ok((put, came_of_it))
    })?;
    runtime.block_on(store.close());
    let arn = print::visible(&arguments.arn);
    let said = match put {
        Put::Created(sequence) => format!("{arn} was created by change {sequence}."),
        Put::Renewed(sequence) => format!("{arn} has this metadata as of change {sequence}."),
        Put::Unchanged => format!("{arn} has this metadata already; nothing was changed."),
    };
    print::line(said)?;
    if !matches!(put, Put::Unchanged) {
        print::note("Every connected broker applies the change within 2 s.");
    }
    Ok(())
}
