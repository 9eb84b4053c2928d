//! Opens a store for the broker and for commands, and compares it with the node's watermark. A store that was put back
//! to an earlier state, or replaced by another one, is refused.

use std::path::Path;

use super::shape::{self, Deviation};
use super::{Access, Head, Place, Store, StoreError, Watermark, WatermarkError};
use crate::base::clock::Timestamp;
use crate::base::entropy::Entropy;
use crate::master_key::MasterKey;

/// The parameters that are needed to open a store.
#[derive(Clone, Copy)]
pub struct Entrance<'a> {
    pub place: &'a Place,
    /// The master key from which the keys of the MACs are derived. `None` is allowed only if the directory is a file
    /// without sealed secrets.
    pub master_key: Option<&'a MasterKey>,
    /// The watermark file of this node; `None` if the node keeps none.
    pub watermark: Option<&'a Path>,
}

impl Entrance<'_> {
    /// Opens the store and checks that it continues from the change in the watermark file. If the rows are those of an
    /// earlier version and have no MACs, this computes the MACs, provided that `access` allows it.
    ///
    /// # Errors
    /// [`WatermarkError`] says how the store differs from what this node has seen, or why it cannot be opened, and what
    /// an operator can do.
    pub async fn open(
        self,
        access: Access,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Store, WatermarkError> {
        let known = self.watermark.map(Watermark::load).transpose()?.flatten();
        // A node that has seen the store must not create an empty one in its place.
        let access = if known.is_some() && access == Access::Create {
            Access::Serve
        } else {
            access
        };
        let store = Store::open(self.place, access, self.master_key, now, entropy).await?;
        if store.is_new() {
            // The watermark is written at once: if the start fails later, the store must not be left
            // without one.
            self.leave(&store).await?;
            return Ok(store);
        }
        store.has_its_tables().await?;
        let (store_id, sequence) = store.stands_at().await?;
        match (known, self.watermark) {
            (Some(known), _) => {
                known.check(&store_id, sequence)?;
                store.reached(known.sequence, known.chain.as_deref().unwrap_or_default());
                if let Some(key) = &known.key {
                    store.sealed_under(key);
                }
                match known.chain {
                    Some(_) if store.is_unsealed() => return Err(WatermarkError::Unsealed),
                    Some(chain) => drop(store.goes_on_from(known.sequence, &chain, |_| ()).await?),
                    None if store.is_unsealed() => store.seal_for_the_first_time().await?,
                    None => drop(store.head().await?),
                }
            }
            (None, Some(path)) => return Err(WatermarkError::Missing(path.to_owned())),
            (None, None) if store.is_unsealed() => store.seal_for_the_first_time().await?,
            (None, None) => drop(store.head().await?),
        }
        Ok(store)
    }

    /// Updates the watermark file to the last change of the store, for example before the store is closed.
    ///
    /// # Errors
    /// [`WatermarkError::Store`] if the database does not answer or the store's own row differs from what a
    /// broker wrote, and [`WatermarkError::File`] if the file cannot be written.
    pub async fn leave(self, store: &Store) -> Result<Head, WatermarkError> {
        let head = store.head().await?;
        if let Some(path) = self.watermark {
            Watermark::of(&head).advance(path)?;
        }
        Ok(head)
    }
}

impl Store {
    /// Checks that the database has all tables of a store, and no triggers or other objects that could change their
    /// rows.
    async fn has_its_tables(&self) -> Result<(), StoreError> {
        let mut moment = self.moment().await?;
        let found = shape::deviations(self.engine, moment.connection()?).await?;
        moment.end().await?;
        if found.is_empty() {
            return Ok(());
        }
        let says: Vec<String> = found.iter().map(Deviation::says).collect();
        if found.iter().any(|d| matches!(d, Deviation::Lacks(_))) {
            return Err(StoreError::Damaged(says.join("; ")));
        }
        Err(self.tampered(says.join("; ")))
    }

    /// Reads the store's id and its last change, without checking the seal.
    async fn stands_at(&self) -> Result<(String, i64), StoreError> {
        let raw = self.raw_head(super::Purpose::Background).await?;
        Ok((raw.store_id, raw.sequence))
    }
}
