//! A directory that is a file: read and compiled as a whole, and taken in. Taking it in gives ids to what
//! the file has without one, and ends what went from it. The store keeps both, so that an id is made once,
//! and so that what goes while no broker runs has ended all the same when it comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::departures::{Departure, departures};
use super::reload::DirectoryLoadError;
use crate::base::clock::Timestamp;
use crate::base::digest::{hex, sha256};
use crate::base::entropy::Entropy;
use crate::commands::{Actor, Detail, Revoked};
use crate::directory::declaration::Declaration;
use crate::directory::resource::{Kind, Name};
use crate::directory::{self, Directory, unique_ids};
use crate::files::{self, Audience};
use crate::master_key::MasterKey;
use crate::revocations::{Key, Mark, Selector};
use crate::store::{DIRECTORY_ENTRIES, DirectoryEntries, Entry, Store, StoreError, Writer};

/// So many entries and so many endings are one change of the feed.
const PORTION: usize = 100;
/// How often the file is taken in anew because another broker was first.
const ATTEMPTS: usize = 8;

/// Why a directory file was not taken in. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The file; it is looked at again when it changes.
    #[error(transparent)]
    File(#[from] DirectoryLoadError),
    /// What is new in it and what went from it cannot be written down; it is tried again.
    #[error(
        "the directory file is not taken, because the store does not keep what is new in it and what went from it: {0}"
    )]
    Store(#[from] StoreError),
    /// Other brokers were first, again and again.
    #[error(
        "the directory file is not taken, because other brokers took theirs at the same time, {ATTEMPTS} times over; try again"
    )]
    Contended,
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
        match super::own_provider(&directory, self.issuer.as_deref()) {
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

/// The broker that takes a file in, as other brokers on its store know it.
pub struct Taker<'a> {
    /// Where entries are kept.
    pub store: &'a Store,
    /// Where ids come from.
    pub entropy: &'a dyn Entropy,
    /// When.
    pub now: Timestamp,
    /// Made up at its start.
    pub node: &'a str,
    /// Its host's name.
    pub host: &'a str,
}

/// A directory file that was taken in.
pub struct Taken {
    /// The snapshot, to be put in force.
    pub directory: Directory,
    /// A digest of the names of its entries.
    pub digest: String,
    /// What ended, to be put in force before.
    pub ended: Vec<(Key, Mark)>,
    /// The last change of the feed before those that wrote down what ended.
    pub after: i64,
    /// How many entries the file does not have that another broker's file has. They end when that broker
    /// does not have them any more either.
    pub left: usize,
}

/// What is to be written.
struct Change<'a> {
    came: Vec<(&'a Name, &'a str)>,
    went: Vec<&'a Name>,
    ended: Vec<Departure>,
}

