//! Finds, writes and deletes the rows of the directory and the references between them.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::Writer;
use crate::directory::resource::{Name, Resource, ResourceKind};
use crate::store::classify::classify;
use crate::store::integrity::{self, Row, Set, Term};
use crate::store::rows::{ResourceRow, Stored, is_deletion};
use crate::store::salvage::LONGEST;
use crate::store::{SCAN_DEADLINE, StoreError, clip};

impl Writer<'_> {
    /// Reads the row of an entry; `None` if there is none.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if the row differs from what a broker wrote or has an earlier version than this process
    /// knows.
    pub async fn get(&mut self, name: &Name) -> Result<Option<Stored>, StoreError> {
        let found = self.current(name).await?;
        Ok(found.map(|(row, _)| Stored {
            version: row.version,
            body: row.body,
        }))
    }

    /// Reads the row of an entry with its term in the sum of its kind. Fails if the row is missing or has an earlier
    /// version than this process knows.
    async fn current(&mut self, name: &Name) -> Result<Option<(ResourceRow, Term)>, StoreError> {
        let asked = name.clone();
        let row = self.ask(move |c| Box::pin(stored(c, asked))).await?;
        let found = match row {
            // The database might return a different row, whose MAC is right as well.
            Some(row) if row.kind != name.kind.as_str() || row.id != name.id => {
                return Err(self.not_asked_for(&name.to_string(), &row.kind, &row.id));
            }
            Some(row) => {
                let (_, term) = self.store.check_resource(row.columns(), &row.mac)?;
                Some((row, term))
            }
            None => None,
        };
        let version = found.as_ref().map(|(row, _)| row.version);
        let Some(known) = self.store.known(name.kind.as_str(), &name.id) else {
            return Ok(found);
        };
        let is_new = version.is_some_and(|version| version > known.place);
        if version == known.version || is_new || self.deleted.contains(name) {
            return Ok(found);
        }
        let what = match (version, known.version) {
            (None, Some(_)) if self.was_deleted_after(name, known.place).await? => return Ok(None),
            (None, _) => format!("{name} is missing"),
            (Some(version), Some(last)) => {
                format!(
                    "{name} has the content of change {version}, although change {last} changed it later"
                )
            }
            (Some(version), None) => {
                format!(
                    "{name} exists with the content of change {version}, although it was deleted"
                )
            }
        };
        Err(self.store.tampered(what))
    }

    /// The error for a database that returned another row than the query asked for.
    pub(super) fn not_asked_for(&self, asked: &str, kind: &str, id: &str) -> StoreError {
        let (kind, id) = (clip(kind), clip(id));
        self.store.tampered(format!(
            "the database returned {kind} {id} when {asked} was asked for"
        ))
    }

    async fn was_deleted_after(&mut self, name: &Name, sequence: i64) -> Result<bool, StoreError> {
        let (kind, id, until) = (name.kind.as_str(), name.id.clone(), self.begun_at);
        let action = self.ask(move |c| {
            Box::pin(async move {
                let sql = "SELECT action FROM changes WHERE sequence > $1 AND sequence <= $2 AND kind = $3 AND id = $4 \
                           ORDER BY sequence DESC LIMIT 1";
                sqlx::query(sql).bind(sequence).bind(until).bind(kind).bind(id).fetch_optional(c).await
            })
        });
        let action = action
            .await?
            .map(|row| row.try_get::<String, _>(0))
            .transpose()
            .map_err(classify)?;
        Ok(action.is_some_and(|action| is_deletion(&action)))
    }

    /// Finds the id of an entry by its kind and folded name.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn find(
        &mut self,
        kind: ResourceKind,
        folded: &str,
    ) -> Result<Option<String>, StoreError> {
        let folded = folded.to_owned();
        self.ask(move |c| Box::pin(found(c, kind, folded))).await
    }

    /// Finds an entry by its unique id.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn find_unique(&mut self, unique_id: &str) -> Result<Option<Name>, StoreError> {
        let unique_id = unique_id.to_owned();
        let rows = self.ask(move |c| {
            Box::pin(async move {
                sqlx::query("SELECT kind, id FROM resources WHERE unique_id = $1")
                    .bind(unique_id)
                    .fetch_all(c)
                    .await
            })
        });
        Ok(names(&rows.await?)?.pop())
    }

    /// Lists at most `limit` entries that refer to an entry by its id or its folded name.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn referrers(
        &mut self,
        kind: ResourceKind,
        id: &str,
        folded: &str,
        limit: i64,
    ) -> Result<Vec<Name>, StoreError> {
        let (id, folded) = (id.to_owned(), folded.to_owned());
        let rows = self.ask(move |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT kind, id FROM links WHERE target_kind = $1 AND target IN ($2, $3) ORDER BY kind, id LIMIT $4",
                )
                .bind(kind.as_str())
                .bind(id)
                .bind(folded)
                .bind(limit)
                .fetch_all(c)
                .await
            })
        });
        names(&rows.await?)
    }

    /// Finds an entry that belongs to an account, other than the account itself; `None` if there is none.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn owns(&mut self, account: &str) -> Result<Option<Name>, StoreError> {
        let account = account.to_owned();
        let rows = self.ask(move |c| {
            Box::pin(async move {
                sqlx::query("SELECT kind, id FROM resources WHERE account = $1 AND kind <> 'account' LIMIT 1")
                    .bind(account)
                    .fetch_all(c)
                    .await
            })
        });
        Ok(names(&rows.await?)?.pop())
    }

    /// Finds an entry that refers to an entry that does not exist, and returns the names of both; `None` if there is
    /// none. References to AWS managed policies do not count.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn dangling(&mut self) -> Result<Option<(Name, Name)>, StoreError> {
        let row = self.ask_for(SCAN_DEADLINE, |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT l.kind, l.id, l.target_kind, l.target FROM links l WHERE NOT EXISTS \
                     (SELECT 1 FROM resources r WHERE r.kind = l.target_kind AND r.id = l.target) AND NOT EXISTS \
                     (SELECT 1 FROM resources r WHERE r.kind = l.target_kind AND r.folded = l.target) AND NOT \
                     (l.target_kind = 'policy' AND l.target LIKE 'arn:aws:iam::aws:policy/%') LIMIT 1",
                )
                .fetch_optional(c)
                .await
            })
        });
        let Some(row) = row.await? else {
            return Ok(None);
        };
        let name = |at: usize| {
            let kind: String = row.try_get(at).map_err(classify)?;
            let kind = ResourceKind::parse(&kind).ok_or_else(|| {
                StoreError::Row(format!(
                    "a row of the table `links` names the unknown kind `{}`",
                    clip(&kind)
                ))
            })?;
            Ok::<_, StoreError>(Name {
                kind,
                id: row.try_get(at + 1).map_err(classify)?,
            })
        };
        Ok(Some((name(0)?, name(2)?)))
    }

    /// Writes the row of an entry with its references. The version of the row is the number of the last recorded
    /// change.
    ///
    /// # Errors
    /// [`StoreError::Taken`] if another entry has the same name or unique id, [`StoreError::Row`] if the entry is too
    /// long, [`StoreError::Tampered`] if the present row differs from what a broker wrote or the database does not
    /// write one row, and an error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn put(&mut self, resource: &Resource) -> Result<(), StoreError> {
        let name = resource.name();
        let body = resource
            .text()
            .map_err(|e| StoreError::Row(e.to_string()))?;
        let (account, folded) = (resource.account().to_owned(), resource.folded());
        let unique_id = resource
            .unique_id()
            .filter(|id| !id.is_empty())
            .map(str::to_owned);
        if body.len() > LONGEST {
            return Err(StoreError::Row(format!(
                "{name} has {} bytes, and at most {LONGEST} are allowed",
                body.len()
            )));
        }
        let links = resource.links();
        let version = self.head.sequence;
        let kind = name.kind;
        let row = Row::Resource(integrity::Resource {
            kind: kind.as_str(),
            id: &name.id,
            account: &account,
            folded: &folded,
            unique_id: unique_id.as_deref(),
            version,
            body: &body,
        });
        let (mac, term) = self.key()?.mac(&row);
        if let Some((_, old)) = self.current(&name).await? {
            self.contents.take(Set::Of(kind), old);
        }
        let row = name.clone();
        self.ask(move |c| {
            Box::pin(async move {
                let name = row;
                let kind = name.kind.as_str();
                let written = sqlx::query(
                    "INSERT INTO resources (kind, id, account, folded, unique_id, version, body, mac) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                     ON CONFLICT (kind, id) DO UPDATE SET account = excluded.account, folded = excluded.folded, \
                     unique_id = excluded.unique_id, version = excluded.version, body = excluded.body, \
                     mac = excluded.mac",
                )
                .bind(kind)
                .bind(&name.id)
                .bind(account)
                .bind(folded)
                .bind(unique_id)
                .bind(version)
                .bind(body)
                .bind(mac)
                .execute(&mut *c)
                .await?;
                unlink(c, kind, &name.id).await?;
                link(c, kind, &name.id, links).await?;
                Ok(written)
            })
        })
        .await
        .and_then(|written| self.has_written(written.rows_affected(), &name))?;
        self.contents.add(Set::Of(kind), term);
        self.written.insert(name);
        Ok(())
    }

    /// Checks that the database wrote exactly one row. Otherwise the change must not be acknowledged.
    pub(super) fn has_written(
        &self,
        rows: u64,
        what: &dyn std::fmt::Display,
    ) -> Result<(), StoreError> {
        if rows == 1 {
            return Ok(());
        }
        Err(self.store.tampered(format!(
            "the database wrote {rows} rows instead of one for {what}"
        )))
    }

    /// Deletes the row of an entry, and the references from this entry to others.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if the row is different from what a broker wrote, or still exists after the statement.
    pub async fn delete(&mut self, name: &Name) -> Result<(), StoreError> {
        // The term of the row that was read and checked leaves the sum, whatever the database reports
        // to have deleted.
        let Some((_, term)) = self.current(name).await? else {
            return Err(self.store.tampered(format!("{name} is missing")));
        };
        let (kind, id) = (name.kind.as_str(), name.id.clone());
        self.ask(move |c| {
            Box::pin(async move {
                sqlx::query("DELETE FROM resources WHERE kind = $1 AND id = $2")
                    .bind(kind)
                    .bind(&id)
                    .execute(&mut *c)
                    .await?;
                unlink(c, kind, &id).await
            })
        })
        .await?;
        let asked = name.clone();
        let left = self.ask(move |c| Box::pin(stored(c, asked))).await?;
        if left.is_some() {
            return Err(self
                .store
                .tampered(format!("{name} is still there after it was deleted")));
        }
        self.contents.take(Set::Of(name.kind), term);
        self.deleted.insert(name.clone());
        Ok(())
    }
}

