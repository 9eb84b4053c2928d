//! Allocates capacity for calls and bytes, and decides which calls give way if there is not enough.

use std::sync::MutexGuard;

use super::awaited::Awaited;
use super::holdings::{Holders, take};
use super::{Admission, Purpose, Shed, lock};
use crate::budgets::Source;

/// The maximum number of calls that give way to one call.
const MAX_GIVE_WAY: usize = 16;
/// The bytes of a call are counted in steps of this size, so that a short body is counted only
/// once.
const STEP: usize = 4_096;
/// The priority of a call if there is not enough capacity, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    Unproven,
    Proven,
    Revocation,
}

impl Admission {
    /// Repeats `attempt` until there is capacity, while up to [`MAX_GIVE_WAY`] other calls give way.
    ///
    /// # Errors
    /// The error of the last attempt, if no other call gives way or a share is used up.
    pub(super) fn with_room(
        &self,
        rank: Rank,
        source: Source,
        bytes: usize,
        mut attempt: impl FnMut() -> Result<(), Shed>,
    ) -> Result<(), Shed> {
        let mut left = MAX_GIVE_WAY;
        loop {
            let shed = match attempt() {
                Err(shed @ (Shed::Calls | Shed::Memory)) if left > 0 => shed,
                done => return done,
            };
            left -= 1;
            let before = match (rank, shed) {
                (Rank::Revocation, Shed::Calls) => [Some(Rank::Revocation), None, None],
                (Rank::Revocation, _) => [
                    Some(Rank::Unproven),
                    Some(Rank::Proven),
                    Some(Rank::Revocation),
                ],
                (Rank::Proven, _) => [Some(Rank::Unproven), Some(Rank::Proven), None],
                (Rank::Unproven, _) => [Some(Rank::Unproven), None, None],
            };
            // The lock must not be held while the call gives way.
            let first = before
                .into_iter()
                .flatten()
                .find_map(|rank| self.awaited(rank).first_to_go(shed, source, bytes));
            match first {
                Some(call) => call.give_way(shed),
                None => return Err(shed),
            }
        }
    }

    pub(super) fn awaited(&self, rank: Rank) -> MutexGuard<'_, Awaited> {
        let [unproven, proven, revocations] = &self.awaited;
        lock(match rank {
            Rank::Unproven => unproven,
            Rank::Proven => proven,
            Rank::Revocation => revocations,
        })
    }

    pub(super) fn take_call(
        &self,
        holders: Holders<'_>,
        bytes: usize,
        rank: Rank,
    ) -> Result<(), Shed> {
        let (account, most, purpose) = match rank {
            Rank::Revocation => (
                &self.revocations,
                self.revocations.most,
                Purpose::Revocation,
            ),
            rank => (
                &self.calls,
                self.calls.open_to(rank == Rank::Proven),
                Purpose::Call,
            ),
        };
        holders.take(|h| &h.calls, 1, self.share.calls)?;
        if !take(&account.used, 1, most) {
            holders.give_back(|h| &h.calls, 1);
            return Err(Shed::Calls);
        }
        let taken = self.take_bytes(holders, bytes, rank != Rank::Unproven, purpose);
        if taken.is_err() {
            holders.give_back(|h| &h.calls, 1);
            account.give_back(1);
        }
        taken
    }

    pub(super) fn take_bytes(
        &self,
        holders: Holders<'_>,
        bytes: usize,
        proven: bool,
        purpose: Purpose,
    ) -> Result<(), Shed> {
        let (mut share, mut most) = (self.share.bytes, self.bytes.open_to(proven));
        match purpose {
            Purpose::Call => {
                share -= share / 8;
                most -= self.bytes.most / 16;
            }
            Purpose::Refusal => most = most.min(self.bytes.most - self.bytes.most / 32),
            Purpose::Revocation => {}
        }
        holders.take(|h| &h.bytes, bytes, share)?;
        if !take(&self.bytes.used, bytes, most) {
            holders.give_back(|h| &h.bytes, bytes);
            return Err(Shed::Memory);
        }
        Ok(())
    }

    pub(super) fn give_back_bytes(&self, holders: Holders<'_>, bytes: usize) {
        holders.give_back(|h| &h.bytes, bytes);
        self.bytes.give_back(bytes);
    }
}

pub(super) fn in_steps(bytes: usize) -> usize {
    bytes.div_ceil(STEP).saturating_mul(STEP)
}
