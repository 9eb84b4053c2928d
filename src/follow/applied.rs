//! Applies changes of the feed to a copy of the directory, and puts the copy in force.

use std::sync::Arc;
use std::time::Duration;

use super::MAX_AUDITED;
use super::audit::write_down;
use super::error::FollowError;
use crate::broker::Broker;
use crate::commands::Detail;
use crate::directory::Directory;
use crate::directory::resource::{Name, Resource, ResourceKind};
use crate::store::Change;

/// Changes of the feed that are not in force yet, except for their revocations.
pub(super) struct Applied {
    /// The directory to put in force: a copy with the changes applied, or one that was loaded from the store. It equals
    /// the present directory if all changes are revocations. `None` if the directory is a file, which changes of the
    /// feed do not affect.
    pub(super) directory: Option<Directory>,
    pub(super) changes: Vec<(Change, Detail)>,
    /// The sequence number of the last change, and the digest of the feed up to it.
    pub(super) reached: (i64, String),
}

/// Applies changes one by one to a copy of the directory, and then checks that all resources exist to which the changed
/// ones refer. If the directory is a file, no copy is made and nothing is checked.
pub(super) fn apply(
    broker: &Broker,
    changes: Vec<Change>,
    details: Vec<Detail>,
) -> Result<Applied, FollowError> {
    let mut applied = None;
    if broker.directory_is_in_the_store {
        let mut directory = Directory::clone(&broker.directory.load());
        let mut touched = Vec::new();
        for change in &changes {
            let fault = |why: String| FollowError::Change(change.sequence, why);
            let Some(kind) = ResourceKind::parse(&change.kind) else {
                continue;
            };
            match &change.body {
                Some(body) => {
                    let resource = Resource::parse(kind, body).map_err(|e| fault(e.to_string()))?;
                    let master_key = broker.master_key.load();
                    directory
                        .insert_stored(&resource, master_key.as_deref())
                        .map_err(|e| fault(e.to_string()))?;
                    touched.push((change.sequence, resource));
                }
                None => directory.remove(&Name::new(kind, change.id.as_str())),
            }
        }
        for (sequence, resource) in &touched {
            let whole = directory.refers_to_what_is_there(resource);
            whole.map_err(|e| FollowError::Change(*sequence, e.to_string()))?;
        }
        applied = Some(directory);
    }
    let reached = changes
        .last()
        .map_or_else(|| broker.feed.place(), |c| (c.sequence, c.chain.clone()));
    Ok(Applied {
        directory: applied,
        changes: changes.into_iter().zip(details).collect(),
        reached,
    })
}

impl Applied {
    /// Puts the directory in force, and then writes the first [`MAX_AUDITED`] changes to the audit log. Revocations are
    /// in force already. `asked_at` is the monotonic time at which the head of the feed was requested.
    pub(super) fn put_in_force(self, broker: &Broker, asked_at: Duration) {
        if let Some(directory) = self.directory {
            broker.directory.store(Arc::new(directory));
        }
        let (reached, chain) = &self.reached;
        broker.store.reached(*reached, chain);
        broker.feed.confirm(*reached, chain, asked_at);
        let mut changes = self.changes.into_iter();
        for (change, detail) in changes.by_ref().take(MAX_AUDITED) {
            write_down(broker, &change, detail);
        }
        if let Some((first, _)) = changes.next() {
            tracing::info!(
                first = first.sequence,
                last = reached,
                "the changes from `first` to `last` are in the change feed but not in the audit log, because too many \
                 arrived at once"
            );
        }
    }
}