async fn stored(
    connection: &mut AnyConnection,
    name: Name,
) -> Result<Option<ResourceRow>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT kind, id, account, folded, unique_id, version, body, mac FROM resources WHERE kind = $1 AND id = $2",
    )
    .bind(name.kind.as_str())
    .bind(name.id)
    .fetch_optional(connection);
    row.await?.as_ref().map(ResourceRow::of).transpose()
}

/// Reads the id of the entry with a folded name.
async fn found(
    connection: &mut AnyConnection,
    kind: ResourceKind,
    folded: String,
) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::query("SELECT id FROM resources WHERE kind = $1 AND folded = $2")
        .bind(kind.as_str())
        .bind(folded)
        .fetch_optional(connection);
    row.await?.map(|row| row.try_get(0)).transpose()
}

/// Records the entries to which a row refers.
async fn link(
    connection: &mut AnyConnection,
    kind: &str,
    id: &str,
    links: Vec<Name>,
) -> Result<(), sqlx::Error> {
    for link in links {
        sqlx::query("INSERT INTO links (kind, id, target_kind, target) VALUES ($1, $2, $3, $4)")
            .bind(kind.to_owned())
            .bind(id.to_owned())
            .bind(link.kind.as_str())
            .bind(link.id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn unlink(connection: &mut AnyConnection, kind: &str, id: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM links WHERE kind = $1 AND id = $2")
        .bind(kind.to_owned())
        .bind(id.to_owned())
        .execute(connection)
        .await
        .map(|_| ())
}

fn names(rows: &[AnyRow]) -> Result<Vec<Name>, StoreError> {
    let name = |row: &AnyRow| {
        let kind: String = row.try_get(0).map_err(classify)?;
        let kind = ResourceKind::parse(&kind).ok_or_else(|| {
            StoreError::Row(format!(
                "a row of the table `links` names the unknown kind `{}`",
                clip(&kind)
            ))
        })?;
        Ok(Name {
            kind,
            id: row.try_get(1).map_err(classify)?,
        })
    };
    rows.iter().map(name).collect()
}
