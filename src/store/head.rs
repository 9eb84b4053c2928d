//! The store's own row: which store it is, its last change, and what it says of all other rows.

use std::sync::PoisonError;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::classify::{classify, no_store};
use super::integrity::{Contents, Keys, Place, Wrong};
use super::lanes::Purpose;
use super::{DEADLINE, Store, StoreError, sqlite};
use crate::master_key::{MasterKey, MasterKeyError};

/// What a store is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Of this store alone.
    pub store_id: String,
    /// The last change.
    pub sequence: i64,
    /// Codes and assertions from before this second count as used.
    pub not_before: i64,
    /// The digest of the last change and of all before it, in hexadecimal digits.
    pub chain: String,
    /// The id of the master key under which the row is sealed.
    pub key: String,
}

/// The row as the database has it.
#[derive(Debug, Clone)]
pub(super) struct RawHead {
    pub store_id: String,
    pub sequence: i64,
    pub not_before: i64,
    pub chain: String,
    pub seal: String,
}

impl RawHead {
    /// Of `store_id, sequence, not_before, chain, seal`.
    pub fn of(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            store_id: row.try_get(0)?,
            sequence: row.try_get(1)?,
            not_before: row.try_get(2)?,
            chain: row.try_get(3)?,
            seal: row.try_get(4)?,
        })
    }

    pub fn place(&self) -> Place<'_> {
        Place {
            store_id: &self.store_id,
            sequence: self.sequence,
            not_before: self.not_before,
            chain: &self.chain,
        }
    }

    pub fn head(&self) -> Head {
        Head {
            store_id: self.store_id.clone(),
            sequence: self.sequence,
            not_before: self.not_before,
            chain: self.chain.clone(),
            key: self.key().to_owned(),
        }
    }

    /// The id of the master key that it says it is sealed under.
    fn key(&self) -> &str {
        self.seal.split_once(':').map_or("", |(id, _)| id)
    }

    /// Whether an earlier version wrote it, which sealed nothing.
    pub fn is_unsealed(&self) -> bool {
        self.seal.is_empty()
    }
}

/// What is said where the store's own row cannot be read: nothing else says what belongs there.
pub(super) fn unreadable(error: StoreError) -> StoreError {
    match error {
        StoreError::Row(why) => StoreError::Damaged(format!(
            "the store's own row is not as a broker wrote it, and cannot be read ({why})"
        )),
        other => other,
    }
}

/// The row; none in a database that holds no store.
pub(super) async fn read(connection: &mut AnyConnection) -> Result<Option<RawHead>, sqlx::Error> {
    let sql = "SELECT store_id, sequence, not_before, chain, seal FROM store WHERE id = 1 AND moved_to IS NULL";
    sqlx::query(sql)
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(RawHead::of)
        .transpose()
}

/// What a process has seen of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct SeenSoFar {
    /// The last change.
    sequence: i64,
    /// The digest of the feed up to it; empty where it is not known.
    chain: String,
    /// The id of the master key under which the store's own row was sealed last; empty where it is not
    /// known.
    key: String,
}

impl Store {
    /// What the store is now.
    ///
    /// # Errors
    /// Without an answer, and when its own row is not as a broker wrote it: nothing is known then.
    pub async fn head(&self) -> Result<Head, StoreError> {
        self.head_by(Purpose::Background).await
    }

    /// As [`Store::head`], for whoever follows the feed.
    ///
    /// # Errors
    /// As [`Store::head`].
    pub async fn feed_head(&self) -> Result<Head, StoreError> {
        self.head_by(Purpose::Feed).await
    }

    async fn head_by(&self, purpose: Purpose) -> Result<Head, StoreError> {
        self.is_in_place()?;
        let seen = self.seen_so_far();
        let raw = self.raw_head(purpose).await?;
        self.contents(&raw)?;
        self.must_not_go_back(&raw, seen)?;
        Ok(raw.head())
    }

    /// Whether the file of a SQLite store is still the one that its path names.
    pub(super) fn is_in_place(&self) -> Result<(), StoreError> {
        if self.file.as_ref().is_none_or(sqlite::OpenFile::is_in_place) {
            return Ok(());
        }
        Err(self.tampered(
            "another file has the store's name now, or none: restart the broker, which looks at what is there".to_owned(),
        ))
    }

    /// The store's own row, as it stands in the database.
    pub(super) async fn raw_head(&self, purpose: Purpose) -> Result<RawHead, StoreError> {
        let row = self.read(purpose, DEADLINE, |c| Box::pin(read(c)));
        row.await.map_err(unreadable)?.ok_or_else(no_store)
    }

