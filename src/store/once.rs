//! Ids of tokens and assertions that are good once, across nodes, restarts and the loss of any cache.
//! If the database does not answer, no token is accepted.

use super::lanes::Purpose;
use super::{Store, StoreError};
use crate::base::clock::Timestamp;

impl Store {
    /// Notes a token's or an assertion's id: true the first time. It is kept until `expires_at`,
    /// which must be when the thing itself is refused, skew included. What was issued before this
    /// store knew the past counts as seen.
    ///
    /// # Errors
    /// Without an answer: the token must then be refused.
    pub async fn see(
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
