//! A map that is cheap to copy. If a copy is changed, only one shard is duplicated, so that a
//! snapshot with a million entries can change without being copied as a whole.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use crate::base::arn::AccountId;
use crate::base::hashed::Hashed;

/// The number of shards of a map. With a million entries, a shard has about a thousand.
const SHARDS: usize = 1_024;

/// An entry with a key of its own, for a [`Table`].
pub trait Keyed {
    /// The key, which is unique in a table.
    fn key(&self) -> &str;
}

/// An entry that is found by its account and its name, without regard to case, for [`Names`].
pub trait Named {
    /// The account in which the name is unique.
    fn account(&self) -> AccountId;
    /// The name of the entry, without a path.
    fn name(&self) -> &str;
}

/// A map of entries by their own keys.
pub struct Table<T: Keyed>(Shards<ByKey<T>>);

/// A map of entries by account and name.
pub struct Names<T: Named>(Shards<ByName<T>>);

/// Entries with the hashes of their keys. A hash is computed once, with a secret of the table. It
/// determines the shard and the place in the shard, and is used again when the shard grows.
struct Shards<E> {
    shards: Arc<Vec<Arc<HashSet<E, Hashed>>>>,
    hasher: RandomState,
}

struct ByKey<T> {
    hash: u64,
    value: Arc<T>,
}

struct ByName<T> {
    hash: u64,
    value: Arc<T>,
}

impl<T: Keyed> Table<T> {
    /// Looks up an entry; only one shard is read.
    pub fn get(&self, key: &str) -> Option<&Arc<T>> {
        let wanted = self.wanted(key);
        let shard = self.0.shards.get(place(wanted.hash))?;
        shard.get(&wanted as &dyn HashedKey).map(|e| &e.value)
    }

    /// Adds an entry, and returns the previous one with the same key.
    pub fn put(&mut self, value: impl Into<Arc<T>>) -> Option<Arc<T>> {
        let value = value.into();
        let hash = self.wanted(value.key()).hash;
        let previous = self.0.shard_mut(hash)?.replace(ByKey { hash, value });
        previous.map(|e| e.value)
    }

    /// Removes and returns the entry with this key.
    pub fn remove(&mut self, key: &str) -> Option<Arc<T>> {
        let wanted = self.wanted(key);
        let shard = self.0.shard_mut(wanted.hash)?;
        shard.take(&wanted as &dyn HashedKey).map(|e| e.value)
    }

    /// All entries, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        let shards = self.0.shards.iter();
        shards.flat_map(|s| s.iter()).map(|e| &e.value)
    }

    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|s| s.len()).sum()
    }

    fn wanted<'a>(&self, key: &'a str) -> WantedKey<'a> {
        WantedKey {
            hash: self.0.hasher.hash_one(key),
            key,
        }
    }
}

impl<T: Named> Names<T> {
    /// The entry with this account and name, ignoring case.
    pub fn get(&self, account: AccountId, name: &str) -> Option<&Arc<T>> {
        let wanted = self.wanted(account, name);
        let shard = self.0.shards.get(place(wanted.hash))?;
        shard.get(&wanted as &dyn HashedName).map(|e| &e.value)
    }

    /// Adds an entry, replacing the previous one with the same name.
    pub fn put(&mut self, value: Arc<T>) {
        let hash = self.wanted(value.account(), value.name()).hash;
        if let Some(shard) = self.0.shard_mut(hash) {
            shard.replace(ByName { hash, value });
        }
    }

    /// Removes an entry, unless another entry has taken its name since.
    pub fn remove(&mut self, value: &Arc<T>) {
        let is_there = self
            .get(value.account(), value.name())
            .is_some_and(|there| Arc::ptr_eq(there, value));
        let wanted = self.wanted(value.account(), value.name());
        if is_there && let Some(shard) = self.0.shard_mut(wanted.hash) {
            shard.remove(&wanted as &dyn HashedName);
        }
    }

