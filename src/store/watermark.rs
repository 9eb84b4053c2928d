//! What this node has seen of the store, in a file beside it: a store that was put back to an
//! earlier state, or exchanged for another one, is told before anybody is let in.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Head, StoreError};
use crate::files::{self, Audience, FileError};

/// The last change that this node had in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// Of which store.
    pub store_id: String,
    /// The change's number.
    pub sequence: i64,
    /// The digest of the change and of all before it. None in a file of an earlier version, whose store
    /// carried no MACs.
    pub chain: Option<String>,
    /// The id of the master key under which the store's own row was sealed; none where it is not known.
    pub key: Option<String>,
}

/// The file's content. The digest stands behind the store's id, so that an earlier version can read the
/// file, gets as far as the store, and says that it is too old for it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Content {
    /// `ID`, `ID/DIGEST`, or `ID/DIGEST/KEY`.
    store_id: String,
    sequence: i64,
}

/// Why the store is not the one that was here.
#[derive(Debug, thiserror::Error)]
pub enum WatermarkError {
    /// It went back.
    #[error(
        "the store is at change {found}, and this node has seen {seen}: it was put back to an earlier state, in which revoked \
         sessions live. `brevet restore --accept` ends everything that was issued before, and goes on"
    )]
    WentBack {
        /// As the store has it.
        found: i64,
        /// As this node saw it.
        seen: i64,
    },
    /// It is another one.
    #[error(
        "the store is another one ({found}) than this node was on ({seen}): revocations of the old one are not in it. \
         `brevet restore --accept` ends everything that was issued before, and goes on"
    )]
    Another {
        /// The store's id.
        found: String,
        /// The id that this node knows.
        seen: String,
    },
    /// The store is there and the file is not.
    #[error(
        "{0}: is missing, and the store is there: without this file nobody can tell whether the store was put back to an \
         earlier state, in which revoked sessions live. If this node joins other brokers, copy the file from one of them. \
         Otherwise `brevet restore --accept` ends everything that was issued before, and goes on"
    )]
    Missing(PathBuf),
    /// The seal is gone.
    #[error(
        "the rows of the store carried MACs when this node last saw it, and carry none now: the database was changed by \
         something other than a broker. `brevet restore --accept` takes it as it is, ends everything that was issued before, \
         and goes on"
    )]
    Unsealed,
    /// The file's content.
    #[error("{0}: is not what a broker writes; `brevet restore --accept` writes it anew")]
    Content(PathBuf),
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Watermark {
    /// Of a store as it is now.
    pub fn of(head: &Head) -> Self {
        Self {
            store_id: head.store_id.clone(),
            sequence: head.sequence,
            chain: Some(head.chain.clone()),
            key: Some(head.key.clone()),
        }
    }

    /// Reads it; none where no broker has been yet.
    ///
    /// # Errors
    /// When it is there and cannot be read.
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

    /// Writes it.
    ///
    /// # Errors
    /// The system's answer.
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

    /// Writes it, unless the file is further on already: a broker and a command beside it both write.
    ///
    /// # Errors
    /// The system's answer.
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

    /// Whether a store is what this node knows, or further on.
    ///
    /// # Errors
    /// When it is not.
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
