//! Writes, deletes and reseals the recorded entries of a directory file.

use sqlx::AnyConnection;

use super::{DirectoryEntries, EntryRow};
use crate::directory::resource::Name;
use crate::store::changes::PAGE;
use crate::store::integrity::{self, Row, Set};
use crate::store::portions::next;
use crate::store::writer::Writer;
use crate::store::{BoxFuture, StoreError, kind};

/// The maximum number of rows that one statement writes or deletes.
const BATCH: usize = 1_000;
impl Writer<'_> {
    /// Records entries with their identities, at the version of the last recorded change. `kept` must be the result of
    /// [`Writer::directory_entries`].
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if it writes another number of rows.
    pub async fn keep_directory_entries(
        &mut self,
        kept: &DirectoryEntries,
        entries: &[(&Name, &str)],
    ) -> Result<(), StoreError> {
        let version = self.sequence();
        for batch in entries.chunks(BATCH) {
            let mut rows = Vec::with_capacity(batch.len());
            for (name, identity) in batch {
                let row = integrity::DirectoryEntry {
                    kind: name.kind.as_str(),
                    id: &name.id,
                    identity,
                    version,
                };
                let (mac, term) = self.key()?.mac(&Row::DirectoryEntry(row));
                if let Some(old) = kept.0.get(*name) {
                    self.contents.take(Set::DirectoryEntries, old.term);
                }
                self.contents.add(Set::DirectoryEntries, term);
                rows.push(serde_json::json!([
                    row.kind, row.id, identity, version, mac
                ]));
            }
            self.change_entries(KEEP, rows).await?;
        }
        Ok(())
    }

    /// Deletes the records of entries. `kept` must be the result of [`Writer::directory_entries`].
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if it deletes another number of rows.
    pub async fn forget_directory_entries(
        &mut self,
        kept: &DirectoryEntries,
        names: &[&Name],
    ) -> Result<(), StoreError> {
        for batch in names.chunks(BATCH) {
            let mut rows = Vec::with_capacity(batch.len());
            for name in batch {
                if let Some(old) = kept.0.get(*name) {
                    self.contents.take(Set::DirectoryEntries, old.term);
                }
                rows.push(serde_json::json!([name.kind.as_str(), name.id]));
            }
            self.change_entries(FORGET, rows).await?;
        }
        Ok(())
    }

    async fn change_entries(
        &mut self,
        statements: [&'static str; 2],
        rows: Vec<serde_json::Value>,
    ) -> Result<(), StoreError> {
        let due = rows.len();
        let done = self.update(statements, rows).await?;
        if u64::try_from(due).is_ok_and(|due| due == done) {
            return Ok(());
        }
        Err(self.store.tampered(format!(
            "the database changed {done} directory entries instead of {due}"
        )))
    }

    /// Accepts all entries in their present state, and computes their MACs and their sum.
    pub(in crate::parts::store) async fn reseal_directory_entries(
        &mut self,
    ) -> Result<(), StoreError> {
        let mut after = Some((String::new(), String::new()));
        while let Some(from) = after {
            let rows = self.ask(move |c| page(c, from)).await?;
            after = next(
                rows.len(),
                rows.last().map(|row| (row.kind.clone(), row.id.clone())),
            );
            let mut macs = Vec::with_capacity(rows.len());
            for row in &rows {
                kind(&row.kind)?;
                let (mac, term) = self.key()?.mac(&Row::DirectoryEntry(row.columns()));
                self.contents.add(Set::DirectoryEntries, term);
                macs.push(serde_json::json!([row.kind, row.id, mac]));
            }
            self.update(MACS, macs).await?;
        }
        Ok(())
    }

    /// Computes new MACs for one page of entries, which begins after a given entry. Returns the number of MACs, and the
    /// last entry of the page if there may be more entries.
    pub(in crate::parts::store) async fn renew_directory_entries(
        &mut self,
        after: (String, String),
    ) -> Result<(usize, Option<(String, String)>), StoreError> {
        let rows = self.ask(move |c| page(c, after)).await?;
        let last = rows.last().map(|row| (row.kind.clone(), row.id.clone()));
        let mut macs = Vec::new();
        for row in &rows {
            if self.is_under_own_key(&row.mac) {
                continue;
            }
            let columns = Row::DirectoryEntry(row.columns());
            let old = self.store.check(&columns, &row.mac)?;
            let (mac, term) = self.key()?.mac(&columns);
            self.contents.take(Set::DirectoryEntries, old);
            self.contents.add(Set::DirectoryEntries, term);
            macs.push(serde_json::json!([row.kind, row.id, mac]));
        }
        let done = macs.len();
        self.update(MACS, macs).await?;
        Ok((done, next(rows.len(), last)))
    }
}

/// Reads one page of entries, which begins after a given entry. Entries are ordered by kind and id.
fn page(
    connection: &mut AnyConnection,
    (kind, id): (String, String),
) -> BoxFuture<'_, Result<Vec<EntryRow>, sqlx::Error>> {
    Box::pin(async move {
        let rows = sqlx::query(
            "SELECT kind, id, identity, version, mac FROM directory_entries \
             WHERE (kind, id) > ($1, $2) ORDER BY kind, id LIMIT $3",
        )
        .bind(kind)
        .bind(id)
        .bind(PAGE)
        .fetch_all(connection);
        rows.await?.iter().map(EntryRow::of).collect()
    })
}

/// The statement that records entries, first for SQLite, then for PostgreSQL.
const KEEP: [&str; 2] = [
    "INSERT INTO directory_entries (kind, id, identity, version, mac) \
     SELECT json_extract(j.value, '$[0]'), json_extract(j.value, '$[1]'), json_extract(j.value, '$[2]'), \
     json_extract(j.value, '$[3]'), json_extract(j.value, '$[4]') FROM json_each($1) AS j WHERE true \
     ON CONFLICT (kind, id) DO UPDATE SET identity = excluded.identity, version = excluded.version, \
     mac = excluded.mac",
    "INSERT INTO directory_entries (kind, id, identity, version, mac) \
     SELECT j.value->>0, j.value->>1, j.value->>2, CAST(j.value->>3 AS BIGINT), j.value->>4 \
     FROM json_array_elements(CAST($1 AS JSON)) AS j(value) \
     ON CONFLICT (kind, id) DO UPDATE SET identity = excluded.identity, version = excluded.version, \
     mac = excluded.mac",
];
const FORGET: [&str; 2] = [
    "DELETE FROM directory_entries WHERE (kind, id) IN \
     (SELECT json_extract(j.value, '$[0]'), json_extract(j.value, '$[1]') FROM json_each($1) AS j)",
    "DELETE FROM directory_entries WHERE (kind, id) IN \
     (SELECT j.value->>0, j.value->>1 FROM json_array_elements(CAST($1 AS JSON)) AS j(value))",
];
const MACS: [&str; 2] = [
    "UPDATE directory_entries SET mac = json_extract(j.value, '$[2]') FROM json_each($1) AS j \
     WHERE directory_entries.kind = json_extract(j.value, '$[0]') \
     AND directory_entries.id = json_extract(j.value, '$[1]')",
    "UPDATE directory_entries SET mac = j.value->>2 FROM json_array_elements(CAST($1 AS JSON)) AS j(value) \
     WHERE directory_entries.kind = j.value->>0 AND directory_entries.id = j.value->>1",
];
