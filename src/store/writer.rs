//! One change of the store, all of it or nothing: rows, their MACs and sums, and the feed in one
//! transaction.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyConnection;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::changes::{Change, page};
use super::head::RawHead;
use super::integrity::{self, Contents, Fields, Keys, Row, Set, Term, beginning};
use super::lanes::Lease;
use super::rows::{ResourceRow, RevocationRow, is_deletion, revocation};
use super::{BoxFuture, DEADLINE, SCAN_DEADLINE, Store, StoreError, clip, told};
use crate::base::clock::Timestamp;
use crate::directory::resource::{Kind, Name, Resource};
use crate::revocations::Mark;

/// A transaction that holds the store's head: nobody else writes meanwhile. Dropped without
/// [`Writer::commit`], it changed nothing.
pub struct Writer<'s> {
    pub(super) store: &'s Store,
    lease: Lease<'s>,
    /// Whether something went wrong: it then changes nothing any more.
    has_failed: bool,
    /// The last change before this one.
    begun_at: i64,
    /// What this change deleted.
    deleted: HashSet<Name>,
    /// The store's own row as it will be.
    pub(super) head: RawHead,
    /// What it will say of all others.
    pub(super) contents: Contents,
    pub(super) keys: Arc<Keys>,
    /// The master key under which this change is written: that of the store's own row.
    pub(super) key_id: String,
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
    /// Begins a transaction, and takes the store's own row for it.
    pub(super) async fn lock(lease: &mut Lease<'_>) -> Result<RawHead, StoreError> {
        lease.begin();
        // Writing the row is what takes the lock, in both engines.
        let row = lease.ask(DEADLINE, |c| {
            Box::pin(async move {
                sqlx::raw_sql("BEGIN").execute(&mut *c).await?;
                let sql = "UPDATE store SET sequence = sequence WHERE id = 1 AND moved_to IS NULL \
                           RETURNING store_id, sequence, not_before, chain, seal";
                sqlx::query(sql).fetch_one(c).await
            })
        });
        RawHead::of(&row.await?).map_err(told)
    }

    /// A change of a store that is as brokers left it.
    pub(super) fn new(
        store: &'s Store,
        lease: Lease<'s>,
        head: RawHead,
    ) -> Result<Self, StoreError> {
        let (contents, key_id) = store.contents(&head)?;
        store.must_not_go_back(&head, store.seen_so_far())?;
        Ok(Self::of(store, lease, head, contents, key_id))
    }

    /// A change that is to say anew what the store holds: nothing yet.
    pub(super) fn anew(
        store: &'s Store,
        lease: Lease<'s>,
        mut head: RawHead,
    ) -> Result<Self, StoreError> {
        let key_id = store.keys.load().first()?.id().to_owned();
        head.chain = beginning(&head.store_id);
        let contents = Contents::empty(head.sequence + 1);
        Ok(Self::of(store, lease, head, contents, key_id))
    }

    fn of(
        store: &'s Store,
        lease: Lease<'s>,
        head: RawHead,
        contents: Contents,
        key_id: String,
    ) -> Self {
        Self {
            store,
            lease,
            has_failed: false,
            begun_at: head.sequence,
            deleted: HashSet::new(),
            head,
            contents,
            keys: store.keys.load_full(),
            key_id,
        }
    }

    /// The last change, the ones recorded here included.
    pub fn sequence(&self) -> i64 {
        self.head.sequence
    }

    pub(super) fn key(&self) -> Result<&integrity::Key, StoreError> {
        self.keys
            .find(&self.key_id)
            .ok_or_else(|| StoreError::Key(self.key_id.clone()))
    }

    /// A thing's row.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn get(&mut self, name: &Name) -> Result<Option<Stored>, StoreError> {
        let found = self.current(name).await?;
        Ok(found.map(|(row, _)| Stored {
            version: row.version,
            body: row.body,
        }))
    }

    /// A thing's row, and what it adds to the sum of its kind: of the last version that this process knows,
    /// or of one that it has not seen yet.
    async fn current(&mut self, name: &Name) -> Result<Option<(ResourceRow, Term)>, StoreError> {
        let asked = name.clone();
        let row = self.ask(move |c| Box::pin(stored(c, asked))).await?;
        let found = match row {
            // A database can show another row than the one that was asked for, whose MAC is right.
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
                format!("{name} is as change {version} wrote it, and change {last} wrote it last")
            }
            (Some(version), None) => {
                format!("{name} is there as change {version} wrote it, and was deleted")
            }
        };
        Err(self.store.tampered(what))
    }

    fn not_asked_for(&self, asked: &str, kind: &str, id: &str) -> StoreError {
        let (kind, id) = (clip(kind), clip(id));
        self.store.tampered(format!(
            "the database shows {kind} {id} where {asked} was asked for"
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
            .map_err(told)?;
        Ok(action.is_some_and(|action| is_deletion(&action)))
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
                sqlx::query("SELECT kind, id FROM resources WHERE unique_id = $1")
                    .bind(unique_id)
                    .fetch_all(c)
                    .await
            })
        });
        Ok(names(&rows.await?)?.pop())
    }

    /// Who refers to a thing, by its id or its folded name: at most `limit`.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn referrers(
        &mut self,
        kind: Kind,
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
        let Some(row) = row.await? else {
            return Ok(None);
        };
        let name = |at: usize| {
            let kind: String = row.try_get(at).map_err(told)?;
            let kind = Kind::parse(&kind)
                .ok_or_else(|| StoreError::Row("the kind of a link".to_owned()))?;
            Ok::<_, StoreError>(Name {
                kind,
                id: row.try_get(at + 1).map_err(told)?,
            })
        };
        Ok(Some((name(0)?, name(2)?)))
    }

    /// Writes a thing's row, with what it refers to, as the last recorded change made it.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when something else has its name or unique id.
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
                for link in links {
                    sqlx::query("INSERT INTO links (kind, id, target_kind, target) VALUES ($1, $2, $3, $4)")
                        .bind(kind)
                        .bind(&name.id)
                        .bind(link.kind.as_str())
                        .bind(link.id)
                        .execute(&mut *c)
                        .await?;
                }
                Ok(written)
            })
        })
        .await
        .and_then(|written| self.has_written(written.rows_affected(), &name))?;
        self.contents.add(Set::Of(kind), term);
        Ok(())
    }

    /// A database that does nothing about a statement says so: what is acknowledged must be there.
    fn has_written(&self, rows: u64, what: &dyn std::fmt::Display) -> Result<(), StoreError> {
        if rows == 1 {
            return Ok(());
        }
        Err(self.store.tampered(format!(
            "the database wrote {rows} rows where {what} was to be written"
        )))
    }

    /// Deletes a thing's row.
    ///
    /// # Errors
    /// If the database does not answer in time, when the row is not the one that brokers know, and when
    /// it is still there afterwards.
    pub async fn delete(&mut self, name: &Name) -> Result<(), StoreError> {
        // What leaves the sum is the row that was read and checked, whatever the database says that it
        // deleted.
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

    /// Numbers a change and puts it in the feed. What is written next is its doing.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn record(&mut self, entry: &Entry) -> Result<i64, StoreError> {
        let sequence = self.head.sequence + 1;
        let fields = Fields {
            sequence,
            changed_at: entry.changed_at.millis(),
            actor: &entry.actor,
            action: entry.action,
            kind: entry.kind,
            id: &entry.id,
            detail: &entry.detail,
        };
        let chain = fields.chained(&self.head.chain);
        let (mac, _) = self.key()?.mac(&Row::Change(&fields, &chain));
        let (at, action, kind) = (fields.changed_at, entry.action, entry.kind);
        let (actor, id, detail) = (entry.actor.clone(), entry.id.clone(), entry.detail.clone());
        self.head.sequence = sequence;
        self.head.chain.clone_from(&chain);
        self.ask(move |c| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO changes (sequence, changed_at, actor, action, kind, id, detail, chain, mac) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                )
                .bind(sequence)
                .bind(at)
                .bind(actor)
                .bind(action)
                .bind(kind)
                .bind(id)
                .bind(detail)
                .bind(chain)
                .bind(mac)
                .execute(c)
                .await
            })
        })
        .await
        .and_then(|done| {
            self.has_written(done.rows_affected(), &format_args!("change {sequence}"))
        })?;
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
        let (of_account, of_value) = (account.to_owned(), value.to_owned());
        let row = self.ask(move |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT selector, account, value, before_sequence, before_seconds, expires_at, mac \
                     FROM revocations WHERE selector = $1 AND account = $2 AND value = $3",
                )
                .bind(selector)
                .bind(of_account)
                .bind(of_value)
                .fetch_optional(c)
                .await
            })
        });
        let mut mark = mark;
        if let Some(row) = row.await? {
            let old = RevocationRow::of(&row).map_err(told)?;
            if (&*old.selector, &*old.account, &*old.value) != (selector, account, value) {
                let asked = format!("the revocation of {selector} {}", clip(value));
                return Err(self.not_asked_for(&asked, &old.selector, &old.value));
            }
            let term = self
                .store
                .check(&Row::Revocation(old.columns()), &old.mac)?;
            self.contents.take(Set::Revocations, term);
            mark = mark.joined(old.mark);
        }
        let (mac, term) = self
            .key()?
            .mac(&Row::Revocation(revocation(selector, account, value, mark)));
        let (account, value) = (account.to_owned(), value.to_owned());
        self.ask(move |c| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO revocations \
                     (selector, account, value, before_sequence, before_seconds, expires_at, mac) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (selector, account, value) DO UPDATE SET \
                     before_sequence = excluded.before_sequence, before_seconds = excluded.before_seconds, \
                     expires_at = excluded.expires_at, mac = excluded.mac",
                )
                .bind(selector)
                .bind(account)
                .bind(value)
                .bind(mark.before_sequence)
                .bind(mark.before_seconds)
                .bind(mark.expires_at)
                .bind(mac)
                .execute(c)
                .await
            })
        })
        .await
        .and_then(|done| self.has_written(done.rows_affected(), &"a revocation"))?;
        self.contents.add(Set::Revocations, term);
        Ok(())
    }

    /// Drops revocations whose sessions have all ended by now, in seconds since 1970: at most `limit` of
    /// them, and how many.
    pub(super) async fn sweep_revocations(
        &mut self,
        now: i64,
        limit: i64,
    ) -> Result<usize, StoreError> {
        let rows = self.ask(move |c| {
            Box::pin(async move {
                sqlx::query(
                    "DELETE FROM revocations WHERE (selector, account, value) IN \
                     (SELECT selector, account, value FROM revocations WHERE expires_at <= $1 LIMIT $2) \
                     RETURNING selector, account, value, before_sequence, before_seconds, expires_at, mac",
                )
                .bind(now)
                .bind(limit)
                .fetch_all(c)
                .await
            })
        });
        let rows = rows.await?;
        let mut swept = HashSet::with_capacity(rows.len());
        for row in &rows {
            let row = RevocationRow::of(row).map_err(told)?;
            let term = self
                .store
                .check(&Row::Revocation(row.columns()), &row.mac)?;
            let name = format!("the revocation of {} {}", row.selector, clip(&row.value));
            // Which rows are due is judged here, not by the database.
            if row.mark.expires_at > now {
                let what = format!("{name} has not run out, and the database deleted it");
                return Err(self.store.tampered(what));
            }
            if !swept.insert((row.selector, row.account, row.value)) {
                let what = format!("{name} was deleted twice");
                return Err(self.store.tampered(what));
            }
            self.contents.take(Set::Revocations, term);
        }
        Ok(rows.len())
    }

    /// Drops the oldest changes as long as they are from before an instant, in milliseconds since 1970: at
    /// most `limit` of them, never the last one; and how many.
    pub(super) async fn sweep_changes(
        &mut self,
        before: i64,
        limit: i64,
    ) -> Result<usize, StoreError> {
        let head = self.head.sequence;
        let rows = self.ask(move |c| {
            Box::pin(async move {
                sqlx::query(
                    "DELETE FROM changes WHERE sequence IN (SELECT sequence FROM changes WHERE sequence < \
                     COALESCE((SELECT MIN(sequence) FROM changes WHERE changed_at >= $1 OR sequence >= $2), $2) \
                     ORDER BY sequence LIMIT $3) \
                     RETURNING sequence, changed_at, actor, action, kind, id, detail, chain, mac",
                )
                .bind(before)
                .bind(head)
                .bind(limit)
                .fetch_all(c)
                .await
            })
        });
        let mut swept = Vec::new();
        for row in rows.await? {
            let (change, mac) = Change::of(&row).map_err(told)?;
            self.store
                .check(&Row::Change(&change.fields(), &change.chain), &mac)?;
            swept.push(change);
        }
        swept.sort_unstable_by_key(|change| change.sequence);
        let Some(last) = swept.last().map(|change| change.sequence) else {
            return Ok(0);
        };
        // Which changes are due, and that none between them is missing, is judged here, not by the
        // database; so is which change is the first one from now on.
        let next = self.ask(move |c| Box::pin(page(c, last, 1))).await?.pop();
        let Some((next, mac)) = next else {
            let what = format!("change {head} of the feed is missing");
            return Err(self.store.tampered(what));
        };
        self.store
            .check(&Row::Change(&next.fields(), &next.chain), &mac)?;
        let mut due = self.contents.kept_from;
        let mut chain: Option<&str> = None;
        for change in swept.iter().chain([&next]) {
            let number = change.sequence;
            let is_next = match chain {
                None => number == due,
                Some(chain) => number >= due && change.follows(chain),
            };
            if !is_next {
                let what = format!("changes {due} to {number} of the feed are missing");
                return Err(self.store.tampered(what));
            }
            if number <= last && (change.changed_at >= before || number >= head) {
                let what = format!("change {number} is to be kept, and the database deleted it");
                return Err(self.store.tampered(what));
            }
            (due, chain) = (number + 1, Some(&*change.chain));
        }
        self.contents.kept_from = next.sequence;
        Ok(swept.len())
    }

    /// Codes and assertions from before now count as used.
    pub fn not_before(&mut self, now: Timestamp) {
        self.head.not_before = now.seconds();
    }

    /// The next change comes after `sequence`. Whoever follows the feed sees the gap, and loads
    /// everything.
    pub(super) fn skip_to(&mut self, sequence: i64) {
        if self.contents.kept_from > self.head.sequence {
            // The feed is empty, and begins behind it.
            self.contents.kept_from = self.contents.kept_from.max(sequence + 1);
        }
        self.head.sequence = self.head.sequence.max(sequence);
    }

    /// Makes it last. From here on it is on stable storage.
    ///
    /// # Errors
    /// Without an answer it is not known whether it lasts.
    pub async fn commit(mut self) -> Result<i64, StoreError> {
        let seal = self.key()?.seal(&self.head.place(), &self.contents);
        self.head.seal =
            seal.map_err(|_| StoreError::Row("the store's own row cannot be sealed".to_owned()))?;
        let (head, sequence) = (self.head.clone(), self.head.sequence);
        let chain = head.chain.clone();
        self.ask(move |c| {
            Box::pin(async move {
                sqlx::query("UPDATE store SET sequence = $1, not_before = $2, chain = $3, seal = $4 WHERE id = 1")
                    .bind(head.sequence)
                    .bind(head.not_before)
                    .bind(head.chain)
                    .bind(head.seal)
                    .execute(c)
                    .await
            })
        })
        .await
        .and_then(|done| self.has_written(done.rows_affected(), &"the store's own row"))?;
        // What was begun in time is not given up in the middle: it would not be known whether it lasts.
        self.lease.take_time();
        self.ask(|c| Box::pin(async move { sqlx::raw_sql("COMMIT").execute(c).await }))
            .await?;
        self.store.reached(sequence, &chain);
        // Nothing is acknowledged that the database does not show once it says that it lasts.
        let seen = self.store.seen_so_far();
        let there = self.ask(|c| Box::pin(super::head::read(c))).await?;
        let there = there.ok_or_else(super::no_store)?;
        self.store.contents(&there)?;
        self.store.must_not_go_back(&there, seen)?;
        self.lease.finish();
        Ok(sequence)
    }

    /// Gives it up in an orderly way; dropping does as well, and costs a connection.
    pub async fn abandon(mut self) {
        self.roll_back().await;
    }

    async fn roll_back(&mut self) {
        self.lease.take_time();
        let rolled_back = self.lease.ask(DEADLINE, |c| {
            Box::pin(async move { sqlx::raw_sql("ROLLBACK").execute(c).await })
        });
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

    pub(super) async fn ask_for<T>(
        &mut self,
        deadline: Duration,
        work: impl for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        if self.has_failed {
            return Err(StoreError::Unavailable(
                "the change failed before".to_owned(),
            ));
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
        let kind =
            Kind::parse(&kind).ok_or_else(|| StoreError::Row("the kind of a link".to_owned()))?;
        Ok(Name {
            kind,
            id: row.try_get(1).map_err(told)?,
        })
    };
    rows.iter().map(name).collect()
}
