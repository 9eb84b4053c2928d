//! Reads the rows of the directory and of revocations, and checks that a broker wrote them.

use std::collections::HashSet;

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::classify::classify;
use super::integrity::{self, Resource, Row, Term, Wrong};
use super::lanes::Purpose;
use super::{DEADLINE, Engine, Store, StoreError};
use crate::directory::resource::ResourceKind;
use crate::revocations::Mark;

/// The actions that delete an entry.
const DELETIONS: [&str; 12] = [
    "DeleteAccount",
    "DeletePolicy",
    "DeleteGroup",
    "DeleteUser",
    "DeleteRole",
    "DeleteInstanceProfile",
    "DeleteAccessKey",
    "DeleteVirtualMFADevice",
    "DeleteLoginProfile",
    "DeleteOpenIDConnectProvider",
    "DeleteSAMLProvider",
    "DeleteOrganization",
];

/// Whether an action of the feed deletes an entry: see [`DELETIONS`].
pub(super) fn is_deletion(action: &str) -> bool {
    DELETIONS.contains(&action)
}

/// A row of the directory whose MAC was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The number of the change that wrote the entry.
    pub version: i64,
    /// The entry as JSON.
    pub body: String,
}

/// A row of the directory whose MAC was not checked yet.
pub(super) struct ResourceRow {
    pub kind: String,
    pub id: String,
    account: String,
    folded: String,
    unique_id: Option<String>,
    pub version: i64,
    pub body: String,
    pub mac: String,
}

impl ResourceRow {
    /// Reads `kind, id, account, folded, unique_id, version, body, mac`.
    pub fn of(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Self::behind(row, 0)
    }

    /// Reads the columns of the entry from a row in which the columns of a change come first.
    pub fn joined(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Self::behind(row, 9)
    }

    fn behind(row: &AnyRow, at: usize) -> Result<Self, sqlx::Error> {
        Ok(Self {
            kind: row.try_get(at)?,
            id: row.try_get(at + 1)?,
            account: row.try_get(at + 2)?,
            folded: row.try_get(at + 3)?,
            unique_id: row.try_get(at + 4)?,
            version: row.try_get(at + 5)?,
            body: row.try_get(at + 6)?,
            mac: row.try_get(at + 7)?,
        })
    }

    pub fn columns(&self) -> Resource<'_> {
        Resource {
            kind: &self.kind,
            id: &self.id,
            account: &self.account,
            folded: &self.folded,
            unique_id: self.unique_id.as_deref(),
            version: self.version,
            body: &self.body,
        }
    }
}

pub(super) struct RevocationRow {
    pub selector: String,
    pub account: String,
    pub value: String,
    pub mark: Mark,
    pub mac: String,
}

impl RevocationRow {
    /// Reads `selector, account, value, before_sequence, before_seconds, expires_at, mac`.
    pub fn of(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let mark = Mark {
            before_sequence: row.try_get(3)?,
            before_seconds: row.try_get(4)?,
            expires_at: row.try_get(5)?,
        };
        Ok(Self {
            selector: row.try_get(0)?,
            account: row.try_get(1)?,
            value: row.try_get(2)?,
            mark,
            mac: row.try_get(6)?,
        })
    }

    pub fn columns(&self) -> integrity::Revocation<'_> {
        revocation(&self.selector, &self.account, &self.value, self.mark)
    }
}

/// Arranges a revocation as the columns of its row, for its MAC.
pub(super) fn revocation<'a>(
    selector: &'a str,
    account: &'a str,
    value: &'a str,
    mark: Mark,
) -> integrity::Revocation<'a> {
    integrity::Revocation {
        selector,
        account,
        value,
        before_sequence: mark.before_sequence,
        before_seconds: mark.before_seconds,
        expires_at: mark.expires_at,
    }
}

/// Describes for an operator why the MAC of a row was not accepted.
pub(super) fn wrong(row: &Row<'_>, wrong: &Wrong) -> String {
    match wrong {
        Wrong::Mac => format!("{} differs from what a broker wrote", row.name()),
        Wrong::Key(id) => {
            format!(
                "the MAC of {} was made with the master key {id}, which is not in the master key file",
                row.name()
            )
        }
    }
}

impl Store {
    /// Reads the rows of entries of one kind, in no particular order. Ids without a row are left out.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if a row differs from what a broker wrote.
    pub async fn get_all(
        &self,
        kind: ResourceKind,
        ids: Vec<String>,
    ) -> Result<Vec<(String, Stored)>, StoreError> {
        let asked: HashSet<String> = ids.iter().cloned().collect();
        let ids = serde_json::to_string(&ids).map_err(|e| StoreError::Row(e.to_string()))?;
        let sql = match self.engine {
            Engine::Postgres => {
                "SELECT kind, id, account, folded, unique_id, version, body, mac FROM resources WHERE kind = $1 \
                 AND id IN (SELECT value FROM json_array_elements_text(CAST($2 AS JSON)) AS ids(value))"
            }
            Engine::Sqlite | Engine::Memory => {
                "SELECT kind, id, account, folded, unique_id, version, body, mac FROM resources WHERE kind = $1 \
                 AND id IN (SELECT value FROM json_each($2))"
            }
        };
        let rows = self.read(Purpose::Read, DEADLINE, move |c| {
            let ids = ids.clone();
            Box::pin(async move {
                sqlx::query(sql)
                    .bind(kind.as_str())
                    .bind(ids)
                    .fetch_all(c)
                    .await
            })
        });
        let stored = |row: &sqlx::any::AnyRow| {
            let row = ResourceRow::of(row).map_err(classify)?;
            self.check_resource(row.columns(), &row.mac)?;
            if row.kind != kind.as_str() || !asked.contains(&row.id) {
                return Err(self.not_asked_for(&row));
            }
            Ok((
                row.id,
                Stored {
                    version: row.version,
                    body: row.body,
                },
            ))
        };
        rows.await?.iter().map(stored).collect()
    }

    /// Checks the MAC of a row. Returns the term of the row in the sum of its set.
    pub(super) fn check(&self, row: &Row<'_>, mac: &str) -> Result<Term, StoreError> {
        self.keys
            .load()
            .check(row, mac)
            .map_err(|error| self.tampered(wrong(row, &error)))
    }

    /// Checks the MAC of a row of the directory. Returns its kind, and its term in the sum of that
    /// kind.
    pub(super) fn check_resource(
        &self,
        row: Resource<'_>,
        mac: &str,
    ) -> Result<(ResourceKind, Term), StoreError> {
        let term = self.check(&Row::Resource(row), mac)?;
        Ok((super::kind(row.kind)?, term))
    }
}
