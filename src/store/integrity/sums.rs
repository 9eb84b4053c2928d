//! Sums over all rows. If the sums are right, no row is missing, occurs twice or has been replaced by an earlier
//! version of itself.

use crate::directory::resource::ResourceKind;

/// The version of the encoding in which each sum carries the name of its set.
const FORM: u8 = 2;
/// The version of the earlier encoding, in which the sums have no names. It contains the sums of the kinds in
/// [`NAMELESS`], then the sum of the revocations, then the sum of the recorded entries.
const NAMELESS_FORM: u8 = 1;
const NAMELESS: [ResourceKind; 10] = [
    ResourceKind::Account,
    ResourceKind::Policy,
    ResourceKind::Group,
    ResourceKind::User,
    ResourceKind::Role,
    ResourceKind::InstanceProfile,
    ResourceKind::AccessKey,
    ResourceKind::MfaDevice,
    ResourceKind::OidcProvider,
    ResourceKind::SamlProvider,
];
/// The number of sums: one for each kind of entry, one for revocations, and one for the recorded
/// entries of a directory file.
const SETS: usize = ResourceKind::ALL.len() + 2;
/// The length in bytes of an encoded sum: 32 bytes and a count.
const SUM: usize = 40;

/// The number that a row adds to the sum of its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::parts::store) struct Term(pub(super) [u64; 4]);

/// The sum of the terms of a set, modulo 2^256, and the number of its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::parts::store) struct Sum {
    pub(super) limbs: [u64; 4],
    pub count: u64,
}

impl Sum {
    pub fn add(&mut self, term: Term) {
        let mut carry = false;
        // Limbs are in big-endian order.
        for (limb, other) in self.limbs.iter_mut().zip(term.0).rev() {
            let (sum, first) = limb.overflowing_add(other);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, first || second);
        }
        self.count = self.count.wrapping_add(1);
    }

    pub fn take(&mut self, term: Term) {
        let mut borrow = false;
        for (limb, other) in self.limbs.iter_mut().zip(term.0).rev() {
            let (rest, first) = limb.overflowing_sub(other);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (rest, first || second);
        }
        self.count = self.count.wrapping_sub(1);
    }
}

/// A set of rows that has its own sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::parts::store) enum Set {
    Of(ResourceKind),
    Revocations,
    /// The recorded entries of a directory file.
    DirectoryEntries,
}

impl Set {
    fn index(self) -> usize {
        match self {
            Self::Of(kind) => ResourceKind::ALL
                .iter()
                .position(|k| *k == kind)
                .unwrap_or(SETS),
            Self::Revocations => ResourceKind::ALL.len(),
            Self::DirectoryEntries => ResourceKind::ALL.len() + 1,
        }
    }

    /// All sets in the order of their sums.
    fn all() -> impl Iterator<Item = Self> {
        let kinds = ResourceKind::ALL.into_iter().map(Self::Of);
        kinds.chain([Self::Revocations, Self::DirectoryEntries])
    }

    /// The name of the set in the encoding of the sums.
    fn name(self) -> &'static str {
        match self {
            Self::Of(kind) => kind.as_str(),
            Self::Revocations => "revocations",
            Self::DirectoryEntries => "directory-entries",
        }
    }
}

/// The sealed contents of the store's own row: the sums of all other rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::parts::store) struct Contents {
    sums: [Sum; SETS],
    /// The number of the first change in the feed, or of the next change if the feed is empty.
    pub kept_from: i64,
}

impl Contents {
    /// The contents for a store without rows. `next` is the number of its next change.
    pub fn empty(next: i64) -> Self {
        Self {
            sums: [Sum::default(); SETS],
            kept_from: next,
        }
    }

    pub fn sum(&self, set: Set) -> Sum {
        self.sums.get(set.index()).copied().unwrap_or_default()
    }

    pub fn add(&mut self, set: Set, term: Term) {
        if let Some(sum) = self.sums.get_mut(set.index()) {
            sum.add(term);
        }
    }

    pub fn take(&mut self, set: Set, term: Term) {
        if let Some(sum) = self.sums.get_mut(set.index()) {
            sum.take(term);
        }
    }

