//! A map that is cheap to copy, and of which a changed copy costs only one shard: a snapshot with a
//! million entries can change without being copied as a whole.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use crate::base::arn::AccountId;

/// With a million entries, a shard has about a thousand.
const SHARDS: usize = 1_024;

/// An entry that is found by its own key.
pub trait Keyed {
    fn key(&self) -> &str;
}

/// An entry that is found by its account and its name, ignoring case.
pub trait Named {
    fn account(&self) -> AccountId;
    /// The name without its path.
    fn name(&self) -> &str;
}

/// Entries by their own key.
pub struct Table<T: Keyed>(Shards<Entry<T>>);

/// Entries by account and name.
pub struct Names<T: Named>(Shards<ByName<T>>);

struct Shards<E> {
    shards: Arc<Vec<Arc<HashSet<E>>>>,
    hasher: RandomState,
}

struct Entry<T>(Arc<T>);

struct ByName<T>(Arc<T>);

impl<T: Keyed> Table<T> {
    /// Looks up an entry; only one shard is read.
    pub fn get(&self, key: &str) -> Option<&Arc<T>> {
        self.0.get(key).map(|e| &e.0)
    }

    /// Adds an entry, and returns the previous one with the same key.
    pub fn put(&mut self, value: impl Into<Arc<T>>) -> Option<Arc<T>> {
        let entry = Entry(value.into());
        self.0.shard_mut(entry.0.key())?.replace(entry).map(|e| e.0)
    }

    pub fn remove(&mut self, key: &str) -> Option<Arc<T>> {
        self.0.shard_mut(key)?.take(key).map(|e| e.0)
    }

    /// All entries, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.shards.iter().flat_map(|s| s.iter()).map(|e| &e.0)
    }

    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|s| s.len()).sum()
    }
}

impl<T: Named> Names<T> {
    /// The entry with this account and name, ignoring case.
    pub fn get(&self, account: AccountId, name: &str) -> Option<&Arc<T>> {
        self.0
            .get(&Wanted { account, name } as &dyn Named)
            .map(|e| &e.0)
    }

    /// Adds an entry, replacing the previous one with the same name.
    pub fn put(&mut self, value: Arc<T>) {
        let entry = ByName(value);
        if let Some(shard) = self.0.shard_mut(&*entry.0 as &dyn Named) {
            shard.replace(entry);
        }
    }

    /// Removes an entry, unless another entry has taken its name since.
    pub fn remove(&mut self, value: &Arc<T>) {
        let name = &**value as &dyn Named;
        if self.0.get(name).is_some_and(|e| Arc::ptr_eq(&e.0, value))
            && let Some(shard) = self.0.shard_mut(name)
        {
            shard.remove(name);
        }
    }
}

impl<E: Clone + Hash + Eq> Shards<E> {
    fn get<Q: ?Sized + Hash + Eq>(&self, key: &Q) -> Option<&E>
    where
        E: Borrow<Q>,
    {
        self.shards.get(self.place(key))?.get(key)
    }

    /// The shard of a key for changing it in this copy only.
    fn shard_mut<Q: ?Sized + Hash>(&mut self, key: &Q) -> Option<&mut HashSet<E>> {
        let at = self.place(key);
        Some(Arc::make_mut(Arc::make_mut(&mut self.shards).get_mut(at)?))
    }

    fn place<Q: ?Sized + Hash>(&self, key: &Q) -> usize {
        // The low bits of the hash choose the place inside the shard, so the high bits choose the
        // shard.
        usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or_default() % SHARDS
    }
}

impl<E> Default for Shards<E> {
    fn default() -> Self {
        Self {
            shards: Arc::new(vec![Arc::default(); SHARDS]),
            hasher: RandomState::new(),
        }
    }
}

impl<E> Clone for Shards<E> {
    fn clone(&self) -> Self {
        Self {
            shards: self.shards.clone(),
            hasher: self.hasher.clone(),
        }
    }
}

impl<T: Keyed> Default for Table<T> {
    fn default() -> Self {
        Self(Shards::default())
    }
}

impl<T: Keyed> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Named> Default for Names<T> {
    fn default() -> Self {
        Self(Shards::default())
    }
}

impl<T: Named> Clone for Names<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
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

/// The account and name of an entry that is looked up.
struct Wanted<'a> {
    account: AccountId,
    name: &'a str,
}

impl Named for Wanted<'_> {
    fn account(&self) -> AccountId {
        self.account
    }

    fn name(&self) -> &str {
        self.name
    }
}

impl<'a, T: Named + 'a> Borrow<dyn Named + 'a> for ByName<T> {
    fn borrow(&self) -> &(dyn Named + 'a) {
        &*self.0
    }
}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.account().hash(state);
        for byte in self.name().bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.account() == other.account() && self.name().eq_ignore_ascii_case(other.name())
    }
}

impl Eq for dyn Named + '_ {}

impl<T> Clone for ByName<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Named> Hash for ByName<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&*self.0 as &dyn Named).hash(state);
    }
}

impl<T: Named> PartialEq for ByName<T> {
    fn eq(&self, other: &Self) -> bool {
        &*self.0 as &dyn Named == &*other.0 as &dyn Named
    }
}

impl<T: Named> Eq for ByName<T> {}

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
        assert_eq!(
            one.values().map(|v| u64::from(v.1)).sum::<u64>(),
            4_999 * 5_000 / 2
        );
    }

    struct Person(AccountId, &'static str, u32);

    impl Named for Person {
        fn account(&self) -> AccountId {
            self.0
        }

        fn name(&self) -> &str {
            self.1
        }
    }

    #[test]
    fn names_are_found_without_regard_to_case_in_their_account_alone() {
        let [one, two] = ["111122223333", "444455556666"].map(|id| AccountId::parse(id).unwrap());
        let mut names = Names::default();
        let first = Arc::new(Person(one, "Alice", 1));
        names.put(first.clone());
        assert_eq!(names.get(one, "aLICE").unwrap().2, 1);
        assert!(names.get(two, "Alice").is_none() && names.get(one, "Alic").is_none());
        // For example under another path: the name belongs to the new entry, also after the old one
        // is removed.
        names.put(Arc::new(Person(one, "alice", 2)));
        names.remove(&first);
        assert_eq!(names.get(one, "ALICE").unwrap().2, 2);
        let copy = names.clone();
        names.remove(&copy.get(one, "alice").unwrap().clone());
        assert!(names.get(one, "alice").is_none() && copy.get(one, "alice").is_some());
    }
}
