//! The change feed: each change checked, and each shown to follow the one before it.

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
use crate::directory::resource::Kind;

/// The action of a change behind which the feed begins anew: whatever was issued before has ended.
pub(super) const RESTORED: &str = "RestoreStore";
/// So many changes are looked at at once.
pub(super) const PAGE: i64 = 1_000;

/// One change of the feed.
#[derive(Debug)]
pub struct Change {
    /// Its number.
    pub sequence: i64,
    /// When, in milliseconds since 1970.
    pub changed_at: i64,
    /// Who: JSON.
    pub actor: String,
    /// `CreateRole`, `RevokeSessions`, …
    pub action: String,
    /// What kind of thing: one of the directory's, or `revocation`, `store`.
    pub kind: String,
    /// Which one.
    pub id: String,
    /// Before and after: JSON.
    pub detail: String,
    /// The thing as it is now; none if it is gone, or was not asked for.
    pub body: Option<String>,
    /// The digest of this change and of all before it, in hexadecimal digits.
    pub chain: String,
}

/// What came of asking for changes.
pub enum Step {
    /// All of them, in order.
    Changes(Vec<Change>),
    /// There are too many, or some are not kept any more: load everything.
    Reload,
}

impl Change {
    /// Of `sequence, changed_at, actor, action, kind, id, detail, chain`, and its MAC behind them.
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

    /// Whether it follows a change of this digest.
    pub(super) fn follows(&self, chain: &str) -> bool {
        self.fields().chained(chain) == self.chain
    }
}

/// The next changes behind a number, or with `i64::MIN` the first ones, at most `limit` of them, each with its MAC.
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

/// The whole feed, from the first change that is kept to the store's head as it was when reading began.
pub struct Feed<'s> {
    store: &'s Store,
    head: Head,
    /// The last change that was read, with the digest of the feed up to it; before any was read, the number
    /// of the first one that is kept.
    at: Result<(i64, String), i64>,
}

impl Feed<'_> {
    /// The next changes, in order; none are left when it is empty.
    ///
    /// # Errors
    /// Without an answer, and [`StoreError::Tampered`] for a change that is missing, that no broker wrote, or
    /// that does not follow the one before it.
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
                "change {from} of the feed, or one behind it, is missing"
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

/// The versions of things, by kind and id.
type VersionsOf = HashMap<(String, String), i64>;

impl Store {
    /// The changes after `sequence`, whose digest is `chain`, each with the thing as it is now, all at one
    /// moment.
    ///
    /// # Errors
    /// Without an answer, or when a change or a thing is not as a broker wrote it.
    pub async fn changes_after(&self, sequence: i64, chain: &str) -> Result<Step, StoreError> {
        self.step(Purpose::Feed, DEADLINE, sequence, chain).await
    }

    /// As [`Store::changes_after`], where there may be many of them: it takes its time, and holds up
    /// nothing that is urgent.
    ///
    /// # Errors
    /// As [`Store::changes_after`].
    pub async fn many_changes_after(&self, sequence: i64, chain: &str) -> Result<Step, StoreError> {
        self.step(Purpose::Background, SCAN_DEADLINE, sequence, chain)
            .await
    }

    /// The whole feed, to be read from its beginning.
    ///
    /// # Errors
    /// Without an answer, and when the store's own row is not as a broker wrote it.
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

    /// What the feed holds after `sequence`, at most `limit` of it, without the things themselves.
    ///
    /// # Errors
    /// Without an answer, or when a change is not as a broker wrote it.
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

    /// The details of the changes after `sequence` that end sessions, with their numbers: at most
    /// `limit` of them, in order.
    ///
    /// # Errors
    /// Without an answer, or when one of them is not as a broker wrote it.
    pub async fn revoking_after(
        &self,
        sequence: i64,
        limit: usize,
    ) -> Result<Vec<(i64, String)>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(Purpose::Feed, DEADLINE, move |c| {
            Box::pin(async move {
                // JSON escapes the quotation marks of every text, so that only a field has this form.
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
            let number = row
                .try_get::<i64, _>(0)
                .map_or_else(|_| "one".to_owned(), |n| n.to_string());
            self.tampered(format!(
                "change {number} of the feed is not as a broker wrote it ({error})"
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
        // Behind an operator's restore nothing is as it was.
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

    /// The changes of a step with the things as they are now, each checked, and the things' versions.
    fn checked_changes(&self, rows: &[AnyRow]) -> Result<(Vec<Change>, VersionsOf), StoreError> {
        let mut changes = Vec::with_capacity(rows.len());
        // What is there of the things that were changed.
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
                        "{} {} is not as a broker wrote it ({error})",
                        change.kind,
                        clip(&change.id)
                    ))
                })?;
                self.check_resource(there.columns(), &there.mac)?;
                // The change says which thing it is about; of a database's answer only the content is
                // taken.
                if there.kind != change.kind || there.id != change.id {
                    return Err(self.tampered(format!(
                        "the database shows {} {} where {} {} was asked for",
                        clip(&there.kind),
                        clip(&there.id),
                        change.kind,
                        clip(&change.id)
                    )));
                }
                let known = versions.insert((there.kind, there.id), there.version);
                if known.is_some_and(|known| known != there.version) {
                    return Err(self.tampered(format!(
                        "the database shows {} {} in two versions",
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

    /// A thing is as the last of its changes left it.
    fn check_versions(&self, changes: &[Change], versions: &VersionsOf) -> Result<(), StoreError> {
        let last: HashMap<(&str, &str), &Change> = changes
            .iter()
            .map(|change| ((change.kind.as_str(), change.id.as_str()), change))
            .collect();
        for change in last.into_values() {
            if Kind::parse(&change.kind).is_none() {
                continue;
            }
            let name = format!("{} {}", change.kind, clip(&change.id));
            let number = change.sequence;
            match versions.get(&(change.kind.clone(), change.id.clone())) {
                None if is_deletion(&change.action) => {}
                None => {
                    return Err(
                        self.tampered(format!("{name} is missing, which change {number} wrote"))
                    );
                }
                Some(_) if is_deletion(&change.action) => {
                    return Err(
                        self.tampered(format!("{name} is there, which change {number} deleted"))
                    );
                }
                Some(version) if *version == number => {}
                Some(version) => {
                    let what = format!(
                        "{name} is as change {version} wrote it, and change {number} wrote it last"
                    );
                    return Err(self.tampered(what));
                }
            }
        }
        Ok(())
    }
}
