//! Puts a backup in the place of a SQLite store. The backup is copied next to the store, migrated and checked there,
//! and then renamed. The old store is kept under another name.
//!
//! If this is interrupted at any point, either the complete old store or the complete new one is in place: the new file
//! is complete and synced, and the old store has its second name, before the rename. Nothing is deleted except the
//! leftovers of an earlier attempt.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::Connection as _;
use sqlx::Row as _;

use super::changes::{Change, page};
use super::classify::classify;
use super::integrity::Row;
use super::lanes::Purpose;
use super::sqlite::{self, SqliteLock, beside};
use super::verify::{Shown, revoked_signing_keys};
use super::{Access, BACKUP_DEADLINE, DEADLINE, Head, Place, Store, StoreError, head};
use crate::base::clock::Timestamp;
use crate::base::entropy::Entropy;
use crate::files::{self, FileError};
use crate::master_key::MasterKey;
use crate::revocations::Selector;

/// The deadline for copying the write-ahead log of the old store into its main file.
const FOLD_DEADLINE: Duration = Duration::from_secs(60);

/// A copy of a backup next to the store, before it takes the place of the store. The copy is deleted on drop.
pub struct Prepared {
    store: Store,
    head: Head,
    fresh: PathBuf,
    place: PathBuf,
    /// Removes the copy on drop. After the rename, nothing is left to remove.
    _leftovers: Leftovers,
    _lock: SqliteLock,
}

#[derive(Debug)]
pub struct Placed {
    pub head: Head,
    /// The file under which the old store is kept; `None` if there was no old store.
    pub kept: Option<PathBuf>,
}

