//! The state for a decision about a role outside of an STS call, such as for the list of a person's
//! roles.

use crate::base::clock::Timestamp;
use crate::caller::Caller;
use crate::directory::Directory;
use crate::origin::Origin;
use crate::trust::Facts;

/// The directory, the time and the origin of the request on which a decision is based.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub directory: &'a Directory,
    pub origin: &'a Origin,
    pub region: &'a str,
    pub now: Timestamp,
}

impl<'a> Seen<'a> {
    /// Returns the facts for condition keys that every request of this caller has.
    pub fn facts(self, caller: &'a Caller) -> Facts<'a> {
        Facts::new(caller, self.directory, self.origin, self.region, self.now)
    }
}
