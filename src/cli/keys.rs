//! `brevet keyring`, for the keys of session tokens and of web identity tokens; and `brevet seal`, for the
//! secrets in a directory file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::print::{self, TextOutputArgument};
use super::{ConfigArgument, Failure, journal};
use crate::base::clock::{Clock, SystemClock};
use crate::base::entropy::SystemEntropy;
use crate::commands;
use crate::config::Config;
use crate::directory::declaration::Declaration;
use crate::directory::{self, Directory, unique_ids};
use crate::files::{self, Audience};
use crate::keyring_file;
use crate::master_key::MasterKey;
use crate::session::key_state::KeyState;
use crate::session::keyring::{self, Keyring};
use crate::store::Store;

const EXAMPLES: &str = "\
Examples:
  brevet keyring list /var/lib/brevet/keyring.json
  brevet keyring rotate /var/lib/brevet/keyring.json
  brevet keyring revoke --config /var/lib/brevet/brevet.toml 1f3c09aa";

const LIST_EXAMPLES: &str = "\
Examples:
  brevet keyring list /var/lib/brevet/keyring.json
  brevet keyring list /var/lib/brevet/keyring.json --output json";

const ROTATE_EXAMPLES: &str = "\
Examples:
  brevet keyring rotate /var/lib/brevet/keyring.json
      Run it on one machine, then copy the file to every broker of the cluster.";

const REVOKE_EXAMPLES: &str = "\
Examples:
  brevet keyring revoke --config /var/lib/brevet/brevet.toml 1f3c09aa
      Revokes the key with this id, as `brevet keyring list` shows it.
  brevet keyring revoke --config /var/lib/brevet/brevet.toml --all
      Revokes every key in the keyring, because the file leaked.";

const SEAL_EXAMPLES: &str = "\
Examples:
  brevet seal --config /var/lib/brevet/brevet.toml";

/// List, rotate or revoke the keys that seal session tokens
///
/// A keyring contains the current key, which seals new session tokens, the next key (which must be on every broker
/// before it becomes current), and previous keys, which open the tokens that they sealed. A running broker reads the
/// file again when it changes.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum KeyringCommand {
    List(ListArguments),
    Rotate(RotateArguments),
    Revoke(RevokeArguments),
}

/// List the keys with their ids, their states and the times of the last change
///
/// Prints the cluster that the keyring belongs to and one line for each key: next, current or
/// previous. JSON output also has the keys that sign web identity tokens. Nothing secret is printed.
#[derive(Debug, Args)]
#[command(after_long_help = LIST_EXAMPLES)]
pub(super) struct ListArguments {
    /// The keyring file
    file: PathBuf,
    #[command(flatten)]
    output: TextOutputArgument,
}

/// Make the next key current, keep the current key for existing sessions, and make a new next key
///
/// No session ends. Copy the new file to every broker before the next rotation, so that each broker has a key before
/// another broker seals a token with it.
#[derive(Debug, Args)]
#[command(after_long_help = ROTATE_EXAMPLES)]
pub(super) struct RotateArguments {
    /// The keyring file
    file: PathBuf,
    #[command(flatten)]
    output: TextOutputArgument,
}

/// Revoke keys for good: brokers refuse all tokens that were made with them
///
/// For keys that leaked. The store keeps the ids of revoked keys for ever, and every connected broker stops using the
/// keys within 2 seconds: their sessions end, and the broker no longer publishes them. An old copy of the keyring file
/// does not undo this. The command then rewrites the keyring file: if the current key was revoked, the next key becomes
/// current, and a new next key is made. Copy the file to every broker: a broker whose current key was revoked issues
/// nothing until it has the new file.
#[derive(Debug, Args)]
#[command(after_long_help = REVOKE_EXAMPLES)]
pub(super) struct RevokeArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The ids of the keys: 8 hexadecimal digits, or 16 for a key of web identity tokens
    #[arg(value_name = "KEYID", required_unless_present = "all", value_parser = key_id)]
    key_ids: Vec<String>,
    /// Revoke every key in the keyring file, including the next ones; all sessions end
    #[arg(long, conflicts_with = "key_ids")]
    all: bool,
}

fn key_id(text: &str) -> Result<String, &'static str> {
    keyring::normal_id(text)
        .ok_or("must be 8 hexadecimal digits, or 16 for a key that signs web identity tokens")
}

/// Seal the unsealed secrets in a directory file
///
/// For brokers whose directory is a file ([directory] file): encrypts, under the master key, the secrets that are in
/// plain text in the file: secret access keys, MFA seeds, hashes of passwords, client secrets of OpenID Connect
/// providers and private keys of SAML providers. The file is formatted anew, and no other value in it changes.
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
        KeyringCommand::Revoke(arguments) => revoke(arguments),
    }
}

fn list(file: &Path, as_json: bool) -> Result<(), Failure> {
    let keyring = keyring_file::load(file)?;
    if !as_json {
        return list_keys(&keyring);
    }
    let keys = keyring.listing().map(
        |(id, state, since)| json!({"KeyId": format!("{id:08x}"), "State": name(state), "Since": since.to_string()}),
    );
    let signing = keyring.signing_listing().map(|(id, algorithm, state, since)| {
        json!({"KeyId": id, "Algorithm": algorithm.name(), "State": name(state), "Since": since.to_string()})
    });
    print::json(&json!({
        "ClusterId": keyring.cluster_id(), "Keys": keys.collect::<Vec<_>>(),
        "WebIdentityKeys": signing.collect::<Vec<_>>(),
    }))
}

