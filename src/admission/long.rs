//! The budget of long requests. A call that may be longer than others does not use the memory that all calls share: its
//! bytes are charged to one budget for the whole process as they arrive.

use std::sync::atomic::Ordering;

use super::Shed;
use super::call::Call;
use super::holdings::take;

/// The budget in bytes for the long requests of the whole process.
pub(super) const LONG_BYTES: usize = 32 << 20;
/// How often each byte of a long body is counted: once for the body, which is kept until its parameters are decoded,
/// and once for the decoded parameters, which are at most as long as the body.
const COPIES: usize = 2;

impl Call {
    /// Counts the body of this call by the budget of long requests from now on.
    pub fn count_as_long(&self) {
        self.long.store(true, Ordering::Relaxed);
    }

    /// Counts bytes of a long body as they arrive.
    ///
    /// # Errors
    /// [`Shed::Memory`] if the budget is used up.
    pub(super) fn charge_long_body(&self, bytes: usize) -> Result<(), Shed> {
        self.charge_long(bytes.saturating_mul(COPIES))
    }

    /// Counts other memory that a long request uses.
    ///
    /// # Errors
    /// [`Shed::Memory`] if the budget is used up.
    pub fn charge_long(&self, bytes: usize) -> Result<(), Shed> {
        let budget = &self.connection.admission.long;
        if !take(&budget.used, bytes, budget.most) {
            let _ = self.shed.set(Shed::Memory); // the first reason is kept
            return Err(Shed::Memory);
        }
        self.long_charged.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back everything that the call has taken from the budget.
    pub(super) fn give_back_long(&self) {
        let charged = self.long_charged.swap(0, Ordering::Relaxed);
        self.connection.admission.long.give_back(charged);
    }
}
