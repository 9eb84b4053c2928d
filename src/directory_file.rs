//! A directory that is a file: read and compiled as a whole, and taken in. Taking it in gives ids to what
//! the file has without one, and ends what went from it. The store keeps both, so that an id is made once,
//! and so that what goes while no broker runs has ended all the same when it comes back.

mod departures;
mod serving;
mod take;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::base::digest::{hex, sha256};
use crate::base::entropy::{Entropy, NoEntropy};
use crate::directory::declaration::Declaration;
use crate::directory::resource::{Kind, Name};
use crate::directory::{self, Directory, DirectoryError, unique_ids};
use crate::files::{self, Audience, FileError};
use crate::master_key::{MasterKey, MasterKeyError};
use crate::store::DirectoryEntries;

pub use serving::{Serves, Serving};
pub use take::{TakeError, Taker};

/// Why a directory could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryLoadError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key for its sealed secrets.
    #[error("[directory] master_key: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// Its content.
    #[error(transparent)]
    Content(#[from] DirectoryError),
    /// Random bytes for the ids that it leaves out.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// A provider in it is the broker itself.
    #[error("directory: {0}")]
    OwnIssuer(String),
    /// It has secrets in clear, and others can read it.
    #[error(
        "{path}: holds {count} secrets in clear, so it must be private; run `chmod 600 {path}`, or seal them with `brevet seal`"
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
}

/// A directory file as it was read. It is not compiled yet.
pub struct DirectoryFile {
    path: PathBuf,
    declaration: Declaration,
    master_key: Option<MasterKey>,
    issuer: Option<String>,
    /// A digest of the names of its entries.
    digest: String,
}

/// What a directory file has: each entry's name, and what makes it the same one under that name.
type Entries = BTreeMap<Name, String>;

/// A directory file with an id for everything that has one.
pub struct Compiled {
    /// The snapshot.
    pub directory: Directory,
    /// How many ids are neither in the file nor in the store.
    pub made: usize,
    entries: Entries,
}

impl Compiled {
    /// The entries that the store keeps and the file does not have.
    pub fn gone<'k>(&self, kept: &'k DirectoryEntries) -> impl Iterator<Item = &'k Name> {
        let gone = kept
            .iter()
            .filter(|(name, _)| !self.entries.contains_key(*name));
        gone.map(|(name, _)| name)
    }
}

impl DirectoryFile {
    /// Reads a directory file and the master key that it needs. `issuer` is the broker as an issuer of
    /// tokens.
    ///
    /// # Errors
    /// Names the file or the place in it, and the rule.
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

    /// Compiles the file. What it states no id for has the one that is kept, or a new one.
    ///
    /// # Errors
    /// Names the place in the file, and the rule.
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

/// What a file has.
fn entries(file: &Declaration) -> Entries {
    let mut all = Entries::new();
    let mut put = |kind, id: &str, identity: &str| {
        all.insert(Name::new(kind, id), identity.to_owned());
    };
    for user in &file.user_detail_list {
        put(Kind::User, &user.arn, &user.user_id);
    }
    for group in &file.group_detail_list {
        put(Kind::Group, &group.arn, &group.group_id);
    }
    for policy in &file.policies {
        let id = policy.policy_id.as_deref().unwrap_or_default();
        put(Kind::Policy, &policy.arn, id);
    }
    let mut profiles: Vec<_> = file.brevet.instance_profiles.iter().collect();
    for role in &file.role_detail_list {
        put(Kind::Role, &role.arn, &role.role_id);
        profiles.extend(&role.instance_profile_list);
    }
    for profile in profiles {
        put(
            Kind::InstanceProfile,
            &profile.arn,
            &profile.instance_profile_id,
        );
    }
    // One that is switched off is gone: what came from it has ended when it is switched on again.
    let is_active = |status: Option<&str>| status != Some("Inactive");
    for key in &file.brevet.access_keys {
        if is_active(key.status.as_deref()) {
            put(Kind::AccessKey, &key.access_key_id, &key.user_arn);
        }
    }
    for provider in &file.brevet.open_id_connect_providers {
        put(Kind::OidcProvider, &provider.arn, "");
    }
    for provider in &file.brevet.saml_providers {
        put(Kind::SamlProvider, &provider.arn, "");
    }
    all
}

/// A digest of the names of entries. Files with the same ones do not end what each other has.
fn digest(entries: &Entries) -> String {
    let names: Vec<String> = entries.keys().map(Name::to_string).collect();
    hex(&sha256(names.join("\n").as_bytes()))
}
