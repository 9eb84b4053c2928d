//! The records of MFA codes: the time steps whose codes were used, the drift of each device's clock, and the wrong
//! codes of each user. All nodes share these records, which survive restarts. If the database does not answer, no code
//! is accepted. The caller decides how many wrong codes are too many.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use sqlx::Row as _;

use super::classify::classify;
use super::lanes::Purpose;
use super::{DEADLINE, Store, StoreError, clip};
use crate::base::clock::Timestamp;

/// The length of a TOTP time step, in seconds: RFC 6238 section 4.1.
pub const STEP_SECONDS: i64 = 30;
/// The largest drift of a device's clock that is recorded, in steps: ten minutes.
pub const MAX_DRIFT: i64 = 20;
/// The recorded drift of a device changes only if two codes that are at least this many steps (one day) apart deviate
/// in the same direction.
const LEARN_AFTER_STEPS: i64 = 2_880;

/// How many wrong codes a user may give before it is locked out, and how fast they are forgiven. The caller sets these
/// limits.
#[derive(Debug, Clone, Copy)]
pub struct Lockout {
    /// The number of unforgiven wrong codes at which a user is locked out.
    pub failures: i64,
    /// The time after which one wrong code is forgiven, in seconds.
    pub forgiven_after_seconds: i64,
}

/// The time step of a device to which a right code belongs.
#[derive(Debug, Clone)]
pub struct Matched {
    pub serial_number: String,
    /// The number of the step, counted from 1970.
    pub step: i64,
    /// The difference in steps from the step that the device's clock was expected to show.
    pub offset: i64,
    /// The time when the device was registered, in seconds since 1970; 0 if it is unknown. If the device was registered
    /// after this store began to keep records, the store has a record of every code that was used.
    pub made_at: i64,
}

/// The history of one MFA device in the store: the drift of its clock and its last accepted code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DevicePast {
    /// The drift of the device's clock, in steps.
    pub drift: i64,
    /// The last step for which a code was accepted.
    pub last_spent_step: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The code is right. It cannot be used again.
    Accepted,
    /// The code is right, but this code or a later code of the device was used before, or may have been used before
    /// this store kept records.
    Spent,
    /// The code is wrong, and was counted.
    Counted,
    /// The user is locked out after too many wrong codes, so the code was not compared.
    Locked,
}

/// The locked users and used codes that this process keeps in memory, so that fewer attempts have to query the store.
#[derive(Default)]
pub(super) struct Remembered {
    /// The users who are locked out, each with the end of the lockout in seconds since 1970.
    locked: Mutex<HashMap<Box<str>, i64>>,
    /// The users who gave wrong codes to this process, each with the time in seconds since 1970 when all of these codes
    /// are forgiven. This process locks such a user out even if the database has fewer wrong codes.
    failed: Mutex<HashMap<Box<str>, i64>>,
    /// The last step for which a code was accepted, by device.
    spent: Mutex<HashMap<Box<str>, i64>>,
}

/// The maximum number of users, and of devices, that this process keeps in memory.
const MAX_REMEMBERED: usize = 16_384;
/// The number of steps for which a code may still match, whatever the device's drift: one hour.
const SPENT_FOR_STEPS: i64 = 120;

impl Remembered {
    fn lock(&self, user_id: &str, until: i64, now: i64) {
        remember(&self.locked, user_id, until, |until| until > now);
    }

    /// Counts a wrong code. If the user now has too many, returns the time until which the user is locked out.
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

    /// Takes back the count of one wrong code. `until` is the time until which the user is still locked out; `None`
    /// ends the lockout.
    fn take_back(&self, user_id: &str, lockout: Lockout, until: Option<i64>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(forgiven_at) = failed.get_mut(user_id) {
            *forgiven_at -= lockout.forgiven_after_seconds;
        }
        if until.is_none() {
            let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
            locked.remove(user_id);
        }
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

/// Stores a value under a name unless a greater value is already stored. If the map is full, expired entries are
/// removed first.
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
    /// Reads the history of an MFA device. For a device without records, the drift is 0 and no code was accepted.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time, and
    /// [`StoreError::Tampered`] if the drift is larger than [`MAX_DRIFT`].
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
        if past.drift.unsigned_abs() > MAX_DRIFT.unsigned_abs() {
            // Such a drift would make an old code valid again.
            return Err(self.tampered(format!(
                "the clock drift of the MFA device {} is {} steps in the database, although brokers record at most {MAX_DRIFT}",
                clip(&device),
                past.drift
            )));
        }
        Ok(past)
    }

