//! Records the ids of tokens and assertions that can be used only once. All nodes share the records, and they survive
//! restarts. If the database does not answer, no token is accepted.

use std::time::Duration;

use super::changes::RESTORED;
use super::lanes::Purpose;
use super::{Store, StoreError};
use crate::base::clock::Timestamp;

/// The action of the change by which an operator accepts the wall clock. Times that were recorded before this change
/// are not reliable.
pub const ACCEPT_CLOCK: &str = "AcceptClock";

impl Store {
    /// Records the id of a token or an assertion, and returns whether this is its first use.
    ///
    /// `expires_at` must be the time from which the token is refused, including any configured leeway. The id is kept
    /// for some minutes longer.
    ///
    /// A token that was issued before [`Head::not_before`](super::Head::not_before), the time from which this store has
    /// records, counts as used. After a restore or an accepted clock, tokens that were issued up to `ahead` after that
    /// time count as used, too, since the clock of their issuer may be ahead.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time; the token must then
    /// be refused.
    pub async fn mark_used(
        &self,
        issuer: &str,
        id: &str,
        (issued_at, ahead): (Timestamp, Duration),
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (issuer, id) = (issuer.to_owned(), id.to_owned());
        let surely_at = issued_at.minus(ahead).seconds().saturating_sub(1);
        let (issued_at, expires_at) = (issued_at.seconds(), expires_at.seconds());
        self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                let done = sqlx::query(
                    "INSERT INTO seen (issuer, id, expires_at) \
                     SELECT $1, $2, $3 FROM store WHERE id = 1 AND (not_before <= $5 OR \
                     (not_before <= $4 AND NOT EXISTS (SELECT 1 FROM changes \
                     WHERE action IN ($6, $7) AND changed_at >= not_before))) \
                     ON CONFLICT (issuer, id) DO NOTHING",
                )
                .bind(issuer)
                .bind(id)
                .bind(expires_at)
                .bind(issued_at)
                .bind(surely_at)
                .bind(RESTORED)
                .bind(ACCEPT_CLOCK)
                .execute(c)
                .await?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }
}
