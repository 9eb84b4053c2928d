//! One change of the store, all of it or nothing: rows and feed in one transaction.

use std::time::Duration;

use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::lanes::Lease;
use super::{BoxFuture, DEADLINE, SCAN_DEADLINE, StoreError, told};
use crate::clock::Timestamp;
use crate::directory::resource::{Kind, Name, Resource};
use crate::revocations::Mark;

/// A transaction that holds the store's head: nobody else writes meanwhile. Dropped without
/// [`Writer::commit`], it changed nothing.
pub struct Writer<'s> {
    lease: Lease<'s>,
    /// Whether something went wrong: it then changes nothing any more.
    has_failed: bool,
    head: i64,
}

/// One entry of the change feed.
pub struct Entry {
    /// When.
    pub changed_at: Timestamp,
    /// Who: JSON.
    pub actor: String,
    /// `CreateRole`, `RevokeSessions`, …
    pub action: &'static str,
    /// What kind of thing.
    pub kind: &'static str,
    /// Which one.
    pub id: String,
    /// Before and after: JSON, no secrets.
    pub detail: String,
}

/// A row of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The change that wrote it.
    pub version: i64,
    /// The thing.
    pub body: String,
}

impl<'s> Writer<'s> {
    /// Begins a transaction, and takes the store's head for it: the last change.
    pub(super) async fn lock(lease: &mut Lease<'_>) -> Result<i64, StoreError> {
        lease.begin();
        // Writing the row is what takes the lock, in both engines.
        let row = lease.ask(DEADLINE, |c| {
            Box::pin(async move {
                sqlx::raw_sql("BEGIN").execute(&mut *c).await?;
                sqlx::query("UPDATE store SET head = head WHERE id = 1 RETURNING head").fetch_one(c).await
            })
        });
        row.await?.try_get(0).map_err(told)
    }

    pub(super) fn new(lease: Lease<'s>, head: i64) -> Self {
        Self { lease, has_failed: false, head }
    }

    /// The last change, the ones recorded here included.
    pub fn sequence(&self) -> i64 {
        self.head
    }

