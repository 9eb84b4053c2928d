//! `brevet export`, which reads the store directly; and functions with which commands open a store that a broker may be
//! using.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{ConfigArgument, Failure, clock, journal, print, report};
use crate::base::entropy::SystemEntropy;
use crate::base::legible::Form;
use crate::commands::{self, Secrets};
use crate::config::Config;
use crate::master_key::MasterKey;
use crate::server;
use crate::store::{Access, Place, Store};

const EXAMPLES: &str = "\
Examples:
  brevet export --config /var/lib/brevet/brevet.toml > directory.json";

/// Print the directory in the store
///
/// Prints the format that `brevet import` reads; importing it again changes nothing. Secrets are sealed
/// under the master key.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    config: ConfigArgument,
}

/// Opens the store for a command, even if a broker is using it.
///
/// # Errors
/// The store cannot be opened, or is older than what this node has seen of it.
pub(super) fn opened(
    config: &Config,
    master_key: Option<&MasterKey>,
) -> Result<(tokio::runtime::Runtime, Store), Failure> {
    let runtime = super::runtime()?;
    let (now, entropy) = (clock::now(config)?, SystemEntropy::new());
    let store =
        runtime.block_on(server::entrance(config, master_key).open(Access::Use, now, &entropy));
    let files = match &config.store {
        Place::Sqlite(path) => vec![path.as_path()],
        Place::Postgres { .. } | Place::Memory => Vec::new(),
    };
    Ok((
        runtime,
        store.map_err(|error| report::with_free_space(error.into(), &files))?,
    ))
}

/// Does what [`opened`] does, with the master key of the configuration, if there is one.
///
/// # Errors
/// The same as for [`opened`], and an error if the master key file cannot be read.
pub(super) fn opened_to_read(config: &Config) -> Result<(tokio::runtime::Runtime, Store), Failure> {
    let master_key = config
        .master_key
        .as_deref()
        .map(MasterKey::load)
        .transpose()?;
    opened(config, master_key.as_ref())
}

/// Reads the configuration's master key file. Returns its path and its keys.
///
/// # Errors
/// `[directory] master_key` is not set, or the file cannot be read.
pub(super) fn master_key(config: &Config) -> Result<(&Path, MasterKey), Failure> {
    let path = config
        .master_key
        .as_deref()
        .ok_or("[directory] master_key: is not set; set it to the path of the master key file")?;
    Ok((path, MasterKey::load(path)?))
}

/// Says which secrets in the store cannot be decrypted with the master key file, and what to do.
pub(super) fn unopened(found: &Secrets, master_key: &Path) -> String {
    let mut text = format!(
        "{} of the {} secrets in the store cannot be decrypted; nothing was changed",
        found.missing.values().sum::<usize>() + found.broken_count,
        found.count()
    );
    for (id, number) in &found.missing {
        text.push_str(&format!(
            "\n  {number} are sealed under the master key {id}, which is not in {}: restore a master key file that \
             contains this key",
            master_key.display()
        ));
    }
    for name in &found.broken {
        text.push_str(&format!(
            "\n  {name}: was altered, or copied from another entry: give this entry a new secret, or restore a backup"
        ));
    }
    text
}

pub(super) fn export(arguments: &ExportArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let (runtime, store) = opened_to_read(&config)?;
    journal::note(&journal::of(&config), "ExportDirectory", json!({}), || {
        let declaration = runtime.block_on(commands::export(&store))?;
        print::legibly(Form::Json, |out| {
            serde_json::to_writer_pretty(&mut *out, &declaration)?;
            Ok(out.write_all(b"\n")?)
        })
    })
}
