//! Deletes what was recorded of MFA codes under a clock that was ahead. It would keep users out until
//! the true time reaches that of the clock.

use super::{Lockout, STEP_SECONDS, StoreError, Writer};
use crate::base::clock::Timestamp;

/// The number of steps by which a device's clock may be ahead; its last code may then be later than
/// now.
const AHEAD: i64 = 20;

impl Writer<'_> {
    /// Shortens the locks of users to what failures of now would cause, and lets codes be accepted
    /// again that are later than ten minutes from now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database does not answer in time.
    pub async fn forget_codes_after(
        &mut self,
        lockout: Lockout,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let locked = now.seconds() + lockout.failures * lockout.forgiven_after_seconds;
        let step = now.seconds().div_euclid(STEP_SECONDS) + AHEAD;
        self.ask(move |c| {
            Box::pin(async move {
                sqlx::query("UPDATE mfa_failures SET forgiven_at = $1 WHERE forgiven_at > $1")
                    .bind(locked)
                    .execute(&mut *c)
                    .await?;
                sqlx::query("UPDATE spent_steps SET step = $1 WHERE step > $1")
                    .bind(step)
                    .execute(c)
                    .await
            })
        })
        .await
        .map(|_| ())
    }
}
