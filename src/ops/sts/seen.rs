//! The state on which a decision about a role is based outside of a call, such as for the list of a
//! person's roles.

use crate::base::clock::Timestamp;
use crate::caller::Caller;
use crate::directory::Directory;
use crate::origin::Origin;
use crate::trust::Facts;

/// The directory, the time and the request of a decision.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub directory: &'a Directory,
    pub origin: &'a Origin,
    pub region: &'a str,
    pub now: Timestamp,
}

impl<'a> Seen<'a> {
    /// The condition keys that every request of this caller has.
    pub fn facts(self, caller: &'a Caller) -> Facts<'a> {
        Facts::new(caller, self.directory, self.origin, self.region, self.now)
    }
}
