//! Corrects the records of MFA codes that were made while the clock was ahead. Without this, the records would lock
//! users out until the real time reaches the time that the clock showed then.

use super::{Lockout, STEP_SECONDS, StoreError, Writer};
use crate::base::clock::Timestamp;

/// By how many time steps a device's clock may be ahead. The step of its last accepted code may be that much later than
/// now.
const AHEAD: i64 = 20;

impl Writer<'_> {
    /// Shortens the lockout of each user to the longest one that wrong codes can cause now. Also forgets accepted codes
    /// for times later than ten minutes from now, so that codes for these times can be accepted.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
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
