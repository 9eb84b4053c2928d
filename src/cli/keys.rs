//! `brevet keyring` and `brevet seal`.

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
      On one machine; then copy the file to every broker of the cluster.";

const REVOKE_EXAMPLES: &str = "\
Examples:
  brevet keyring revoke --config /var/lib/brevet/brevet.toml 1f3c09aa
      The key with this id, as `brevet keyring list` shows it.
  brevet keyring revoke --config /var/lib/brevet/brevet.toml --all
      Every key in the keyring: the file leaked.";

const SEAL_EXAMPLES: &str = "\
Examples:
  brevet seal --config /var/lib/brevet/brevet.toml";

/// List, rotate or revoke the keys of session tokens
///
/// A keyring holds the key that new sessions are made with, the next one (published before it is
/// used), and those that sessions in use were made with. A broker reads the file again by itself
/// when it changes.
#[derive(Debug, Subcommand)]
#[command(after_long_help = EXAMPLES)]
pub(super) enum KeyringCommand {
    List(ListArguments),
    Rotate(RotateArguments),
    Revoke(RevokeArguments),
}

/// List the keys: their ids, their states and since when
///
/// Prints the cluster that the keyring belongs to and one line for each key: next, current, or
/// previous. As JSON also the keys that sign web identity tokens. Nothing secret is printed.
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

/// Revoke keys for good: what was made with them is refused, whatever a keyring file says
///
/// For a key that leaked. The store remembers the key's id for ever, and every connected broker does
/// without the key within 2 seconds: sessions that were made with it end, and it is published to nobody.
/// An old keyring file that is put back changes nothing of that. Then the keyring file is written anew:
/// the next key takes the place of a current one, and a new next key is made. Copy the file to every
/// broker: one whose current key was revoked issues nothing until it has it.
#[derive(Debug, Args)]
#[command(after_long_help = REVOKE_EXAMPLES)]
pub(super) struct RevokeArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The keys: 8 hexadecimal digits, or 16 of a key for web identity tokens
    #[arg(value_name = "KEYID", required_unless_present = "all", value_parser = key_id)]
    key_ids: Vec<String>,
    /// Every key in the keyring file, the next ones too; all sessions end
    #[arg(long, conflicts_with = "key_ids")]
    all: bool,
}

fn key_id(text: &str) -> Result<String, &'static str> {
    keyring::normal_id(text)
        .ok_or("a key's id is 8 hexadecimal digits, or 16 of a key for web identity tokens")
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
    // Named keys are revoked whatever is wrong with the file.
    let keyring = keyring_file::load(file);
    let ids: BTreeSet<String> = match (&keyring, arguments.all) {
        (Ok(keyring), true) => keyring.ids(),
        (Err(error), true) => {
            return Err(format!("{error}; name the keys that leaked by their ids").into());
        }
        (_, false) => arguments.key_ids.iter().cloned().collect(),
    };
    let (entropy, now) = (SystemEntropy::new(), SystemClock.now());
    let work = async |store: &Store| {
        let ids = ids.iter().map(String::as_str);
        commands::revoke_signing_keys(store, &super::operator(), ids, now).await
    };
    let sequence = super::runtime()?.block_on(super::store::beside(&config, now, work))?;
    let list: Vec<&str> = ids.iter().map(String::as_str).collect();
    print::line(format_args!(
        "Revoked by change {sequence}: {}",
        list.join(", ")
    ))?;
    print::note("Every connected broker does without them within 2 s. It cannot be taken back.");
    let keyring = keyring.map_err(|error| {
        format!("the keys are revoked, and the keyring file is not written anew: {error}")
    })?;
    let there = keyring.ids();
    let unknown: Vec<&str> = list
        .iter()
        .filter(|id| !there.contains(**id))
        .copied()
        .collect();
    if !unknown.is_empty() {
        print::note(format_args!(
            "Not in {} (check the spelling): {}",
            file.display(),
            unknown.join(", ")
        ));
    }
    if unknown.len() == ids.len() {
        return Ok(());
    }
    let renewed = keyring.without(&ids, &entropy, now)?;
    keyring_file::save(&renewed, file).map_err(|error| {
        format!("the keys are revoked, and the keyring file is not written anew: {error}")
    })?;
    print::note(format_args!(
        "{} is written anew. Copy it to every broker now: one whose current key was revoked issues no session until it has it.",
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
        "The keyring as it was is kept as {0}. To go back: mv {0} {1}",
        kept.display(),
        file.display()
    ));
    print::note(format_args!(
        "Copy {} to every broker of the cluster before the next rotation; each reads it by itself.",
        file.display()
    ));
    list(file, as_json)
}

pub(super) fn seal(arguments: &SealArguments) -> Result<(), Failure> {
    let config = Config::load(&arguments.config.config)?;
    let path = config.directory.as_deref();
    let path =
        path.ok_or("[directory] file: is not set; what is in the store is sealed already")?;
    let key = config
        .master_key
        .as_deref()
        .ok_or("[directory] master_key: names the key to seal with, and is missing")?;
    let key = MasterKey::load(key)?;
    let entropy = SystemEntropy::new();
    let bytes = files::read(path, Audience::Everyone, directory::MAX_BYTES)?;
    // Whatever is wrong with the file is told before anything is written.
    check(bytes.expose(), &key, &entropy)?;
    let mut declaration: Declaration = serde_json::from_slice(bytes.expose())?;
    let sealed = declaration.seal_secrets(&key, &entropy)?;
    if sealed > 0 {
        let mut text = serde_json::to_vec_pretty(&declaration)?;
        text.push(b'\n');
        check(&text, &key, &entropy)?;
        // What was there had secrets in clear, and is not kept: nothing else in it changes.
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

/// Checks a directory file as a whole. Ids that it leaves out are the broker's to make.
fn check(text: &[u8], key: &MasterKey, entropy: &SystemEntropy) -> Result<(), Failure> {
    let mut declaration = directory::parse(text)?;
    unique_ids::fill(&mut declaration, |_, _| None, entropy)?;
    Directory::from_declaration(declaration, Some(key))?;
    Ok(())
}
