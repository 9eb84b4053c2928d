//! `brevet keyring` and `brevet seal`.

use std::path::Path;

use super::Failure;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::directory::declaration::Declaration;
use crate::directory::{self, Directory, sealing_name};
use crate::entropy::SystemEntropy;
use crate::files::{self, Audience};
use crate::keyring::State;
use crate::keyring_file;
use crate::master_key::MasterKey;

pub(super) fn list(file: &Path) -> Result<(), Failure> {
    let keyring = keyring_file::load(file)?;
    println!("cluster {}", keyring.cluster_id());
    for (id, state, since) in keyring.listing() {
        let state = match state {
            State::Next => "next",
            State::Current => "current",
            State::Previous => "previous",
        };
        println!("{id:08x}  {state:<8}  since {since}");
    }
    Ok(())
}

pub(super) fn rotate(file: &Path) -> Result<(), Failure> {
    let rotated = keyring_file::load(file)?.rotate(&SystemEntropy::new(), SystemClock.now())?;
    keyring_file::save(&rotated, file)?;
    eprintln!(
        "Copy {} to every broker of the cluster before the next rotation; each reads it by itself.",
        file.display()
    );
    list(file)
}

pub(super) fn seal(config: &Path) -> Result<(), Failure> {
    let config = Config::load(config)?;
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
    eprintln!("{}: {sealed} secrets sealed", path.display());
    Ok(())
}
