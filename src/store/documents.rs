//! Stores the complete entry before and after each change of the feed, without secrets, for `brevet changes
//! --documents`.

use sqlx::Row as _;

use super::classify::classify;
use super::lanes::Purpose;
use super::{SCAN_DEADLINE, Store, StoreError, Writer};

/// An entry before and after a change, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// The entry before the change; `None` if the change created it, or is not about an entry of the directory.
    pub before: Option<String>,
    /// The entry after the change; `None` if the change deleted it, or is not about an entry of the directory.
    pub after: Option<String>,
}

impl Writer<'_> {
    /// Stores the documents of a change that this transaction recorded.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn keep_documents(
        &mut self,
        sequence: i64,
        documents: &Documents,
    ) -> Result<(), StoreError> {
        let Documents { before, after } = documents.clone();
        if before.is_none() && after.is_none() {
            return Ok(());
        }
        self.ask(move |c| {
            Box::pin(async move {
                sqlx::query("INSERT INTO change_documents (sequence, old_document, new_document) VALUES ($1, $2, $3)")
                    .bind(sequence)
                    .bind(before)
                    .bind(after)
                    .execute(c)
                    .await
            })
        })
        .await
        .map(|_| ())
    }
}

impl Store {
    /// Reads the documents of the changes after `sequence` up to `last`, with the numbers of the
    /// changes, in order.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn documents_between(
        &self,
        sequence: i64,
        last: i64,
    ) -> Result<Vec<(i64, Documents)>, StoreError> {
        let rows = self.read(Purpose::Background, SCAN_DEADLINE, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT sequence, old_document, new_document FROM change_documents \
                     WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence",
                )
                .bind(sequence)
                .bind(last)
                .fetch_all(c)
                .await
            })
        });
        let documents = |row: &sqlx::any::AnyRow| {
            Ok((
                row.try_get(0)?,
                Documents {
                    before: row.try_get(1)?,
                    after: row.try_get(2)?,
                },
            ))
        };
        rows.await?
            .iter()
            .map(documents)
            .collect::<Result<_, sqlx::Error>>()
            .map_err(classify)
    }
}
