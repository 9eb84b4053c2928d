//! Reads the change feed. Each change must have a valid MAC, and its digest must follow from the change before it.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::classify::classify;
use super::head::Head;
use super::integrity::{Fields, Row};
use super::lanes::Purpose;
use super::rows::{ResourceRow, is_deletion};
use super::{DEADLINE, MAX_STEP, SCAN_DEADLINE, Store, StoreError, clip};
use crate::directory::resource::ResourceKind;

/// The action of the change that `brevet restore` records. This change ends all sessions that were issued before it.
/// The chain of digests may be interrupted here.
pub(super) const RESTORED: &str = "RestoreStore";
/// The number of rows that one query reads.
pub(super) const PAGE: i64 = 1_000;

#[derive(Debug)]
pub struct Change {
    /// The number of the change. Numbers increase, and may have gaps.
    pub sequence: i64,
    /// The time of the change, in milliseconds since 1970.
    pub changed_at: i64,
    /// The principal that made the change, as JSON.
    pub actor: String,
    pub action: String,
    /// The kind of the entry that changed: a kind of the directory, `revocation`, `store`, `clock` or
    /// `directory-entries`.
    pub kind: String,
    pub id: String,
    /// What the change did, as a JSON object, see [`crate::commands::Detail`]: the values of the differing fields
    /// before and after (policies by digest, secrets not at all), and the digests of the whole entry; the tags of a
    /// role that switch off a rule about whom its trust policy may allow, such as `brevet:public = true`; the entries
    /// that were added to or removed from a directory file; and the revocations. The object is empty if a secret was
    /// only resealed.
    pub detail: String,
    /// The present state of the entry as JSON. `None` if the entry was deleted, or if the caller did not ask for it.
    pub body: Option<String>,
    /// The SHA-256 digest of this change and of all changes before it, in hexadecimal.
    pub chain: String,
}

/// The answer to a request for the changes after a given one.
pub enum Step {
    Changes(Vec<Change>),
    /// The caller must load all rows: there are more changes than [`MAX_STEP`] or none, the feed lacks some of the
    /// numbers (old changes were deleted, or numbers were left out), or a change is a restore of the store.
    Reload,
}

impl Change {
    /// Reads `sequence, changed_at, actor, action, kind, id, detail, chain` and the MAC after them.
    pub(super) fn of(row: &AnyRow) -> Result<(Self, String), sqlx::Error> {
        let change = Self {
            sequence: row.try_get(0)?,
            changed_at: row.try_get(1)?,
            actor: row.try_get(2)?,
            action: row.try_get(3)?,
            kind: row.try_get(4)?,
            id: row.try_get(5)?,
            detail: row.try_get(6)?,
            body: None,
            chain: row.try_get(7)?,
        };
        Ok((change, row.try_get(8)?))
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        Fields {
            sequence: self.sequence,
            changed_at: self.changed_at,
            actor: &self.actor,
            action: &self.action,
            kind: &self.kind,
            id: &self.id,
            detail: &self.detail,
        }
    }

    /// Whether this change follows the change whose digest is `chain`.
    pub(super) fn follows(&self, chain: &str) -> bool {
        self.fields().chained(chain) == self.chain
    }
}

/// Reads at most `limit` changes after a number (`i64::MIN` for the first ones), each with its MAC.
pub(super) async fn page(
    connection: &mut AnyConnection,
    after: i64,
    limit: i64,
) -> Result<Vec<(Change, String)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT sequence, changed_at, actor, action, kind, id, detail, chain, mac FROM changes \
         WHERE sequence >= $1 ORDER BY sequence LIMIT $2",
    )
    .bind(if after == i64::MIN {
        after
    } else {
        after.saturating_add(1)
    })
    .bind(limit)
    .fetch_all(connection);
    rows.await?.iter().map(Change::of).collect()
}

/// Reads the whole feed, from the first change in it to the change that was the last one when reading began.
pub struct Feed<'s> {
    store: &'s Store,
    head: Head,
    /// The number of the last change that was read, with the digest of the feed up to it. Before any change was read,
    /// the number of the first change.
    at: Result<(i64, String), i64>,
}

