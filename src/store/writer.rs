//! One change of the store, all of it or nothing: rows, their MACs and sums, and the feed in one
//! transaction.
//!
//! Here are its beginning and its end; what it does in between is in a file for each kind of row.

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

/// A transaction that holds the store's head: nobody else writes meanwhile. Dropped without
/// [`Writer::commit`], it changed nothing.
pub struct Writer<'s> {
    pub(super) store: &'s Store,
    lease: Lease<'s>,
    /// Whether something went wrong: it then changes nothing any more.
    has_failed: bool,
    /// The last change before this one.
    begun_at: i64,
    /// What this change deleted.
    deleted: HashSet<Name>,
    /// The store's own row as it will be.
    pub(super) head: RawHead,
    /// What it will say of all others.
    pub(super) contents: Contents,
    pub(super) keys: Arc<Keys>,
    /// The master key under which this change is written: that of the store's own row.
    pub(super) key_id: String,
}

impl<'s> Writer<'s> {
    /// Begins a transaction, and takes the store's own row for it.
    pub(super) async fn lock(lease: &mut Lease<'_>) -> Result<RawHead, StoreError> {
        lease.begin();
        // Writing the row is what takes the lock, in both engines.
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

    /// A change of a store that is as brokers left it.
    pub(super) fn new(
        store: &'s Store,
        lease: Lease<'s>,
        head: RawHead,
    ) -> Result<Self, StoreError> {
        let (contents, key_id) = store.contents(&head)?;
        store.must_not_go_back(&head, store.seen_so_far())?;
        Ok(Self::of(store, lease, head, contents, key_id))
    }

    /// A change that is to say anew what the store holds: nothing yet.
    pub(super) fn anew(
        store: &'s Store,
        lease: Lease<'s>,
        mut head: RawHead,
    ) -> Result<Self, StoreError> {
        let key_id = store.keys.load().first()?.id().to_owned();
        head.chain = beginning(&head.store_id);
        let contents = Contents::empty(head.sequence + 1);
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
            head,
            contents,
            keys: store.keys.load_full(),
            key_id,
        }
    }

    /// The last change, the ones recorded here included.
    pub fn sequence(&self) -> i64 {
        self.head.sequence
    }

    pub(super) fn key(&self) -> Result<&Key, StoreError> {
        self.keys
            .find(&self.key_id)
            .ok_or_else(|| StoreError::Key(self.key_id.clone()))
    }

    /// Codes and assertions from before now count as used.
    pub fn not_before(&mut self, now: Timestamp) {
        self.head.not_before = now.seconds();
    }

    /// Makes it last. From here on it is on stable storage.
    ///
    /// # Errors
    /// Without an answer it is not known whether it lasts.
    pub async fn commit(mut self) -> Result<i64, StoreError> {
        let seal = self.key()?.seal(&self.head.place(), &self.contents);
        self.head.seal =
            seal.map_err(|_| StoreError::Row("the store's own row cannot be sealed".to_owned()))?;
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
        // What was begun in time is not given up in the middle: it would not be known whether it lasts.
        self.lease.take_time();
        self.ask(|c| Box::pin(async move { sqlx::raw_sql("COMMIT").execute(c).await }))
            .await?;
        self.store.reached(sequence, &chain);
        // Nothing is acknowledged that the database does not show once it says that it lasts.
        let seen = self.store.seen_so_far();
        let there = self.ask(|c| Box::pin(head::read(c))).await;
        let there = there.map_err(head::unreadable)?;
        let there = there.ok_or_else(no_store)?;
        self.store.contents(&there)?;
        self.store.must_not_go_back(&there, seen)?;
        self.lease.finish();
        Ok(sequence)
    }

    /// Takes out what cannot be read, and what acts by itself, or puts it back: a sentence for each.
    pub(super) async fn mend(&mut self) -> Result<Vec<String>, StoreError> {
        let engine = self.store.engine;
        let work = salvage::mend(engine, self.lease.raw()?);
        match tokio::time::timeout(SCAN_DEADLINE, work).await {
            Ok(mended) => mended,
            Err(_) => Err(late(SCAN_DEADLINE)),
        }
    }

    /// Gives it up in an orderly way; dropping does as well, and costs a connection.
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
                "the change failed before".to_owned(),
            ));
        }
        let asked = self.lease.ask(deadline, work).await;
        if asked.is_err() {
            // In the middle of a transaction: the connection goes back clean, or not at all.
            self.has_failed = true;
            self.roll_back().await;
        }
        asked
    }
}
