//! A directory file is taken in: what is new in it is kept with its id, and what went from it ends, in one
//! transaction of the store.

use std::collections::BTreeSet;

use super::departures::{Departure, departures};
use super::{Compiled, DirectoryFile, DirectoryLoadError};
use crate::base::clock::Timestamp;
use crate::base::entropy::Entropy;
use crate::commands::{Actor, Detail, Revoked};
use crate::directory::Directory;
use crate::directory::resource::Name;
use crate::revocations::{Key, Mark};
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
