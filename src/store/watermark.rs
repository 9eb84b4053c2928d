//! What this node has seen of the store, in a file beside it: a store that was put back to an
//! earlier state, or exchanged for another one, is told before anybody is let in.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Head, StoreError};
use crate::files::{self, Audience, FileError};

/// The last change that this node had in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Watermark {
    /// Of which store.
    pub store_id: String,
    /// The change's number.
    pub sequence: i64,
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
    /// The file's content.
    #[error("{0}: is not what a broker writes; `brevet restore --accept` writes it anew")]
    Content(PathBuf),
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Watermark {
    /// Reads it; none where no broker has been yet.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>, WatermarkError> {
        if !path.exists() {
            return Ok(None);
        }
        let bytes = files::read(path, Audience::Everyone, 4_096)?;
        serde_json::from_slice(bytes.expose()).map(Some).map_err(|_| WatermarkError::Content(path.to_owned()))
    }

    /// Writes it.
    ///
    /// # Errors
    /// The system's answer.
    pub fn save(&self, path: &Path) -> Result<(), WatermarkError> {
        let text = serde_json::to_vec(self).map_err(|_| WatermarkError::Content(path.to_owned()))?;
        Ok(files::write_private(path, &text)?)
    }

    /// Whether a store is what this node knows, or further on.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self, head: &Head) -> Result<(), WatermarkError> {
        if head.store_id != self.store_id {
            return Err(WatermarkError::Another { found: head.store_id.clone(), seen: self.store_id.clone() });
        }
        if head.sequence < self.sequence {
            return Err(WatermarkError::WentBack { found: head.sequence, seen: self.sequence });
        }
        Ok(())
    }
}

/// Goes on with a store that is not what this node knew: everything that was issued before has
/// ended.
///
/// # Errors
/// If the database does not answer in time.
pub async fn accept(
    store: &super::Store,
    seen: Option<&Watermark>,
    now: crate::clock::Timestamp,
) -> Result<Head, StoreError> {
    super::sqlite::end_the_past(store, seen.map_or(0, |w| w.sequence), now).await
}
