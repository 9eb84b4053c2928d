//! Counters with a limit, for a source address, a principal or the whole process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Shed;
use crate::budgets::Source;

/// A limited resource of the process, with its limit and the amount in use.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) most: usize,
    pub(super) used: AtomicUsize,
}

impl Account {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
        }
    }

    /// The amount available to a caller. A quarter is reserved for authenticated callers.
    pub(super) fn open_to(&self, proven: bool) -> usize {
        if proven {
            self.most
        } else {
            self.most - self.most / 4
        }
    }

    pub(super) fn give_back(&self, amount: usize) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }
}

pub(super) fn take(used: &AtomicUsize, amount: usize, most: usize) -> bool {
    let before = used.fetch_add(amount, Ordering::Relaxed);
    let fits = before.saturating_add(amount) <= most;
    if !fits {
        used.fetch_sub(amount, Ordering::Relaxed);
    }
    fits
}

/// The holders whose shares a call is charged to, in addition to the process.
#[derive(Clone, Copy)]
pub(super) struct Holders<'a> {
    pub(super) source: Option<&'a Holdings>,
    pub(super) principal: Option<&'a Holdings>,
}

impl Holders<'_> {
    /// Charges all holders, or none of them.
    ///
    /// # Errors
    /// [`Shed::Source`] or [`Shed::Principal`] if that holder's share is used up.
    pub(super) fn take(
        self,
        what: fn(&Holdings) -> &AtomicUsize,
        amount: usize,
        share: usize,
    ) -> Result<(), Shed> {
        if self
            .source
            .is_some_and(|source| !take(what(source), amount, share))
        {
            return Err(Shed::Source);
        }
        if self
            .principal
            .is_some_and(|principal| !take(what(principal), amount, share))
        {
            Self {
                principal: None,
                ..self
            }
            .give_back(what, amount);
            return Err(Shed::Principal);
        }
        Ok(())
    }

    /// Charges all holders, whatever their limits.
    pub(super) fn add(self, what: fn(&Holdings) -> &AtomicUsize, amount: usize) {
        for holder in [self.source, self.principal].into_iter().flatten() {
            what(holder).fetch_add(amount, Ordering::Relaxed);
        }
    }

    pub(super) fn give_back(self, what: fn(&Holdings) -> &AtomicUsize, amount: usize) {
        for holder in [self.source, self.principal].into_iter().flatten() {
            what(holder).fetch_sub(amount, Ordering::Relaxed);
        }
    }
}

pub(super) type Sources = Mutex<HashMap<Holder, Weak<Holdings>>>;

/// A source or principal, which may use only a share of the capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    Source(Source),
    /// A principal, by a digest of its budget key.
    Principal([u8; 16]),
}

/// The capacity that one source or principal uses. It is removed from the table when it uses nothing.
pub(super) struct Holdings {
    pub(super) holder: Holder,
    pub(super) table: Arc<Sources>,
    pub(super) connections: AtomicUsize,
    pub(super) handshakes: AtomicUsize,
    pub(super) calls: AtomicUsize,
    pub(super) bytes: AtomicUsize,
    /// The time, in nanoseconds since the admission was created, at which the source would have sent all its header
    /// bytes so far if it had kept to the allowed rate.
    pub(super) headers_paid: AtomicU64,
}

impl Drop for Holdings {
    fn drop(&mut self) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // Another entry may have replaced this one in the table by now.
        if table
            .get(&self.holder)
            .is_some_and(|holdings| holdings.strong_count() == 0)
        {
            table.remove(&self.holder);
        }
    }
}
