//! Puts a directory file in force: records its new entries with their ids, and revokes the sessions of
//! entries that were removed, in one transaction of the store.

use std::collections::BTreeSet;

use super::departures::{Departure, departures};
use super::{Compiled, DirectoryFile, DirectoryLoadError};
use crate::base::clock::Timestamp;
use crate::base::entropy::Entropy;
use crate::commands::{Actor, Detail, Revoked};
use crate::directory::Directory;
use crate::directory::resource::Name;
use crate::revocations::{Mark, RevocationKey};
use crate::store::{DIRECTORY_ENTRIES, DirectoryEntries, Entry, Store, StoreError, Writer};

/// The maximum numbers of new entries, of removed entries and of revocations in one change of the feed.
const PORTION: usize = 100;
/// How often the transaction is attempted if other brokers write at the same time.
const ATTEMPTS: usize = 8;

/// Why a directory file is not used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The file cannot be used. It is read again only when it changes.
    #[error(transparent)]
    File(#[from] DirectoryLoadError),
    /// New and removed entries cannot be recorded in the store. The broker keeps trying.
    #[error(
        "the directory file is not used, because its new and removed entries cannot be recorded in the store: {0}"
    )]
    Store(#[from] StoreError),
    #[error(
        "the directory file is not used yet, because other brokers recorded their files at the same time, \
         {ATTEMPTS} times in a row; the broker tries again"
    )]
    Contended,
}

/// A broker that records its directory file in the store.
pub struct Taker<'a> {
    pub store: &'a Store,
    pub entropy: &'a dyn Entropy,
    pub now: Timestamp,
    /// The random id that the broker made when it started.
    pub node: &'a str,
    pub host: &'a str,
}

/// A directory file that is recorded in the store.
pub struct Taken {
    /// The compiled directory, which the broker uses from now on.
    pub directory: Directory,
    /// A digest of the names of the file's entries.
    pub digest: String,
    /// The revocations of removed entries. They must be in force before the new directory is used.
    pub ended: Vec<(RevocationKey, Mark)>,
    /// The number of the last change of the feed before these revocations; 0 if there was nothing to record.
    pub after: i64,
    /// How many entries that the store has recorded are missing from this file, while another broker uses another file.
    /// The sessions of these entries end when no broker uses another file any more.
    pub left: usize,
}

/// What differs between a file and the entries that the store has recorded.
struct Change<'a> {
    came: Vec<(&'a Name, &'a str)>,
    went: Vec<&'a Name>,
    ended: Vec<Departure>,
}

impl Taker<'_> {
    /// Compiles a file, and records its new and removed entries in one transaction. If two brokers do this at the same
    /// time, the second compiles its file again with the entries that the first has recorded. `early` is the file as it
    /// was compiled before the store was opened, and `old` is the directory in use; `None` at the start.
    ///
    /// # Errors
    /// [`TakeError`] if the file does not compile, the store cannot be read or written, or other brokers wrote at the
    /// same time in each attempt. Nothing was changed.
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

    /// Returns the directory to use while the store cannot record the new and removed entries of a file, and the
    /// revocation keys of the removed entries. If the store has all entries of the file already, the directory is that
    /// of the file. Otherwise it is the directory in use without the removed entries.
    ///
    /// # Errors
    /// [`TakeError`] if the file does not compile, or the recorded entries cannot be read.
    pub async fn without_what_went(
        &self,
        file: &DirectoryFile,
        old: &Directory,
    ) -> Result<(Directory, Vec<RevocationKey>), TakeError> {
        let kept = self.store.directory_entries().await?;
        let compiled = file.compile(&kept, self.entropy)?;
        let gone = departures(old, &compiled.directory);
        let is_kept = self
            .change(&compiled, &kept, Some(old), true)
            .came
            .is_empty();
        let directory = if is_kept {
            compiled.directory
        } else {
            let mut reduced = old.clone();
            gone.iter()
                .filter_map(Departure::name)
                .for_each(|name| reduced.remove(&name));
            reduced
        };
        let key = |gone: &Departure| RevocationKey::new(gone.selector, &gone.account, &gone.value);
        Ok((directory, gone.iter().map(key).collect()))
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
            let portion = Portion {
                came: came.unwrap_or_default(),
                went: went.unwrap_or_default(),
                ended: ended.unwrap_or_default(),
            };
            marks.extend(self.write_portion(writer, file, &kept, &portion).await?);
        }
        Ok(Written::Done {
            ended: marks,
            after,
            left,
        })
    }

    /// Writes one change of the feed and its rows. Returns the revocation marks that the change contains.
    async fn write_portion(
        &self,
        writer: &mut Writer<'_>,
        file: &DirectoryFile,
        kept: &DirectoryEntries,
        portion: &Portion<'_>,
    ) -> Result<Vec<(RevocationKey, Mark)>, StoreError> {
        let mark = Mark {
            before_sequence: writer.sequence() + 1,
            before_seconds: 0,
            expires_at: Mark::outlives(self.now),
        };
        let detail = serde_json::to_string(&portion.detail(mark));
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
        writer.forget_directory_entries(kept, portion.went).await?;
        writer.keep_directory_entries(kept, portion.came).await?;
        let mut marks = Vec::with_capacity(portion.ended.len());
        for departure in portion.ended {
            let Departure {
                selector,
                account,
                value,
            } = departure;
            writer
                .revoke(selector.as_str(), account, value, mark)
                .await?;
            marks.push((RevocationKey::new(*selector, account, value), mark));
        }
        Ok(marks)
    }

    /// Compares a compiled file with the recorded entries. Entries that are missing from the file count as removed only
    /// if `gone_is_gone` says that no other broker's file has them.
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

/// The part of a [`Change`] that one change of the feed records.
struct Portion<'a> {
    came: &'a [(&'a Name, &'a str)],
    went: &'a [&'a Name],
    ended: &'a [Departure],
}

impl Portion<'_> {
    /// Makes the detail of the change in the feed. `mark` is the revocation mark for all removed entries.
    fn detail(&self, mark: Mark) -> Detail {
        let entry = |name: &Name, identity: Option<&str>| {
            let kind = name.kind.as_str().to_owned();
            (kind, name.id.clone(), identity.map(str::to_owned))
        };
        let kept_from_now_on = self
            .came
            .iter()
            .map(|(name, identity)| entry(name, Some(identity)));
        let revoked = self.ended.iter().map(|departure| {
            Revoked::new(
                departure.selector,
                &departure.account,
                &departure.value,
                mark,
            )
        });
        Detail {
            entries: kept_from_now_on
                .chain(self.went.iter().map(|name| entry(name, None)))
                .collect(),
            revoked: revoked.collect(),
            ..Detail::default()
        }
    }
}

enum Written {
    /// Another broker has written in the meantime. Holds the entries that the store has now.
    Outdated(DirectoryEntries),
    Done {
        ended: Vec<(RevocationKey, Mark)>,
        after: i64,
        left: usize,
    },
}

impl Change<'_> {
    fn is_empty(&self) -> bool {
        self.came.is_empty() && self.went.is_empty() && self.ended.is_empty()
    }
}
