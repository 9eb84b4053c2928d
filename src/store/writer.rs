//! A transaction that changes the store: either all of its rows, MACs, sums and changes of the feed are written, or
//! nothing is.
//!
//! This file begins and ends the transaction. Each of its submodules writes one kind of row.

mod feed;
mod resources;
mod revocations;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyConnection;

use super::classify::{classify, late, no_store};
use super::head::{self, RawHead};
use super::integrity::{Contents, Key, Keys, beginning};
use super::lanes::Lease;
use super::{BoxFuture, DEADLINE, SCAN_DEADLINE, Store, StoreError, salvage};
use crate::base::clock::Timestamp;
use crate::directory::resource::Name;

pub use feed::Entry;

/// A transaction that has locked the store's own row, so that nobody else writes meanwhile. If the transaction is
/// dropped without [`Writer::commit`], nothing is changed.
pub struct Writer<'s> {
    pub(super) store: &'s Store,
    lease: Lease<'s>,
    /// Whether a statement failed. The transaction can then not be committed.
    has_failed: bool,
    /// The number of the last change when the transaction began.
    begun_at: i64,
    /// The entries that this transaction deleted. Their rows may be missing, which would otherwise count as tampering.
    deleted: HashSet<Name>,
    /// The entries that this transaction wrote, for [`Self::touched`].
    written: HashSet<Name>,
    /// The store's own row as the commit will write it.
    pub(super) head: RawHead,
    /// The sums that will be sealed in the store's own row.
    pub(super) contents: Contents,
    pub(super) keys: Arc<Keys>,
    /// The id of the master key for the MACs of this transaction. It is the key under which the store's own row is
    /// sealed, or the first key of the master key file if the transaction makes MACs anew.
    pub(super) key_id: String,
}

impl<'s> Writer<'s> {
    /// Begins a transaction, and locks the store's own row.
    pub(super) async fn lock(lease: &mut Lease<'_>) -> Result<RawHead, StoreError> {
        lease.begin();
        // Writing the row takes the lock in both engines.
        let row = lease.ask(DEADLINE, |c| {
            Box::pin(async move {
                sqlx::raw_sql("BEGIN").execute(&mut *c).await?;
                let sql = "UPDATE store SET sequence = sequence WHERE id = 1 AND moved_to IS NULL \
                           RETURNING store_id, sequence, not_before, chain, seal";
                sqlx::query(sql).fetch_one(c).await
            })
        });
        RawHead::of(&row.await?).map_err(classify)
    }

    /// Begins a transaction on a store after checking the seal of the store's own row.
    pub(super) fn new(
        store: &'s Store,
        lease: Lease<'s>,
        head: RawHead,
    ) -> Result<Self, StoreError> {
        let (contents, key_id) = store.contents(&head)?;
        store.must_not_go_back(&head, store.seen_so_far())?;
        Ok(Self::of(store, lease, head, contents, key_id))
    }

    /// Begins a transaction that computes the sums of the store anew. All sums begin at zero.
    pub(super) fn anew(
        store: &'s Store,
        lease: Lease<'s>,
        mut head: RawHead,
    ) -> Result<Self, StoreError> {
        let key_id = store.keys.load().first()?.id().to_owned();
        head.chain = beginning(&head.store_id);
        let contents = Contents::empty(head.sequence.saturating_add(1));
        Ok(Self::of(store, lease, head, contents, key_id))
    }

    fn of(
        store: &'s Store,
        lease: Lease<'s>,
        head: RawHead,
        contents: Contents,
        key_id: String,
    ) -> Self {
        Self {
            store,
            lease,
            has_failed: false,
            begun_at: head.sequence,
            deleted: HashSet::new(),
            written: HashSet::new(),
            head,
            contents,
            keys: store.keys.load_full(),
            key_id,
        }
    }

    /// The number of the last change, including the changes of this transaction.
    pub fn sequence(&self) -> i64 {
        self.head.sequence
    }

