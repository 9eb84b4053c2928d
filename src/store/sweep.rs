//! Deletes expired rows in batches, so that other writers do not wait long. The next sweep deletes the rows that are
//! left.

use sqlx::Row as _;

use super::classify::classify;
use super::lanes::Purpose;
use super::{DEADLINE, Store, StoreError};
use crate::base::clock::Timestamp;

/// For how many seconds after the expiry of a token or assertion its id is kept. If the clock of the broker that sweeps
/// is ahead, other brokers may still accept the token for a while.
const CLOCKS_DIFFER: i64 = 600;
/// The maximum number of batches that one sweep deletes from a table.
const MAX_PORTIONS: usize = 16;
/// For how many seconds a role session can last after the end of the sign-in from which it came.
const SESSIONS_OUTLIVE: i64 = 129_600;
impl Store {
    /// Deletes rows that are no longer needed:
    ///
    /// - revocations whose sessions have all ended,
    /// - ids of expired tokens and assertions, expired grants, and forgiven wrong MFA codes,
    /// - sign-ins whose time ended so long ago that their sessions have ended, too,
    /// - changes that are older than the configured time, counted back from `history` or from `now`, whichever is
    ///   earlier, with their documents,
    /// - nodes that stopped long ago.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
    pub async fn sweep(&self, now: Timestamp, history: Timestamp) -> Result<(), StoreError> {
        self.mfa.sweep(now);
        let kept_since = history.min(now).minus(self.keep_changes).millis();
        let seconds = now.seconds();
        self.sweep_sealed(seconds, kept_since).await?;
        for (sql, bound) in [
            (
                "DELETE FROM seen WHERE (issuer, id) IN (SELECT issuer, id FROM seen WHERE expires_at <= $1 LIMIT 1000)",
                seconds.saturating_sub(CLOCKS_DIFFER),
            ),
            (
                "DELETE FROM mfa_failures WHERE user_id IN \
                 (SELECT user_id FROM mfa_failures WHERE forgiven_at <= $1 LIMIT 1000)",
                seconds,
            ),
            (
                "DELETE FROM sign_in_grants WHERE (kind, id) IN \
                 (SELECT kind, id FROM sign_in_grants WHERE expires_at <= $1 LIMIT 1000)",
                seconds,
            ),
            (
                "DELETE FROM sign_ins WHERE id IN (SELECT id FROM sign_ins WHERE ends_at <= $1 LIMIT 1000)",
                // Sessions that came from it may last longer, and are ended by its id.
                seconds.saturating_sub(SESSIONS_OUTLIVE),
            ),
            (
                "DELETE FROM change_documents WHERE sequence IN (SELECT sequence FROM change_documents \
                 WHERE sequence < (SELECT MIN(sequence) FROM changes) AND sequence > $1 ORDER BY sequence LIMIT 1000)",
                0,
            ),
        ] {
            for _ in 0..MAX_PORTIONS {
                let done = self.write_one(Purpose::Background, move |c| {
                    Box::pin(async move { sqlx::query(sql).bind(bound).execute(c).await })
                });
                if done.await?.rows_affected() < 1_000 {
                    break;
                }
            }
        }
        if self.is_shared() {
            self.write_one(Purpose::Background, |c| {
                Box::pin(async move {
                    sqlx::query(
                        "DELETE FROM nodes \
                         WHERE CAST(EXTRACT(EPOCH FROM now()) AS BIGINT) - seen_at > refuse_after + 3600",
                    )
                    .execute(c)
                    .await
                })
            })
            .await?;
        }
        Ok(())
    }

    /// Deletes rows whose sums or numbers are sealed in the store's own row: revocations that expired before `seconds`
    /// (since 1970), and changes that were made before `millis` (milliseconds since 1970).
    async fn sweep_sealed(&self, seconds: i64, millis: i64) -> Result<(), StoreError> {
        for _ in 0..MAX_PORTIONS {
            let due = self.read(Purpose::Background, DEADLINE, move |c| {
                Box::pin(async move {
                    sqlx::query(
                        "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM revocations WHERE expires_at <= $1 LIMIT 1) r), \
                         (SELECT COUNT(*) FROM (SELECT sequence FROM changes ORDER BY sequence LIMIT 1) c \
                         WHERE sequence < (SELECT sequence FROM store WHERE id = 1) \
                         AND (SELECT changed_at FROM changes ORDER BY sequence LIMIT 1) < $2)",
                    )
                    .bind(seconds)
                    .bind(millis)
                    .fetch_one(c)
                    .await
                })
            });
            let due = due.await?;
            let (revocations, changes): (i64, i64) = (
                due.try_get(0).map_err(classify)?,
                due.try_get(1).map_err(classify)?,
            );
            if revocations == 0 && changes == 0 {
                return Ok(());
            }
            let mut writer = self.write_much().await?;
            if revocations > 0 {
                writer.sweep_revocations(seconds, 1_000).await?;
            }
            if changes > 0 {
                writer.sweep_changes(millis, 1_000).await?;
            }
            writer.commit().await?;
        }
        Ok(())
    }
}
