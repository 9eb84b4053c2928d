//! Reads and checks the store's own row: the id of the store, its last change, and the sealed sums of all other rows.

use std::sync::PoisonError;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::classify::{classify, no_store};
use super::integrity::{Contents, Keys, Place, Wrong};
use super::lanes::Purpose;
use super::{DEADLINE, Store, StoreError, sqlite};
use crate::master_key::{MasterKey, MasterKeyError};

/// The state of a store at one moment: the content of the store's own row, except for the sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub store_id: String,
    pub sequence: i64,
    /// MFA codes and single-use tokens from before this time, in seconds since 1970, count as used.
    pub not_before: i64,
    /// The SHA-256 digest of the last change and of all changes before it, in hexadecimal.
    pub chain: String,
    /// The id of the master key under which the row is sealed.
    pub key: String,
}

/// The store's own row as the database returns it. Its seal has not been checked.
#[derive(Debug, Clone)]
pub(super) struct RawHead {
    pub store_id: String,
    pub sequence: i64,
    pub not_before: i64,
    pub chain: String,
    pub seal: String,
}

impl RawHead {
    /// Reads `store_id, sequence, not_before, chain, seal`.
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

    /// The id of the master key that the seal names.
    fn key(&self) -> &str {
        self.seal.split_once(':').map_or("", |(id, _)| id)
    }

    /// Whether the row has no seal, because an earlier version wrote it.
    pub fn is_unsealed(&self) -> bool {
        self.seal.is_empty()
    }
}

/// Converts the error for an unreadable row to [`StoreError::Damaged`]: the store's own row cannot be reconstructed, so
/// only a backup helps.
pub(super) fn unreadable(error: StoreError) -> StoreError {
    match error {
        StoreError::Row(why) => StoreError::Damaged(format!(
            "the store's own row (in the table `store`) differs from what a broker wrote and cannot be read ({why})"
        )),
        other => other,
    }
}

/// Reads the row; `None` if the database holds no store, or `brevet move` has moved the store.
pub(super) async fn read(connection: &mut AnyConnection) -> Result<Option<RawHead>, sqlx::Error> {
    let sql = "SELECT store_id, sequence, not_before, chain, seal FROM store WHERE id = 1 AND moved_to IS NULL";
    sqlx::query(sql)
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(RawHead::of)
        .transpose()
}

/// The latest state of the store that this process has seen.
#[derive(Debug, Clone, Default)]
pub(super) struct SeenSoFar {
    sequence: i64,
    /// The digest of the feed up to the change `sequence`; empty if it is not known.
    chain: String,
    /// The id of the master key under which the store's own row was last sealed; empty if it is not
    /// known.
    key: String,
}

impl Store {
    /// Reads and checks the store's own row.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time,
    /// [`StoreError::Tampered`] if the row differs from what a broker wrote, [`StoreError::Key`] if it is sealed under
    /// a key that the master key file does not hold, [`StoreError::Damaged`] if it cannot be read, and
    /// [`StoreError::WentBack`] if this process has seen a later change.
    pub async fn head(&self) -> Result<Head, StoreError> {
        self.head_by(Purpose::Background).await
    }

    /// Reads and checks the row like [`Store::head`], on the connection that follows the feed.
    ///
    /// # Errors
    /// The same as for [`Store::head`].
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

    /// Checks that the path of a SQLite store still names the file that this process has opened.
    pub(super) fn is_in_place(&self) -> Result<(), StoreError> {
        if self.file.as_ref().is_none_or(sqlite::OpenFile::is_in_place) {
            return Ok(());
        }
        Err(self.tampered(
            "the store file was replaced or removed while the broker was using it".to_owned(),
        ))
    }

    /// Reads the store's own row without checking it.
    pub(super) async fn raw_head(&self, purpose: Purpose) -> Result<RawHead, StoreError> {
        let row = self.read(purpose, DEADLINE, |c| Box::pin(read(c)));
        row.await.map_err(unreadable)?.ok_or_else(no_store)
    }

