//! The ids of tokens and assertions that can be used once, shared by all nodes and kept across
//! restarts. If the database does not answer, no token is accepted.

use super::lanes::Purpose;
use super::{Store, StoreError};
use crate::base::clock::Timestamp;

impl Store {
    /// Records the id of a token or an assertion, and returns whether this is its first use. The id
    /// is kept until `expires_at`, which must be the time from which the token itself is refused,
    /// with clock skew added. A token that was issued before this store knew the past counts as used.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database does not answer in time; the token must then be
    /// refused.
    pub async fn mark_used(
        &self,
        issuer: &str,
        id: &str,
        issued_at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let (issuer, id) = (issuer.to_owned(), id.to_owned());
        let (issued_at, expires_at) = (issued_at.seconds(), expires_at.seconds());
        self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                let done = sqlx::query(
                    "INSERT INTO seen (issuer, id, expires_at) \
                     SELECT $1, $2, $3 FROM store WHERE id = 1 AND not_before <= $4 \
                     ON CONFLICT (issuer, id) DO NOTHING",
                )
                .bind(issuer)
                .bind(id)
                .bind(expires_at)
                .bind(issued_at)
                .execute(c)
                .await?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }
}
