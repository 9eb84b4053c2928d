//! The directory as a file: it is read and compiled as a whole, then compared with the entries that the store has
//! recorded. Entries without a unique id get one, and the sessions of removed entries end. The store records the
//! entries with their ids, so that an id is generated only once, and a removal is noticed even if no broker was
//! running.

mod departures;
mod serving;
mod take;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::base::digest::{hex, sha256};
use crate::base::entropy::{Entropy, NoEntropy};
use crate::directory::declaration::Declaration;
use crate::directory::resource::{Name, ResourceKind};
use crate::directory::{self, Directory, DirectoryError, unique_ids};
use crate::files::{self, Audience, FileError};
use crate::master_key::{MasterKey, MasterKeyError};
use crate::store::DirectoryEntries;

pub use serving::{Serves, Serving};
pub use take::{TakeError, Taker};

#[derive(Debug, thiserror::Error)]
pub enum DirectoryLoadError {
    #[error(transparent)]
    File(#[from] FileError),
    /// The master key for the sealed secrets cannot be loaded.
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// The content of the file breaks a rule.
    #[error(transparent)]
    Content(#[from] DirectoryError),
    /// The system has no random bytes for the ids that the file leaves out.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// One of the providers in the file is the broker itself.
    #[error("directory: {0}")]
    OwnIssuer(String),
    /// The file has unsealed secrets, and other users can read it.
    #[error(
        "{path}: holds unsealed secrets ({count}), so only its owner may have access; run `chmod 600 {path}`, or seal the secrets with `brevet seal`"
    )]
    Readable {
        path: PathBuf,
        /// How many secrets are not sealed.
        count: usize,
    },
}

/// A directory file that was read, but not compiled yet.
pub struct DirectoryFile {
    path: PathBuf,
    declaration: Declaration,
    master_key: Option<MasterKey>,
    issuer: Option<String>,
    /// A digest of the names of the file's entries.
    digest: String,
}

/// The entries of a directory file by name, each with the identity that tells it from a later entry of the same name: a
/// unique id, or the ARN of the user who owns a key or certificate. The identity of a provider is empty.
type Entries = BTreeMap<Name, String>;

/// A compiled directory file, whose entries all have their unique ids.
pub struct Compiled {
    pub directory: Directory,
    /// How many unique ids were generated, because neither the file nor the store had them.
    pub made: usize,
    entries: Entries,
}

impl Compiled {
    /// The entries that the store has recorded and the file no longer has.
    pub fn gone<'k>(&self, kept: &'k DirectoryEntries) -> impl Iterator<Item = &'k Name> {
        let gone = kept
            .iter()
            .filter(|(name, _)| !self.entries.contains_key(*name));
        gone.map(|(name, _)| name)
    }
}

impl DirectoryFile {
    /// Reads a directory file and the master key for its secrets. `issuer` is `[web_identity] issuer`: a directory must
    /// not name it as a provider.
    ///
    /// # Errors
    /// [`DirectoryLoadError`] if the directory file or the master key cannot be read or is malformed.
    pub fn read(
        path: &Path,
        master_key: Option<&Path>,
        issuer: Option<&str>,
    ) -> Result<Self, DirectoryLoadError> {
        let master_key = master_key.map(MasterKey::load).transpose()?;
        let bytes = files::read(path, Audience::Everyone, directory::MAX_BYTES)?;
        let declaration = directory::parse(bytes.expose())?;
        let digest = digest(&entries(&declaration));
        Ok(Self {
            path: path.to_owned(),
            declaration,
            master_key,
            issuer: issuer.map(str::to_owned),
            digest,
        })
    }

    /// Compiles the file. An entry without a unique id gets the one that the store keeps for it, or a new one.
    ///
    /// # Errors
    /// [`DirectoryLoadError`] if the file breaks a rule, holds unsealed secrets without being private, or names the
    /// broker itself as a provider, or if there are no random bytes for new ids.
    pub fn compile(
        &self,
        kept: &DirectoryEntries,
        entropy: &dyn Entropy,
    ) -> Result<Compiled, DirectoryLoadError> {
        let mut declaration = self.declaration.clone();
        let of = |kind, arn: &str| kept.identity(&Name::new(kind, arn));
        let made = unique_ids::fill(&mut declaration, of, entropy)?;
        let entries = entries(&declaration);
        let directory = Directory::from_declaration(declaration, self.master_key.as_ref())?;
        let count = directory.clear_secrets();
        if count > 0 && files::check(&self.path, Audience::Owner).is_err() {
            return Err(DirectoryLoadError::Readable {
                path: self.path.clone(),
                count,
            });
        }
        match directory.own_provider(self.issuer.as_deref()) {
            Some(why) => Err(DirectoryLoadError::OwnIssuer(why)),
            None => Ok(Compiled {
                directory,
                made,
                entries,
            }),
        }
    }
}

/// Lists the entries of a file that the store records: those with a unique id, and those whose removal ends sessions.
fn entries(file: &Declaration) -> Entries {
    let mut all = Entries::new();
    let mut put = |kind, id: &str, identity: &str| {
        all.insert(Name::new(kind, id), identity.to_owned());
    };
    for user in &file.user_detail_list {
        put(ResourceKind::User, &user.arn, &user.user_id);
    }
    for group in &file.group_detail_list {
        put(ResourceKind::Group, &group.arn, &group.group_id);
    }
    for policy in &file.policies {
        let id = policy.policy_id.as_deref().unwrap_or_default();
        put(ResourceKind::Policy, &policy.arn, id);
    }
    let mut profiles: Vec<_> = file.brevet.instance_profiles.iter().collect();
    for role in &file.role_detail_list {
        put(ResourceKind::Role, &role.arn, &role.role_id);
        profiles.extend(&role.instance_profile_list);
    }
    for profile in profiles {
        put(
            ResourceKind::InstanceProfile,
            &profile.arn,
            &profile.instance_profile_id,
        );
    }
    // An inactive key counts as removed, so that its sessions do not become valid again with it.
    let is_active = |status: Option<&str>| status != Some("Inactive");
    for key in &file.brevet.access_keys {
        if is_active(key.status.as_deref()) {
            put(ResourceKind::AccessKey, &key.access_key_id, &key.user_arn);
        }
    }
    for certificate in &file.brevet.certificates {
        let name = certificate.spiffe_id.as_deref();
        let name = name.or(certificate.subject.as_deref()).unwrap_or_default();
        if is_active(certificate.status.as_deref()) {
            put(ResourceKind::Certificate, name, &certificate.user_arn);
        }
    }
    for provider in &file.brevet.open_id_connect_providers {
        put(ResourceKind::OidcProvider, &provider.arn, "");
    }
    for provider in &file.brevet.saml_providers {
        put(ResourceKind::SamlProvider, &provider.arn, "");
    }
    all
}

/// Computes a digest of the names of entries. Brokers whose files have the same names do not end each other's
/// sessions.
fn digest(entries: &Entries) -> String {
    let names: Vec<String> = entries.keys().map(Name::to_string).collect();
    hex(&sha256(names.join("\n").as_bytes()))
}
