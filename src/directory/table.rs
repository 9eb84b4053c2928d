//! A map of which a copy is cheap, and a changed copy costs one shard: a snapshot of a million
//! entries takes a change without being copied.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

/// A thousand entries a shard when there are a million.
const SHARDS: usize = 1_024;

/// What an entry is found by.
pub trait Keyed {
    /// Unique in its table.
    fn key(&self) -> &str;
}

/// Entries by their own key.
pub struct Table<T: Keyed> {
    shards: Arc<Vec<Arc<HashSet<Entry<T>>>>>,
    hasher: RandomState,
}

struct Entry<T>(Arc<T>);

impl<T: Keyed> Table<T> {
    /// The entry of that key.
    pub fn get(&self, key: &str) -> Option<&Arc<T>> {
        self.shards.get(self.shard(key))?.get(key).map(|e| &e.0)
    }

    /// Puts an entry in; the one that had its key goes out.
    pub fn put(&mut self, value: T) -> Option<Arc<T>> {
        let at = self.shard(value.key());
        let shard = Arc::make_mut(Arc::make_mut(&mut self.shards).get_mut(at)?);
        shard.replace(Entry(Arc::new(value))).map(|e| e.0)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &str) -> Option<Arc<T>> {
        let at = self.shard(key);
        Arc::make_mut(Arc::make_mut(&mut self.shards).get_mut(at)?).take(key).map(|e| e.0)
    }

    /// All entries, in no order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.shards.iter().flat_map(|s| s.iter()).map(|e| &e.0)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.len()).sum()
    }

    fn shard(&self, key: &str) -> usize {
        // The low bits place an entry within its shard.
        usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or_default() % SHARDS
    }
}

impl<T: Keyed> Default for Table<T> {
    fn default() -> Self {
        Self { shards: Arc::new(vec![Arc::default(); SHARDS]), hasher: RandomState::new() }
    }
}

impl<T: Keyed> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { shards: self.shards.clone(), hasher: self.hasher.clone() }
    }
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Keyed> Borrow<str> for Entry<T> {
    fn borrow(&self) -> &str {
        self.0.key()
    }
}

impl<T: Keyed> Hash for Entry<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl<T: Keyed> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl<T: Keyed> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(String, u32);

    impl Keyed for Item {
        fn key(&self) -> &str {
            &self.0
        }
    }

    #[test]
    fn a_changed_copy_leaves_the_original_as_it_was() {
        let mut one = Table::default();
        for n in 0..5_000 {
            assert!(one.put(Item(n.to_string(), n)).is_none());
        }
        let mut two = one.clone();
        assert_eq!(two.put(Item("7".into(), 70)).unwrap().1, 7);
        assert!(two.remove("8").is_some() && two.remove("8").is_none());
        assert_eq!((one.get("7").unwrap().1, two.get("7").unwrap().1), (7, 70));
        assert_eq!((one.len(), two.len()), (5_000, 4_999));
        assert!(one.get("8").is_some() && two.get("8").is_none());
        assert_eq!(one.values().map(|v| u64::from(v.1)).sum::<u64>(), 4_999 * 5_000 / 2);
    }
}
