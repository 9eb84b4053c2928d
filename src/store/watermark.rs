//! The watermark file next to the store, which records the last change of the store that this node has seen. When the
//! broker starts, it compares the store with the file to notice that the store was put back to an earlier state or
//! replaced by another one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Head, StoreError};
use crate::files::{self, Audience, FileError};

/// The content of the watermark file: the store, and the last change that was in force on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    pub store_id: String,
    /// The number of the last change that was in force on this node.
    pub sequence: i64,
    /// The digest of the feed up to this change. `None` in a file of an earlier version, whose store had no MACs.
    pub chain: Option<String>,
    /// The id of the master key under which the store's own row was sealed; `None` if it is not
    /// known.
    pub key: Option<String>,
}

/// The content of the file. The digest is written as part of the store's id, so that an earlier version of Brevet can
/// read the file. That version then reports that the store is too new.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Content {
    /// The id of the store, with the digest and the key if they are known: `ID`, `ID/DIGEST`, or `ID/DIGEST/KEY`.
    store_id: String,
    sequence: i64,
}

/// The reason why a store is refused after the comparison with the watermark file.
#[derive(Debug, thiserror::Error)]
pub enum WatermarkError {
    /// The last change of the store is earlier than one that this node has seen.
    #[error(
        "the store is at change {found}, but this node has seen change {seen}: the store was restored to an earlier \
         state, in which revoked sessions are valid. To continue with the store as it is, run `brevet restore \
         --accept`, which ends everything that was issued before"
    )]
    WentBack {
        /// The number of the store's last change.
        found: i64,
        /// The number of the last change that this node has seen.
        seen: i64,
    },
    #[error(
        "the store has the id {found}, but this node has used the store {seen} so far, whose revocations are not in \
         this one. To continue with this store, run `brevet restore --accept`, which ends everything that was issued \
         before"
    )]
    Another {
        found: String,
        /// The id of the store that this node knows.
        seen: String,
    },
    #[error(
        "{0}: does not exist, although the store does; without this file, the broker cannot tell whether the store \
         was restored to an earlier state, in which revoked sessions are valid. If this node joins other brokers, \
         copy the file from one of them. Otherwise, run `brevet restore --accept`, which ends everything that was \
         issued before"
    )]
    Missing(PathBuf),
    /// The rows of the store had MACs and have none now.
    #[error(
        "the rows of the store had MACs when this node last saw it, and have none now: the database was changed by \
         something other than a broker. To accept the database as it is, run `brevet restore --accept`, which ends \
         everything that was issued before"
    )]
    Unsealed,
    #[error("{0}: is not a valid watermark file; `brevet restore --accept` replaces the file")]
    Content(PathBuf),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Watermark {
    /// The watermark for the current state of a store.
    pub fn of(head: &Head) -> Self {
        Self {
            store_id: head.store_id.clone(),
            sequence: head.sequence,
            chain: Some(head.chain.clone()),
            key: Some(head.key.clone()),
        }
    }

    /// Reads the watermark from the file; `None` if the file does not exist.
    ///
    /// # Errors
    /// [`WatermarkError::Content`] if it is not a watermark file, and [`WatermarkError::File`] if it cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>, WatermarkError> {
        if !path.exists() {
            return Ok(None);
        }
        let bytes = files::read(path, Audience::Everyone, 4_096)?;
        let content: Content = serde_json::from_slice(bytes.expose())
            .map_err(|_| WatermarkError::Content(path.to_owned()))?;
        let mut parts = content.store_id.splitn(3, '/').map(str::to_owned);
        Ok(Some(Self {
            store_id: parts.next().unwrap_or_default(),
            sequence: content.sequence,
            chain: parts.next(),
            key: parts.next(),
        }))
    }

    /// Writes the watermark to the file, which only its owner can read.
    ///
    /// # Errors
    /// [`WatermarkError::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WatermarkError> {
        let parts = [Some(&self.store_id), self.chain.as_ref(), self.key.as_ref()];
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        let content = Content {
            store_id: parts.join("/"),
            sequence: self.sequence,
        };
        let text =
            serde_json::to_vec(&content).map_err(|_| WatermarkError::Content(path.to_owned()))?;
        Ok(files::write_private(path, &text)?)
    }

    /// Writes the file unless the file already names a later change of the same store, since a broker and a command may
    /// both write it.
    ///
    /// # Errors
    /// [`WatermarkError::File`] if it cannot be written. A file that cannot be read is replaced.
    pub fn advance(&self, path: &Path) -> Result<(), WatermarkError> {
        match Self::load(path) {
            Ok(Some(there))
                if there.store_id == self.store_id && there.sequence > self.sequence =>
            {
                Ok(())
            }
            _ => self.save(path),
        }
    }

    /// Checks that a store is the one that this node knows, at the same change or a later one.
    ///
    /// # Errors
    /// [`WatermarkError::Another`] for another store, and [`WatermarkError::WentBack`] for an earlier change.
    pub fn check(&self, store_id: &str, sequence: i64) -> Result<(), WatermarkError> {
        if store_id != self.store_id {
            return Err(WatermarkError::Another {
                found: store_id.to_owned(),
                seen: self.store_id.clone(),
            });
        }
        if sequence < self.sequence {
            return Err(WatermarkError::WentBack {
                found: sequence,
                seen: self.sequence,
            });
        }
        Ok(())
    }
}