/// Copies a backup next to a store and checks that it is complete.
///
/// # Errors
/// [`StoreError::Backup`] if it is not complete, [`StoreError::InUse`] if a broker serves the store,
/// [`StoreError::File`] if it cannot be copied, or another error of [`Store::open`]. Nothing is then replaced.
pub async fn prepare(
    from: &Path,
    place: &Path,
    master_key: Option<&MasterKey>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<Prepared, StoreError> {
    if !from.is_file() {
        let why = if from.exists() {
            "the path does not name a regular file"
        } else {
            "the file does not exist, or this user may not read its folder"
        };
        return Err(StoreError::Backup {
            path: from.to_owned(),
            why: why.to_owned(),
        });
    }
    let lock = SqliteLock::take(place)?;
    let fresh = beside(place, ".restoring");
    let leftovers = Leftovers(fresh.clone());
    leftovers.remove()?;
    copy(from, &fresh)?;
    // A store that was not closed has its last changes in its write-ahead log.
    let wal = beside(from, "-wal");
    if wal.is_file() {
        copy(&wal, &beside(&fresh, "-wal"))?;
    }
    let unfit = |error| match error {
        StoreError::Damaged(why) | StoreError::Unavailable(why) | StoreError::Row(why) => {
            StoreError::Backup {
                path: from.to_owned(),
                why,
            }
        }
        other => other,
    };
    let copied = Place::Sqlite(fresh.clone());
    let store = Store::open(&copied, Access::Recover, master_key, now, entropy)
        .await
        .map_err(unfit)?;
    let problems = store.read(Purpose::Background, BACKUP_DEADLINE, |c| {
        Box::pin(async move { sqlx::query("PRAGMA integrity_check(1)").fetch_all(c).await })
    });
    let problems = problems.await.map_err(unfit)?;
    let problem = problems
        .first()
        .and_then(|r| r.try_get::<String, _>(0).ok())
        .filter(|text| text != "ok");
    if let Some(problem) = problem.or_else(|| problems.is_empty().then(|| "no answer".to_owned())) {
        return Err(StoreError::Backup {
            path: from.to_owned(),
            why: problem,
        });
    }
    let raw = store
        .read(Purpose::Background, DEADLINE, |c| Box::pin(head::read(c)))
        .await
        .map_err(unfit)?;
    let missing = || StoreError::Backup {
        path: from.to_owned(),
        why: "the row that identifies the store is missing, or says that the store was moved"
            .to_owned(),
    };
    let head = raw.ok_or_else(missing)?.head();
    Ok(Prepared {
        store,
        head,
        fresh,
        place: place.to_owned(),
        _leftovers: leftovers,
        _lock: lock,
    })
}

/// Reads the state of the SQLite store at `place`; `None` if it cannot be read or is not a store.
///
/// The number of the last change is trusted only if the keys of the opened backup `by` open the seal of the store's own
/// row, or if the row has no seal. Otherwise it is 0.
pub async fn look_at(place: &Path, by: &Store) -> Option<Head> {
    if !place.exists() {
        return None;
    }
    let options = sqlite::options(place, false).ok()?;
    let looked = tokio::time::timeout(DEADLINE, async {
        let mut connection = options.connect().await?;
        let head = head::read(&mut connection).await?.map(|raw| {
            let is_sealed = by.keys.load().open(&raw.place(), &raw.seal).is_ok();
            Head {
                sequence: if is_sealed || raw.is_unsealed() {
                    raw.sequence
                } else {
                    0
                },
                ..raw.head()
            }
        });
        connection.close().await?;
        Ok::<_, sqlx::Error>(head)
    });
    looked.await.ok()?.ok()?
}

/// Reads the ids of the signing keys that a SQLite store lists as permanently revoked; `None` if the store cannot be
/// read. The rows are not checked: a forged row could only revoke a key needlessly, which gives nobody access.
pub async fn revoked_keys(place: &Path) -> Option<Vec<String>> {
    let options = place
        .exists()
        .then(|| sqlite::options(place, false).ok())
        .flatten()?;
    let looked = tokio::time::timeout(DEADLINE, async {
        let mut connection = options.connect().await?;
        let sql = "SELECT value FROM revocations WHERE selector = $1 ORDER BY value";
        let rows = sqlx::query(sql)
            .bind(Selector::SigningKey.as_str())
            .fetch_all(&mut connection)
            .await?;
        let mut ids = rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<BTreeSet<String>, sqlx::Error>>()?;
        // The keys whose revocation was deleted are found in the feed.
        let sql = "SELECT detail FROM changes WHERE detail LIKE $1";
        let rows = sqlx::query(sql)
            .bind(format!("%\"{}\"%", Selector::SigningKey.as_str()))
            .fetch_all(&mut connection)
            .await?;
        for row in &rows {
            ids.extend(revoked_signing_keys(row.try_get(0)?));
        }
        connection.close().await?;
        Ok::<Vec<String>, sqlx::Error>(ids.into_iter().collect())
    });
    looked.await.ok()?.ok()
}

/// Whether the feed of the store at `place` has a change of this number and digest, with the MAC of a broker. `None` if
/// the feed cannot be read, does not go back that far, ends before this number, or has a wrong MAC there.
async fn has_change(place: &Path, by: &Store, sequence: i64, chain: &str) -> Option<bool> {
    let options = place
        .exists()
        .then(|| sqlite::options(place, false).ok())
        .flatten()?;
    let looked = tokio::time::timeout(DEADLINE, async {
        let mut connection = options.connect().await?;
        let first = page(&mut connection, i64::MIN, 1).await?;
        let found = page(&mut connection, sequence.saturating_sub(1), 1).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>((first, found))
    });
    let (first, found) = looked.await.ok()?.ok()?;
    let (change, mac) = found.first()?;
    let keys = by.keys.load();
    keys.check(&Row::Change(&change.fields(), &change.chain), mac)
        .ok()?;
    if change.sequence == sequence {
        return Some(change.chain == chain);
    }
    // Numbers are skipped where a store continued after a restore.
    let goes_back = first
        .first()
        .is_some_and(|(first, _)| first.sequence < sequence);
    goes_back.then_some(false)
}

impl Prepared {
    /// Whether the store in place (`in_place`) continues the backup, so that both have the same history. `known` is the
    /// last change that this node has seen, with the digest of the feed up to that change.
    ///
    /// `None` if neither the store in place nor `known` answers the question. A backup with later changes than both of
    /// them was made elsewhere, so the answer is then `false`.
    pub async fn is_of_the_same_history(
        &self,
        in_place: Option<&Head>,
        known: Option<(i64, &str)>,
    ) -> Option<bool> {
        let last = self.head.sequence;
        if last == 0 {
            return Some(true);
        }
        if let Some((at, chain)) = known.filter(|(at, _)| *at <= last) {
            match self.chain_at(at).await {
                Some(there) if there != chain => return Some(false),
                Some(_) if at == last => return Some(true),
                _ => {}
            }
        }
        let Some(head) = in_place else {
            return known.filter(|(at, _)| *at <= last).map(|_| true);
        };
        if head.sequence >= last {
            return has_change(&self.place, &self.store, last, &self.head.chain).await;
        }
        known.is_none_or(|(at, _)| at < last).then_some(false)
    }

    /// The last change of the backup, for messages.
    pub async fn last_change(&self) -> Option<Change> {
        let last = self.head.sequence;
        self.store
            .feed_after(last.saturating_sub(1), 1)
            .await
            .ok()?
            .pop()
    }

    async fn chain_at(&self, sequence: i64) -> Option<String> {
        if sequence == self.head.sequence {
            return Some(self.head.chain.clone());
        }
        let found = self
            .store
            .feed_after(sequence.saturating_sub(1), 1)
            .await
            .ok()?
            .pop()?;
        (found.sequence == sequence).then_some(found.chain)
    }

    /// The backup, opened as a store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The state of the backup, with its last change.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Renames the backup to the store's name. The old store is kept as `kept`.
    ///
    /// Revocations and uses of codes and tokens after the backup are unknown. Therefore all sessions from before now
    /// end, and MFA codes and single-use tokens from before now are refused.
    ///
    /// `seen` is the number of the last change that this node has seen. `accept` has the faults that the operator has
    /// seen and accepts. If it is `None`, a backup with rows that no broker wrote is refused.
    ///
    /// # Errors
    /// [`StoreError::Unsealed`] or [`StoreError::Tampered`] for a backup that must be accepted first,
    /// [`StoreError::NotWritable`] or [`StoreError::File`] if a file cannot be written. The old store is then in place,
    /// or the new one if the error occurred after the rename.
    pub async fn put_in_place(
        self,
        accept: Option<&Shown>,
        seen: i64,
        kept: PathBuf,
        now: Timestamp,
    ) -> Result<Placed, StoreError> {
        let head = if let Some(shown) = accept {
            self.store.accept(shown, seen, now).await?
        } else if self.store.is_unsealed() {
            return Err(StoreError::Unsealed(self.place.display().to_string()));
        } else {
            self.store.verify(now).await?;
            self.store.end_the_past(seen, now).await?
        };
        self.store
            .write_one(Purpose::Background, |c| {
                Box::pin(async move {
                    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                        .execute(c)
                        .await
                })
            })
            .await?;
        self.store.close().await;
        let wal = beside(&self.fresh, "-wal");
        if std::fs::metadata(&wal).is_ok_and(|meta| meta.len() > 0) {
            return Err(StoreError::NotWritable(format!(
                "{}: the write-ahead log of the new file cannot be merged into the file",
                self.fresh.display()
            )));
        }
        File::open(&self.fresh)
            .and_then(|f| f.sync_all())
            .map_err(io(&self.fresh))?;
        let is_there = self.place.exists();
        if is_there {
            keep(&self.place, &kept).await?;
        }
        std::fs::rename(&self.fresh, &self.place).map_err(io(&self.place))?;
        files::sync_folder(&self.place)?;
        Ok(Placed {
            head,
            kept: is_there.then_some(kept),
        })
    }
}

/// Gives the old store a second name by a hard link, so that its first name exists until the rename replaces it. The
/// write-ahead log is renamed to match the second name.
async fn keep(place: &Path, kept: &Path) -> Result<(), StoreError> {
    let is_whole = fold(place).await?;
    files::keep(place, kept)?;
    for suffix in ["-wal", "-shm"] {
        let (old, with) = (beside(place, suffix), beside(kept, suffix));
        if !old.exists() {
            continue;
        }
        if suffix == "-wal" && !is_whole {
            files::keep(&old, &with)?;
        }
        std::fs::remove_file(&old).map_err(io(&old))?;
    }
    Ok(files::sync_folder(place)?)
}

/// Copies the write-ahead log of a SQLite store into its main file. Returns `false` if the store is too damaged for
/// this.
async fn fold(place: &Path) -> Result<bool, StoreError> {
    let Ok(options) = sqlite::options(place, false) else {
        return Ok(false);
    };
    let folding = tokio::time::timeout(FOLD_DEADLINE, async {
        let mut connection = options.connect().await?;
        sqlite::prepare(&mut connection).await?;
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut connection)
            .await?;
        let busy: i64 = row.try_get(0)?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(busy)
    });
    match folding.await {
        Ok(Ok(0)) => {
            Ok(std::fs::metadata(beside(place, "-wal")).map_or(true, |meta| meta.len() == 0))
        }
        Ok(Ok(_)) | Err(_) => Err(StoreError::NotWritable(format!(
            "{}: another program, such as a brevet command, is using the store, or merging its write-ahead log took \
             longer than 60 s; end that program, or try again later",
            place.display()
        ))),
        Ok(Err(error)) => match classify(error) {
            StoreError::NotWritable(why) => Err(StoreError::NotWritable(why)),
            _ => Ok(false),
        },
    }
}

/// The files that an interrupted attempt leaves behind. They are removed on drop.
struct Leftovers(PathBuf);

impl Leftovers {
    fn remove(&self) -> Result<(), StoreError> {
        for leftover in [
            self.0.clone(),
            beside(&self.0, "-wal"),
            beside(&self.0, "-shm"),
        ] {
            if leftover.exists() {
                std::fs::remove_file(&leftover).map_err(io(&leftover))?;
            }
        }
        Ok(())
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next attempt.
        let _ = self.remove();
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut source = File::open(from).map_err(io(from))?;
    let mut target = files::create_private(to)?;
    target.set_len(0).map_err(io(to))?;
    std::io::copy(&mut source, &mut target).map_err(io(to))?;
    target.sync_all().map_err(io(to))
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| {
        FileError::Io {
            path: path.clone(),
            source,
        }
        .into()
    }
}