    /// A thing's row.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn get(&mut self, name: &Name) -> Result<Option<Stored>, StoreError> {
        let name = name.clone();
        self.ask(move |c| Box::pin(stored(c, name))).await
    }

    /// The id of the thing of that folded name.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn find(&mut self, kind: Kind, folded: &str) -> Result<Option<String>, StoreError> {
        let folded = folded.to_owned();
        self.ask(move |c| Box::pin(found(c, kind, folded))).await
    }

    /// The thing that has a unique id.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn find_unique(&mut self, unique_id: &str) -> Result<Option<Name>, StoreError> {
        let unique_id = unique_id.to_owned();
        let rows = self.ask(move |c| {
            Box::pin(async move {
                sqlx::query("SELECT kind, id FROM resources WHERE unique_id = $1").bind(unique_id).fetch_all(c).await
            })
        });
        Ok(names(&rows.await?)?.pop())
    }

    /// Who refers to a thing, by its id or its folded name: at most `limit`.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn referrers(&mut self, kind: Kind, id: &str, folded: &str, limit: i64) -> Result<Vec<Name>, StoreError> {
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

    /// Whether an account owns anything but itself.
    ///
    /// # Errors
    /// If the database does not answer in time.
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

    /// A thing, and what it refers to that is not there. AWS's own policies may be missing.
    ///
    /// # Errors
    /// If the database does not answer in time.
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
        let Some(row) = row.await? else { return Ok(None) };
        let name = |at: usize| {
            let kind: String = row.try_get(at).map_err(told)?;
            let kind = Kind::parse(&kind).ok_or_else(|| StoreError::Row("the kind of a link".to_owned()))?;
            Ok::<_, StoreError>(Name { kind, id: row.try_get(at + 1).map_err(told)? })
        };
        Ok(Some((name(0)?, name(2)?)))
    }

    /// Writes a thing's row, with what it refers to, as the last recorded change made it.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when something else has its name or unique id.
    pub async fn put(&mut self, resource: &Resource) -> Result<(), StoreError> {
        let name = resource.name();
        let body = resource.text().map_err(|e| StoreError::Row(e.to_string()))?;
        let (account, folded) = (resource.account().to_owned(), resource.folded());
        let unique_id = resource.unique_id().filter(|id| !id.is_empty()).map(str::to_owned);
        let links = resource.links();
        let version = self.head;
        self.ask(move |c| {
            Box::pin(async move {
                let kind = name.kind.as_str();
                sqlx::query(
                    "INSERT INTO resources (kind, id, account, folded, unique_id, version, body) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7) \
                     ON CONFLICT (kind, id) DO UPDATE SET folded = excluded.folded, unique_id = excluded.unique_id, \
                     version = excluded.version, body = excluded.body",
                )
                .bind(kind)
                .bind(&name.id)
                .bind(account)
                .bind(folded)
                .bind(unique_id)
                .bind(version)
                .bind(body)
                .execute(&mut *c)
                .await?;
                unlink(c, kind, &name.id).await?;
                for link in links {
                    sqlx::query("INSERT INTO links (kind, id, target_kind, target) VALUES ($1, $2, $3, $4)")
                        .bind(kind)
                        .bind(&name.id)
                        .bind(link.kind.as_str())
                        .bind(link.id)
                        .execute(&mut *c)
                        .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Takes a thing's row out.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn delete(&mut self, name: &Name) -> Result<(), StoreError> {
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
        .await
    }

    /// Numbers a change and puts it in the feed. What is written next is its doing.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn record(&mut self, entry: &Entry) -> Result<i64, StoreError> {
        self.head += 1;
        let (sequence, at) = (self.head, entry.changed_at.millis());
        let (actor, id, detail) = (entry.actor.clone(), entry.id.clone(), entry.detail.clone());
        let (action, kind) = (entry.action, entry.kind);
        self.ask(move |c| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO changes (sequence, changed_at, actor, action, kind, id, detail) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                )
                .bind(sequence)
                .bind(at)
                .bind(actor)
                .bind(action)
                .bind(kind)
                .bind(id)
                .bind(detail)
                .execute(c)
                .await
            })
        })
        .await?;
        Ok(sequence)
    }

    /// Puts a mark beside what is marked already.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn revoke(
        &mut self,
        selector: &'static str,
        account: &str,
        value: &str,
        mark: Mark,
    ) -> Result<(), StoreError> {
        let (account, value) = (account.to_owned(), value.to_owned());
        self.ask(move |c| {
            Box::pin(async move {
                // Written out: the two engines name the greater of two values differently.
                sqlx::query(
                    "INSERT INTO revocations (selector, account, value, before_sequence, before_seconds, expires_at) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (selector, account, value) DO UPDATE SET \
                     before_sequence = CASE WHEN excluded.before_sequence > revocations.before_sequence \
                         THEN excluded.before_sequence ELSE revocations.before_sequence END, \
                     before_seconds = CASE WHEN excluded.before_seconds > revocations.before_seconds \
                         THEN excluded.before_seconds ELSE revocations.before_seconds END, \
                     expires_at = CASE WHEN excluded.expires_at > revocations.expires_at \
                         THEN excluded.expires_at ELSE revocations.expires_at END",
                )
                .bind(selector)
                .bind(account)
                .bind(value)
                .bind(mark.before_sequence)
                .bind(mark.before_seconds)
                .bind(mark.expires_at)
                .execute(c)
                .await
            })
        })
        .await
        .map(|_| ())
    }

    /// Codes and assertions from before now count as used.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn not_before(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let seconds = now.seconds();
        self.ask(move |c| {
            Box::pin(async move {
                sqlx::query("UPDATE store SET not_before = $1 WHERE id = 1").bind(seconds).execute(c).await
            })
        })
        .await
        .map(|_| ())
    }

    /// The next change comes after `sequence`. Whoever follows the feed sees the gap, and loads
    /// everything.
    pub(super) async fn skip_to(&mut self, sequence: i64) -> Result<(), StoreError> {
        self.head = self.head.max(sequence);
        Ok(())
    }

    /// Makes it last. From here on it is on stable storage.
    ///
    /// # Errors
    /// Without an answer it is not known whether it lasts.
    pub async fn commit(mut self) -> Result<i64, StoreError> {
        let head = self.head;
        self.ask(move |c| {
            Box::pin(async move { sqlx::query("UPDATE store SET head = $1 WHERE id = 1").bind(head).execute(c).await })
        })
        .await?;
        // What was begun in time is not given up in the middle: it would not be known whether it lasts.
        self.lease.take_time();
        self.ask(|c| Box::pin(async move { sqlx::raw_sql("COMMIT").execute(c).await })).await?;
        self.lease.finish();
        Ok(head)
    }

    /// Gives it up in an orderly way; dropping does as well, and costs a connection.
    pub async fn abandon(mut self) {
        self.roll_back().await;
    }

    async fn roll_back(&mut self) {
        self.lease.take_time();
        let rolled_back =
            self.lease.ask(DEADLINE, |c| Box::pin(async move { sqlx::raw_sql("ROLLBACK").execute(c).await }));
        if rolled_back.await.is_ok() {
            self.lease.finish();
        }
    }

    pub(super) async fn ask<T>(
        &mut self,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        self.ask_for(DEADLINE, work).await
    }

    async fn ask_for<T>(
        &mut self,
        deadline: Duration,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        if self.has_failed {
            return Err(StoreError::Unavailable("the change failed before".to_owned()));
        }
        let asked = self.lease.ask(deadline, work).await;
        if asked.is_err() {
            // In the middle of a transaction: the connection goes back clean, or not at all.
            self.has_failed = true;
            self.roll_back().await;
        }
        asked
    }
}

/// A thing's row.
pub(super) async fn stored(connection: &mut AnyConnection, name: Name) -> Result<Option<Stored>, sqlx::Error> {
    let row = sqlx::query("SELECT version, body FROM resources WHERE kind = $1 AND id = $2")
        .bind(name.kind.as_str())
        .bind(name.id)
        .fetch_optional(connection);
    row.await?.map(|row| Ok(Stored { version: row.try_get(0)?, body: row.try_get(1)? })).transpose()
}

/// The id of the thing of a folded name.
pub(super) async fn found(
    connection: &mut AnyConnection,
    kind: Kind,
    folded: String,
) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::query("SELECT id FROM resources WHERE kind = $1 AND folded = $2")
        .bind(kind.as_str())
        .bind(folded)
        .fetch_optional(connection);
    row.await?.map(|row| row.try_get(0)).transpose()
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
        let kind: String = row.try_get(0).map_err(told)?;
        let kind = Kind::parse(&kind).ok_or_else(|| StoreError::Row("the kind of a link".to_owned()))?;
        Ok(Name { kind, id: row.try_get(1).map_err(told)? })
    };
    rows.iter().map(name).collect()
}