impl Taker<'_> {
    /// Compiles a file and writes down what is new in it and what went from it: in one transaction, so
    /// that of two brokers the second finds what the first wrote. `early` is the file as it was compiled
    /// before the store was opened, `old` the snapshot that is in force here.
    ///
    /// # Errors
    /// Nothing was changed.
    pub async fn take(
        &self,
        file: &DirectoryFile,
        mut early: Option<Compiled>,
        old: Option<&Directory>,
    ) -> Result<Taken, TakeError> {
        let mut kept = self.store.directory_entries().await?;
        for _ in 0..ATTEMPTS {
            let compiled = match early.take() {
                Some(early) if early.made == 0 || kept.is_empty() => early,
                _ => file.compile(&kept, self.entropy)?,
            };
            let alone = self.change(&compiled, &kept, old, true);
            let is_first = old.is_none() && self.store.is_shared();
            if alone.is_empty() && !is_first {
                return Ok(Taken {
                    directory: compiled.directory,
                    digest: file.digest.clone(),
                    ended: Vec::new(),
                    after: 0,
                    left: 0,
                });
            }
            let mut writer = self.store.write_much().await?;
            match self.write(&mut writer, file, &compiled, &kept, old).await {
                Ok(Written::Outdated(newer)) => {
                    writer.abandon().await;
                    kept = newer;
                }
                Ok(Written::Done { ended, after, left }) => {
                    writer.commit().await?;
                    return Ok(Taken {
                        directory: compiled.directory,
                        digest: file.digest.clone(),
                        ended,
                        after,
                        left,
                    });
                }
                Err(error) => {
                    writer.abandon().await;
                    return Err(error.into());
                }
            }
        }
        Err(TakeError::Contended)
    }

    async fn write(
        &self,
        writer: &mut Writer<'_>,
        file: &DirectoryFile,
        compiled: &Compiled,
        expected: &DirectoryEntries,
        old: Option<&Directory>,
    ) -> Result<Written, StoreError> {
        let after = writer.sequence();
        let kept = writer.directory_entries().await?;
        if !kept.is_same(expected) {
            return Ok(Written::Outdated(kept));
        }
        writer
            .serves_directory(self.node, self.host, &file.digest)
            .await?;
        let others = writer
            .has_other_directories(self.node, &file.digest)
            .await?;
        let left = if others {
            compiled.gone(&kept).count()
        } else {
            0
        };
        let change = self.change(compiled, &kept, old, !others);
        let mut marks = Vec::with_capacity(change.ended.len());
        let mut ended = change.ended.chunks(PORTION);
        let mut came = change.came.chunks(PORTION);
        let mut went = change.went.chunks(PORTION);
        loop {
            let (ended, came, went) = (ended.next(), came.next(), went.next());
            if ended.is_none() && came.is_none() && went.is_none() {
                break;
            }
            let (came, went) = (came.unwrap_or_default(), went.unwrap_or_default());
            let mark = Mark {
                before_sequence: writer.sequence() + 1,
                before_seconds: 0,
                expires_at: Mark::outlives(self.now),
            };
            let mut detail = Detail::default();
            let entry = |name: &Name, identity: Option<&str>| {
                let kind = name.kind.as_str().to_owned();
                (kind, name.id.clone(), identity.map(str::to_owned))
            };
            let kept_from_now_on = came
                .iter()
                .map(|(name, identity)| entry(name, Some(identity)));
            detail.entries = kept_from_now_on
                .chain(went.iter().map(|name| entry(name, None)))
                .collect();
            let ended = ended.unwrap_or_default();
            for departure in ended {
                let Departure {
                    selector,
                    account,
                    value,
                } = departure;
                let revoked = Revoked::new(*selector, account, value, mark);
                detail.revoked.push(revoked);
                marks.push((Key::new(*selector, account, value), mark));
            }
            let detail = serde_json::to_string(&detail);
            writer
                .record(&Entry {
                    changed_at: self.now,
                    actor: Actor::operator("brevet").text(),
                    action: "LoadDirectory",
                    kind: DIRECTORY_ENTRIES,
                    id: file.path.display().to_string(),
                    detail: detail.map_err(|error| StoreError::Row(error.to_string()))?,
                })
                .await?;
            writer.forget_directory_entries(&kept, went).await?;
            writer.keep_directory_entries(&kept, came).await?;
            for departure in ended {
                let selector = departure.selector.as_str();
                writer
                    .revoke(selector, &departure.account, &departure.value, mark)
                    .await?;
            }
        }
        Ok(Written::Done {
            ended: marks,
            after,
            left,
        })
    }

    /// What is to be written. `gone_is_gone`: no other broker's file has what this one does not have.
    fn change<'a>(
        &self,
        compiled: &'a Compiled,
        kept: &'a DirectoryEntries,
        old: Option<&Directory>,
        gone_is_gone: bool,
    ) -> Change<'a> {
        let mut ended: BTreeSet<Departure> = old
            .map(|old| departures(old, &compiled.directory).into_iter().collect())
            .unwrap_or_default();
        let mut went = Vec::new();
        for (name, identity) in kept.iter() {
            match compiled.entries.get(name) {
                Some(now) if now == identity => {}
                Some(_) => ended.extend(Departure::of(name, identity)),
                None if gone_is_gone => {
                    ended.extend(Departure::of(name, identity));
                    went.push(name);
                }
                None => {}
            }
        }
        let came = compiled.entries.iter();
        let came = came.filter(|(name, identity)| kept.identity(name) != Some(identity.as_str()));
        Change {
            came: came.map(|(name, id)| (name, id.as_str())).collect(),
            went,
            ended: ended.into_iter().collect(),
        }
    }
}

enum Written {
    /// Another broker wrote meanwhile: this is what is kept now.
    Outdated(DirectoryEntries),
    Done {
        ended: Vec<(Key, Mark)>,
        after: i64,
        left: usize,
    },
}

impl Change<'_> {
    fn is_empty(&self) -> bool {
        self.came.is_empty() && self.went.is_empty() && self.ended.is_empty()
    }
}

impl Departure {
    /// What ends with an entry that is gone, or is another one under its name.
    fn of(name: &Name, identity: &str) -> Option<Self> {
        let (selector, owner) = match name.kind {
            Kind::User | Kind::OidcProvider | Kind::SamlProvider => {
                (Selector::Principal, name.id.as_str())
            }
            Kind::Role => (Selector::Role, name.id.as_str()),
            // Its owner's ARN.
            Kind::AccessKey => (Selector::AccessKey, identity),
            Kind::Account
            | Kind::Policy
            | Kind::Group
            | Kind::InstanceProfile
            | Kind::MfaDevice => return None,
        };
        Some(Self::new(selector, owner, &name.id))
    }
}
