//! What was noted of MFA codes under a clock that was ahead: it would keep users out until that time
//! has come.

use super::{Lockout, STEP_SECONDS, StoreError, Writer};
use crate::base::clock::Timestamp;

/// How far a device's clock may be ahead, in steps: its last code is then of a later time than now.
const AHEAD: i64 = 20;

impl Writer<'_> {
    /// Users that failed too often are locked for as long as after failures of now, and codes are
    /// taken again from ten minutes after now.
    ///
    /// # Errors
    /// If the database does not answer in time.
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