    /// Sets the recorded drift of a device's clock, in steps.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time.
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

    /// Empties this process's memory of codes and failures, so that only the records in the store count.
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

    /// Whether this process remembers that a user is locked out. If it does not, the store may still have enough wrong
    /// codes to lock the user out.
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

    /// The last step of a device for which a code was accepted, as far as this process remembers.
    pub fn last_spent_step(&self, serial_number: &str) -> Option<i64> {
        self.mfa
            .spent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(serial_number)
            .copied()
    }

    /// Records that a user gave an MFA code, and decides whether the code is accepted. `matched` is the device and the
    /// time step to which the code belongs, or `None` for a wrong code.
    ///
    /// A right code is accepted only once, and then no code of an earlier step of the device is accepted (RFC 6238
    /// section 5.2). The first code of a device counts as used, too, if its step began before this store kept records
    /// (`Head::not_before`), unless the device was registered after that time.
    ///
    /// A wrong code is counted. While a user is locked out because of too many wrong codes (`lockout`), right codes
    /// are refused too, so that simultaneous guesses gain nothing.
    ///
    /// This process remembers lockouts. It checks them before it waits for a connection to the store, and again
    /// afterwards, because other calls may have locked the user out meanwhile.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time; the code must then
    /// be refused.
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
                // The connection must not go back in the middle of a transaction. A rollback, where
                // nothing is to be kept, does not wait for the disk.
                let keep = matches!(done, Ok((Attempt::Accepted | Attempt::Counted, _)));
                sqlx::raw_sql(if keep { "COMMIT" } else { "ROLLBACK" })
                    .execute(c)
                    .await?;
                done
            })
        });
        let (attempt, until) = done.await?;
        // The database counts for all brokers, this process for itself.
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

impl Store {
    /// Takes back the count of a wrong code by [`Store::attempt`], because the code was right after all.
    ///
    /// # Errors
    /// An error of the database, such as [`StoreError::Unavailable`] if it does not answer in time. The code stays
    /// counted.
    pub async fn take_back(
        &self,
        user_id: &str,
        lockout: Lockout,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let user = user_id.to_owned();
        let row = self.write_one(Purpose::Write, move |c| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE mfa_failures SET forgiven_at = forgiven_at - $2 WHERE user_id = $1 \
                     RETURNING forgiven_at",
                )
                .bind(user)
                .bind(lockout.forgiven_after_seconds)
                .fetch_optional(c)
                .await
            })
        });
        let forgiven_at = |row: sqlx::any::AnyRow| row.try_get::<i64, _>(0);
        let forgiven_at = row.await?.map(forgiven_at).transpose().map_err(classify)?;
        let until = forgiven_at.and_then(|at| locked_until(lockout, at, now.seconds()));
        self.mfa.take_back(user_id, lockout, until);
        Ok(())
    }
}

/// The time until which a user is locked out; `None` if the user has too few wrong codes. `forgiven_at` is the time
/// when all wrong codes of the user are forgiven, from which their number follows.
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
    // Writing the row locks it in both engines, so that the attempts of a user are processed one by
    // one.
    let row = sqlx::query(
        "INSERT INTO mfa_failures (user_id, forgiven_at) VALUES ($1, 0) \
         ON CONFLICT (user_id) DO UPDATE SET forgiven_at = mfa_failures.forgiven_at RETURNING forgiven_at",
    )
    .bind(user_id.clone())
    .fetch_one(&mut *connection)
    .await?;
    // The database may say anything: nobody is locked for longer than wrong codes lock a user.
    let longest = lockout
        .failures
        .saturating_mul(lockout.forgiven_after_seconds);
    let forgiven_at = row
        .try_get::<i64, _>(0)?
        .clamp(0, now.max(0).saturating_add(longest));
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
