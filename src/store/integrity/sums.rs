//! Sums over all rows. They show that no row is missing, doubled or of an earlier version.

use crate::directory::resource::ResourceKind;

/// The version of the encoding of the sums.
const FORM: u8 = 1;
/// The number of sums: one for each kind of entry, one for revocations, and one for the recorded
/// entries of a directory file.
const SETS: usize = ResourceKind::ALL.len() + 2;
/// The length of the encoding in bytes: version, number of the first change that is kept, and 32
/// bytes and a count for each sum.
const CONTENTS: usize = 1 + 8 + SETS * 40;
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
}

/// The sealed contents of the store's own row: the sums of all other rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::parts::store) struct Contents {
    sums: [Sum; SETS],
    /// The number of the first change in the feed, or of the next change if the feed is empty.
    pub kept_from: i64,
}

impl Contents {
    /// The contents for a store without rows, whose next change has this number.
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

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CONTENTS + 16);
        bytes.push(FORM);
        bytes.extend_from_slice(&self.kept_from.to_be_bytes());
        for sum in &self.sums {
            for number in sum.limbs.iter().chain([&sum.count]) {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        bytes
    }

    /// Decodes the contents; `None` for another version or length.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (form, numbers) = bytes.split_first()?;
        if *form != FORM || bytes.len() != CONTENTS {
            return None;
        }
        let mut numbers = numbers
            .chunks_exact(8)
            .filter_map(|b| b.try_into().ok())
            .map(u64::from_be_bytes);
        let mut next = || numbers.next();
        let mut contents = Self::empty(i64::from_be_bytes(next()?.to_be_bytes()));
        for sum in &mut contents.sums {
            *sum = Sum {
                limbs: [next()?, next()?, next()?, next()?],
                count: next()?,
            };
        }
        Some(contents)
    }
}