fn list_keys(keyring: &Keyring) -> Result<(), Failure> {
    print::line(format_args!("cluster {}", keyring.cluster_id()))?;
    for (id, state, since) in keyring.listing() {
        print::line(format_args!("{id:08x}  {:<8}  since {since}", name(state)))?;
    }
    Ok(())
}

fn name(state: KeyState) -> &'static str {
    match state {
        KeyState::Next => "next",
        KeyState::Current => "current",
        KeyState::Previous => "previous",
    }
}

fn revoke(arguments: &RevokeArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let file = &config.keyring;
    // Keys that were named are revoked even if the keyring file cannot be read.
    let keyring = keyring_file::load(file);
    let ids: BTreeSet<String> = match (&keyring, arguments.all) {
        (Ok(keyring), true) => keyring.ids(),
        (Err(error), true) => {
            return Err(format!(
                "{error}; without this file, give the ids of the keys that leaked instead of --all"
            )
            .into());
        }
        (_, false) => arguments.key_ids.iter().cloned().collect(),
    };
    let (entropy, now) = (SystemEntropy::new(), SystemClock.now());
    let revoking = async {
        let work = async |store: &Store| {
            let ids = ids.iter().map(String::as_str);
            commands::revoke_signing_keys(store, &super::operator(), ids, now).await
        };
        let sequence = super::beside::with_store(&config, now, work).await?;
        Ok((sequence, json!({"sequenceNumber": sequence})))
    };
    let sequence = super::runtime()?.block_on(journal::recorded_if_possible(
        &journal::of(&config),
        "RevokeSigningKey",
        json!({"keyIds": ids, "all": arguments.all}),
        revoking,
    ))?;
    let list: Vec<&str> = ids.iter().map(String::as_str).collect();
    print::line(format_args!(
        "These keys are revoked by change {sequence}: {}",
        list.join(", ")
    ))?;
    print::note("Every connected broker stops using these keys within 2 s. This cannot be undone.");
    let keyring = keyring.map_err(|error| {
        format!(
            "the keys are revoked, but could not be removed from the keyring file: {error}. Once the file can be \
             read, run the same command again"
        )
    })?;
    let there = keyring.ids();
    let unknown: Vec<&str> = list
        .iter()
        .filter(|id| !there.contains(**id))
        .copied()
        .collect();
    if !unknown.is_empty() {
        print::note(format_args!(
            "These ids are revoked too, but {} has no such keys (check the spelling): {}",
            file.display(),
            unknown.join(", ")
        ));
    }
    if unknown.len() == ids.len() {
        return Ok(());
    }
    let renewed = keyring.without(&ids, &entropy, now)?;
    keyring_file::save(&renewed, file).map_err(|error| {
        format!(
            "the keys are revoked, but the keyring file without them could not be written: {error}. Once the \
             file can be written, run the same command again"
        )
    })?;
    print::note(format_args!(
        "{} no longer has these keys. Copy this file to every broker now: a broker whose current key was revoked issues no \
         sessions until it has the new file.",
        file.display()
    ));
    list_keys(&renewed)
}

fn rotate(file: &Path, as_json: bool) -> Result<(), Failure> {
    let now = SystemClock.now();
    let rotated = keyring_file::load(file)?.rotate(&SystemEntropy::new(), now)?;
    let kept = files::name_for_replaced(file, now);
    journal::note(
        &journal::beside(file),
        "RotateKeyring",
        json!({"file": file, "kept": kept}),
        || {
            files::keep(file, &kept)?;
            Ok(keyring_file::save(&rotated, file)?)
        },
    )?;
    print::note(format_args!(
        "The previous keyring file is kept as {0}. To go back: mv {0} {1}",
        kept.display(),
        file.display()
    ));
    print::note(format_args!(
        "Copy {} to every broker of the cluster before the next rotation; each broker notices the new file.",
        file.display()
    ));
    list(file, as_json)
}

pub(super) fn seal(arguments: &SealArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let path = config.directory.as_deref();
    let path =
        path.ok_or("[directory] file: is not set; secrets in the store are always sealed, so there is nothing to do")?;
    let key = config
        .master_key
        .as_deref()
        .ok_or("[directory] master_key: is not set; set it to the path of the master key file, whose key seals the \
        secrets")?;
    let key = MasterKey::load(key)?;
    let entropy = SystemEntropy::new();
    let bytes = files::read(path, Audience::Everyone, directory::MAX_BYTES)?;
    // Any fault of the file is reported before anything is written.
    check(bytes.expose(), &key, &entropy)?;
    let mut declaration: Declaration = serde_json::from_slice(bytes.expose())?;
    let sealed = declaration.seal_secrets(&key, &entropy)?;
    if sealed > 0 {
        let mut text = serde_json::to_vec_pretty(&declaration)?;
        text.push(b'\n');
        check(&text, &key, &entropy)?;
        // The old file is not kept: it held secrets in plain text, and nothing else in it changes.
        journal::note(
            &journal::of(&config),
            "SealDirectory",
            json!({"file": path, "secrets": sealed}),
            || Ok(files::write_private(path, &text)?),
        )?;
    }
    print::note(format_args!("{}: {sealed} secrets sealed", path.display()));
    Ok(())
}

/// Compiles a directory file as the broker would. Unique ids that the file leaves out are made up.
///
/// # Errors
/// A text that names the first rule that the file breaks, and where.
fn check(text: &[u8], key: &MasterKey, entropy: &SystemEntropy) -> Result<(), Failure> {
    let mut declaration = directory::parse(text)?;
    unique_ids::fill(&mut declaration, |_, _| None, entropy)?;
    Directory::from_declaration(declaration, Some(key))?;
    Ok(())
}
