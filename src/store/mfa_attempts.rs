//! MFA codes: the time steps that were spent, what is known of each device's clock, and how often a
//! user failed. Across nodes, restarts and the loss of any cache; if the database does not answer, no
//! code is accepted. How many failures are too many is the caller's rule.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sqlx::Row as _;

use super::classify::classify;
use super::lanes::Purpose;
use super::{DEADLINE, Store, StoreError, clip};
use crate::base::clock::Timestamp;

/// The length of a TOTP time step: RFC 6238 section 4.1.
pub const STEP_SECONDS: i64 = 30;
/// How far a device's clock may be known to be off, in steps: ten minutes. A code is older than that
/// by no more than the window.
pub const MAX_DRIFT: i64 = 20;
/// Two codes off to the same side at least so many steps apart, a day, move what is known of the
/// device's clock.
const LEARN_AFTER_STEPS: i64 = 2_880;

/// How many wrong codes a user may give. Whose rule that is, the store does not know.
#[derive(Debug, Clone, Copy)]
pub struct Lockout {
    /// So many wrong codes at once lock a user.
    pub failures: i64,
    /// One of them is forgiven after so many seconds.
    pub forgiven_after_seconds: i64,
}

/// The time step that a code is of.
#[derive(Debug, Clone)]
pub struct Matched {
    /// The device.
    pub serial_number: String,
    /// Steps since 1970.
    pub step: i64,
    /// Steps from where the device's clock was thought to be.
    pub offset: i64,
    /// When the device was made, in seconds since 1970; 0: unknown. One that is younger than the
    /// store has no past that the store would not know.
    pub made_at: i64,
}

/// What the store knows of a device's codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DevicePast {
    /// How far the device's clock is known to be off, in steps.
    pub drift: i64,
    /// The last step for which a code was accepted.
    pub last_spent_step: Option<i64>,
}

/// What came of an MFA code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It is right, and spent from now on.
    Accepted,
    /// It was right once, or is older than one that was.
    Spent,
    /// It matched nothing, and was counted.
    Counted,
    /// Too many matched nothing.
    Locked,
}

/// What this process knows of MFA without asking the store. What is not here is asked there.
#[derive(Default)]
pub(super) struct Remembered {
    /// Users that have failed too often, and until when, in seconds since 1970.
    locked: Mutex<HashMap<Box<str>, i64>>,
    /// Users, and when their wrong codes of this process are forgiven, in seconds since 1970: whatever
    /// the database says of them.
    failed: Mutex<HashMap<Box<str>, i64>>,
    /// Devices, and the last step that a code of theirs was accepted for.
    spent: Mutex<HashMap<Box<str>, i64>>,
}

/// How many users and how many devices are remembered at the most.
const MAX_REMEMBERED: usize = 16_384;
/// For so many steps a code may still match, whatever the device's clock: an hour.
const SPENT_FOR_STEPS: i64 = 120;

impl Remembered {
    fn lock(&self, user_id: &str, until: i64, now: i64) {
        remember(&self.locked, user_id, until, |until| until > now);
    }

    /// Counts a wrong code. Until when the user is locked, if these are too many.
    fn count(&self, user_id: &str, lockout: Lockout, now: i64) -> Option<i64> {
        let known = self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(user_id)
            .copied()
            .unwrap_or_default();
        let forgiven_at = known.max(now) + lockout.forgiven_after_seconds;
        remember(&self.failed, user_id, forgiven_at, |at| at > now);
        locked_until(lockout, forgiven_at, now)
    }

    fn spend(&self, serial_number: &str, step: i64, now: i64) {
        remember(&self.spent, serial_number, step, |step| {
            is_recent(step, now)
        });
    }

    pub fn sweep(&self, now: Timestamp) {
        let now = now.seconds();
        self.locked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, until| *until > now);
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, at| *at > now);
        self.spent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, step| is_recent(*step, now));
    }
}

fn is_recent(step: i64, now: i64) -> bool {
    step + SPENT_FOR_STEPS > now.div_euclid(STEP_SECONDS)
}

