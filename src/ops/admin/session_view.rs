//! A session as its account's administrators see it, and what it came from.

use crate::lineage;
use crate::revocations::{Key, Revocations};
use crate::session::token::Ancestor;
use crate::sessions::SessionRecord;

/// A session as its account's administrators see it.
#[derive(Debug)]
pub struct SessionView {
    /// What is on record.
    pub record: SessionRecord,
    /// Its principal's.
    pub arn: String,
    /// The chain of principals behind it, oldest first.
    pub came_from: Vec<String>,
    /// Whether a revocation has ended it.
    pub revoked: bool,
}

impl SessionView {
    /// None for a record that names no principal.
    pub(super) fn new(record: SessionRecord, revocations: &Revocations) -> Option<Self> {
        let own = own_ancestor(&record);
        let keys = came_from(&record)?;
        let revoked = revocations.is_revoked(&keys, record.issued_under, record.issued_at);
        let came_from = record
            .ancestors
            .iter()
            .map(Ancestor::principal_arn)
            .collect();
        Some(Self {
            arn: own.principal_arn(),
            came_from,
            revoked,
            record,
        })
    }
}

/// The session on record, as the last one of the chain that it ends.
fn own_ancestor(record: &SessionRecord) -> Ancestor {
    Ancestor {
        arn: record.principal_arn.clone(),
        unique_id: record.principal_id.clone(),
        access_key_id: record.access_key_id.clone(),
        session_name: record.session_name.clone(),
        session_id: record.session_id.clone(),
        restricted: false,
        subject: String::new(),
    }
}

/// What a session on record came from. None for a record that names no principal.
pub(super) fn came_from(record: &SessionRecord) -> Option<Box<[Key]>> {
    lineage::came_from(
        &own_ancestor(record),
        &record.source_identity,
        &record.ancestors,
    )
    .ok()
}
