//! Writes revocations. [`Writer::revoke`] can only extend the mark of a revocation, so that it never ends fewer
//! sessions than before. A revocation is deleted when every session that it ends has expired.

use std::collections::HashSet;

use super::Writer;
use crate::revocations::Mark;
use crate::store::classify::classify;
use crate::store::integrity::{Row, Set};
use crate::store::rows::{RevocationRow, revocation};
use crate::store::{StoreError, clip};

impl Writer<'_> {
    /// Adds a revocation. If there is one with the same selector, account and value, extends it.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if the existing row differs from what a broker wrote.
    pub async fn revoke(
        &mut self,
        selector: &'static str,
        account: &str,
        value: &str,
        mark: Mark,
    ) -> Result<(), StoreError> {
        self.write_mark(selector, account, value, |old| mark.joined(old))
            .await
    }

    /// Adds a revocation that replaces an older one ([`Mark::in_place_of`]).
    ///
    /// # Errors
    /// The same as for [`Self::revoke`].
    pub async fn replace_mark(
        &mut self,
        selector: &'static str,
        account: &str,
        value: &str,
        mark: Mark,
    ) -> Result<(), StoreError> {
        self.write_mark(selector, account, value, |old| mark.in_place_of(old))
            .await
    }

    /// Writes the new mark of a revocation, which `with` computes from the existing mark. For a new revocation, `with`
    /// gets a mark of zeros.
    async fn write_mark(
        &mut self,
        selector: &'static str,
        account: &str,
        value: &str,
        with: impl FnOnce(Mark) -> Mark,
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
        let mut there = Mark::default();
        if let Some(row) = row.await? {
            let old = RevocationRow::of(&row).map_err(classify)?;
            if (&*old.selector, &*old.account, &*old.value) != (selector, account, value) {
                let asked = format!("the revocation of {selector} {}", clip(value));
                return Err(self.not_asked_for(&asked, &old.selector, &old.value));
            }
            let term = self
                .store
                .check(&Row::Revocation(old.columns()), &old.mac)?;
            self.contents.take(Set::Revocations, term);
            there = old.mark;
        }
        let mark = with(there);
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

    /// Deletes at most `limit` revocations whose sessions have all ended at `now`, in seconds since
    /// 1970. Returns how many were deleted.
    pub(in crate::parts::store) async fn sweep_revocations(
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
            let row = RevocationRow::of(row).map_err(classify)?;
            let term = self
                .store
                .check(&Row::Revocation(row.columns()), &row.mac)?;
            let name = format!("the revocation of {} {}", row.selector, clip(&row.value));
            // The database is not trusted to select the rows that are due.
            if row.mark.expires_at > now {
                let what = format!("the database deleted {name}, which has not expired");
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
}