    /// What the row says of all others, and the id of the key that sealed it.
    ///
    /// # Errors
    /// When it is not what a broker wrote, or is sealed under a key that is not here.
    pub(super) fn contents(&self, raw: &RawHead) -> Result<(Contents, String), StoreError> {
        let keys = self.keys.load();
        match keys.open(&raw.place(), &raw.seal) {
            Ok((contents, key)) => Ok((contents, key.id().to_owned())),
            Err(Wrong::Key(id)) => Err(StoreError::Key(id)),
            Err(Wrong::Mac) if raw.is_unsealed() => {
                Err(self.tampered("the store's own row carries no seal".to_owned()))
            }
            Err(Wrong::Mac) => {
                Err(self.tampered("the store's own row is not as a broker wrote it".to_owned()))
            }
        }
    }

    /// Notes that the database is not as brokers left it: until all of it was found right again, nothing
    /// is accepted here.
    pub(super) fn tampered(&self, what: String) -> StoreError {
        let mut suspicion = self
            .suspicion
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        suspicion.get_or_insert_with(|| what.clone());
        StoreError::Tampered(what)
    }

    /// As [`Store::tampered`], of an error that says so.
    pub(super) fn noted(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Tampered(what) => self.tampered(what),
            other => other,
        }
    }

    /// What was found in the database that no broker wrote. It is forgotten when a check of everything
    /// ([`Store::verify`]) finds nothing.
    pub fn suspicion(&self) -> Option<StoreError> {
        let suspicion = self
            .suspicion
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        suspicion.clone().map(StoreError::Tampered)
    }

    pub(super) fn is_right_again(&self) {
        *self
            .suspicion
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes that the store was at this change, with the digest of the feed up to it: whatever is read
    /// from now on must be of this change or of a later one.
    pub fn reached(&self, sequence: i64, chain: &str) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if sequence >= reached.sequence {
            (reached.sequence, reached.chain) = (sequence, chain.to_owned());
        }
    }

    /// Notes under which master key the store's own row was sealed: a key that was replaced by then seals
    /// nothing any more, whoever has it.
    pub(super) fn sealed_under(&self, key: &str) {
        self.reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .key = key.to_owned();
    }

    /// The master key under which the store's own row was sealed when it was last read; empty where it was
    /// not read yet.
    pub fn sealing_key(&self) -> String {
        self.seen_so_far().key
    }

    /// What this process has seen of the store: to be asked before the store is read.
    pub(super) fn seen_so_far(&self) -> SeenSoFar {
        self.reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Refuses a state of the store that is earlier than, or beside, one that this process had seen before
    /// it was read. A database can show an old row of its own together with the old rows that it fits.
    ///
    /// # Errors
    /// [`StoreError::WentBack`] for an earlier change, [`StoreError::Tampered`] for another change of the
    /// same number, and for a master key that was replaced.
    pub(super) fn must_not_go_back(
        &self,
        raw: &RawHead,
        seen: SeenSoFar,
    ) -> Result<(), StoreError> {
        let sequence = raw.sequence;
        if sequence < seen.sequence {
            return Err(StoreError::WentBack {
                found: sequence,
                seen: seen.sequence,
            });
        }
        if sequence == seen.sequence && !seen.chain.is_empty() && raw.chain != seen.chain {
            return Err(self.tampered(format!(
                "change {sequence} is another one in the store than the one that this broker has seen"
            )));
        }
        if raw.key() == seen.key {
            return Ok(());
        }
        let keys = self.keys.load();
        let (found, known) = (keys.newer_than(raw.key()), keys.newer_than(&seen.key));
        if let (Some(found), Some(known)) = (found, known)
            && found > known
        {
            return Err(self.tampered(format!(
                "the store's own row is sealed under the master key {}, which {} has replaced",
                raw.key(),
                seen.key
            )));
        }
        self.sealed_under(raw.key());
        Ok(())
    }

    /// Takes up another master key file: rows under each of its keys are accepted from now on.
    ///
    /// # Errors
    /// When no key can be derived from it; everything then stays as it was.
    pub fn use_master_key(&self, master_key: &MasterKey) -> Result<(), MasterKeyError> {
        self.keys
            .store(Keys::derive(Some(master_key), &self.id)?.into());
        Ok(())
    }

    /// The store's row, as the first part of a longer transaction: whole, and no earlier than what
    /// this process has seen. All rows of the transaction are compared with its sums.
    pub(super) async fn checked_head(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(Head, Contents), StoreError> {
        let seen = self.seen_so_far();
        let raw = read(connection)
            .await
            .map_err(|error| unreadable(classify(error)))?
            .ok_or_else(no_store)?;
        let (contents, _) = self.contents(&raw)?;
        self.must_not_go_back(&raw, seen)?;
        Ok((raw.head(), contents))
    }
}
