//! Checks of files, their owners and modes, and of the keys in them.

use std::path::Path;
use std::sync::Arc;

use super::Look;
use super::line::{explained, failed, ok, warning};
use crate::audit::Target;
use crate::files::{self, Audience, FileError};
use crate::keyring_file::{self, KeyringFileError};
use crate::master_key::{MasterKey, MasterKeyError};
use crate::session::key_state::KeyState;
use crate::session::keyring::Keyring;
use crate::store::Place;

impl Look<'_> {
    /// Checks owner and mode of the files with keys and certificates, the directory file, the watermark file, the
    /// SQLite store and the audit log, as far as they exist.
    pub(super) fn modes(&mut self) {
        let config = self.config;
        let mut named: Vec<(&Path, Audience)> = vec![(&config.keyring, Audience::Owner)];
        named.extend(
            config
                .master_key
                .as_deref()
                .map(|path| (path, Audience::Owner)),
        );
        named.extend(
            config
                .directory
                .as_deref()
                .map(|path| (path, Audience::Everyone)),
        );
        named.extend(
            config
                .watermark
                .as_deref()
                .map(|path| (path, Audience::Everyone)),
        );
        if let Some((certificate, private_key)) = &config.tls {
            named.extend([
                (&**certificate, Audience::Everyone),
                (&**private_key, Audience::Owner),
            ]);
        }
        named.extend(
            config
                .client_ca
                .as_deref()
                .map(|path| (path, Audience::Everyone)),
        );
        if let Place::Sqlite(path) = &config.store {
            named.push((path, Audience::Owner));
        }
        if let Target::File { path, .. } = &config.audit
            && path.is_file()
        {
            named.push((path, Audience::Owner));
        }
        // A missing file is reported by the check that reads it.
        let there: Vec<_> = named
            .into_iter()
            .filter(|(path, _)| path.exists())
            .collect();
        let unfit: Vec<String> = there
            .iter()
            .filter_map(|(path, audience)| files::check(path, *audience).err())
            .map(|e| e.to_string())
            .collect();
        self.lines.push(match unfit.is_empty() {
            true => ok(
                "file modes",
                format!("{} files with the right owner and mode", there.len()),
            ),
            false => failed(
                "file modes",
                unfit.join("; "),
                "follow the rules above, as the owner of the files; if a file cannot be read, run `brevet check` as \
                 the account that owns the folder of the broker",
            ),
        });
    }

    pub(super) fn master_key(&mut self) -> Option<Arc<MasterKey>> {
        let path = self.config.master_key.as_deref()?;
        match MasterKey::load(path) {
            Ok(key) => {
                let mut says = format!("{}: {} seals", path.display(), key.id());
                if let Some(next) = key.next_id() {
                    says.push_str(&format!(", {next} is published"));
                }
                if !key.retired_ids().is_empty() {
                    says.push_str(&format!(", {} retired", key.retired_ids().join(", ")));
                }
                self.lines.push(ok("master key", says));
                Some(Arc::new(key))
            }
            Err(MasterKeyError::File(error)) if !is_missing(&error) => {
                self.lines.push(explained("master key", error));
                None
            }
            Err(error) => {
                let fix = "copy the master key file from another broker, or restore it from a backup; without this \
                file the broker cannot decrypt any secret";
                self.lines.push(failed("master key", error, fix));
                None
            }
        }
    }

    pub(super) fn keyring(&mut self) -> Option<Keyring> {
        let path = &self.config.keyring;
        match keyring_file::load(path) {
            Ok(keyring) => {
                let says = format!(
                    "{}: cluster {}, {} keys",
                    path.display(),
                    keyring.cluster_id(),
                    keyring.listing().count()
                );
                let has_next = keyring
                    .listing()
                    .any(|(_, state, _)| state == KeyState::Next);
                self.lines.push(match has_next {
                    true => ok("keyring", says),
                    false => warning(
                        "keyring",
                        format!("{says}, but no key in the state `next`, so the keyring cannot be rotated"),
                        "copy the keyring file from another broker of the cluster, or restore it from a backup",
                    ),
                });
                Some(keyring)
            }
            Err(KeyringFileError::File(error)) if !is_missing(&error) => {
                self.lines.push(explained("keyring", error));
                None
            }
            Err(error) => {
                let fix = "copy the keyring file from another broker of the cluster, or restore it from a backup";
                self.lines.push(failed("keyring", error, fix));
                None
            }
        }
    }
}

/// Returns whether there is no such file. For other faults, such as a wrong mode, a copy of the file is no remedy.
fn is_missing(error: &FileError) -> bool {
    matches!(error, FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}
