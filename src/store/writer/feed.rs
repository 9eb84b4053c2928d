//! Writes the change feed: each change gets a number, and its digest is chained to the change before it.

use super::Writer;
use crate::base::clock::Timestamp;
use crate::store::StoreError;
use crate::store::changes::{Change, page};
use crate::store::classify::classify;
use crate::store::integrity::{Fields, Row};

/// The highest number of a change. No store will ever reach this number, and adding to it does not overflow.
const MAX_SEQUENCE: i64 = 1 << 53;

pub struct Entry {
    pub changed_at: Timestamp,
    /// The principal that makes the change, as JSON.
    pub actor: String,
    pub action: &'static str,
    pub kind: &'static str,
    pub id: String,
    /// What the change does, in the form of [`Change::detail`].
    pub detail: String,
}

impl Writer<'_> {
    /// Adds a change to the feed and returns its number. Rows that are written after this get the number as their
    /// version.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, [`StoreError::Row`]
    /// if the last change has the highest possible number, and [`StoreError::Tampered`] if the database does not write
    /// one row.
    pub async fn record(&mut self, entry: &Entry) -> Result<i64, StoreError> {
        // Revocations compare these numbers, so they must never overflow.
        let sequence = self
            .head
            .sequence
            .checked_add(1)
            .filter(|next| *next <= MAX_SEQUENCE)
            .ok_or_else(|| {
                StoreError::Row(format!(
                    "the feed is at change {}, which is the highest possible number",
                    self.head.sequence
                ))
            })?;
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

    /// Deletes at most `limit` changes, the oldest ones first, that were made before a time in milliseconds since 1970.
    /// The last change is never deleted. Returns how many were deleted.
    pub(in crate::parts::store) async fn sweep_changes(
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
            let (change, mac) = Change::of(&row).map_err(classify)?;
            self.store
                .check(&Row::Change(&change.fields(), &change.chain), &mac)?;
            swept.push(change);
        }
        swept.sort_unstable_by_key(|change| change.sequence);
        let Some(last) = swept.last().map(|change| change.sequence) else {
            return Ok(0);
        };
        // The database is not trusted to select the right changes: it is checked here that each of
        // them was due and that none between them is missing. The first remaining change follows from
        // that too.
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
                let what = format!(
                    "the changes from {due} to {number} of the feed are missing, or differ from what a broker wrote"
                );
                return Err(self.store.tampered(what));
            }
            if number <= last && number >= head {
                let what = format!(
                    "the database deleted change {number}, but only changes before the last one ({head}) may be deleted"
                );
                return Err(self.store.tampered(what));
            }
            if number <= last && change.changed_at >= before {
                let what = format!(
                    "the database deleted change {number}, which was made at {}, but only changes from before {} may be \
                     deleted",
                    Timestamp::from_millis(change.changed_at),
                    Timestamp::from_millis(before)
                );
                return Err(self.store.tampered(what));
            }
            (due, chain) = (number + 1, Some(&*change.chain));
        }
        self.contents.kept_from = next.sequence;
        Ok(swept.len())
    }

    /// Gives the next change a number higher than `sequence`. Nodes that follow the feed notice the gap, and load all
    /// rows.
    pub(in crate::parts::store) fn skip_to(&mut self, sequence: i64) {
        if self.contents.kept_from > self.head.sequence {
            // The feed is empty, and its first change will be the next one.
            self.contents.kept_from = self.contents.kept_from.max(sequence + 1);
        }
        self.head.sequence = self.head.sequence.max(sequence);
    }
}