    fn wanted<'a>(&self, account: AccountId, name: &'a str) -> WantedName<'a> {
        let mut state = self.0.hasher.build_hasher();
        account.hash(&mut state);
        // Piece by piece, because a hasher takes much longer for single bytes.
        let mut piece = [0; 64];
        for bytes in name.as_bytes().chunks(piece.len()) {
            for (lower, byte) in piece.iter_mut().zip(bytes) {
                *lower = byte.to_ascii_lowercase();
            }
            state.write(piece.get(..bytes.len()).unwrap_or(bytes));
        }
        WantedName {
            hash: state.finish(),
            account,
            name,
        }
    }
}

impl<E: Clone> Shards<E> {
    /// The shard for a hash. If another copy of the map shares the shard, the shard is duplicated first.
    fn shard_mut(&mut self, hash: u64) -> Option<&mut HashSet<E, Hashed>> {
        let shards = Arc::make_mut(&mut self.shards);
        Some(Arc::make_mut(shards.get_mut(place(hash))?))
    }
}

/// The index of the shard for a hash.
fn place(hash: u64) -> usize {
    // The low bits of the hash and the highest ones choose the place inside the shard, so bits between
    // them choose the shard.
    usize::try_from(hash >> 32).unwrap_or_default() % SHARDS
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

impl<T> Clone for ByKey<T> {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            value: self.value.clone(),
        }
    }
}

/// A key and its hash: those of an entry, or those that are looked up.
trait HashedKey {
    fn hashed(&self) -> (u64, &str);
}

struct WantedKey<'a> {
    hash: u64,
    key: &'a str,
}

impl HashedKey for WantedKey<'_> {
    fn hashed(&self) -> (u64, &str) {
        (self.hash, self.key)
    }
}

impl<T: Keyed> HashedKey for ByKey<T> {
    fn hashed(&self) -> (u64, &str) {
        (self.hash, self.value.key())
    }
}

impl<'a, T: Keyed + 'a> Borrow<dyn HashedKey + 'a> for ByKey<T> {
    fn borrow(&self) -> &(dyn HashedKey + 'a) {
        self
    }
}

impl Hash for dyn HashedKey + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hashed().0);
    }
}

impl PartialEq for dyn HashedKey + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.hashed() == other.hashed()
    }
}

impl Eq for dyn HashedKey + '_ {}

impl<T> Hash for ByKey<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<T: Keyed> PartialEq for ByKey<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hashed() == other.hashed()
    }
}

impl<T: Keyed> Eq for ByKey<T> {}

impl<T> Clone for ByName<T> {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            value: self.value.clone(),
        }
    }
}

/// An account, a name and their hash: those of an entry, or those that are looked up.
trait HashedName {
    fn hashed(&self) -> (u64, AccountId, &str);
}

struct WantedName<'a> {
    hash: u64,
    account: AccountId,
    name: &'a str,
}

impl HashedName for WantedName<'_> {
    fn hashed(&self) -> (u64, AccountId, &str) {
        (self.hash, self.account, self.name)
    }
}

impl<T: Named> HashedName for ByName<T> {
    fn hashed(&self) -> (u64, AccountId, &str) {
        (self.hash, self.value.account(), self.value.name())
    }
}

impl<'a, T: Named + 'a> Borrow<dyn HashedName + 'a> for ByName<T> {
    fn borrow(&self) -> &(dyn HashedName + 'a) {
        self
    }
}

impl Hash for dyn HashedName + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hashed().0);
    }
}

impl PartialEq for dyn HashedName + '_ {
    fn eq(&self, other: &Self) -> bool {
        let ((hash, account, name), (its_hash, its_account, its_name)) =
            (self.hashed(), other.hashed());
        hash == its_hash && account == its_account && name.eq_ignore_ascii_case(its_name)
    }
}

impl Eq for dyn HashedName + '_ {}

impl<T> Hash for ByName<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<T: Named> PartialEq for ByName<T> {
    fn eq(&self, other: &Self) -> bool {
        (self as &dyn HashedName) == (other as &dyn HashedName)
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
        let long = "Nightly-Export.of+the=Billing,Department@example.com_and-of-everybody-Else";
        names.put(Arc::new(Person(one, long, 7)));
        assert_eq!(names.get(one, &long.to_ascii_uppercase()).unwrap().2, 7);
        assert!(names.get(one, &long[..64]).is_none());
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