    /// The entries that this transaction wrote or deleted. An entry can occur twice.
    pub fn touched(&self) -> impl Iterator<Item = &Name> {
        self.written.iter().chain(&self.deleted)
    }

    pub(super) fn key(&self) -> Result<&Key, StoreError> {
        self.keys
            .find(&self.key_id)
            .ok_or_else(|| StoreError::Key(self.key_id.clone()))
    }

    /// Makes MFA codes and single-use tokens from before now count as used.
    pub fn not_before(&mut self, now: Timestamp) {
        self.head.not_before = now.seconds();
    }

    /// Commits the transaction. When this function returns, the changes are on stable storage. Returns the number of
    /// the last change.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time; it is then unknown
    /// whether the change was made. [`StoreError::Tampered`] if the database does not return the rows as they were
    /// written.
    pub async fn commit(mut self) -> Result<i64, StoreError> {
        let seal = self.key()?.seal(&self.head.place(), &self.contents);
        self.head.seal = seal.map_err(|_| {
            StoreError::Row("the MAC of the store's own row cannot be computed".to_owned())
        })?;
        let (head, sequence) = (self.head.clone(), self.head.sequence);
        let chain = head.chain.clone();
        self.ask(move |c| {
            Box::pin(async move {
                sqlx::query("UPDATE store SET sequence = $1, not_before = $2, chain = $3, seal = $4 WHERE id = 1")
                    .bind(head.sequence)
                    .bind(head.not_before)
                    .bind(head.chain)
                    .bind(head.seal)
                    .execute(c)
                    .await
            })
        })
        .await
        .and_then(|done| self.has_written(done.rows_affected(), &"the store's own row"))?;
        // A commit gets its own deadline, since its outcome would be unknown if it were interrupted.
        self.lease.take_time();
        self.ask(|c| Box::pin(async move { sqlx::raw_sql("COMMIT").execute(c).await }))
            .await?;
        self.store.reached(sequence, &chain);
        // A change is acknowledged only if the database shows it after the commit.
        let seen = self.store.seen_so_far();
        let there = self.ask(|c| Box::pin(head::read(c))).await;
        let there = there.map_err(head::unreadable)?;
        let there = there.ok_or_else(no_store)?;
        self.store.contents(&there)?;
        self.store.must_not_go_back(&there, seen)?;
        self.lease.finish();
        Ok(sequence)
    }

    /// Repairs or deletes rows that cannot be read, and drops triggers, rules and other objects on the tables. Returns
    /// a sentence for each.
    pub(super) async fn mend(&mut self) -> Result<Vec<String>, StoreError> {
        let engine = self.store.engine;
        let work = salvage::mend(engine, self.lease.raw()?);
        match tokio::time::timeout(SCAN_DEADLINE, work).await {
            Ok(mended) => mended,
            Err(_) => Err(late(SCAN_DEADLINE)),
        }
    }

    /// Rolls the transaction back, and keeps the connection. If the transaction is dropped instead, its connection is
    /// closed.
    pub async fn abandon(mut self) {
        self.roll_back().await;
    }

    async fn roll_back(&mut self) {
        self.lease.take_time();
        let rolled_back = self.lease.ask(DEADLINE, |c| {
            Box::pin(async move { sqlx::raw_sql("ROLLBACK").execute(c).await })
        });
        if rolled_back.await.is_ok() {
            self.lease.finish();
        }
    }

    pub(super) async fn ask<T>(
        &mut self,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.ask_for(DEADLINE, work).await
    }

    pub(super) async fn ask_for<T>(
        &mut self,
        deadline: Duration,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        if self.has_failed {
            return Err(StoreError::Unavailable(
                "an earlier step of the same transaction failed".to_owned(),
            ));
        }
        let asked = self.lease.ask(deadline, work).await;
        if asked.is_err() {
            // The connection goes back after the rollback, or is closed.
            self.has_failed = true;
            self.roll_back().await;
        }
        asked
    }
}