    /// Encodes the contents: the version, [`Self::kept_from`], and for each set the length of its name, the name and
    /// the sum.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 8 + SETS * (SUM + 20) + 16);
        bytes.push(FORM);
        bytes.extend_from_slice(&self.kept_from.to_be_bytes());
        for set in Set::all() {
            let name = set.name();
            // Names are far shorter than this limit.
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(name.as_bytes());
            let sum = self.sum(set);
            for number in sum.limbs.iter().chain([&sum.count]) {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        bytes
    }

    /// Decodes the contents. A set that is missing, because an earlier version did not have it, is empty. `None` for an
    /// unknown set or an unknown version of the encoding.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first()?;
        let (kept_from, mut rest) = rest.split_first_chunk::<8>()?;
        let mut contents = Self::empty(i64::from_be_bytes(*kept_from));
        if *form == NAMELESS_FORM {
            let kinds = NAMELESS.into_iter().map(Set::Of);
            for set in kinds.chain([Set::Revocations, Set::DirectoryEntries]) {
                *contents.sums.get_mut(set.index())? = read_sum(&mut rest)?;
            }
            return rest.is_empty().then_some(contents);
        }
        if *form != FORM {
            return None;
        }
        while let Some((length, after)) = rest.split_first() {
            let (name, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            let set = Set::all().find(|set| set.name().as_bytes() == name)?;
            *contents.sums.get_mut(set.index())? = read_sum(&mut rest)?;
        }
        Some(contents)
    }
}

/// Reads a sum from the front of `bytes` and removes it there.
fn read_sum(bytes: &mut &[u8]) -> Option<Sum> {
    let (sum, rest) = bytes.split_first_chunk::<SUM>()?;
    *bytes = rest;
    let mut numbers = sum
        .chunks_exact(8)
        .filter_map(|b| b.try_into().ok())
        .map(u64::from_be_bytes);
    let mut next = || numbers.next();
    Some(Sum {
        limbs: [next()?, next()?, next()?, next()?],
        count: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Contents {
        let mut contents = Contents::empty(7);
        for (n, set) in Set::all().enumerate() {
            let n = u64::try_from(n).unwrap();
            contents.add(set, Term([n, n + 1, n + 2, n + 3]));
        }
        contents
    }

    #[test]
    fn sums_are_found_by_name_and_an_unknown_name_is_not_skipped() {
        let contents = filled();
        let bytes = contents.bytes();
        assert_eq!(Contents::read(&bytes), Some(contents));
        // A version with fewer kinds did not write the last one: it is empty.
        let last = 1 + "directory-entries".len() + SUM;
        let shorter = Contents::read(&bytes[..bytes.len() - last]).unwrap();
        assert_eq!(shorter.sum(Set::DirectoryEntries), Sum::default());
        assert_eq!(
            shorter.sum(Set::Revocations),
            filled().sum(Set::Revocations)
        );
        let mut newer = bytes.clone();
        newer.extend_from_slice(b"\x05later");
        newer.extend_from_slice(&[0; SUM]);
        assert_eq!(Contents::read(&newer), None, "a kind that is not known");
        assert_eq!(Contents::read(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn sums_without_names_can_still_be_read() {
        let contents = filled();
        let mut bytes = vec![NAMELESS_FORM];
        bytes.extend_from_slice(&7i64.to_be_bytes());
        let kinds = NAMELESS.into_iter().map(Set::Of);
        for set in kinds.chain([Set::Revocations, Set::DirectoryEntries]) {
            let sum = contents.sum(set);
            for number in sum.limbs.iter().chain([&sum.count]) {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        let read = Contents::read(&bytes).unwrap();
        for set in Set::all() {
            let expected = match set {
                Set::Of(kind) if !NAMELESS.contains(&kind) => Sum::default(),
                set => contents.sum(set),
            };
            assert_eq!(read.sum(set), expected, "{set:?}");
        }
        bytes.push(0);
        assert_eq!(Contents::read(&bytes), None);
    }
}
