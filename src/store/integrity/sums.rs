//! Sums over all rows, which show that none is missing, doubled or from an earlier state.

use crate::directory::resource::Kind;

/// How the sealed sums are laid out.
const FORM: u8 = 1;
/// A sum for each kind of thing, one for revocations, and one for the entries of a directory file.
const SETS: usize = Kind::ALL.len() + 2;
/// Form, the first change that is kept, and of each set 32 bytes and a count.
const CONTENTS: usize = 1 + 8 + SETS * 40;
/// What a row adds to the sum of its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::parts::store) struct Term(pub(super) [u64; 4]);

/// The sum over the rows of a set, modulo 2^256, and their number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::parts::store) struct Sum {
    pub(super) limbs: [u64; 4],
    /// How many rows.
    pub count: u64,
}

impl Sum {
    pub fn add(&mut self, term: Term) {
        let mut carry = false;
        // The last limb is the lowest.
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

/// A set of rows that has a sum of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::parts::store) enum Set {
    /// The things of a kind.
    Of(Kind),
    /// All revocations.
    Revocations,
    /// The entries of a directory that is a file.
    DirectoryEntries,
}

impl Set {
    fn index(self) -> usize {
        match self {
            Self::Of(kind) => Kind::ALL.iter().position(|k| *k == kind).unwrap_or(SETS),
            Self::Revocations => Kind::ALL.len(),
            Self::DirectoryEntries => Kind::ALL.len() + 1,
        }
    }
}

/// What the store's own row says of all other rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::parts::store) struct Contents {
    sums: [Sum; SETS],
    /// The first change that the feed still holds; the next one, if it holds none.
    pub kept_from: i64,
}

impl Contents {
    /// Of a store without rows whose next change is this one.
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

    /// As they are sealed.
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

    /// From what was sealed; none if it has another form.
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