/// Keeps the greater of two values. When there is no room, what is of no use any more makes some.
fn remember(
    all: &Mutex<HashMap<Box<str>, i64>>,
    name: &str,
    value: i64,
    is_of_use: impl Fn(i64) -> bool,
) {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = all.get_mut(name) {
        *known = value.max(*known);
        return;
    }
    if all.len() >= MAX_REMEMBERED {
        all.retain(|_, value| is_of_use(*value));
    }
    if all.len() < MAX_REMEMBERED {
        all.insert(name.into(), value);
    }
}

impl Store {
    /// What is known of a device's codes so far.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn device_past(&self, serial_number: &str) -> Result<DevicePast, StoreError> {
        let serial_number = serial_number.to_owned();
        let device = serial_number.clone();
        let row = self.read(Purpose::Read, DEADLINE, move |c| {
            let serial_number = serial_number.clone();
            Box::pin(async move {
                sqlx::query("SELECT drift, step FROM spent_steps WHERE serial_number = $1")
                    .bind(serial_number)
                    .fetch_optional(c)
                    .await
            })
        });
        let past = |row: sqlx::any::AnyRow| {
            Ok(DevicePast {
                drift: row.try_get(0)?,
                last_spent_step: Some(row.try_get(1)?),
            })
        };
        let past: DevicePast = row
            .await?
            .map(past)
            .transpose()
            .map_err(classify)?
            .unwrap_or_default();
        if past.drift.abs() > MAX_DRIFT {
            // It would make a code of long ago good again.
            return Err(self.tampered(format!(
                "the clock of {} is said to be {} steps off, and brokers note at most {MAX_DRIFT}",
                clip(&device),
                past.drift
            )));
        }
        Ok(past)
    }

    /// Sets how far a device's clock is off, in steps.
    ///
    /// # Errors
    /// If the database does not answer in time.
    pub async fn set_mfa_drift(&self, serial_number: &str, drift: i64) -> Result<(), StoreError> {
        let serial_number = serial_number.to_owned();
        self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE spent_steps SET drift = $2, leaning = 0 WHERE serial_number = $1",
                )
                .bind(serial_number)
                .bind(drift)
                .execute(c)
                .await
            })
        })
        .await
        .map(|_| ())
    }

    /// Forgets what is known here of codes and failures: the store is asked.
    pub fn forget_mfa(&self) {
        self.mfa
            .locked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.mfa
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.mfa
            .spent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Whether a user is known here to have failed too often. The store knows more; what is known here
    /// is true.
    pub fn is_locked(&self, user_id: &str, now: Timestamp) -> bool {
        let locked = self
            .mfa
            .locked
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        locked
            .get(user_id)
            .is_some_and(|until| now.seconds() < *until)
    }

    /// The last step that is known here for which a code of a device was accepted.
    pub fn last_spent_step(&self, serial_number: &str) -> Option<i64> {
        self.mfa
            .spent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(serial_number)
            .copied()
    }

    /// Notes an MFA code of a user, which matched a time step of one of the user's devices or did not.
    /// A step is good once, and never one before it (RFC 6238 section 5.2); one that began before this
    /// store knew the device's past counts as spent. A code that matches nothing is counted. Once
    /// `lockout` has no more left, even a right code is refused without being looked at, so that guesses
    /// made at the same time gain nothing. Such a user is refused from memory, before the store is asked
    /// and once more when it could be.
    ///
    /// # Errors
    /// Without an answer: the code must then be refused.
    pub async fn attempt(
        &self,
        user_id: &str,
        matched: Option<Matched>,
        lockout: Lockout,
        now: Timestamp,
    ) -> Result<Attempt, StoreError> {
        if self.is_locked(user_id, now) {
            return Ok(Attempt::Locked);
        }
        let mut lease = self.lease_to_write(Purpose::Write).await?;
        if self.is_locked(user_id, now) {
            return Ok(Attempt::Locked);
        }
        let step = matched.as_ref().map(|m| (m.serial_number.clone(), m.step));
        let (user, seconds) = (user_id.to_owned(), now.seconds());
        let done = lease.ask(DEADLINE, move |c| {
            Box::pin(async move {
                sqlx::raw_sql("BEGIN").execute(&mut *c).await?;
                let done = attempt(&mut *c, user, matched, lockout, seconds).await;
                // The connection must not be left in the middle of a transaction; and where nothing is
                // to be kept, nobody waits for the disk.
                let keep = matches!(done, Ok((Attempt::Accepted | Attempt::Counted, _)));
                sqlx::raw_sql(if keep { "COMMIT" } else { "ROLLBACK" })
                    .execute(c)
                    .await?;
                done
            })
        });
        let (attempt, until) = done.await?;
        // The database counts for all brokers, and this process for itself.
        let here = match attempt {
            Attempt::Counted => self.mfa.count(user_id, lockout, now.seconds()),
            _ => None,
        };
        if let Some(until) = until.max(here) {
            self.mfa.lock(user_id, until, now.seconds());
        }
        if let (Some((serial_number, step)), Attempt::Accepted | Attempt::Spent) = (step, attempt) {
            self.mfa.spend(&serial_number, step, now.seconds());
        }
        Ok(attempt)
    }
}

