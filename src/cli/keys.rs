//! `brevet keyring` and `brevet seal`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::print::{self, TextOutputArgument};
use super::{ConfigArgument, Failure};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::directory::declaration::Declaration;
use crate::directory::{self, Directory, sealing_name};
use crate::entropy::SystemEntropy;
use crate::files::{self, Audience};
use crate::keyring::State;
use crate::keyring_file;
use crate::master_key::MasterKey;

const EXAMPLES: &str = "\
Examples:
  brevet keyring list /var/lib/brevet/keyring.json
  brevet keyring rotate /var/lib/brevet/keyring.json";

const LIST_EXAMPLES: &str = "\
Examples:
  brevet keyring list /var/lib/brevet/keyring.json
  brevet keyring list /var/lib/brevet/keyring.json --output json";

const ROTATE_EXAMPLES: &str = "\
Examples:
  brevet keyring rotate /var/lib/brevet/keyring.json
      On one machine; then copy the file to every broker of the cluster.";

const SEAL_EXAMPLES: &str = "\
Examples:
  brevet seal --config /var/lib/brevet/brevet.toml";

/// List or rotate the keys of session tokens
///
/// A keyring holds the key that new sessions are made with, the next one (published before it is
/// used), and those that sessions in use were made with. A broker reads the file again by itself
/// when it changes.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum KeyringCommand {
    List(ListArguments),
    Rotate(RotateArguments),
}

/// List the keys: their ids, their states and since when
///
/// Prints the cluster that the keyring belongs to and one line for each key: next, current, or
/// previous. Nothing secret is printed.
#[derive(Debug, Args)]
#[command(after_long_help = LIST_EXAMPLES)]
pub(super) struct ListArguments {
    /// The keyring
    file: PathBuf,
    #[command(flatten)]
    output: TextOutputArgument,
}

/// Use the next key, keep the current one for its sessions, and publish a new next one
///
/// No session ends by it. Every broker must have the file before the next rotation, so that each
/// knows a key before sessions are made with it.
#[derive(Debug, Args)]
#[command(after_long_help = ROTATE_EXAMPLES)]
pub(super) struct RotateArguments {
    /// The keyring
    file: PathBuf,
    #[command(flatten)]
    output: TextOutputArgument,
}

/// Seal the secrets that stand in a directory file in clear
///
/// For brokers whose directory is a file ([directory] file): access keys and MFA seeds that are
/// written in clear are replaced by ones that are sealed under the master key. Nothing else in the
/// file changes.
#[derive(Debug, Args)]
#[command(after_long_help = SEAL_EXAMPLES)]
pub(super) struct SealArguments {
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn run(command: &KeyringCommand) -> Result<(), Failure> {
    match command {
        KeyringCommand::List(arguments) => list(&arguments.file, arguments.output.is_json()),
        KeyringCommand::Rotate(arguments) => rotate(&arguments.file, arguments.output.is_json()),
    }
}

fn list(file: &Path, as_json: bool) -> Result<(), Failure> {
    let keyring = keyring_file::load(file)?;
    let name = |state: State| match state {
        State::Next => "next",
        State::Current => "current",
        State::Previous => "previous",
    };
    if as_json {
        let keys = keyring.listing().map(
            |(id, state, since)| json!({"KeyId": format!("{id:08x}"), "State": name(state), "Since": since.to_string()}),
        );
        return print::json(&json!({"ClusterId": keyring.cluster_id(), "Keys": keys.collect::<Vec<_>>()}));
    }
    print::line(format_args!("cluster {}", keyring.cluster_id()))?;
    for (id, state, since) in keyring.listing() {
        print::line(format_args!("{id:08x}  {:<8}  since {since}", name(state)))?;
    }
    Ok(())
}

fn rotate(file: &Path, as_json: bool) -> Result<(), Failure> {
    let rotated = keyring_file::load(file)?.rotate(&SystemEntropy::new(), SystemClock.now())?;
    keyring_file::save(&rotated, file)?;
    print::note(format_args!(
        "Copy {} to every broker of the cluster before the next rotation; each reads it by itself.",
        file.display()
    ));
    list(file, as_json)
}

pub(super) fn seal(arguments: &SealArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let path = config.directory.as_deref();
    let path = path.ok_or("[directory] file: is not set; what is in the store is sealed already")?;
    let key =
        config.master_key.as_deref().ok_or("[directory] master_key: names the key to seal with, and is missing")?;
    let key = MasterKey::load(key)?;
    let entropy = SystemEntropy::new();
    let bytes = files::read(path, Audience::Everyone, directory::MAX_BYTES)?;
    // Whatever is wrong with the file is told before anything is written.
    Directory::compile(bytes.expose(), Some(&key))?;
    let mut declaration: Declaration = serde_json::from_slice(bytes.expose())?;
    let mut sealed = 0;
    for entry in &mut declaration.brevet.access_keys {
        if let Some(clear) = entry.secret_access_key.take() {
            let name = sealing_name("access key", &entry.access_key_id, &entry.user_arn);
            entry.sealed_secret_access_key = Some(key.seal(&name, clear.as_bytes(), &entropy)?);
            sealed += 1;
        }
    }
    for entry in &mut declaration.brevet.mfa_devices {
        if let Some(clear) = entry.base32_string_seed.take() {
            let name = sealing_name("mfa device", &entry.serial_number, &entry.user_arn);
            entry.sealed_base32_string_seed = Some(key.seal(&name, clear.as_bytes(), &entropy)?);
            sealed += 1;
        }
    }
    if sealed > 0 {
        let mut text = serde_json::to_vec_pretty(&declaration)?;
        text.push(b'\n');
        Directory::compile(&text, Some(&key))?;
        files::write_private(path, &text)?;
    }
    print::note(format_args!("{}: {sealed} secrets sealed", path.display()));
    Ok(())
}
