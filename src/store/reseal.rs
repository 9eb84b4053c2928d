//! Computes all MACs and sums anew: for a store of an earlier version without MACs, and for a database whose rows an
//! operator accepts although no broker wrote them.

use std::collections::BTreeSet;

use sqlx::AnyConnection;

use super::changes::{PAGE, RESTORED, page};
use super::integrity::{Row, Set};
use super::lanes::Purpose;
use super::portions::next;
use super::rows::{ResourceRow, RevocationRow};
use super::scan::{differing_kinds, differing_revocations};
use super::verify::{Shown, revoked_signing_keys};
use super::writer::{Entry, Writer};
use super::{BoxFuture, Engine, Head, Store, StoreError, clip, directory_entries, kind};
use crate::base::clock::Timestamp;
use crate::revocations::{Mark, Selector};

impl Store {
    /// Whether an earlier version, which had no MACs, wrote the store.
    pub fn is_unsealed(&self) -> bool {
        self.is_unsealed.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Computes the MACs of a store that an earlier version wrote without MACs. Its rows are accepted without a check.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Row`] for a row of an unknown kind. Nothing is then changed.
    pub(super) async fn seal_for_the_first_time(&self) -> Result<(), StoreError> {
        let (lease, raw) = self.lock(Purpose::Background).await?;
        if raw.is_unsealed() {
            let mut writer = Writer::anew(self, lease, raw)?;
            writer.reseal().await?;
            writer.commit().await?;
            tracing::info!("every row of the store now has a MAC");
        }
        // Otherwise another broker was first, and the transaction is rolled back with its connection.
        self.is_unsealed
            .store(false, std::sync::atomic::Ordering::Release);
        Ok(())
    }

    /// Accepts the rows of a store as they are now, and ends all sessions that were issued before.
    ///
    /// `shown` has the faults that the operator has seen and accepts. `seen` is the number of the last change that this
    /// node has seen. Signing keys stay revoked if a change in the feed with a valid MAC revoked them.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, [`StoreError::Row`]
    /// for a row of an unknown kind, and [`StoreError::Tampered`] if the rows are no longer those that were shown.
    /// Nothing is then changed.
    pub async fn accept(
        &self,
        shown: &Shown,
        seen: i64,
        now: Timestamp,
    ) -> Result<Head, StoreError> {
        let (lease, mut raw) = self.lock(Purpose::Background).await?;
        if !raw.is_unsealed() && self.contents(&raw).is_err() {
            // The number may be anybody's. What counts is what this node has seen, and the feed.
            raw.sequence = 0;
        }
        let mut writer = Writer::anew(self, lease, raw)?;
        let mended = writer.mend().await?;
        if mended != shown.mended {
            writer.abandon().await;
            return Err(StoreError::Tampered(
                "the rows that cannot be read have changed since this command listed them, so nothing was accepted"
                    .to_owned(),
            ));
        }
        let revoked_keys = writer.reseal().await?;
        // MACs are made only for the rows that the operator was shown.
        let others: Vec<String> = differing_kinds(&writer.contents, &shown.rows)
            .into_iter()
            .chain(differing_revocations(&writer.contents, &shown.rows))
            .chain(directory_entries::differs(&writer.contents, &shown.rows))
            .collect();
        if !others.is_empty() {
            writer.abandon().await;
            return Err(StoreError::Tampered(format!(
                "the rows of the database have changed since this command listed them ({}), so nothing was \
                 accepted",
                others.join("; ")
            )));
        }
        for id in revoked_keys {
            // Whoever has the secret of such a key could make sessions.
            let mark = Mark {
                before_sequence: i64::MAX,
                before_seconds: i64::MAX,
                expires_at: i64::MAX,
            };
            writer
                .revoke(Selector::SigningKey.as_str(), "", &id, mark)
                .await?;
        }
        let head = writer.end_the_past(seen, now).await?;
        self.is_unsealed
            .store(false, std::sync::atomic::Ordering::Release);
        self.is_right_again();
        Ok(head)
    }

    /// Continues with a store that was put back to an earlier state. All sessions that were issued before now are
    /// revoked. The next change gets a number higher than `seen`, the number of the last change that this node has
    /// seen.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if the store's own row differs from what a broker wrote.
    pub async fn end_the_past(&self, seen: i64, now: Timestamp) -> Result<Head, StoreError> {
        self.write_much().await?.end_the_past(seen, now).await
    }
}

impl Writer<'_> {
    /// Accepts all rows as they are now, and computes their MACs, their sums and the chain of the feed. Returns the ids
    /// of the signing keys that were revoked by changes with a valid MAC.
    pub(super) async fn reseal(&mut self) -> Result<BTreeSet<String>, StoreError> {
        self.reseal_resources().await?;
        self.reseal_revocations().await?;
        self.reseal_directory_entries().await?;
        self.reseal_changes().await
    }

    /// Computes the MACs of all rows of the directory, and adds the rows to the sums of their kinds.
    async fn reseal_resources(&mut self) -> Result<(), StoreError> {
        let mut after = Some((String::new(), String::new()));
        while let Some(from) = after {
            let rows = self.ask(move |c| resources(c, from)).await?;
            after = next(
                rows.len(),
                rows.last().map(|row| (row.kind.clone(), row.id.clone())),
            );
            let mut macs = Vec::with_capacity(rows.len());
            for row in &rows {
                let set = Set::Of(kind(&row.kind)?);
                let (mac, term) = self.key()?.mac(&Row::Resource(row.columns()));
                self.contents.add(set, term);
                if mac != row.mac {
                    macs.push(serde_json::json!([row.kind, row.id, mac]));
                }
            }
            self.update(RESOURCES, macs).await?;
        }
        Ok(())
    }

    /// Computes the MACs of all revocations, and adds the rows to the sum of the revocations.
    async fn reseal_revocations(&mut self) -> Result<(), StoreError> {
        let mut after = Some((String::new(), String::new(), String::new()));
        while let Some(from) = after {
            let rows = self.ask(move |c| revocations(c, from)).await?;
            let last = rows
                .last()
                .map(|row| (row.selector.clone(), row.account.clone(), row.value.clone()));
            after = next(rows.len(), last);
            let mut macs = Vec::with_capacity(rows.len());
            for row in &rows {
                if Selector::parse(&row.selector).is_none() {
                    return Err(StoreError::Row(format!(
                        "there is a revocation with the selector `{}`, which no broker writes; delete this row \
                         of the table revocations",
                        clip(&row.selector)
                    )));
                }
                let (mac, term) = self.key()?.mac(&Row::Revocation(row.columns()));
                self.contents.add(Set::Revocations, term);
                macs.push(serde_json::json!([
                    row.selector,
                    row.account,
                    row.value,
                    mac
                ]));
            }
            self.update(REVOCATIONS, macs).await?;
        }
        Ok(())
    }

    /// Computes the MACs and the chain of all changes. Returns the ids of the signing keys that were revoked by
    /// changes whose MAC was right.
    async fn reseal_changes(&mut self) -> Result<BTreeSet<String>, StoreError> {
        let mut after = Some(i64::MIN);
        let (mut first, mut revoked_keys) = (None, BTreeSet::new());
        while let Some(from) = after {
            let rows = self.ask(move |c| Box::pin(page(c, from, PAGE))).await?;
            after = next(rows.len(), rows.last().map(|(change, _)| change.sequence));
            let mut macs = Vec::with_capacity(rows.len());
            for (change, mac) in &rows {
                first.get_or_insert(change.sequence);
                if self
                    .keys
                    .check(&Row::Change(&change.fields(), &change.chain), mac)
                    .is_ok()
                {
                    revoked_keys.extend(revoked_signing_keys(&change.detail));
                }
                let chain = change.fields().chained(&self.head.chain);
                let (mac, _) = self.key()?.mac(&Row::Change(&change.fields(), &chain));
                macs.push(serde_json::json!([change.sequence, chain, mac]));
                self.head.chain = chain;
                self.head.sequence = self.head.sequence.max(change.sequence);
            }
            self.update(CHANGES, macs).await?;
        }
        self.contents.kept_from = first.unwrap_or(self.head.sequence.saturating_add(1));
        Ok(revoked_keys)
    }

    /// Gives the next change a number higher than `seen`, and revokes all sessions that were issued before now.
    pub(super) async fn end_the_past(
        mut self,
        seen: i64,
        now: Timestamp,
    ) -> Result<Head, StoreError> {
        self.skip_to(seen);
        let mark = Mark {
            before_sequence: self.sequence() + 1,
            before_seconds: now.seconds(),
            expires_at: Mark::outlives(now),
        };
        // The change also carries the revocation, so that running brokers apply it.
        let revoked = serde_json::json!({"Revoked": [{
            "Selector": "everything", "Account": "", "Value": "", "BeforeSequence": mark.before_sequence,
            "BeforeSeconds": mark.before_seconds, "ExpiresAt": mark.expires_at,
        }]});
        let entry = Entry {
            changed_at: now,
            actor: "{\"type\":\"Operator\"}".to_owned(),
            action: RESTORED,
            kind: "store",
            id: self.store.id().to_owned(),
            detail: revoked.to_string(),
        };
        self.record(&entry).await?;
        self.revoke("everything", "", "", mark).await?;
        self.not_before(now);
        let store = self.store;
        self.commit().await?;
        store.head().await
    }

    /// Updates, adds or deletes many rows in one statement. Each value is an array that begins with the primary key of
    /// a row, and usually ends with its new MAC. Returns the number of rows that the database reports.
    pub(super) async fn update(
        &mut self,
        statements: [&'static str; 2],
        macs: Vec<serde_json::Value>,
    ) -> Result<u64, StoreError> {
        if macs.is_empty() {
            return Ok(0);
        }
        let [sqlite, postgres] = statements;
        let sql = if self.store.engine == Engine::Postgres {
            postgres
        } else {
            sqlite
        };
        let macs = serde_json::Value::Array(macs).to_string();
        self.ask(move |c| Box::pin(async move { sqlx::query(sql).bind(macs).execute(c).await }))
            .await
            .map(|done| done.rows_affected())
    }
}

/// Updates the MACs in the table `resources`, the rows of the directory: the statements for SQLite and for PostgreSQL.
pub(super) const RESOURCES: [&str; 2] = [
    "UPDATE resources SET mac = json_extract(j.value, '$[2]') FROM json_each($1) AS j \
     WHERE resources.kind = json_extract(j.value, '$[0]') AND resources.id = json_extract(j.value, '$[1]')",
    "UPDATE resources SET mac = j.value->>2 FROM json_array_elements(CAST($1 AS JSON)) AS j(value) \
     WHERE resources.kind = j.value->>0 AND resources.id = j.value->>1",
];
/// Updates the MACs in the table `revocations`: the statements for SQLite and for PostgreSQL.
pub(super) const REVOCATIONS: [&str; 2] = [
    "UPDATE revocations SET mac = json_extract(j.value, '$[3]') FROM json_each($1) AS j \
     WHERE revocations.selector = json_extract(j.value, '$[0]') \
     AND revocations.account = json_extract(j.value, '$[1]') AND revocations.value = json_extract(j.value, '$[2]')",
    "UPDATE revocations SET mac = j.value->>3 FROM json_array_elements(CAST($1 AS JSON)) AS j(value) \
     WHERE revocations.selector = j.value->>0 AND revocations.account = j.value->>1 \
     AND revocations.value = j.value->>2",
];
/// Updates the digests and the MACs in the table `changes`, the feed: the statements for SQLite and for PostgreSQL.
pub(super) const CHANGES: [&str; 2] = [
    "UPDATE changes SET chain = json_extract(j.value, '$[1]'), mac = json_extract(j.value, '$[2]') \
     FROM json_each($1) AS j WHERE changes.sequence = json_extract(j.value, '$[0]')",
    "UPDATE changes SET chain = j.value->>1, mac = j.value->>2 \
     FROM json_array_elements(CAST($1 AS JSON)) AS j(value) WHERE changes.sequence = CAST(j.value->>0 AS BIGINT)",
];

/// Reads one page of entries, which begins after a given entry. Entries are ordered by kind and id.
pub(super) fn resources(
    connection: &mut AnyConnection,
    (kind, id): (String, String),
) -> BoxFuture<'_, Result<Vec<ResourceRow>, sqlx::Error>> {
    Box::pin(async move {
        let rows = sqlx::query(
            "SELECT kind, id, account, folded, unique_id, version, body, mac FROM resources \
             WHERE (kind, id) > ($1, $2) ORDER BY kind, id LIMIT $3",
        )
        .bind(kind)
        .bind(id)
        .bind(PAGE)
        .fetch_all(connection);
        rows.await?.iter().map(ResourceRow::of).collect()
    })
}

/// Reads one page of revocations, which begins after a given revocation.
pub(super) fn revocations(
    connection: &mut AnyConnection,
    (selector, account, value): (String, String, String),
) -> BoxFuture<'_, Result<Vec<RevocationRow>, sqlx::Error>> {
    Box::pin(async move {
        let rows = sqlx::query(
            "SELECT selector, account, value, before_sequence, before_seconds, expires_at, mac FROM revocations \
             WHERE (selector, account, value) > ($1, $2, $3) ORDER BY selector, account, value LIMIT $4",
        )
        .bind(selector)
        .bind(account)
        .bind(value)
        .bind(PAGE)
        .fetch_all(connection);
        rows.await?.iter().map(RevocationRow::of).collect()
    })
}
