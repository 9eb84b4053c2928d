//! The way into a store for every command and for the broker: nobody works on one that is not what this
//! node has seen.

use std::path::Path;

use super::shape::{self, Deviation};
use super::{Access, Head, Place, Store, StoreError, Watermark, WatermarkError};
use crate::base::clock::Timestamp;
use crate::base::entropy::Entropy;
use crate::master_key::MasterKey;

/// What a store is opened with.
#[derive(Clone, Copy)]
pub struct Entrance<'a> {
    /// Where it is.
    pub place: &'a Place,
    /// What its rows are written under. None only where the directory is a file without sealed secrets.
    pub master_key: Option<&'a MasterKey>,
    /// What this node has seen of it; none: nothing is kept.
    pub watermark: Option<&'a Path>,
}

impl Entrance<'_> {
    /// Opens the store if it went on from what this node has seen. One of an earlier version is sealed on
    /// the way, where `access` allows that.
    ///
    /// # Errors
    /// Each with the way out.
    pub async fn open(
        self,
        access: Access,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Store, WatermarkError> {
        let known = self.watermark.map(Watermark::load).transpose()?.flatten();
        // A store that is not where this node has seen one is a loss.
        let access = if known.is_some() && access == Access::Create {
            Access::Serve
        } else {
            access
        };
        let store = Store::open(self.place, access, self.master_key, now, entropy).await?;
        if store.is_new() {
            // At once: a start that fails later must not leave a store behind of which nothing is known.
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

    /// Writes down what this node has seen of the store.
    ///
    /// # Errors
    /// Without an answer, and when the file cannot be written.
    pub async fn leave(self, store: &Store) -> Result<Head, WatermarkError> {
        let head = store.head().await?;
        if let Some(path) = self.watermark {
            Watermark::of(&head).advance(path)?;
        }
        Ok(head)
    }
}

impl Store {
    /// Whether the tables are those of a store, with nothing on them that acts by itself.
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

    /// Its id and its last change, as they stand in the database: not checked.
    async fn stands_at(&self) -> Result<(String, i64), StoreError> {
        let raw = self.raw_head(super::Purpose::Background).await?;
        Ok((raw.store_id, raw.sequence))
    }
}
