//! Why the feed could not be followed.

use crate::store::StoreError;

/// Why the store's changes were not taken. The node keeps what it has, and says so.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row that cannot be loaded here.
    #[error("change {0} cannot be taken: {1}")]
    Change(i64, String),
    /// The store is not what it was.
    #[error("{0}")]
    WentBack(String),
}

impl FollowError {
    /// Whether the database holds what no broker wrote.
    pub(super) fn is_tampering(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_tampering())
    }
}