impl Feed<'_> {
    /// Reads the next changes, in order. The result is empty at the end.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if a change is missing, was not written by a broker, or does not follow the one before
    /// it.
    pub async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        let after = match &self.at {
            Ok((at, _)) => *at,
            Err(first) => first - 1,
        };
        if after >= self.head.sequence {
            return Ok(Vec::new());
        }
        let limit = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let mut changes = self.store.feed_after(after, limit).await?;
        changes.retain(|change| change.sequence <= self.head.sequence);
        let missing = |from: i64| {
            self.store.tampered(format!(
                "change {from} of the feed, or a later one, is missing, or does not follow from the change before it"
            ))
        };
        for change in &changes {
            match &self.at {
                Err(first) if change.sequence != *first => return Err(missing(*first)),
                Ok((at, chain)) if change.sequence <= *at || !change.follows(chain) => {
                    return Err(missing(at + 1));
                }
                _ => self.at = Ok((change.sequence, change.chain.clone())),
            }
        }
        match &self.at {
            Ok((at, chain)) if *at == self.head.sequence && *chain != self.head.chain => {
                Err(self.store.does_not_follow(*at))
            }
            _ if changes.is_empty() => Err(missing(after + 1)),
            _ => Ok(changes),
        }
    }
}

/// The version of each entry, by kind and id.
type VersionsOf = HashMap<(String, String), i64>;

impl Store {
    /// Reads the changes after `sequence`, whose digest is `chain`, each with the present state of its entry. All rows
    /// are read in one transaction.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if a change or an entry differs from what a broker wrote.
    pub async fn changes_after(&self, sequence: i64, chain: &str) -> Result<Step, StoreError> {
        self.step(Purpose::Feed, DEADLINE, sequence, chain).await
    }

    /// Reads changes like [`Store::changes_after`], for a caller that may be far behind. It uses the connection for
    /// background work, so that it does not delay urgent work.
    ///
    /// # Errors
    /// The same as for [`Store::changes_after`].
    pub async fn many_changes_after(&self, sequence: i64, chain: &str) -> Result<Step, StoreError> {
        self.step(Purpose::Background, SCAN_DEADLINE, sequence, chain)
            .await
    }