/// Until when failures that are all forgiven at an instant lock a user.
fn locked_until(lockout: Lockout, forgiven_at: i64, now: i64) -> Option<i64> {
    Some(forgiven_at - (lockout.failures - 1) * lockout.forgiven_after_seconds)
        .filter(|at| *at > now)
}

async fn attempt(
    connection: &mut sqlx::AnyConnection,
    user_id: String,
    matched: Option<Matched>,
    lockout: Lockout,
    now: i64,
) -> Result<(Attempt, Option<i64>), sqlx::Error> {
    // Writing the row locks it, in both engines: attempts of a user come one after the other.
    let row = sqlx::query(
        "INSERT INTO mfa_failures (user_id, forgiven_at) VALUES ($1, 0) \
         ON CONFLICT (user_id) DO UPDATE SET forgiven_at = mfa_failures.forgiven_at RETURNING forgiven_at",
    )
    .bind(user_id.clone())
    .fetch_one(&mut *connection)
    .await?;
    let forgiven_at: i64 = row.try_get(0)?;
    if let Some(until) = locked_until(lockout, forgiven_at, now) {
        return Ok((Attempt::Locked, Some(until)));
    }
    let Some(matched) = matched else {
        let forgiven_at = forgiven_at.max(now) + lockout.forgiven_after_seconds;
        sqlx::query("UPDATE mfa_failures SET forgiven_at = $2 WHERE user_id = $1")
            .bind(user_id)
            .bind(forgiven_at)
            .execute(connection)
            .await?;
        return Ok((Attempt::Counted, locked_until(lockout, forgiven_at, now)));
    };
    let done = sqlx::query(
        "INSERT INTO spent_steps (serial_number, step, drift, leaning) \
         SELECT $1, $2, 0, $4 FROM store WHERE id = 1 AND (not_before <= $3 OR not_before <= $6) \
         ON CONFLICT (serial_number) DO UPDATE SET step = excluded.step, \
         drift = spent_steps.drift + CASE WHEN excluded.leaning = spent_steps.leaning \
             AND excluded.step >= spent_steps.step + $5 \
             AND ABS(spent_steps.drift + excluded.leaning) <= $7 THEN excluded.leaning ELSE 0 END, \
         leaning = CASE WHEN excluded.leaning = spent_steps.leaning \
             AND excluded.step >= spent_steps.step + $5 THEN 0 ELSE excluded.leaning END \
         WHERE excluded.step > spent_steps.step",
    )
    .bind(matched.serial_number)
    .bind(matched.step)
    .bind(matched.step.saturating_mul(STEP_SECONDS))
    .bind(matched.offset)
    .bind(LEARN_AFTER_STEPS)
    .bind(matched.made_at)
    .bind(MAX_DRIFT)
    .execute(connection)
    .await?;
    Ok((
        if done.rows_affected() == 1 {
            Attempt::Accepted
        } else {
            Attempt::Spent
        },
        None,
    ))
}
