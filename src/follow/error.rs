//! The errors that occur while a node follows the change feed.

use crate::store::StoreError;

/// Why changes of the store were not put in force. The node keeps what it has, and logs the error.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The store does not answer, or contains something that no broker wrote.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The change with this sequence number, or the row that it wrote, cannot be loaded here.
    #[error("change {0} cannot be applied: {1}")]
    Change(i64, String),
    /// The task that applies the changes after the one with this sequence number panicked.
    #[error(
        "the changes after change {0} cannot be applied: the task that applies them panicked, which is a bug in Brevet"
    )]
    Panicked(i64),
    /// The directory in the store cannot be loaded here; holds the reason.
    #[error("the directory in the store cannot be loaded: {0}")]
    Load(String),
    /// The store lacks changes that are in force here, or is another store. Holds the message.
    #[error("{0}")]
    WentBack(String),
}

impl FollowError {
    /// Whether the database contains something that no broker wrote.
    pub(super) fn is_tampering(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_tampering())
    }
}