    /// Begins to read the whole feed.
    ///
    /// # Errors
    /// The same as for [`Store::head`].
    pub async fn feed(&self) -> Result<Feed<'_>, StoreError> {
        let seen = self.seen_so_far();
        let raw = self.raw_head(Purpose::Background).await?;
        let (contents, _) = self.contents(&raw)?;
        self.must_not_go_back(&raw, seen)?;
        Ok(Feed {
            store: self,
            head: raw.head(),
            at: Err(contents.kept_from),
        })
    }

    /// Reads at most `limit` changes after `sequence`, without the present state of their entries.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if a change is different from what a broker wrote.
    pub async fn feed_after(&self, sequence: i64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(Purpose::Background, SCAN_DEADLINE, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT sequence, changed_at, actor, action, kind, id, detail, chain, mac FROM changes \
                     WHERE sequence > $1 ORDER BY sequence LIMIT $2",
                )
                .bind(sequence)
                .bind(limit)
                .fetch_all(c)
                .await
            })
        });
        rows.await?
            .iter()
            .map(|row| self.checked_change(row))
            .collect()
    }

    /// Reads the number and the detail of changes after `sequence` that contain revocations, at most `limit` of them
    /// and in order.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if one of them differs from what a broker wrote.
    pub async fn revoking_after(
        &self,
        sequence: i64,
        limit: usize,
    ) -> Result<Vec<(i64, String)>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(Purpose::Feed, DEADLINE, move |c| {
            Box::pin(async move {
                // JSON escapes quotation marks in strings, so this pattern matches only a member's
                // name.
                sqlx::query(
                    "SELECT sequence, changed_at, actor, action, kind, id, detail, chain, mac FROM changes \
                     WHERE sequence > $1 AND detail LIKE '%\"Revoked\":%' ORDER BY sequence LIMIT $2",
                )
                .bind(sequence)
                .bind(limit)
                .fetch_all(c)
                .await
            })
        });
        let read = |row: &AnyRow| {
            self.checked_change(row)
                .map(|change| (change.sequence, change.detail))
        };
        rows.await?.iter().map(read).collect()
    }

    fn checked_change(&self, row: &AnyRow) -> Result<Change, StoreError> {
        let (change, mac) = Change::of(row).map_err(|error| {
            let name = row
                .try_get::<i64, _>(0)
                .map_or_else(|_| "a change".to_owned(), |n| format!("change {n}"));
            self.tampered(format!(
                "{name} of the feed differs from what a broker wrote ({error})"
            ))
        })?;
        self.check(&Row::Change(&change.fields(), &change.chain), &mac)?;
        Ok(change)
    }

    async fn step(
        &self,
        purpose: Purpose,
        deadline: Duration,
        sequence: i64,
        chain: &str,
    ) -> Result<Step, StoreError> {
        let limit = i64::try_from(MAX_STEP + 1).unwrap_or(i64::MAX);
        let rows = self.read(purpose, deadline, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "SELECT c.sequence, c.changed_at, c.actor, c.action, c.kind, c.id, c.detail, c.chain, c.mac, \
                     r.kind, r.id, r.account, r.folded, r.unique_id, r.version, r.body, r.mac \
                     FROM changes c LEFT JOIN resources r ON r.kind = c.kind AND r.id = c.id \
                     WHERE c.sequence > $1 ORDER BY c.sequence LIMIT $2",
                )
                .bind(sequence)
                .bind(limit)
                .fetch_all(c)
                .await
            })
        });
        let rows = rows.await?;
        let (changes, versions) = self.checked_changes(&rows)?;
        let whole = changes
            .iter()
            .zip(sequence + 1..)
            .all(|(change, due)| change.sequence == due);
        // A restore by an operator replaces everything; all rows must be loaded.
        let restored = changes.iter().any(|change| change.action == RESTORED);
        if !whole || restored || changes.is_empty() || changes.len() > MAX_STEP {
            return Ok(Step::Reload);
        }
        let mut before = chain;
        for change in &changes {
            if !change.follows(before) {
                return Err(self.does_not_follow(change.sequence));
            }
            before = &change.chain;
        }
        self.check_versions(&changes, &versions)?;
        let things = changes.iter().map(|change| {
            let version = versions.get(&(change.kind.clone(), change.id.clone()));
            (change.kind.as_str(), change.id.as_str(), version.copied())
        });
        self.learn(
            things,
            changes.last().map_or(sequence, |change| change.sequence),
        );
        Ok(Step::Changes(changes))
    }

    /// Checks the changes of a step and the entries that they changed, and returns both with the
    /// versions of the entries.
    fn checked_changes(&self, rows: &[AnyRow]) -> Result<(Vec<Change>, VersionsOf), StoreError> {
        let mut changes = Vec::with_capacity(rows.len());
        // The current rows of the entries that were changed.
        let mut versions = HashMap::new();
        for row in rows {
            let mut change = self.checked_change(row)?;
            if row
                .try_get::<Option<&str>, _>(9)
                .map_err(classify)?
                .is_some()
            {
                let there = ResourceRow::joined(row).map_err(|error| {
                    self.tampered(format!(
                        "{} {} differs from what a broker wrote ({error})",
                        change.kind,
                        clip(&change.id)
                    ))
                })?;
                self.check_resource(there.columns(), &there.mac)?;
                // The change says which entry it is about, so only the content of the joined row is
                // used.
                if there.kind != change.kind || there.id != change.id {
                    return Err(self.tampered(format!(
                        "the database returned {} {} when {} {} was asked for",
                        clip(&there.kind),
                        clip(&there.id),
                        change.kind,
                        clip(&change.id)
                    )));
                }
                let known = versions.insert((there.kind, there.id), there.version);
                if known.is_some_and(|known| known != there.version) {
                    return Err(self.tampered(format!(
                        "the database returned {} {} in two versions",
                        change.kind,
                        clip(&change.id)
                    )));
                }
                change.body = Some(there.body);
            }
            changes.push(change);
        }
        Ok((changes, versions))
    }

    fn does_not_follow(&self, sequence: i64) -> StoreError {
        self.tampered(format!(
            "change {sequence} of the feed does not follow the change before it"
        ))
    }

    /// Checks that each entry has the version of the last change that wrote it.
    fn check_versions(&self, changes: &[Change], versions: &VersionsOf) -> Result<(), StoreError> {
        let last: HashMap<(&str, &str), &Change> = changes
            .iter()
            .map(|change| ((change.kind.as_str(), change.id.as_str()), change))
            .collect();
        for change in last.into_values() {
            if ResourceKind::parse(&change.kind).is_none() {
                continue;
            }
            let name = format!("{} {}", change.kind, clip(&change.id));
            let number = change.sequence;
            match versions.get(&(change.kind.clone(), change.id.clone())) {
                None if is_deletion(&change.action) => {}
                None => {
                    return Err(self.tampered(format!(
                        "{name} is missing, although change {number} wrote it"
                    )));
                }
                Some(_) if is_deletion(&change.action) => {
                    return Err(self.tampered(format!(
                        "{name} exists, although change {number} deleted it"
                    )));
                }
                Some(version) if *version == number => {}
                Some(version) => {
                    let what = format!(
                        "{name} has the content of change {version}, although change {number} changed it later"
                    );
                    return Err(self.tampered(what));
                }
            }
        }
        Ok(())
    }
}
