//! Reads rows for lists, and checks them: rows of one kind in one account, rows that refer to an entry, and rows with
//! certain unique ids.

use std::collections::HashSet;

use sqlx::any::AnyRow;

use super::classify::classify;
use super::lanes::Purpose;
use super::rows::ResourceRow;
use super::{DEADLINE, Engine, Store, StoreError, Stored, clip};
use crate::directory::resource::{Name, ResourceKind};

/// A checked row with the names by which lists are ordered.
#[derive(Debug)]
pub struct Listed {
    /// The name with its case folded, which is unique among the entries of one kind.
    pub folded: String,
    pub stored: Stored,
}

impl Store {
    /// Reads at most `limit` rows of one kind that belong to `account` and whose folded name comes after `after`, in
    /// the order of their folded names.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if a row is different from what a broker wrote, or does not belong to this list.
    pub async fn list_by_name(
        &self,
        kind: ResourceKind,
        account: String,
        after: String,
        limit: i64,
    ) -> Result<Vec<Listed>, StoreError> {
        let asked = account.clone();
        let rows = self.read(Purpose::Read, DEADLINE, move |c| {
            let (account, after) = (account.clone(), after.clone());
            Box::pin(async move {
                sqlx::query(
                    "SELECT kind, id, account, folded, unique_id, version, body, mac FROM resources \
                     WHERE kind = $1 AND account = $2 AND folded > $3 ORDER BY folded LIMIT $4",
                )
                .bind(kind.as_str())
                .bind(account)
                .bind(after)
                .bind(limit)
                .fetch_all(c)
                .await
            })
        });
        let listed = |row: &AnyRow| {
            self.listed(row, |row| {
                (row.kind == kind.as_str()) && (row.columns().account == asked)
            })
        };
        rows.await?.iter().map(listed).collect()
    }

    /// Reads at most `limit` rows of one kind that refer to an entry, in the order of their folded names. The first row
    /// is the first one after the folded name `after`.
    ///
    /// The entry is given by its id (`target`) and its folded name. The caller must look at the body of each row to see
    /// whether and how it refers to the entry: there are several ways, and the recorded reference may stem from an
    /// earlier version of this program.
    ///
    /// # Errors
    /// The same as for [`Self::list_by_name`].
    pub async fn list_referrers(
        &self,
        kind: ResourceKind,
        target: Name,
        target_folded: String,
        after: String,
        limit: i64,
    ) -> Result<Vec<Listed>, StoreError> {
        let rows = self.read(Purpose::Read, DEADLINE, move |c| {
            let (target, folded, after) = (target.clone(), target_folded.clone(), after.clone());
            Box::pin(async move {
                sqlx::query(
                    "SELECT kind, id, account, folded, unique_id, version, body, mac FROM resources \
                     WHERE kind = $1 AND folded > $2 AND id IN \
                     (SELECT id FROM links WHERE kind = $1 AND target_kind = $3 AND target IN ($4, $5)) \
                     ORDER BY folded LIMIT $6",
                )
                .bind(kind.as_str())
                .bind(after)
                .bind(target.kind.as_str())
                .bind(target.id)
                .bind(folded)
                .bind(limit)
                .fetch_all(c)
                .await
            })
        });
        let listed = |row: &AnyRow| self.listed(row, |row| row.kind == kind.as_str());
        rows.await?.iter().map(listed).collect()
    }

    /// The names of the entries with these unique ids, each with the unique id. Unique ids that no entry has are left
    /// out.
    ///
    /// # Errors
    /// The same as for [`Self::list_by_name`].
    pub async fn names_of_unique_ids(
        &self,
        unique_ids: Vec<String>,
    ) -> Result<Vec<(String, Name)>, StoreError> {
        let asked: HashSet<String> = unique_ids.iter().cloned().collect();
        let ids = serde_json::to_string(&unique_ids).map_err(|e| StoreError::Row(e.to_string()))?;
        let sql = match self.engine {
            Engine::Postgres => {
                "SELECT kind, id, account, folded, unique_id, version, body, mac FROM resources WHERE unique_id IN \
                 (SELECT value FROM json_array_elements_text(CAST($1 AS JSON)) AS ids(value))"
            }
            Engine::Sqlite | Engine::Memory => {
                "SELECT kind, id, account, folded, unique_id, version, body, mac FROM resources WHERE unique_id IN \
                 (SELECT value FROM json_each($1))"
            }
        };
        let rows = self.read(Purpose::Read, DEADLINE, move |c| {
            let ids = ids.clone();
            Box::pin(async move { sqlx::query(sql).bind(ids).fetch_all(c).await })
        });
        let name = |row: &AnyRow| {
            let row = ResourceRow::of(row).map_err(classify)?;
            self.check_resource(row.columns(), &row.mac)?;
            match row.columns().unique_id.filter(|id| asked.contains(*id)) {
                Some(id) => Ok((
                    id.to_owned(),
                    Name::new(super::kind(&row.kind)?, row.id.as_str()),
                )),
                None => Err(self.not_asked_for(&row)),
            }
        };
        rows.await?.iter().map(name).collect()
    }

    fn listed(
        &self,
        row: &AnyRow,
        belongs: impl Fn(&ResourceRow) -> bool,
    ) -> Result<Listed, StoreError> {
        let row = ResourceRow::of(row).map_err(classify)?;
        self.check_resource(row.columns(), &row.mac)?;
        if !belongs(&row) {
            return Err(self.not_asked_for(&row));
        }
        Ok(Listed {
            folded: row.columns().folded.to_owned(),
            stored: Stored {
                version: row.version,
                body: row.body,
            },
        })
    }

    pub(super) fn not_asked_for(&self, row: &ResourceRow) -> StoreError {
        let (kind, id) = (&row.kind, clip(&row.id));
        self.tampered(format!(
            "the database returned {kind} {id}, which was not asked for"
        ))
    }
}
