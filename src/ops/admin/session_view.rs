//! A session with the facts that administrators of its account see, such as the principals that it
//! came from.

use crate::lineage;
use crate::revocations::{RevocationKey, Revocations};
use crate::session::token::Ancestor;
use crate::sessions::SessionRecord;

/// A session's record, with what the broker derives from it for administrators.
#[derive(Debug)]
pub struct SessionView {
    /// The record as the broker that issued the session wrote it.
    pub record: SessionRecord,
    pub arn: String,
    /// The ARNs of the principals that the session came from, oldest first.
    pub came_from: Vec<String>,
    /// Whether a revocation that is in force on this node ended the session.
    pub revoked: bool,
}

impl SessionView {
    /// Creates the view; `None` if the record contains an invalid ARN.
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

/// Returns the session itself in the form of an ancestor, the last in its own chain of principals.
fn own_ancestor(record: &SessionRecord) -> Ancestor {
    Ancestor {
        arn: record.principal_arn.clone(),
        unique_id: record.principal_id.clone(),
        access_key_id: record.access_key_id.clone(),
        session_name: record.session_name.clone(),
        session_id: record.session_id.clone(),
        restricted: false,
        subject: String::new(),
        narrowed: false,
    }
}

/// Returns the revocation keys of a session and its ancestors; `None` if the record contains an
/// invalid ARN.
pub(super) fn came_from(record: &SessionRecord) -> Option<Box<[RevocationKey]>> {
    lineage::came_from(
        &own_ancestor(record),
        &record.source_identity,
        &record.ancestors,
    )
    .ok()
}