    /// Opens the seal of the row. Returns the sums of all other rows, and the id of the key that
    /// sealed it.
    ///
    /// # Errors
    /// [`StoreError::Tampered`] if the row is not what a broker wrote, and [`StoreError::Key`] if it
    /// is sealed under a key that the master key file does not hold.
    pub(super) fn contents(&self, raw: &RawHead) -> Result<(Contents, String), StoreError> {
        let keys = self.keys.load();
        match keys.open(&raw.place(), &raw.seal) {
            Ok((contents, key)) => Ok((contents, key.id().to_owned())),
            Err(Wrong::Key(id)) => Err(StoreError::Key(id)),
            Err(Wrong::Mac) if raw.is_unsealed() => {
                Err(self
                    .tampered("the store's own row (in the table `store`) has no MAC".to_owned()))
            }
            Err(Wrong::Mac) => Err(self.tampered(
                "the store's own row (in the table `store`) differs from what a broker wrote"
                    .to_owned(),
            )),
        }
    }

    /// Records that something other than a broker seems to have written to the database, and returns this as an error.
    /// From then on the broker authenticates nobody, until [`Store::verify`] finds no fault. `what` says what was
    /// found.
    pub(super) fn tampered(&self, what: String) -> StoreError {
        let mut suspicion = self
            .suspicion
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        suspicion.get_or_insert_with(|| what.clone());
        StoreError::Tampered(what)
    }

    /// Records the suspicion of tampering if the error is [`StoreError::Tampered`]. Returns every error unchanged.
    pub(super) fn noted(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Tampered(what) => self.tampered(what),
            other => other,
        }
    }

    /// The recorded sign that something other than a broker wrote to the database; `None` if there is none. It is
    /// cleared when [`Store::verify`] finds no fault.
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

    /// Records that the store was at this change, with the digest of the feed up to it. A later read
    /// must show this change or a later one.
    pub fn reached(&self, sequence: i64, chain: &str) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if sequence >= reached.sequence {
            (reached.sequence, reached.chain) = (sequence, chain.to_owned());
        }
    }

    /// Records under which master key the store's own row was sealed. From now on, a row that is sealed under an older
    /// key is refused.
    pub(super) fn sealed_under(&self, key: &str) {
        self.reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .key = key.to_owned();
    }

    /// The id of the master key under which the store's own row was sealed when it was last read;
    /// empty if it has not been read.
    pub fn sealing_key(&self) -> String {
        self.seen_so_far().key
    }

    /// The latest state that this process has seen, for [`Self::must_not_go_back`]. Callers must take this value before
    /// they read the store.
    pub(super) fn seen_so_far(&self) -> SeenSoFar {
        self.reached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Refuses a state of the store that is earlier than a state that this process had seen before the read, or that
    /// branches off from it. Without this check, a database could return an old copy of all rows, whose MACs and sums
    /// are valid.
    ///
    /// # Errors
    /// [`StoreError::WentBack`] for an earlier change, and [`StoreError::Tampered`] for another change of the same
    /// number, or for a seal under a master key that was replaced.
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
                "change {sequence} in the store differs from the change with this number that this broker has seen"
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
                "the store's own row is sealed under the master key {}, which the master key {} has replaced",
                raw.key(),
                seen.key
            )));
        }
        self.sealed_under(raw.key());
        Ok(())
    }

    /// Derives the keys of the store anew from another master key file.
    ///
    /// # Errors
    /// [`MasterKeyError`] if a key cannot be derived; the old keys are then kept.
    pub fn use_master_key(&self, master_key: &MasterKey) -> Result<(), MasterKeyError> {
        self.keys
            .store(Keys::derive(Some(master_key), &self.id)?.into());
        Ok(())
    }

    /// Reads and checks the store's own row, and returns it with the sums that it seals. Must be called first in a
    /// transaction that then compares the other rows with these sums.
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
